"""A line of evidence by the E-distance: scPerturb's convention, its identity, and its exchange p-value."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import kstest

from dpf.analysis.ranking.omnibus import Line, omnibus_test
from tests.support.inert_screens import inert_screen


def by_pairs(x, y):
    """The definition: mean squared distances, within groups over n(n − 1) ordered pairs."""
    delta = cdist(x, y, "sqeuclidean").mean()
    within = [cdist(g, g, "sqeuclidean").sum() / (len(g) * (len(g) - 1)) for g in (x, y)]
    return 2 * delta - sum(within)


def energy_test(values, *design):
    """The one line of evidence."""
    return omnibus_test({"x": Line(values, energy=True)}, *design)


def energy_distance(x, y):
    """Of one compound x from the controls y."""
    group = np.r_[np.zeros(len(x), dtype=int), np.full(len(y), -1)]
    return energy_test(np.concatenate([x, y]), group, 1, group < 0, None, np.random.default_rng(0)).values["x"][0]


screen = partial(inert_screen, controls=10, compounds=3, width=4)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(614)


def test_golden_by_hand():
    x, y = np.array([[0.0, 0], [2, 0]]), np.array([[0.0, 2], [4, 2]])
    delta = (4 + 20 + 8 + 8) / 4
    assert energy_distance(x, y) == pytest.approx(2 * delta - 4 - 16)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 9), st.floats(-1e3, 1e3))
def test_the_identity_holds(seed, n, m, shift):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 3)) + shift, rng.normal(size=(m, 3)) * 2 + shift
    assert energy_distance(x, y) == pytest.approx(by_pairs(x, y), abs=1e-6)


def test_rotation_and_order_do_not_matter(rng):
    x, y = rng.normal(size=(4, 3)), rng.normal(size=(5, 3))
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    assert energy_distance(x[::-1] @ rotation, y @ rotation) == pytest.approx(energy_distance(x, y))


def test_a_single_well_has_no_distance_within(rng):
    x, y = rng.normal(size=(1, 2)), rng.normal(size=(3, 2))
    within = cdist(y, y, "sqeuclidean").sum() / 6
    assert energy_distance(x, y) == pytest.approx(2 * cdist(x, y, "sqeuclidean").mean() - within)


@pytest.mark.parametrize("plates", [1, 2])
def test_golden_permutation_by_brute_force(rng, plates):
    z, group, control, plate = screen(rng, plates=plates)
    z += 1000.0
    ours = energy_test(z, group, 3, control, plate, rng)
    for c in range(3):
        pool = np.flatnonzero(control | (group == c))
        observed = by_pairs(z[group == c], z[control])
        reached = []
        for pair in itertools.combinations(pool, 2):
            if sorted(plate[list(pair)]) == sorted(plate[group == c]):
                rest = np.setdiff1d(pool, pair)
                reached.append(by_pairs(z[list(pair)], z[rest]) >= observed - 1e-6)
        assert ours.values["x"][c] == pytest.approx(observed, abs=1e-6)
        assert ours.p[c] == pytest.approx(np.mean(reached))
        assert ours.floor[c] == pytest.approx(1 / len(reached))


def test_drawn_sets_agree_with_enumeration_in_kind(rng):
    z, group, control, _ = screen(rng, controls=150, compounds=200, wells=3)
    z[group == 0] += 5
    found = energy_test(z, group, 200, control, None, rng)
    assert found.p[0] == pytest.approx(1 / 10_001)
    assert kstest(found.p[1:], "uniform").pvalue > 0.01
    assert abs(found.values["x"][1:].mean()) < 0.3


def test_p_values_are_uniform_under_the_null():
    p = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        z, group, control, _ = screen(rng, controls=20, compounds=1, wells=3)
        p.append(energy_test(np.exp(z), group, 1, control, None, rng).p[0])
    assert kstest(p, "uniform").pvalue > 0.01
