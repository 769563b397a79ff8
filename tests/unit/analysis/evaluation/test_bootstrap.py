"""All draws at once give what metric after metric on draw after draw gives."""

from __future__ import annotations

import numpy as np
import pytest

from dpf.analysis.evaluation import metrics
from dpf.analysis.evaluation.bootstrap import draw_compounds, interval, resampled, verdict
from dpf.analysis.evaluation.paired_bootstrap import paired_bootstrap


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
    got = resampled(name, draws, y, f)
    assert got == pytest.approx(by_hand(metrics.SCORE_METRICS[name], draws, y, f), abs=1e-10)


@pytest.mark.parametrize("name", metrics.LABEL_METRICS)
@pytest.mark.parametrize("seed", range(3))
def test_label_metrics_agree_with_the_metric_of_every_draw(name, seed):
    rng, groups, y, f, _ = screen(seed)
    label, probability = (y > 0).astype(float), (1 / (1 + np.exp(-f))).round(2)
    draws = draw_compounds(groups, rng, 60)
    got = resampled(name, draws, label, probability)
    assert got == pytest.approx(by_hand(metrics.LABEL_METRICS[name], draws, label, probability), abs=1e-10)


def test_auroc_within_strata_agrees():
    rng, groups, y, f, _ = screen(5)
    label, cells = (y > 0).astype(float), rng.integers(0, 5, y.size)
    draws = draw_compounds(groups, rng, 60)
    expected = by_hand(metrics.auroc, draws, label, f, cells)
    assert resampled("auroc", draws, label, f, cells) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["r2", "spearman", "rmse"])
def test_the_draws_are_those_of_the_plain_bootstrap(name):
    _, groups, y, f, g = screen(7)
    plain = paired_bootstrap(
        y, f, g, groups, metrics.SCORE_METRICS[name], rng=np.random.default_rng(3), draws=200,
        lower_is_better=name == "rmse",
    )  # fmt: skip
    draws = draw_compounds(groups, np.random.default_rng(3), 200)
    ends = interval(resampled(name, draws, y, f) - resampled(name, draws, y, g))
    assert ends == pytest.approx((plain.low, plain.high), abs=1e-10)
    assert verdict(*ends, name == "rmse") == plain.verdict


def test_what_a_draw_does_not_define_is_nan():
    groups = np.arange(30)
    rng = np.random.default_rng(0)
    one_positive = (groups == 3).astype(float)
    probability = rng.random(30)
    draws = draw_compounds(groups, rng, 300)
    taken = draws.counts[:, 3] > 0
    for name in ("auroc", "auprc"):
        found = resampled(name, draws, one_positive, probability)
        assert np.isfinite(found[taken]).all()
        assert np.isnan(found[~taken]).all()
        assert np.isnan(interval(found)).all()  # a third of the draws has no positive
    for name in ("r2", "pearson", "spearman"):
        assert np.isnan(resampled(name, draws, np.full(30, 0.1), probability)).all()
    assert verdict(float("nan"), float("nan"), False) == "unknown"


def test_one_compound_or_no_well_has_no_interval():
    rng = np.random.default_rng(0)
    for groups in (np.zeros(5, dtype=int), np.empty(0, dtype=int)):
        draws = draw_compounds(groups, rng, 20)
        values = np.arange(groups.size, dtype=float)
        assert np.isnan(resampled("r2", draws, values, values)).all()
        assert np.isnan(interval(resampled("spearman", draws, values, values))).all()
