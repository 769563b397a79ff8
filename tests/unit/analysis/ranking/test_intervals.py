"""Intervals of T and of the rank."""

from __future__ import annotations

import numpy as np
import pytest

from dpf.analysis.ranking import intervals
from dpf.analysis.ranking.compounds import descending_rank, group_mean
from dpf.analysis.ranking.intervals import likely_intervals
from tests.support.ranked_screens import EFFECTS, true_and_seen

#: The compounds on top, by their T as measured.
TOP = 20


def screen(rng, compounds=150, wells=2, spread=1.0):
    truth = rng.normal(size=compounds) * 3
    group = np.repeat(np.arange(compounds), wells)
    return truth, truth[group] + spread * rng.normal(size=len(group)), group


@pytest.mark.parametrize("wells", [2, 4])
@pytest.mark.parametrize("kind", EFFECTS)
def test_the_intervals_hold_the_truth_as_often_as_they_say(kind, wells):
    """Over all compounds, and over the twenty on top."""
    covered = []
    for seed in range(3):
        truth, t, group = true_and_seen(kind, wells, seed, more=80)
        found = likely_intervals(t, group, len(truth), rng=np.random.default_rng(seed))
        rank, top = descending_rank(truth), np.argsort(-group_mean(t, group, len(truth)))[:TOP]
        held = np.stack(
            [
                (found.t_low <= truth) & (truth <= found.t_high),
                (found.rank_low <= rank) & (rank <= found.rank_high),
            ]
        )
        covered.append([*held.mean(axis=1), *held[:, top].mean(axis=1)])
    t_all, rank_all, t_top, rank_top = np.mean(covered, axis=0)
    assert min(t_all, rank_all) >= 0.94  # of 600
    assert min(t_top, rank_top) >= 0.88  # of 60
    assert t_all < 0.995


def test_two_wells_that_agree_by_luck_still_have_an_interval():
    rng = np.random.default_rng(1)
    _, t, group = screen(rng)
    t[:2] = 1.0
    found = likely_intervals(t, group, 150, rng=rng)
    assert found.t_high[0] - found.t_low[0] > 1


def test_a_spread_that_grows_with_the_distance_is_followed():
    rng = np.random.default_rng(2)
    truth = np.r_[rng.normal(size=150) * 2, 200 + 40 * rng.normal(size=150)]
    group = np.repeat(np.arange(300), 2)
    t = truth[group] + np.where(truth[group] > 50, 10.0, 1.0) * rng.normal(size=600)
    found = likely_intervals(t, group, 300, rng=rng)
    width = found.t_high - found.t_low
    assert np.median(width[150:]) / np.median(width[:150]) == pytest.approx(10, rel=0.4)


def test_a_compound_far_ahead_is_first_and_keeps_its_own_interval():
    rng = np.random.default_rng(3)
    _, t, group = screen(rng, compounds=40)
    t[group == 7] += 100
    found = likely_intervals(t, group, 40, rng=rng)
    assert (found.rank_low[7], found.rank_high[7]) == (1, 1)
    assert found.rank_high.max() <= 40
    mean = t[group == 7].mean()
    assert found.t_low[7] < mean < found.t_high[7]
    assert (found.t_low[7] + found.t_high[7]) / 2 == pytest.approx(mean, abs=0.1)  # nothing near to draw it away


def test_the_highest_of_inert_compounds_is_drawn_towards_the_others():
    rng = np.random.default_rng(8)
    t, group = rng.normal(size=400), np.repeat(np.arange(200), 2)
    found = likely_intervals(t, group, 200, rng=rng)
    top = np.argmax(group_mean(t, group, 200))
    assert found.t_low[top] < 0 < found.t_high[top]
    assert found.rank_high[top] > 100


def test_the_same_generator_gives_the_same_intervals():
    _, t, group = screen(np.random.default_rng(4), compounds=10)
    a = likely_intervals(t, group, 10, rng=np.random.default_rng(5))
    b = likely_intervals(t, group, 10, rng=np.random.default_rng(5))
    for name in ("t_low", "t_high", "rank_low", "rank_high"):
        assert np.array_equal(getattr(a, name), getattr(b, name))


def test_one_well_borrows_from_the_others_and_nobody_has_one_from_nothing():
    rng = np.random.default_rng(6)
    _, t, group = screen(rng, compounds=20)
    found = likely_intervals(t[:-1], group[:-1], 20, rng=rng)
    assert found.t_low[19] < t[-2] < found.t_high[19]
    alone = likely_intervals(t[::2], group[::2], 20, rng=rng)
    assert np.isnan(alone.t_low).all()
    assert np.isnan(alone.rank_high).all()


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
@pytest.mark.parametrize("compounds", [1, 2, 3])
def test_few_compounds_of_any_scale_have_intervals(compounds, scale):
    _, t, group = screen(np.random.default_rng(9), compounds=compounds)
    found = likely_intervals(t * scale, group, compounds, rng=np.random.default_rng(0))
    assert (found.t_low < found.t_high).all()
    assert (found.rank_low >= 1).all()
    assert (found.rank_high <= compounds).all()


def test_replicates_that_are_equal_have_no_width():
    t, group = np.repeat([3.0, 1.0, 1.0], 2), np.repeat(np.arange(3), 2)
    found = likely_intervals(t, group, 3, rng=np.random.default_rng(0))
    assert found.t_low.tolist() == found.t_high.tolist() == [3.0, 1.0, 1.0]
    assert found.rank_low.tolist() == found.rank_high.tolist() == [1.0, 2.5, 2.5]


@pytest.mark.parametrize("block", [1, 400, 7_000])
def test_a_part_at_a_time_gives_the_same_intervals(monkeypatch, block):
    _, t, group = screen(np.random.default_rng(4), compounds=30)
    whole = likely_intervals(t, group, 30, rng=np.random.default_rng(5))
    monkeypatch.setattr(intervals, "_BLOCK", block)
    parts = likely_intervals(t, group, 30, rng=np.random.default_rng(5))
    for name in ("t_low", "t_high", "rank_low", "rank_high"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
