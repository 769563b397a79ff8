"""The predictions of each method for every measured well: the model, its members, and the baselines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from dpf.analysis.evaluation.baselines import BASELINES, FITTED, baseline_predictions
from dpf.analysis.evaluation.calibration import probability_of
from dpf.project.directory import Project
from dpf.splits.parts import Part
from dpf.workflows.evaluate.wells import Basis, EvaluatedWells
from dpf.workflows.predict.outputs import MemberPredictions, Outputs
from dpf.workflows.predict.well_members import WellMembers
from dpf.workflows.progress import Progress
from dpf.workflows.project.inputs import Inputs, Measured

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MODEL, UNCALIBRATED, IN_SAMPLE = "model", "model, uncalibrated", "model, IN SAMPLE"
#: A model's predictions without its Transformer, which adds the difference to the model.
INITIAL = "initial regression alone"
ENSEMBLE = "ensemble"
#: With fewer wells, matrix products are too small for threads: synchronising takes longer than computing.
_THREADS_FROM = 2_000
#: The baseline that predicts the same for all wells of a member, and the noise ceiling.
MEAN, CEILING = "mean", "other replicate"


@dataclass(frozen=True)
class Truth:
    """What was measured: T continuous targets (the scores, then the activation) and the label, nan where missing."""

    names: tuple[str, ...]
    values: Floats  # (N, T)
    label_name: str | None
    label: Floats  # (N,)

    @property
    def targets(self) -> list[str]:
        """All target names."""
        return [*self.names, *([self.label_name] if self.label_name else [])]


@dataclass(frozen=True)
class Method:
    """The predictions of one method for N wells, nan where it makes none.

    Attributes
    ----------
    name
        "model", "model, uncalibrated", "model, IN SAMPLE", "initial regression alone", or one of
        `dpf.analysis.evaluation.baselines.BASELINES`.
    member
        "ensemble", or the number of one member of the model.
    basis
        What its wells were to it: held out, validation or train.
    values, probability
        Shapes (N, T) and (N,).
    """

    name: str
    member: str
    basis: Basis
    values: Floats
    probability: Floats


def truth_of(measured: Measured) -> Truth:
    """The targets of a project. An activation that is one of the scores is not repeated."""
    values, names = measured.scores, measured.score_names
    if measured.activation_name and measured.activation_name not in names:
        names = (*names, measured.activation_name)
        values = np.column_stack([values, measured.activation])
    return Truth(names, values, measured.label_name, measured.label)


def baseline_methods(
    project: Project, inputs: Inputs, truth: Truth, wells: EvaluatedWells, progress: Progress
) -> list[Method]:
    """Every baseline on the wells' own splits, with the threads that the settings allow.

    Raises
    ------
    DataError
        A member has fewer than two compounds to learn from.
    """
    basis: Basis = "validation" if wells.basis == "validation" else "held_out"
    absent = sum(features is None for features in (wells.position, wells.depth))
    progress.plan(
        f"baselines: {len(BASELINES) - absent} methods x {len(wells.evaluation.test)} split(s) x {len(wells.groups):,} "
        f"wells x {len(inputs.genes):,} genes"
    )
    progress.start("baselines", (len(FITTED) - absent) * len(wells.evaluation.test), "fits")
    with threadpool_limits(1 if len(wells.groups) < _THREADS_FROM else project.settings.compute.threads or None):
        predictions = baseline_predictions(
            inputs.expression,
            truth.values,
            truth.label if truth.label_name else None,
            wells.groups,
            wells.evaluation,
            seed=project.settings.train.seed,
            position=wells.position,
            depth=wells.depth,
            replicates=wells.replicates,
            on_fit=lambda: progress.advance(1),
        )
    return [Method(name, ENSEMBLE, basis, found.scores, found.probability) for name, found in predictions.items()]


def model_methods(
    outputs: Outputs, truth: Truth, wells: EvaluatedWells, calibrated: Floats | None, *, in_sample: bool
) -> list[Method]:
    """The ensemble, each member, and with `in_sample` the ensemble on the wells it has trained on.

    Parameters
    ----------
    calibrated
        Shape (N,): the ensemble's calibrated probabilities, each at a temperature fitted without its own compound; None
        where there is no calibration. The members' own are as trained.
    """
    values, logits = _model_values(outputs, outputs, truth)
    raw = None if logits is None else probability_of(logits)
    found: list[Method] = []
    if wells.tested.any():
        predicted, as_trained = _averaged(wells.member_test, values, raw)
        found.append(Method(MODEL, ENSEMBLE, wells.basis, predicted, as_trained if calibrated is None else calibrated))
        if calibrated is not None:
            found.append(Method(UNCALIBRATED, ENSEMBLE, wells.basis, np.full_like(predicted, np.nan), as_trained))
        for member in range(len(outputs.parts) if len(outputs.parts) > 1 else 0):
            only = wells.member_test & (np.arange(len(outputs.parts)) == member)[:, None]
            found.append(Method(MODEL, str(member), wells.basis, *_averaged(only, values, raw)))
        if outputs.initial is not None:
            initial, logits = _model_values(outputs, outputs.initial, truth)
            chance = None if logits is None else probability_of(logits)
            found.append(Method(INITIAL, ENSEMBLE, wells.basis, *_averaged(wells.member_test, initial, chance)))
    if in_sample:
        found.append(Method(IN_SAMPLE, ENSEMBLE, "train", *_averaged(outputs.parts == Part.TRAIN, values, raw)))
    return found


def _model_values(outputs: Outputs, found: Outputs | MemberPredictions, truth: Truth) -> tuple[Floats, Floats | None]:
    """The members' predictions, (M, N, T), and the label's logits (M, N); nan for targets that the model lacks."""
    targets = outputs.header["targets"]
    values = np.full((*outputs.parts.shape, len(truth.names)), np.nan)
    for place, name in enumerate(truth.names):
        if name in outputs.score_names:
            values[:, :, place] = found.scores[:, :, outputs.score_names.index(name)]
        elif found.activation is not None and name == targets["activation"]:
            values[:, :, place] = found.activation
    known = truth.label_name is not None and truth.label_name == targets["label"]
    return values, found.label_logit if known else None


def _averaged(used: Mask, values: Floats, probability: Floats | None) -> tuple[Floats, Floats]:
    """Means over the members that are used for each well, (N, T) and (N,); nan for wells for which none is."""
    unused = ~used.any(axis=0)
    members = WellMembers(used | unused, [])
    chance = np.full(used.shape, np.nan) if probability is None else probability
    predicted, likely = members.average(values), members.average(chance)
    predicted[unused], likely[unused] = np.nan, np.nan
    return predicted, likely
