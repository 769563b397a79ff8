"""A member before its first epoch: fresh weights, scaler, initial regression, data on the device, settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from dpf.errors import DataError
from dpf.model.losses import TargetBatch
from dpf.model.network import PerturbFormer, build_network
from dpf.splits.grouping import group_wells
from dpf.splits.parts import Part
from dpf.training.data import MemberData, scaled_expression
from dpf.training.initial_regression import fit_initial_regression
from dpf.training.member import MemberTraining
from dpf.training.pretraining import embed_loadings, pretrain
from dpf.training.resume import SavedRun
from dpf.training.tuning import Trial
from dpf.workflows.train.run import TrainingRun
from dpf.workflows.train.targets import TargetArrays, fit_scaling, scaled_targets


def begin_member(
    prepared: PreparedMember, choose: Callable[[PreparedMember], Trial], saved: SavedRun | None
) -> MemberTraining:
    """A member before its first epoch, or where it stood in a saved run; `choose` searches for its settings."""
    run = prepared.run
    if saved:
        tuned = saved.header["current_tuned"]
        training = prepared.training(Trial(**tuned) if tuned else None)
        saved.restore(training)
        return training
    if epochs := run.settings.train.pretrain:
        _pretrain(run, prepared, epochs)
    return prepared.training(choose(prepared) if run.settings.train.tune else None)


@dataclass(frozen=True)
class PreparedMember:
    """A member's network as it is before it is trained, on the device, and its data."""

    run: TrainingRun
    member: int
    network: PerturbFormer
    data: MemberData

    def training(self, trial: Trial | None = None, epochs: int = 0) -> MemberTraining:
        """Its training, with a trial's settings where one is given, for so many epochs (0: those of the settings).

        The network is the prepared one itself: of several trainings each must begin with its weights as they were.
        """
        train = self.run.settings.train
        if trial is not None:
            self.network.settings = replace(self.network.settings, dropout=trial.dropout)
            train = replace(
                train, learning_rate=trial.learning_rate, schedule=trial.schedule, weight_decay=trial.weight_decay,
                batch_size=trial.batch_size,
            )  # fmt: skip
        if epochs:
            train = replace(train, epochs=epochs, patience=0)
        key = (train.seed, self.member)
        training = MemberTraining(self.network, self.data, train, self.run.compute, key, self.run.team)
        training.tuned = trial._asdict() if trial is not None else None
        return training


def _pretrain(run: TrainingRun, prepared: PreparedMember, epochs: int) -> None:
    train = run.settings.train

    def report(epoch: int, loss: float) -> None:
        run.progress.log(f"member {prepared.member}  pretraining {epoch:>3}/{epochs}  error of hidden genes {loss:.3f}")

    pretrain(
        prepared.network, prepared.data.expression, prepared.data.train, epochs, train.batch_size, run.compute,
        (train.seed, prepared.member), report,
    )  # fmt: skip


def prepare_member(run: TrainingRun, member: int) -> PreparedMember:
    """Draw a member's weights, fit its scaler and its initial regression, put its data on the device.

    Whatever is fitted to wells is fitted to the member's own.
    """
    train = run.settings.train
    rows = run.parts[member]
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([train.seed, member]).generate_state(1)[0]))
    network = build_network(len(run.inputs.genes), run.layout, run.settings.model, train.zscore, generator)
    targets = TargetArrays(run.measured.scores, run.measured.label, run.measured.activation)
    scaling = fit_scaling(
        run.inputs.expression, targets, rows == Part.TRAIN, scores=train.standardise_targets,
        activation=train.standardise_targets or run.measured.activation_is_derived,
        center=_centre(run, rows),
    )  # fmt: skip
    for name in ("gene_mean", "gene_std", "target_mean", "target_std"):
        getattr(network, name).copy_(getattr(scaling, name))
    device = run.compute.device
    expression = scaled_expression(run.inputs.expression, network, device)
    if train.gene_embedding == "loadings":
        embed_loadings(network, expression[torch.from_numpy(np.flatnonzero(rows == Part.TRAIN)).to(device)].cpu())
    scaled = scaled_targets(targets, scaling)
    data = MemberData(
        expression,
        TargetBatch(*(part.to(device) for part in scaled)),
        torch.from_numpy(np.flatnonzero(rows == Part.TRAIN)).to(device),
        torch.from_numpy(np.flatnonzero(rows == Part.VALIDATION)).to(device),
        names=tuple(run.inputs.well_ids),
    )
    if run.settings.model.start != "none":
        data = _with_initial_regression(run, network, data, member)
    return PreparedMember(run, member, network.to(device), data)


def _centre(run: TrainingRun, rows: NDArray[np.int8]) -> NDArray[np.bool_] | None:
    if run.settings.train.gene_center == "wells":
        return None
    if not (run.inputs.is_control & (rows == Part.TRAIN)).any():
        raise DataError(
            "no control well is among a member's training wells, so its genes cannot be centred on controls",
            where="train.gene_center = controls",
            found=f"{int(run.inputs.is_control.sum())} control wells in all",
            hint="use --set train.gene_center=wells, or fewer folds",
        )
    return run.inputs.is_control


def _with_initial_regression(run: TrainingRun, network: PerturbFormer, data: MemberData, member: int) -> MemberData:
    """Fit the initial regression to all that the member may learn from or choose by.

    Its validation wells are among these where other members hold them out: the regression's values for them are out of
    fold, so they still choose the epoch fairly, and nothing is measured on them. Else they are what is measured.
    """
    rows = run.parts[member]
    validation = rows == Part.VALIDATION
    elsewhere = bool((run.parts == Part.HELD_OUT).any(axis=0)[validation].all())
    learned = (rows == Part.TRAIN) | (validation & elsewhere)
    rule = "well" if run.settings.train.split == "well" else "compound"
    groups = group_wells(rule, run.inputs.texts("compound") or [], run.inputs.is_control, None)
    targets = TargetBatch(*(part.cpu() for part in data.targets))
    initial, parts = fit_initial_regression(
        network, data.expression, targets, groups, np.flatnonzero(learned), run.settings.train.seed + member
    )
    if len(np.unique(groups[validation])) < 2:
        run.progress.warn(
            f"member {member} has one compound among its validation wells: no epoch can show that it is better than "
            "the initial regression by more than chance, so the Transformer will add nothing to it"
        )
    names = [*run.layout.scores, *(name for name in (run.layout.label, run.layout.activation) if name)]
    mixtures = "; ".join(f"{name}: {text}" for name, text in zip(names, parts, strict=True))
    run.progress.log(f"member {member}  initial regression  {mixtures}")
    return replace(data, initial=initial.to(run.compute.device), groups=torch.from_numpy(groups))
