"""Calibration on wells that the model has not trained on: a temperature for its label, intervals for its scores."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.evaluation.calibration import (
    TEMPERATURE_RANGE,
    cross_fitted_probability,
    fit_temperature,
    probability_of,
    split_conformal,
)
from dpf.analysis.evaluation.metrics import expected_calibration_error
from dpf.analysis.ranking.compounds import group_mean
from dpf.splits.grouping import Index, deal, label_strata
from dpf.workflows.evaluate.methods import Method, Truth
from dpf.workflows.evaluate.wells import EvaluatedWells
from dpf.workflows.predict.outputs import Outputs
from dpf.workflows.project.calibration import Calibration, LabelCalibration, ScoreInterval

Floats = NDArray[np.float64]

#: Folds that the validation compounds of a single run are dealt into, to measure the temperature on.
_FOLDS = 5


def fit_calibration(
    outputs: Outputs, truth: Truth, wells: EvaluatedWells, model: Method, is_control: NDArray[np.bool_], level: float
) -> tuple[Calibration, Floats | None]:
    """Fit on the measured wells; also the cross-fitted calibrated probability of each, to be evaluated.

    All members share one temperature, fitted on every well and member that held it out. Intervals are for new
    compounds, so control wells are left out.

    Parameters
    ----------
    model
        The ensemble's predictions of these wells.
    level
        The intervals' coverage, between 0 and 1.

    Returns
    -------
    calibration
    probability
        Shape (N,): at a temperature fitted on other compounds; None where none can be fitted.
    """
    label, probability = _label(outputs, truth, wells)
    known = [place for place in range(len(truth.names)) if np.isfinite(model.values[:, place]).any()]
    intervals = {
        truth.names[place]: _interval(
            np.where(is_control, np.nan, truth.values[:, place]), model.values[:, place], wells.groups, level
        )
        for place in known
    }
    return Calibration(outputs.model_sha256, wells.basis, level, label, intervals), probability


def _interval(measured: Floats, predicted: Floats, groups: Index, level: float) -> ScoreInterval:
    if not np.isfinite(measured - predicted).any():
        return ScoreInterval(None, None, 0, 0)
    found = split_conformal(measured, predicted, groups, level)
    finite = math.isfinite(found.half_width)
    width, coverage = (found.half_width, found.coverage) if finite else (None, None)
    return ScoreInterval(width, coverage, found.wells, found.compounds)


def _label(outputs: Outputs, truth: Truth, wells: EvaluatedWells) -> tuple[LabelCalibration | None, Floats | None]:
    if outputs.label_logit is None or truth.label_name != outputs.header["targets"]["label"]:
        return None, None
    name, folds = str(truth.label_name), _folds(wells, truth.label)
    seen = folds >= 0
    member, well = np.nonzero(wells.member_test & seen)
    logits, label = outputs.label_logit[member, well], truth.label[well]
    reason = _no_temperature(logits, label, folds[well])
    if reason:
        return LabelCalibration(name, None, int(seen.sum()), None, None, reason), None
    pairs = cross_fitted_probability(logits, label, folds[well]), probability_of(logits)
    calibrated, as_trained = (group_mean(values, well, len(folds)) for values in pairs)
    before, after = (expected_calibration_error(truth.label[seen], p[seen]) for p in (as_trained, calibrated))
    return LabelCalibration(name, fit_temperature(logits, label), int(seen.sum()), before, after), calibrated


def _no_temperature(logits: Floats, label: Floats, folds: Index) -> str | None:
    """Why no temperature can be fitted with each fold left out in turn; None where it can."""
    for value in (0, 1):
        lie_in = np.unique(folds[label == value]).size
        if lie_in < 2:
            return f"wells of label {value} lie in {lie_in} fold(s) of compounds: a temperature needs at least 2"
    kept = [np.ones_like(folds, dtype=bool), *(folds != fold for fold in np.unique(folds))]
    lowest = min(fit_temperature(logits[part], label[part]) for part in kept)
    if lowest <= 1.01 * TEMPERATURE_RANGE[0]:
        return "the logits part the two classes of some folds without an error: too few wells to fit a temperature"
    return None


def _folds(wells: EvaluatedWells, label: Floats) -> Index:
    """Folds of whole compounds to fit a temperature without some wells: the members', where each well has just one.

    −1 for wells that are not measured or have no label.
    """
    usable = wells.tested & ~np.isnan(label)
    folds = np.full(usable.shape, -1, dtype=np.intp)
    if (wells.member_test.sum(axis=0) <= 1).all() and wells.member_test.any(axis=1).sum() > 1:
        folds[usable] = wells.member_test.argmax(axis=0)[usable]
    elif usable.any():
        groups = np.unique(wells.groups[usable], return_inverse=True)[1]
        strata = label_strata(groups, np.zeros(groups.size, dtype=bool), label[usable])
        # The deal is not for the user to choose: a fixed seed.
        folds[usable] = deal(groups, strata, min(_FOLDS, int(groups.max()) + 1), np.random.default_rng(0))
    return folds
