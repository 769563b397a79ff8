"""The bootstrap resamples compounds, agrees with scipy, and calls a difference by chance about as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dpf.analysis.evaluation import metrics
from dpf.analysis.evaluation.paired_bootstrap import paired_bootstrap


def draw(compounds=60, replicates=2, seed=0, worse=0.0):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(compounds), replicates)
    y = rng.normal(size=compounds)[groups] + 0.3 * rng.normal(size=groups.size)
    error = 0.5 * rng.normal(size=(2, compounds))[:, groups] + 0.2 * rng.normal(size=(2, groups.size))
    return y, y + error[0], y + (1 + worse) * error[1], groups


def compare(y, a, b, groups, metric=metrics.r2, seed=0, **more):
    return paired_bootstrap(y, a, b, groups, metric, rng=np.random.default_rng(seed), **more)


def test_agrees_with_scipy_where_every_well_is_a_compound():
    y, a, b, _ = draw(compounds=80, replicates=1, worse=0.3)

    def statistic(i):
        i = i.astype(int)
        return metrics.rmse(y[i], a[i]) - metrics.rmse(y[i], b[i])

    oracle = stats.bootstrap(
        (np.arange(80),), statistic, vectorized=False, n_resamples=3000, method="percentile", rng=1
    ).confidence_interval
    got = compare(y, a, b, np.arange(80), metrics.rmse, draws=3000)
    assert got.difference == pytest.approx(statistic(np.arange(80)))
    assert (got.low, got.high) == pytest.approx((oracle.low, oracle.high), abs=0.012)


def test_a_clear_difference_has_a_direction_and_the_metric_says_which_is_good():
    y, a, b, groups = draw(worse=1.5)
    assert compare(y, a, b, groups).verdict == "better"
    assert compare(y, b, a, groups).verdict == "worse"
    assert compare(y, a, b, groups, metrics.rmse, lower_is_better=True).verdict == "better"
    assert compare(y, b, a, groups, metrics.rmse, lower_is_better=True).verdict == "worse"
    mirrored, straight = compare(y, b, a, groups), compare(y, a, b, groups)
    assert (mirrored.low, mirrored.high) == pytest.approx((-straight.high, -straight.low))


def test_a_method_equals_itself():
    y, a, _, groups = draw()
    got = compare(y, a, a, groups)
    assert (got.difference, got.low, got.high, got.verdict) == (0, 0, 0, "equal")
    assert (got.wells, got.compounds) == (120, 60)


def test_methods_of_equal_worth_are_rarely_told_apart():
    verdicts = [compare(*draw(compounds=40, seed=s), metrics.rmse, seed=s, draws=200).verdict for s in range(150)]
    assert 0.85 <= verdicts.count("equal") / 150 <= 0.99


def test_replicates_do_not_count_as_compounds():
    """Copying every well ten times into its compound adds nothing; wells as compounds would make it look sure."""
    y, a, b, groups = draw(compounds=40, replicates=1, seed=4)
    once = compare(y, a, b, groups)
    copied = compare(*(np.repeat(v, 10) for v in (y, a, b, groups)))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))
    fooled = compare(*(np.repeat(v, 10) for v in (y, a, b)), np.arange(400))
    assert fooled.high - fooled.low < 0.5 * (once.high - once.low)


def test_only_wells_that_both_methods_predict_are_compared():
    y, a, b, groups = draw()
    y, a, b = y.copy(), a.copy(), b.copy()
    y[:2], a[4], b[7] = np.nan, np.nan, np.nan
    got = compare(y, a, b, groups)
    assert (got.wells, got.compounds) == (116, 59)
    kept = np.setdiff1d(np.arange(120), [0, 1, 4, 7])
    assert got.first == metrics.r2(y[kept], a[kept])


def test_what_cannot_be_compared_is_unknown():
    y, a, b, groups = draw(compounds=1)
    assert compare(y, a, b, groups).verdict == "unknown"
    nothing = compare(y * np.nan, a, b, groups)
    assert (nothing.verdict, nothing.wells, nothing.compounds) == ("unknown", 0, 0)
    y, a, b, groups = draw()
    one_class = compare(np.ones(120), a, b, groups, metrics.auroc)
    assert one_class.verdict == "unknown"
    assert math.isnan(one_class.low)
    # A single positive compound: a third of the draws have no positive at all.
    rare = compare((groups == 3).astype(float), a, b, groups, metrics.auroc, draws=200)
    assert rare.verdict == "unknown"
    assert math.isfinite(rare.difference)
