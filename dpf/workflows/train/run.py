"""What a training is made of, and what it leaves: the model and its files, or the best weights before it diverged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from dpf.config.settings import Settings
from dpf.errors import listed
from dpf.files import canonical_json, sha256_file, together, write_text
from dpf.model.checkpoint import ControlWells, TrainedModel, gene_fingerprint, save_model
from dpf.model.initial_regression import RegressionShape
from dpf.model.network import TargetLayout, empty_network
from dpf.project.directory import ModelFolder
from dpf.splits.parts import PART_NAMES, Part, Parts, split_fingerprint, table_from_splits
from dpf.tables.preparing.normalise import Normalisation
from dpf.tables.schemas.registry import polars_schema
from dpf.tables.storage import write_table
from dpf.training.compute.device import Compute
from dpf.training.divergence import DivergedError
from dpf.training.inference import predict_wells
from dpf.training.member import MemberTraining
from dpf.training.parallel.team import Team
from dpf.training.resume import RunState, Weights, discard_run
from dpf.workflows.progress import Progress
from dpf.workflows.project.inputs import Inputs, Measured
from dpf.workflows.train.history import draw_loss_curve, history_table
from dpf.workflows.train.tensorboard import TensorBoardEvents


@dataclass(frozen=True)
class TrainingRun:
    """What stays the same while a model, or one member of it, is trained.

    Attributes
    ----------
    parts
        The split of every member of the model.
    folder
        The model's, or that of the member that is trained alone.
    team
        The processes that share out each batch.
    members
        Those that are trained, in order: all, or one.
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

    @property
    def wells(self) -> list[int]:
        """Training wells of every member of the model."""
        return [int((row == Part.TRAIN).sum()) for row in self.parts]


@dataclass(frozen=True)
class TrainResult:
    """A trained model, or a member of it that was trained alone.

    Attributes
    ----------
    folder
        Where it is.
    metrics
        Each member's validation metrics at its best epoch.
    missing
        Members of the model that are still to be trained before it can be assembled.
    """

    folder: ModelFolder
    metrics: dict[str, Any]
    missing: list[int] = field(default_factory=list)

    @property
    def table(self) -> pl.DataFrame:
        """The metrics, one row a member."""
        rows = [{key: value for key, value in row.items() if key != "wells"} for row in self.metrics["members"]]
        return pl.DataFrame(rows, infer_schema_length=None)


def about_model(run: TrainingRun, best_epochs: list[int], tuned: Sequence[dict[str, Any] | None]) -> dict[str, Any]:
    """The model file's description of its training."""
    return {
        "settings": run.settings.as_dict(),
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


def write_model(run: TrainingRun, state: RunState) -> TrainResult:
    """Write the files of a model of which every member has been trained, and remove what is of no model any more."""
    folder, ids = run.folder, run.inputs.well_ids
    about = about_model(run, state.best_epochs, state.tuned)
    replaced = sha256_file(folder.best) if folder.best.is_file() else None
    rows = table_from_splits(run.parts, ids)
    splits = pl.DataFrame(rows, schema=polars_schema("splits"), orient="row")
    history = history_table(run.layout, state.history)
    with together() as written:
        for path, members in ((folder.last, state.last), (folder.best, state.best)):
            save_model(path, trained_model(run, members, about))
        of_model = {"model_sha256": sha256_file(written[folder.best])}
        write_table(folder.splits, splits, "splits", of_model | {"fingerprint": about["split_sha256"]})
        write_table(folder.history, history, "history", of_model)
        metrics = validation_metrics(run, state) | of_model
        write_text(folder.metrics, canonical_json(metrics) + "\n")
        draw_loss_curve(history, state.best_epochs, folder.loss_curve)
    discard_run(folder.resume)
    folder.running_history.unlink(missing_ok=True)
    if folder.running_tuning.is_file():
        folder.running_tuning.replace(folder.tuning)
    else:
        folder.tuning.unlink(missing_ok=True)
    folder.diverged.unlink(missing_ok=True)
    # The calibration stays: predict does not use it with these weights, and reports why it gives no intervals.
    if folder.card.is_file() and sha256_file(folder.best) != replaced:
        folder.card.unlink()
        run.progress.log(
            f"removed {folder.card.name} of the model that this one replaces; dpf evaluate writes a new one"
        )
    return TrainResult(folder, metrics)


def validation_metrics(run: TrainingRun, state: RunState) -> dict[str, Any]:
    """What `metrics.json` holds of each member that is trained: its best epoch, its wells, and that epoch's metrics."""
    members, history = [], history_table(run.layout, state.history)
    for member, best in zip(run.members, state.best_epochs, strict=True):
        row = history.row(by_predicate=(pl.col("member") == member) & (pl.col("epoch") == best), named=True)
        numbers = {key: value if np.isfinite(value) else None for key, value in row.items() if "validation" in key}
        wells = {part.text: int((run.parts[member] == part).sum()) for part in Part}
        members.append({"member": member, "best_epoch": best, "wells": wells, **numbers})
    return {
        "note": "validation wells chose the epoch: these figures are selected on them, not held out",
        "members": members,
    }


def keep_best(run: TrainingRun, state: RunState, training: MemberTraining, error: DivergedError) -> DivergedError:
    """Write the best weights of the members so far, and say where. Going on would end in the same place."""
    where = f"{error.where} of {run.settings.train.epochs}"
    where += f", member {run.members[len(state.best)]}" if len(run.parts) > 1 else ""
    best, epochs, tuned = state.best, state.best_epochs, state.tuned
    if training.best:
        best, epochs = [*best, training.best], [*epochs, training.best_epoch]
        tuned = [*tuned, training.tuned]
    path, members = run.folder.diverged, list(run.members[: len(best)])
    kept = "no epoch before it was good: nothing is kept"
    if best:
        kept = f"the best weights before it (epoch {listed(epochs)}) are kept as a model of their own: --model {path}"
    if run.team.is_rank_0:
        if best:
            so_far = replace(run, parts=run.parts[members])
            about = {**about_model(so_far, epochs, tuned), "diverged": where}
            save_model(path, trained_model(so_far, best, about))
        discard_run(run.folder.resume)
    run.team.from_rank_0(True)  # nobody ends the run before it is written
    return DivergedError(error.what, where=where, found=error.found, hint=f"{error.hint}; {kept}")
