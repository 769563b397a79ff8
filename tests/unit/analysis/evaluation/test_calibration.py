"""Temperatures are the best there are, and intervals hold what they promise, compound by compound."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit

from dpf.analysis.evaluation import metrics
from dpf.analysis.evaluation.calibration import (
    TEMPERATURE_RANGE,
    cross_fitted_probability,
    fit_temperature,
    probability_of,
    split_conformal,
)
from dpf.errors import DataError


def too_sure(n=2000, temperature=3.0, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=n)
    return temperature * logits, (rng.random(n) < expit(logits)).astype(float)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_the_temperature_is_the_one_a_general_optimiser_finds(temperature):
    logits, label = too_sure(temperature=temperature)

    def loss(t):
        return metrics.log_loss(label, expit(logits / t))

    expected = minimize_scalar(loss, bounds=TEMPERATURE_RANGE, method="bounded", options={"xatol": 1e-8}).x
    got = fit_temperature(logits, label)
    assert got == pytest.approx(expected, rel=1e-4)
    assert got == pytest.approx(temperature, rel=0.15)


def test_the_temperature_of_separable_and_of_contrary_logits_stays_in_range():
    label = np.array([0.0, 0.0, 1.0, 1.0])
    assert fit_temperature([-2, -1, 1, 2], label) == pytest.approx(TEMPERATURE_RANGE[0])
    assert fit_temperature([2, 1, -1, -2], label) == pytest.approx(TEMPERATURE_RANGE[1])


def test_wells_without_label_or_logit_are_left_out():
    logits, label = too_sure(200)
    holed, holes = np.append(logits, [np.nan, 900.0]), np.append(label, [1.0, np.nan])
    assert fit_temperature(holed, holes) == fit_temperature(logits, label)


def test_one_class_has_no_temperature():
    with pytest.raises(DataError, match=r"0 wells of label 0 and 3 of label 1(.|\n)*--folds"):
        fit_temperature([1.0, 2.0, 3.0], [1, 1, 1])


def test_probabilities_do_not_overflow():
    np.testing.assert_allclose(probability_of([-1e4, 0, 1e4]), [0, 0.5, 1])
    logits = np.linspace(-30, 30, 7)
    np.testing.assert_allclose(probability_of(logits, 2.0), expit(logits / 2), rtol=1e-13)
    assert np.isnan(probability_of([np.nan])).all()


def test_cross_fitting_uses_the_other_folds_alone():
    logits, label = too_sure(300)
    fold = np.arange(300) % 4 - 1
    got = cross_fitted_probability(logits, label, fold)
    assert np.isnan(got[fold == -1]).all()
    others = (fold == 0) | (fold == 2)
    expected = expit(logits[fold == 1] / fit_temperature(logits[others], label[others]))
    np.testing.assert_allclose(got[fold == 1], expected, rtol=1e-12)


def test_temperature_scaling_lowers_the_calibration_error():
    logits, label = too_sure(2000)
    scaled = cross_fitted_probability(logits, label, np.arange(2000) % 5)
    before = metrics.expected_calibration_error(label, expit(logits))
    assert metrics.expected_calibration_error(label, scaled) < 0.5 * before
    assert metrics.auroc(label, scaled) == pytest.approx(metrics.auroc(label, logits), abs=2e-3)


@pytest.mark.parametrize(("n", "level", "rank"), [(19, 0.9, 18), (20, 0.9, 19), (99, 0.95, 95), (9, 0.9, 9)])
def test_with_one_well_a_compound_it_is_the_textbook_quantile(n, level, rank):
    rng = np.random.default_rng(n)
    residual = rng.normal(size=n)
    got = split_conformal(residual, np.zeros(n), np.arange(n), level)
    assert got.half_width == np.sort(np.abs(residual))[rank - 1]


def test_too_few_compounds_for_the_level_give_an_infinite_interval():
    got = split_conformal(np.arange(8.0), np.zeros(8), np.arange(8), 0.9)
    assert got.half_width == math.inf
    assert (got.coverage, got.wells, got.compounds) == (1.0, 8, 8)


def test_copies_of_a_well_within_its_compound_change_nothing():
    rng = np.random.default_rng(0)
    y, groups = rng.normal(size=40), np.arange(40)
    copies = rng.integers(1, 6, 40)
    once = split_conformal(y, np.zeros(40), groups)
    many = split_conformal(np.repeat(y, copies), np.zeros(copies.sum()), np.repeat(groups, copies))
    assert (many.half_width, many.coverage) == (once.half_width, pytest.approx(once.coverage))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.8, 0.9]))
def test_scale_order_and_holes(seed, level):
    rng = np.random.default_rng(seed)
    y, f, groups = rng.normal(size=90), rng.normal(size=90), rng.integers(0, 30, 90)
    got = split_conformal(y, f, groups, level)
    order = rng.permutation(90)
    assert split_conformal(y[order], f[order], groups[order], level) == got
    assert split_conformal(7 * y, 7 * f, groups, level).half_width == pytest.approx(7 * got.half_width)
    holed = split_conformal(np.append(y, np.nan), np.append(f, 0), np.append(groups, 77), level)
    assert holed == got


def test_new_compounds_are_covered_as_promised_and_the_measured_coverage_says_so():
    """Residuals share half of their variance within a compound, and compounds have 1 to 6 wells."""
    rng = np.random.default_rng(0)
    covered, measured = [], []
    for _ in range(200):
        sizes = rng.integers(1, 7, 40)
        groups = np.repeat(np.arange(40), sizes)
        residual = rng.normal(size=40)[groups] + rng.normal(size=groups.size)
        interval = split_conformal(residual, np.zeros(groups.size), groups, 0.9)
        new = rng.normal(size=500) + rng.normal(size=500)
        covered.append((np.abs(new) <= interval.half_width).mean())
        measured.append(interval.coverage)
    assert 0.895 <= np.mean(covered) <= 0.925  # at most 1/(C+1) above
    assert np.mean(measured) == pytest.approx(np.mean(covered), abs=0.02)


def test_nothing_to_calibrate_on_is_an_error():
    with pytest.raises(DataError, match="no well has both"):
        split_conformal([np.nan], [1.0], np.array([0]))
    with pytest.raises(DataError, match=r"between 0 and 1(.|\n)*found: 90"):
        split_conformal([1.0], [1.0], np.array([0]), 90)
