"""Intervals of T and of the rank."""

from __future__ import annotations

import numpy as np
import pytest

from dpf.analysis.ranking import intervals
from dpf.analysis.ranking.intervals import bootstrap_intervals


def screen(rng, compounds=150, wells=2, spread=1.0):
    truth = rng.normal(size=compounds) * 3
    group = np.repeat(np.arange(compounds), wells)
    return truth, truth[group] + spread * rng.normal(size=len(group)), group


@pytest.mark.parametrize("wells", [2, 4])
def test_the_interval_covers_the_truth_as_often_as_it_says(wells):
    covered = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        truth, t, group = screen(rng, wells=wells)
        found = bootstrap_intervals(t, group, 150, rng=rng)
        covered.append(((found.t_low <= truth) & (truth <= found.t_high)).mean())
    assert np.mean(covered) == pytest.approx(0.95, abs=0.025)


def test_two_wells_that_agree_by_luck_still_have_an_interval():
    rng = np.random.default_rng(1)
    _, t, group = screen(rng)
    t[:2] = 1.0
    found = bootstrap_intervals(t, group, 150, rng=rng)
    assert found.t_high[0] - found.t_low[0] > 1


def test_a_spread_that_grows_with_the_distance_is_followed():
    rng = np.random.default_rng(2)
    truth = np.repeat([0.0, 50.0], 150)
    group = np.repeat(np.arange(300), 2)
    t = truth[group] + np.where(truth[group] > 0, 5.0, 0.5) * rng.normal(size=600)
    found = bootstrap_intervals(t, group, 300, rng=rng)
    width = found.t_high - found.t_low
    assert np.median(width[150:]) / np.median(width[:150]) == pytest.approx(10, rel=0.3)


def test_a_compound_far_ahead_is_first_in_every_draw():
    rng = np.random.default_rng(3)
    _, t, group = screen(rng, compounds=20)
    t[group == 7] += 100
    found = bootstrap_intervals(t, group, 20, rng=rng)
    assert (found.rank_low[7], found.rank_high[7]) == (1, 1)
    assert found.rank_high.max() <= 20


def test_the_same_generator_gives_the_same_intervals():
    _, t, group = screen(np.random.default_rng(4), compounds=10)
    a = bootstrap_intervals(t, group, 10, rng=np.random.default_rng(5))
    b = bootstrap_intervals(t, group, 10, rng=np.random.default_rng(5))
    assert np.array_equal(a.t_low, b.t_low)


def test_one_well_borrows_from_the_others_and_nobody_has_one_from_nothing():
    rng = np.random.default_rng(6)
    _, t, group = screen(rng, compounds=20)
    found = bootstrap_intervals(t[:-1], group[:-1], 20, rng=rng)
    assert found.t_low[19] < t[-2] < found.t_high[19]
    alone = bootstrap_intervals(t[::2], group[::2], 20, rng=rng)
    assert np.isnan(alone.t_low).all()
    assert np.isnan(alone.rank_high).all()


@pytest.mark.parametrize("block", [1, 400, 7_000])
def test_a_part_at_a_time_gives_the_same_intervals(monkeypatch, block):
    _, t, group = screen(np.random.default_rng(4), compounds=30)
    whole = bootstrap_intervals(t, group, 30, rng=np.random.default_rng(5))
    monkeypatch.setattr(intervals, "_BLOCK", block)
    parts = bootstrap_intervals(t, group, 30, rng=np.random.default_rng(5))
    for name in ("t_low", "t_high", "rank_low", "rank_high"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
