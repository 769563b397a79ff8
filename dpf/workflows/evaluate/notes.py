"""Caveats of a scoreboard: which wells were measured, how few, leaks of the split, missing targets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dpf.errors import count
from dpf.regression.learners import EXACT_WELLS
from dpf.regression.selection import SELECTION_WELLS
from dpf.splits.parts import Part, describe_leaks
from dpf.workflows.evaluate.methods import Truth
from dpf.workflows.evaluate.scoreboard_text import FEW_COMPOUNDS
from dpf.workflows.evaluate.wells import EvaluatedWells
from dpf.workflows.predict.outputs import Outputs
from dpf.workflows.project.inputs import Inputs

#: A target measured in a smaller share of the wells gets a note.
_LITTLE = 0.5


def notes(
    wells: EvaluatedWells, truth: Truth, inputs: Inputs, outputs: Outputs | None, *, in_sample: bool
) -> tuple[str, ...]:
    """Sentences, the most important first. The first says which wells were measured."""
    found = [basis_line(wells, inputs.is_control)]
    if in_sample:
        found.append("IN SAMPLE: rows of basis train are of wells that the model was trained on: they are no evidence")
    leaks = describe_leaks(wells.parts, inputs.texts("compound") or [], inputs.is_control)
    if leaks:
        found.append(
            f"{leaks:,} compounds have replicates on both sides of the split: every method looks better than it is"
        )
    if outputs is not None:
        found += _model_notes(outputs, truth, inputs)
    for place, name in enumerate(truth.names):
        found += _target_notes(name, truth.values[:, place], wells)
    if truth.label_name:
        found += _target_notes(truth.label_name, truth.label, wells) + _class_notes(truth, wells)
    most = int(wells.evaluation.train.sum(axis=1).max(initial=0))
    if most > EXACT_WELLS:
        found.append(
            f"kernel ridge: its kernels stand at up to {SELECTION_WELLS:,} of the {most:,} training wells (Nyström), "
            "and are fitted to all of them"
        )
    if wells.position is None:
        found.append("no positions are known: there is no baseline of position alone")
    if wells.depth is None:
        found.append("no depth is known, or it does not vary: there is no baseline of depth alone")
    if np.unique(wells.replicates[~inputs.is_control]).size == int((~inputs.is_control).sum()):
        found.append(
            "no compound has two wells at one concentration: there is no other replicate, and no noise ceiling"
        )
    return tuple(found)


def basis_line(wells: EvaluatedWells, is_control: NDArray[np.bool_]) -> str:
    """Which wells were measured, and what they were to the model."""
    tested = wells.tested
    size = (
        f"{int(tested.sum()):,} of {tested.size:,} wells, {np.unique(wells.groups[tested & ~is_control]).size:,} "
        f"compounds and {int((tested & is_control).sum()):,} control wells"
    )
    members = int(wells.member_test.any(axis=1).sum())
    if wells.basis == "held_out":
        by = f"in {members} folds" if members > 1 else "never seen in training"
        each = np.unique(wells.member_test.sum(axis=0)[tested])
        if each.size == 1 and each[0] > 1:
            by = f"by {members} members, each well by {each[0]} of them"
        return f"measured on held-out wells ({by}): {size}"
    if wells.basis == "validation":
        return (
            f"SELECTED ON THESE WELLS: measured on the wells that chose the model's epoch ({size}); figures are a "
            "little too good. dpf train --folds 5 holds every well out once"
        )
    return "IN SAMPLE ONLY: the model was trained on every well of this project; no figure here is evidence"


def _model_notes(outputs: Outputs, truth: Truth, inputs: Inputs) -> list[str]:
    found = []
    known = outputs.header["targets"]
    predicted = {*known["scores"], *(name for name in (known["label"], known["activation"]) if name)}
    if unknown := [name for name in truth.targets if name not in predicted]:
        found.append(f"the model does not predict {', '.join(unknown)}: only baselines are shown there")
    if unmeasured := sorted(predicted - set(truth.targets)):
        found.append(f"the model also predicts {', '.join(unmeasured)}, which [targets] of dpf.toml does not name")
    if (outputs.parts == Part.TRAIN).any() and outputs.header["inputs_sha256"] != inputs.fingerprint:
        found.append("the inputs have changed since the model was trained")
    if not (outputs.parts == Part.TRAIN).any():
        found.append("the model was trained on none of these wells, the baselines on other compounds of this screen")
    return found


def _target_notes(name: str, values: NDArray[np.float64], wells: EvaluatedWells) -> list[str]:
    known = wells.tested & ~np.isnan(values)
    if not known.any():
        return [f"{name} was measured in none of these wells"] if wells.tested.any() else []
    if np.ptp(values[known]) == 0:
        return [f"{name} has the same value in all {int(known.sum()):,} wells: there is nothing to evaluate"]
    found = []
    compounds, share = np.unique(wells.groups[known]).size, known.sum() / wells.tested.sum()
    if compounds < FEW_COMPOUNDS or share < _LITTLE:
        found.append(
            f"{name} was measured in {int(known.sum()):,} of these wells ({count(compounds, 'compound')}): its figures "
            "are rough"
        )
    constant = [
        str(fold)
        for fold, train in enumerate(wells.evaluation.train)
        if (there := values[train & ~np.isnan(values)]).size == 0 or np.ptp(there) == 0
    ]
    if constant:
        found.append(
            f"{name} does not vary among the training wells of fold {', '.join(constant)}: no method can learn it"
        )
    return found


def _class_notes(truth: Truth, wells: EvaluatedWells) -> list[str]:
    found = []
    for value in (0, 1):
        absent = [
            str(member)
            for member, test in enumerate(wells.member_test)
            if test.any() and not (truth.label[test] == value).any()
        ]
        if absent and len(wells.member_test) > 1:
            found.append(
                f"fold {', '.join(absent)} holds out no well of {truth.label_name} = {value}: "
                "it has no AUROC of its own"
            )
    return found
