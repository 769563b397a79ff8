"""Metrics agree with scikit-learn and scipy, and are nan, not wrong, where the data do not define them."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpf.analysis.evaluation import metrics
from tests.support.plain_metrics import PLAIN


def draw(n=200, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    f = 0.6 * y + rng.normal(size=n)
    return (np.round(y, 1), np.round(f, 1)) if ties else (y, f)


def draw_label(n=200, seed=0, ties=True):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(float)
    p = np.clip(0.4 * y + 0.6 * rng.random(n), 0, 1)
    return y, np.round(p, 2) if ties else p


@pytest.mark.parametrize("name", metrics.METRICS)
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_scikit_learn_and_scipy(name, seed, ties):
    pair = draw(seed=seed, ties=ties) if name in metrics.SCORE_METRICS else draw_label(seed=seed, ties=ties)
    assert metrics.METRICS[name](*pair) == pytest.approx(PLAIN[name](*pair), rel=1e-12)


def test_expected_calibration_error_by_hand():
    # Bin [0.2, 0.3): labels 0, 1, probabilities 0.2, 0.25; bin [0.9, 1]: labels 1, 1, 0 at 0.9, 1, 1.
    label, probability = [0, 1, 1, 1, 0], [0.2, 0.25, 0.9, 1.0, 1.0]
    expected = 2 / 5 * abs(1 / 2 - 0.225) + 3 / 5 * abs(2 / 3 - 2.9 / 3)
    assert metrics.expected_calibration_error(label, probability) == pytest.approx(expected)
    assert metrics.expected_calibration_error([0, 1], [0.0, 1.0]) == 0


@pytest.mark.parametrize("name", metrics.METRICS)
def test_missing_measurements_are_masked_and_nothing_else_is(name):
    metric = metrics.METRICS[name]
    y, p = draw_label(ties=False)
    holes = np.random.default_rng(1).random(y.size) < 0.3
    assert metric(np.where(holes, np.nan, y), p) == pytest.approx(metric(y[~holes], p[~holes]), rel=1e-12)
    # A prediction that is not there matters only where there is something to predict.
    assert metric(np.where(holes, np.nan, y), np.where(holes, np.nan, p)) == metric(y[~holes], p[~holes])
    assert math.isnan(metric(y, np.where(holes, np.nan, p)))
    assert math.isnan(metric(y, np.where(holes, np.inf, p)))


@pytest.mark.parametrize(
    ("name", "y", "f"),
    [
        ("r2", [1.0], [1.0]),
        ("r2", [0.1] * 3, [0.1, 0.2, 0.3]),
        ("pearson", [0.1] * 3, [1, 2, 3]),
        ("pearson", [1, 2, 3], [0.1] * 3),
        ("spearman", [1, 2, 3], [0.1] * 3),
        ("rmse", [np.nan], [1.0]),
        ("auroc", [1, 1], [0.2, 0.3]),
        ("auprc", [0, 0], [0.2, 0.3]),
        ("brier", [], []),
        ("ece", [], []),
        ("log_loss", [np.nan], [0.5]),
    ],
)
def test_what_the_data_do_not_define_is_nan(name, y, f):
    assert math.isnan(metrics.METRICS[name](y, f))


def test_sure_and_wrong_is_finite():
    assert metrics.log_loss([1, 0], [0.0, 1.0]) == pytest.approx(52 * np.log(2), rel=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 40))
def test_order_and_scale(seed, n):
    rng = np.random.default_rng(seed)
    y, f = rng.normal(size=n), rng.normal(size=n)
    order = rng.permutation(n)
    for metric in (metrics.r2, metrics.rmse, metrics.pearson, metrics.spearman):
        assert metric(y[order], f[order]) == pytest.approx(metric(y, f), rel=1e-9)
    assert metrics.r2(3 * y + 2, 3 * f + 2) == pytest.approx(metrics.r2(y, f), rel=1e-9)
    assert metrics.pearson(y, 3 * f + 2) == pytest.approx(metrics.pearson(y, f), rel=1e-9)
    assert metrics.spearman(y, np.exp(f)) == pytest.approx(metrics.spearman(y, f), rel=1e-9)
    label = (rng.random(n) < 0.5).astype(float)
    if 0 < label.sum() < n:
        assert metrics.auroc(label, f) + metrics.auroc(label, -f) == pytest.approx(1)


def test_extreme_values_give_no_warning():
    y, f = np.array([1.0, 2.0, 3.0]), np.array([1e300, -1e300, 1e-300])
    assert metrics.r2(y, f) == -np.inf
    assert metrics.pearson(y * 1e-200, y * 1e200) == pytest.approx(1)


def test_auroc_within_strata_counts_only_pairs_of_one_stratum():
    rng = np.random.default_rng(3)
    stratum = rng.integers(0, 8, 150)
    label = (rng.random(150) < 0.2 + 0.08 * stratum).astype(float)
    label[:5] = np.nan
    score = np.round(rng.normal(size=150) + stratum, 1)
    pairs = [
        0.5 * (np.sign(score[i] - score[j]) + 1)
        for i in range(150)
        for j in range(150)
        if stratum[i] == stratum[j] and label[i] == 1 and label[j] == 0
    ]
    assert metrics.auroc(label, score, stratum) == pytest.approx(np.mean(pairs), rel=1e-12)
    assert metrics.auroc(label, stratum) > 0.6
    assert metrics.auroc(label, stratum, stratum) == 0.5
    assert math.isnan(metrics.auroc([0, 1], [1, 2], ["a", "b"]))


def test_wrong_shapes_and_probabilities_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\) and \(2,\)"):
        metrics.r2([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="between 0 and 1"):
        metrics.brier([0, 1], [0.5, 1.5])


def test_importing_costs_numpy_only():
    code = (
        "import sys, dpf.analysis.evaluation.metrics;"
        " print(sorted({'scipy', 'sklearn', 'torch', 'polars'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
