"""Which wells an evaluation is measured on, and which the baselines may learn from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.design.position import depth_design, position_cells, position_design
from dpf.analysis.evaluation.baselines import Evaluation, evaluation_of
from dpf.errors import UsageError
from dpf.project.directory import Project
from dpf.splits.parts import Part, Parts
from dpf.workflows.check.check import LIBRARY_SIZE, quality_column
from dpf.workflows.project.inputs import Inputs, Measured
from dpf.workflows.project.splitting import baseline_folds, split_wells

Index = NDArray[np.intp]
Mask = NDArray[np.bool_]

#: What the measured wells were to the model. "held_out": to the members that predict them. "validation": they chose its
#: epoch. "train": it was trained on every well, and there is nothing to measure it on.
Basis = Literal["held_out", "validation", "train"]


@dataclass(frozen=True)
class EvaluatedWells:
    """The wells of an evaluation, N in all.

    Attributes
    ----------
    basis
        What the wells that are measured were to the model.
    parts
        int8 array of shape (M, N): the split that the wells were chosen by.
    member_test
        Shape (M, N): the wells that each member of the model (or of the split) is measured on.
    evaluation
        What the baselines learn from and are measured on: masks of shape (K, N).
    groups
        Shape (N,): the compound of each well, each control (and each well without a name) one of its own.
    replicates
        Shape (N,): compound and concentration, likewise.
    plates
        The plate of each well, or None where the wells table has none.
    position
        Shape (N, P): the features of the position baseline, or None where no position is known.
    depth
        Shape (N, Q): the features of the depth baseline, or None where no depth is known.
    cells
        Shape (N,): plate×column, −1 where unknown; None where there are no columns.
    """

    basis: Basis
    parts: Parts
    member_test: Mask
    evaluation: Evaluation
    groups: Index
    replicates: Index
    plates: list[str | None] | None
    position: NDArray[np.float64] | None
    depth: NDArray[np.float64] | None
    cells: Index | None

    @property
    def tested(self) -> Mask:
        """Shape (N,): the wells that are measured."""
        return np.asarray(self.member_test.any(axis=0))


def baseline_parts(project: Project, inputs: Inputs, measured: Measured) -> Parts:
    """The split for baselines alone: that of the settings, in 5 folds where they ask for a single run.

    Raises
    ------
    DataError
        The wells do not allow it: too few compounds for the folds, a label class missing from a member, ...
    """
    settings = replace(project.settings, train=baseline_folds(project.settings.train))
    return split_wells(replace(project, settings=settings), inputs, measured)


def evaluated_wells(
    project: Project, inputs: Inputs, measured: Measured, model_parts: Parts | None, *, in_sample: bool = False
) -> EvaluatedWells:
    """Choose the wells: those held out, else (a single run) those that chose the epoch.

    Parameters
    ----------
    model_parts
        What each well was to each member of the model, shape (M, N); None for baselines alone.
    in_sample
        Do not refuse a model that has trained on every well of the project.

    Raises
    ------
    UsageError
        The model has trained on every well, and `in_sample` is off.
    DataError
        The wells do not allow the split that the baselines need.
    """
    parts = baseline_parts(project, inputs, measured) if model_parts is None else model_parts
    held_out = bool((parts == Part.HELD_OUT).any())
    tests = parts == (Part.HELD_OUT if held_out else Part.VALIDATION)
    basis: Basis = "held_out" if held_out else "validation" if tests.any() else "train"
    if basis == "train" and not in_sample:
        raise UsageError(
            "the model has trained on every well of this project: it cannot be evaluated here",
            found=f"{parts.shape[1]:,} wells, all of them training wells",
            expected="wells that the model has not trained on",
            hint="train with --folds 5; or add --in-sample to see, marked as such, how well it fits its own wells",
        )
    if model_parts is not None and not (parts == Part.TRAIN).any():
        # A model from elsewhere: the baselines learn from this screen's other compounds, the model has seen none.
        learns = evaluation_of(baseline_parts(project, inputs, measured))
    else:
        learns = _distinct(Evaluation(~tests, tests))
    names = inputs.texts("compound") or []
    column = inputs.wells.get_column("column").to_list() if "column" in inputs.wells.columns else None
    plates, row = inputs.texts("plate"), inputs.texts("row")
    return EvaluatedWells(
        basis,
        parts,
        tests,
        learns,
        _groups([(name,) for name in names], inputs.is_control),
        _groups(list(zip(names, _concentrations(inputs), strict=True)), inputs.is_control),
        plates,
        position_design(plates, row, column),
        _depth(inputs.wells, measured, plates),
        None if column is None or not (cells := position_cells(plates, column)).max(initial=-1) + 1 else cells,
    )


def _depth(wells: pl.DataFrame, measured: Measured, plates: list[str | None] | None) -> NDArray[np.float64] | None:
    targets = {*measured.score_names, *filter(None, (measured.label_name, measured.activation_name))}
    column = quality_column(wells, targets, LIBRARY_SIZE)
    if column is None:
        return None
    return depth_design(plates, wells.get_column(column).cast(pl.Float64).fill_null(float("nan")).to_numpy())


def _distinct(evaluation: Evaluation) -> Evaluation:
    """Each different test set once, without those that are empty: members may share them."""
    rows = {test.tobytes(): member for member, test in enumerate(evaluation.test) if test.any()}
    chosen = sorted(rows.values())
    return Evaluation(evaluation.train[chosen], evaluation.test[chosen])


def _groups(keys: list[tuple[object, ...]], is_control: Mask) -> Index:
    """Number the keys; a control, or a well without a compound, is a group of its own."""
    numbers: dict[object, int] = {}
    own = [control or not key[0] for key, control in zip(keys, is_control, strict=True)]
    distinct = [("well", i) if alone else ("key", *key) for i, (key, alone) in enumerate(zip(keys, own, strict=True))]
    return np.array([numbers.setdefault(key, len(numbers)) for key in distinct], dtype=np.intp)


def _concentrations(inputs: Inputs) -> list[float | None]:
    if "concentration" not in inputs.wells.columns:
        return [None] * inputs.wells.height
    return inputs.wells.get_column("concentration").to_list()
