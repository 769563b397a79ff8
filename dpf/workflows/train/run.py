"""What a training is made of, and the model file that comes of it: when it has finished, and when it could not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dpf.config.settings import Settings
from dpf.errors import listed
from dpf.model.checkpoint import ControlWells, TrainedModel, gene_fingerprint, save_model
from dpf.model.initial_regression import RegressionShape
from dpf.model.network import TargetLayout, empty_network
from dpf.project.directory import ModelFolder
from dpf.splits.parts import PART_NAMES, Part, Parts, split_fingerprint
from dpf.tables.preparing.normalise import Normalisation
from dpf.training.compute.device import Compute
from dpf.training.divergence import DivergedError
from dpf.training.inference import predict_wells
from dpf.training.member import MemberTraining
from dpf.training.parallel.beside import Beside
from dpf.training.parallel.team import Team
from dpf.training.resume import RunState, Weights, discard_run
from dpf.workflows.progress import Progress
from dpf.workflows.project.inputs import Inputs, Measured
from dpf.workflows.train.tensorboard import TensorBoardEvents


@dataclass(frozen=True)
class TrainingRun:
    """What stays the same while a model is trained.

    Attributes
    ----------
    team
        The processes that share out each batch.
    members
        Those that this process trains, in order.
    beside
        The processes that train the other members, where each trains whole ones; its `team` is then itself alone.
    """

    settings: Settings
    inputs: Inputs
    measured: Measured
    parts: Parts
    compute: Compute
    layout: TargetLayout
    folder: ModelFolder
    identity: dict[str, Any]
    started: float
    progress: Progress
    normalisation: Normalisation
    team: Team
    events: TensorBoardEvents | None
    members: Sequence[int]
    beside: Beside | None = None

    @property
    def wells(self) -> list[int]:
        """Training wells of every member of the model."""
        return [int((row == Part.TRAIN).sum()) for row in self.parts]


def about_model(run: TrainingRun, best_epochs: list[int], tuned: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """What the model file says of its training."""
    settings = run.settings.as_dict()
    del settings["compute"]["share"]  # as little of what the model is as the number of processes, and not said either
    return {
        "settings": settings,
        "inputs_sha256": run.inputs.fingerprint,
        "expression_sha256": run.inputs.expression_sha256,
        "wells": run.inputs.well_ids,
        "parts": ["".join(map(str, row)) for row in run.parts.tolist()],
        "split_sha256": split_fingerprint(run.parts, run.inputs.well_ids),
        "genes_sha256": gene_fingerprint(run.inputs.genes),
        "activation_source": run.measured.activation_source,
        "seed": run.settings.train.seed,
        "device": run.compute.device.type,
        "precision": run.compute.precision,
        "best_epochs": best_epochs,
        "tuned": tuned if run.settings.train.tune else None,
    }


def trained_model(run: TrainingRun, members: Sequence[Weights], about: dict[str, Any]) -> TrainedModel:
    """The members' networks and the latents of the control wells, which place the centre for wells yet to come."""
    controls = np.flatnonzero(run.inputs.is_control)
    networks, latents = [], []
    for weights in members:
        network = empty_network(
            len(run.inputs.genes),
            run.layout,
            run.settings.model,
            run.settings.train.zscore,
            RegressionShape.of(weights),
        )
        network.load_state_dict(weights)
        networks.append(network)
        latents.append(predict_wells(network, run.inputs.expression[controls], run.compute).latent)
        network.cpu()
    known = _control_wells(run, controls, latents)
    return TrainedModel(networks, run.inputs.genes, run.layout, known, about, run.normalisation)


def _control_wells(run: TrainingRun, controls: NDArray[np.intp], latents: list[torch.Tensor]) -> ControlWells:
    def pick(column: str) -> list[str | None]:
        values = run.inputs.texts(column)
        return [values[row] if values else None for row in controls]

    ids = run.inputs.well_ids
    parts = [[PART_NAMES[row[well]] for well in controls] for row in run.parts]
    return ControlWells([ids[row] for row in controls], pick("plate"), pick("cluster"), parts, latents)


def keep_best(run: TrainingRun, state: RunState, training: MemberTraining, error: DivergedError) -> DivergedError:
    """Write the best weights of the members so far, and say where. Going on would end in the same place."""
    if run.beside:
        run.beside.diverges()  # where several do, one of them is kept and told of
    where = f"{error.where} of {run.settings.train.epochs}"
    where += f", member {run.members[len(state.best)]}" if len(run.parts) > 1 else ""
    best, epochs, tuned = state.best, state.best_epochs, state.tuned
    if training.best:
        best, epochs = [*best, training.best], [*epochs, training.best_epoch]
        tuned = [*tuned, training.tuned]
    path, members = run.folder.diverged, list(run.members[: len(best)])
    kept = "no epoch before it was good: nothing is kept"
    if best:
        whose = f"member {listed(members)}, " if run.beside else ""
        kept = f"the best weights before it ({whose}epoch {listed(epochs)}) are kept as a model of their own: "
        kept += f"--model {path}"
    if run.team.leads:
        if best:
            so_far = replace(run, parts=run.parts[members])
            about = {**about_model(so_far, epochs, tuned), "diverged": where}
            save_model(path, trained_model(so_far, best, about))
        discard_run(run.folder.resume)
    run.team.told(True)  # nobody ends the run before it is written
    return DivergedError(error.what, where=where, found=error.found, hint=f"{error.hint}; {kept}")
