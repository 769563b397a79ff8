"""All draws at once give what scikit-learn gives draw by draw; chance is called a difference as rarely as is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dpf.analysis.evaluation import bootstrap, metrics
from dpf.analysis.evaluation.bootstrap import draw_compounds, interval, resampled, verdict
from dpf.analysis.evaluation.metrics import METRICS
from tests.support.plain_metrics import PLAIN


def screen(seed=0, compounds=25):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(compounds), rng.integers(1, 4, compounds))
    y = rng.normal(size=groups.size).round(1)  # rounded: ties
    f, g = y + rng.normal(size=(2, groups.size)).round(1)
    return rng, groups, y, f, g


def by_hand(metric, draws, y, f, *more):
    """The metric on the wells of each draw, repeated as often as drawn."""
    found = []
    for row in draws.counts:
        wells = np.repeat(np.arange(y.size), row[draws.code].astype(int))
        found.append(metric(y[wells], f[wells], *(part[wells] for part in more)))
    return np.array(found)


@pytest.mark.parametrize("name", metrics.SCORE_METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_score_metrics_agree_with_the_metric_of_every_draw(name, seed):
    rng, groups, y, f, _ = screen(seed)
    draws = draw_compounds(groups, rng, 60)
    got = resampled(METRICS[name], draws, y, f)
    assert got == pytest.approx(by_hand(PLAIN[name], draws, y, f), abs=1e-10)


@pytest.mark.parametrize("name", metrics.LABEL_METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_label_metrics_agree_with_the_metric_of_every_draw(name, seed):
    rng, groups, y, f, _ = screen(seed)
    label, probability = (y > 0).astype(float), (1 / (1 + np.exp(-f))).round(2)
    draws = draw_compounds(groups, rng, 60)
    got = resampled(METRICS[name], draws, label, probability)
    assert got == pytest.approx(by_hand(PLAIN[name], draws, label, probability), abs=1e-10)


def test_auroc_within_strata_agrees():
    rng, groups, y, f, _ = screen(5)
    label, cells = (y > 0).astype(float), rng.integers(0, 5, y.size)
    draws = draw_compounds(groups, rng, 60)

    def pairs(label, f, cells):
        inside = (label[:, None] == 1) & (label == 0) & (cells[:, None] == cells)
        return (((f[:, None] > f) + 0.5 * (f[:, None] == f))[inside]).mean()

    assert resampled(metrics.auroc, draws, label, f, cells) == pytest.approx(
        by_hand(pairs, draws, label, f, cells), abs=1e-12
    )


def test_what_a_draw_does_not_define_is_nan():
    groups = np.arange(30)
    rng = np.random.default_rng(0)
    one_positive = (groups == 3).astype(float)
    probability = rng.random(30)
    draws = draw_compounds(groups, rng, 300)
    taken = draws.counts[:, 3] > 0
    for metric in (metrics.auroc, metrics.auprc):
        found = resampled(metric, draws, one_positive, probability)
        assert np.isfinite(found[taken]).all()
        assert np.isnan(found[~taken]).all()
        assert np.isnan(interval(found)).all()  # a third of the draws has no positive
    for metric in (metrics.r2, metrics.pearson, metrics.spearman):
        assert np.isnan(resampled(metric, draws, np.full(30, 0.1), probability)).all()
    assert verdict(float("nan"), float("nan"), False) == "unknown"


def test_one_compound_or_no_well_has_no_interval():
    rng = np.random.default_rng(0)
    for groups in (np.zeros(5, dtype=int), np.empty(0, dtype=int)):
        draws = draw_compounds(groups, rng, 20)
        values = np.arange(groups.size, dtype=float)
        for metric in (metrics.r2, metrics.spearman):
            found = resampled(metric, draws, values, values)
            assert np.isnan(found).all()
            assert np.isnan(interval(found)).all()


def draw(compounds=60, replicates=2, seed=0, worse=0.0):
    """What was measured, two methods' predictions, and the compounds."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(compounds), replicates)
    y = rng.normal(size=compounds)[groups] + 0.3 * rng.normal(size=groups.size)
    error = 0.5 * rng.normal(size=(2, compounds))[:, groups] + 0.2 * rng.normal(size=(2, groups.size))
    return y, y + error[0], y + (1 + worse) * error[1], groups


def compare(y, a, b, groups, metric=metrics.r2, seed=0, draws=bootstrap.DRAWS):
    """The interval of the first method's metric less the second's, and the verdict on the first."""
    drawn = draw_compounds(groups, np.random.default_rng(seed), draws)
    low, high = interval(resampled(metric, drawn, y, a) - resampled(metric, drawn, y, b))
    return low, high, verdict(low, high, metric.lower_is_better)


def test_agrees_with_scipy_where_every_well_is_a_compound():
    y, a, b, _ = draw(compounds=80, replicates=1, worse=0.3)

    def statistic(i):
        i = i.astype(int)
        return PLAIN["rmse"](y[i], a[i]) - PLAIN["rmse"](y[i], b[i])

    oracle = stats.bootstrap(
        (np.arange(80),), statistic, vectorized=False, n_resamples=3000, method="percentile", rng=1
    ).confidence_interval
    low, high, _ = compare(y, a, b, np.arange(80), metrics.rmse, draws=3000)
    assert (low, high) == pytest.approx((oracle.low, oracle.high), abs=0.012)


def test_a_clear_difference_has_a_direction_and_the_metric_says_which_is_good():
    y, a, b, groups = draw(worse=1.5)
    for metric in (metrics.r2, metrics.rmse):
        assert compare(y, a, b, groups, metric)[2] == "better"
        assert compare(y, b, a, groups, metric)[2] == "worse"
    mirrored, straight = compare(y, b, a, groups), compare(y, a, b, groups)
    assert mirrored[:2] == pytest.approx((-straight[1], -straight[0]))
    assert compare(y, a, a, groups) == (0, 0, "equal")


def test_methods_of_equal_worth_are_rarely_told_apart():
    verdicts = [compare(*draw(compounds=40, seed=s), metrics.rmse, seed=s, draws=200)[2] for s in range(150)]
    assert 0.85 <= verdicts.count("equal") / 150 <= 0.99


def test_replicates_do_not_count_as_compounds():
    """Copying every well ten times into its compound adds nothing; wells as compounds would make it look sure."""
    y, a, b, groups = draw(compounds=40, replicates=1, seed=4)
    once = compare(y, a, b, groups)
    copied = compare(*(np.repeat(v, 10) for v in (y, a, b, groups)))
    assert copied[:2] == pytest.approx(once[:2])
    fooled = compare(*(np.repeat(v, 10) for v in (y, a, b)), np.arange(400))
    assert fooled[1] - fooled[0] < 0.5 * (once[1] - once[0])


def test_what_cannot_be_compared_is_unknown():
    assert compare(*draw(compounds=1))[2] == "unknown"
    _, a, b, groups = draw()
    low, _, word = compare(np.ones(120), a, b, groups, metrics.auroc)
    assert word == "unknown"
    assert math.isnan(low)
    # A single positive compound: a third of the draws have no positive at all.
    assert compare((groups == 3).astype(float), a, b, groups, metrics.auroc, draws=200)[2] == "unknown"
