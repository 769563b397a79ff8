"""P-values of compounds: exact where enumerated, uniform under the null, and what the design can reach."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from dpf.analysis.ranking.p_values import benjamini_hochberg, compound_p_values
from dpf.errors import DataError
from tests.support.inert_screens import inert_screen

screen = partial(inert_screen, controls=20, compounds=10)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(614)


def test_golden_by_brute_force_plate_by_plate(rng):
    t, group, control, plate = screen(rng, controls=12, compounds=4, plates=2)
    t = np.round(t, 1)  # ties
    ours = compound_p_values(t, group, 4, control, plate, rng=rng)
    for c in range(4):
        pools = [np.flatnonzero((plate == s) & (control | (group == c))) for s in (0, 1)]
        means = np.array([t[list(pair)].mean() for pair in itertools.product(*pools)])
        beyond = (means >= t[group == c].mean() - 1e-9).sum()
        assert ours.p[c] == pytest.approx(beyond / len(means))
    assert ours.exact.all()
    assert ours.floor == pytest.approx(np.full(4, 1 / 49))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 1000), st.floats(-100, 100))
def test_an_increasing_affine_map_and_the_order_of_wells_change_nothing(seed, scale, shift):
    rng = np.random.default_rng(seed)
    t, group, control, plate = screen(rng, plates=2)
    order = rng.permutation(len(t))
    a = compound_p_values(t, group, 10, control, plate, rng=rng)
    b = compound_p_values(scale * t[order] + shift, group[order], 10, control[order], plate[order], rng=rng)
    assert np.allclose(a.p, b.p)


@pytest.mark.parametrize(("controls", "wells", "seeds"), [(40, 2, 400), (12, 3, 400), (60, 4, 60)])
def test_p_values_are_uniform_under_the_null(controls, wells, seeds):
    p = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        t, group, control, _ = screen(rng, controls=controls, compounds=1, wells=wells)
        p.append(compound_p_values(np.exp(t), group, 1, control, rng=rng).p[0])
    assert kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / seeds)


def test_the_smallest_p_is_reached_as_rarely_as_it_says():
    """Skewed distances, 40 controls, pairs."""
    reached = 0.0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        t, group, control, _ = screen(rng, controls=40, compounds=300)
        t = np.sqrt((rng.normal(size=(len(t), 8)) ** 2).sum(axis=1))
        found = compound_p_values(t, group, 300, control, rng=rng)
        reached += (found.p <= found.floor * 1.001).mean() / 60
    assert reached < 2.5 / 861


def test_a_planted_hit_reaches_the_floor(rng):
    t, group, control, _ = screen(rng)
    t[group == 3] += 20
    found = compound_p_values(t, group, 10, control, rng=rng)
    assert found.p[3] == found.floor[3] == pytest.approx(1 / 231)


def test_drawn_sets_give_no_zero(rng):
    t, group, control, _ = screen(rng, controls=100, wells=4)
    t[group == 0] += 20
    found = compound_p_values(t, group, 10, control, rng=rng)
    assert not found.exact.any()
    assert found.p[0] == pytest.approx(1 / 10_001)


def test_all_values_equal_is_no_evidence(rng):
    _, group, control, _ = screen(rng)
    assert compound_p_values(np.full(len(group), 0.1), group, 10, control, rng=rng).p.tolist() == [1.0] * 10


def test_one_replicate_has_the_rank_among_the_controls(rng):
    t, group, control, _ = screen(rng, wells=1)
    p = compound_p_values(t, group, 10, control, rng=rng).p
    assert p[4] == pytest.approx(((t[control] >= t[group == 4]).sum() + 1) / 21)


def test_a_missing_distance_is_refused(rng):
    t, group, control, _ = screen(rng)
    t[22] = np.nan
    with pytest.raises(DataError, match=r"not finite(.|\n)*rows 22"):
        compound_p_values(t, group, 10, control, rng=rng)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_benjamini_hochberg_is_its_definition(p):
    """q of a test: the least share of false calls expected, p·m over the calls, at any threshold that calls it."""
    values = np.array(p)
    expected = [min(1, *(t * len(p) / (values <= t).sum() for t in values[values >= one])) for one in values]
    assert np.allclose(benjamini_hochberg(p), expected)


def test_missing_p_values_are_not_counted():
    q = benjamini_hochberg([0.01, np.nan, 0.04])
    assert q[[0, 2]] == pytest.approx([0.02, 0.04])
    assert np.isnan(q[1])
