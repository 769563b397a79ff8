"""How sure a model may be, fitted on wells that it has not trained on: a temperature for its label, intervals."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.calibration import cross_fitted_probability, fit_temperature, probability_of, split_conformal
from dpf.analysis.metrics import expected_calibration_error
from dpf.tensors.grouping import Index, deal, label_strata
from dpf.workflows.calibration_file import Calibration, LabelCalibration, ScoreInterval
from dpf.workflows.evaluated_wells import EvaluatedWells
from dpf.workflows.methods import Method, Truth
from dpf.workflows.outputs import Outputs

Floats = NDArray[np.float64]

#: A single run has no folds: its validation compounds are dealt into as many to measure the temperature on.
_FOLDS = 5


def fit_calibration(
    outputs: Outputs, truth: Truth, wells: EvaluatedWells, said: Method, is_control: NDArray[np.bool_], level: float
) -> tuple[Calibration, Floats | None]:
    """Fit on the wells that are measured; also the calibrated probability of each, for honest figures.

    One temperature serves all members: it is fitted on every well and member that held it out. Intervals rest on the
    compounds alone, since compounds are what is to come; control wells are not counted.

    Parameters
    ----------
    said
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
    known = [place for place in range(len(truth.names)) if np.isfinite(said.values[:, place]).any()]
    intervals = {
        truth.names[place]: _interval(
            np.where(is_control, np.nan, truth.values[:, place]), said.values[:, place], wells.groups, level
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
    name = str(truth.label_name)
    folds = _folds(wells, truth.label)
    each = [np.unique(folds[(folds >= 0) & (truth.label == value)]).size for value in (0, 1)]
    if min(each) < 2:
        reason = (
            f"wells of label {each.index(min(each))} lie in {min(each)} fold(s) of the wells that are measured: "
            "a temperature needs both classes in two folds at least"
        )
        return LabelCalibration(name, None, int((folds >= 0).sum()), None, None, reason), None
    member, well = np.nonzero(wells.member_test)
    logits = outputs.label_logit[member, well]
    temperature = fit_temperature(logits, truth.label[well])
    pairs = cross_fitted_probability(logits, truth.label[well], folds[well])
    calibrated, raw = (_mean_by_well(p, well, len(folds)) for p in (pairs, probability_of(logits)))
    seen = folds >= 0
    before, after = (expected_calibration_error(truth.label[seen], p[seen]) for p in (raw, calibrated))
    return LabelCalibration(name, temperature, int(seen.sum()), before, after), calibrated


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
        # Who lies where is no choice of the user's: a generator of its own, always the same.
        folds[usable] = deal(groups, strata, min(_FOLDS, int(groups.max()) + 1), np.random.default_rng(0))
    return folds


def _mean_by_well(values: Floats, well: Index, size: int) -> Floats:
    count = np.bincount(well, minlength=size)
    total = np.bincount(well, weights=values, minlength=size)
    return np.asarray(np.divide(total, count, out=np.full(size, np.nan), where=count > 0))
