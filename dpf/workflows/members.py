"""A member before its first epoch: fresh weights, its scaler, its start, its data on the device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from dpf.model.losses import TargetBatch
from dpf.model.network import PerturbFormer, build_network
from dpf.tensors.grouping import group_wells
from dpf.tensors.splits import Part
from dpf.tensors.targets import TargetArrays, fit_scaling, scaled_targets
from dpf.training.member import MemberData, MemberTraining
from dpf.training.start import set_start
from dpf.workflows.training_run import TrainingRun


def begin_member(run: TrainingRun, member: int) -> MemberTraining:
    """A member before its first epoch. Whatever is fitted to wells is fitted to its own."""
    train = run.settings.train
    rows = run.parts[member]
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([train.seed, member]).generate_state(1)[0]))
    network = build_network(len(run.inputs.genes), run.layout, run.settings.model, train.zscore, generator)
    targets = TargetArrays(run.measured.scores, run.measured.label, run.measured.activation)
    scaling = fit_scaling(
        run.inputs.expression, targets, rows == Part.TRAIN, scores=train.standardise_targets,
        activation=train.standardise_targets or run.measured.activation_is_derived,
    )  # fmt: skip
    for name in ("gene_mean", "gene_std", "target_mean", "target_std"):
        getattr(network, name).copy_(getattr(scaling, name))
    device = run.compute.device
    expression = network.scale(torch.from_numpy(run.inputs.expression)).to(device)
    scaled = scaled_targets(targets, scaling)
    data = MemberData(
        expression,
        TargetBatch(*(part.to(device) for part in scaled)),
        torch.from_numpy(np.flatnonzero(rows == Part.TRAIN)).to(device),
        torch.from_numpy(np.flatnonzero(rows == Part.VALIDATION)).to(device),
        names=tuple(run.inputs.well_ids),
    )
    if run.settings.model.start != "none":
        data = _with_start(run, network, data, member)
    return MemberTraining(network, data, train, run.compute, (train.seed, member), run.team)


def _with_start(run: TrainingRun, network: PerturbFormer, data: MemberData, member: int) -> MemberData:
    """Fit the start to all that the member may learn from or choose by.

    Its validation wells are among these where it has held-out wells to be measured on: the start's values for them are
    out of fold, so they still choose the epoch fairly. Without held-out wells they are what is measured.
    """
    rows = run.parts[member]
    learned = rows != Part.HELD_OUT if (rows == Part.HELD_OUT).any() else rows == Part.TRAIN
    rule = "well" if run.settings.train.split == "well" else "compound"
    groups = group_wells(rule, run.inputs.texts("compound") or [], run.inputs.is_control, None)
    targets = TargetBatch(*(part.cpu() for part in data.targets))
    start, parts = set_start(
        network, data.expression.cpu(), targets, groups, np.flatnonzero(learned), run.settings.train.seed + member
    )
    names = [*run.layout.scores, *(name for name in (run.layout.label, run.layout.activation) if name)]
    mixtures = "; ".join(f"{name}: {text}" for name, text in zip(names, parts, strict=True))
    run.progress.log(f"member {member} starts as {mixtures}")
    return replace(data, start=start.to(run.compute.device), groups=torch.from_numpy(groups))
