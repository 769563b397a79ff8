"""Average precision against copairs, and our own null for its mean."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
from scipy.stats import kstest

from dpf.analysis.ranking import replicates
from dpf.analysis.ranking.replicates import average_precision, cosine_test, replicate_retrieval
from tests.support.inert_screens import inert_screen

# copairs 0.5.5, average_precision(pos_sameby=["compound"], neg_diffby=["is_control"]) on `fixed_profiles()`:
# wells 0-2 and 3-4 are two compounds, 5-13 the controls.
COPAIRS = [0.26666667, 0.26785714, 0.33333333, 0.2, 0.16666667]


def fixed_profiles():
    i, j = np.arange(14)[:, None], np.arange(1, 5)[None, :]
    return np.sin(1.7 * i * j + j**2) + 0.3 * np.cos(i + j), np.array([0, 0, 0, 1, 1, *[-1] * 9])


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(614)


screen = partial(inert_screen, controls=10, compounds=3, width=6)


def test_average_precision_is_copairs(rng):
    x, group = fixed_profiles()
    found = replicate_retrieval(x, group, 2, group < 0, None, rng)
    assert found.ap[:5] == pytest.approx(COPAIRS, abs=1e-7)
    assert np.isnan(found.ap[5:]).all()
    assert found.mean_ap.value == pytest.approx([np.mean(COPAIRS[:3]), np.mean(COPAIRS[3:])], abs=1e-7)


def test_average_precision_by_hand():
    # order: + (0.9), − (0.8), + (0.7), − (0.1): (1/1 + 2/3)/2
    assert average_precision([0.7, 0.9], [0.1, 0.8]) == pytest.approx(5 / 6)


def test_ties_count_against_the_positives():
    assert average_precision([0.5], [0.5, 0.5, 0.1]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("plates", [1, 2])
def test_golden_p_by_brute_force(rng, plates):
    x, group, control, plate = screen(rng, plates=plates)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity = unit @ unit.T

    def mean_ap(chosen, pool):
        rest = np.setdiff1d(pool, chosen)
        return np.mean(
            [average_precision(similarity[q, [i for i in chosen if i != q]], similarity[q, rest]) for q in chosen]
        )

    ours = replicate_retrieval(x, group, 3, control, plate, rng)
    for c in range(3):
        own = np.flatnonzero(group == c)
        pool = np.flatnonzero(control | (group == c))
        sets = [s for s in itertools.combinations(pool, 2) if sorted(plate[list(s)]) == sorted(plate[own])]
        reached = [mean_ap(list(s), pool) >= mean_ap(own, pool) - 1e-12 for s in sets]
        assert ours.mean_ap.p[c] == pytest.approx(np.mean(reached))
        assert ours.mean_ap.floor[c] == pytest.approx(1 / len(sets))


def test_rotation_scale_and_order_do_not_matter(rng):
    x, group, control, _ = screen(rng)
    rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    order = rng.permutation(len(x))
    a = replicate_retrieval(x, group, 3, control, None, rng)
    b = replicate_retrieval(4 * x[order] @ rotation, group[order], 3, control[order], None, rng)
    assert np.allclose(a.mean_ap.value, b.mean_ap.value)
    assert np.allclose(a.mean_ap.p, b.mean_ap.p)


@pytest.mark.parametrize(("controls", "wells", "seeds"), [(20, 2, 250), (12, 3, 250), (60, 4, 50)])
def test_p_values_are_valid_under_the_null(controls, wells, seeds):
    p = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        x, group, control, _ = screen(rng, controls=controls, compounds=1, wells=wells)
        p.append(replicate_retrieval(x, group, 1, control, None, rng).mean_ap.p[0])
    # mAP takes few values for pairs, so p can only be at least uniform.
    assert kstest(p, "uniform", alternative="greater").pvalue > 0.01
    assert np.mean(p) < 0.58


def test_a_pair_alike_is_found(rng):
    x, group, control, _ = screen(rng, controls=40)
    x[group == 1] = x[group == 1].mean(axis=0) + 0.01 * rng.normal(size=(2, 6))
    found = replicate_retrieval(x, group, 3, control, None, rng)
    assert found.mean_ap.value[1] == 1
    assert found.mean_ap.p[1] < 0.05


def test_profiles_of_length_zero_do_not_agree(rng):
    x, group, control, _ = screen(rng, controls=20)
    x[group == 1] = 0
    found = replicate_retrieval(x, group, 3, control, None, rng)
    assert found.ap[group == 1] == pytest.approx([1 / 21, 1 / 21])
    assert found.mean_ap.p[1] > 0.9


def test_one_replicate_cannot_agree(rng):
    x, group, control, _ = screen(rng, controls=30, compounds=2, wells=1)
    found = replicate_retrieval(x, group, 2, control, None, rng)
    assert np.isnan(found.mean_ap.value).all()
    assert np.isnan(found.mean_ap.p).all()


def test_more_replicates_than_controls(rng):
    x, group, control, _ = screen(rng, controls=6, compounds=1, wells=14)
    found = replicate_retrieval(x, group, 1, control, None, rng)
    assert pytest.approx(found.mean_ap.floor[0]) == 1 / 10_001
    assert 0 < found.mean_ap.p[0] <= 1


def test_the_mean_cosine_of_a_pair_against_all_pairs():
    rng = np.random.default_rng(5)
    group, control = np.r_[np.full(8, -1), 0, 0, 1, 1], np.r_[np.ones(8), np.zeros(4)].astype(bool)
    x = rng.normal(size=(12, 4))
    x[9] = x[8] * 2
    found = cosine_test(x, group, 2, control, None, rng)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for compound, own in ((0, [8, 9]), (1, [10, 11])):
        pool = [*range(8), *own]
        cosines = [unit[a] @ unit[b] for i, a in enumerate(pool) for b in pool[:i]]
        assert found.value[compound] == pytest.approx(unit[own[0]] @ unit[own[1]])
        assert found.p[compound] == pytest.approx(np.mean(np.array(cosines) >= found.value[compound] - 1e-12))
    assert found.floor == pytest.approx(np.full(2, 1 / 45))
    assert found.p[0] == pytest.approx(1 / 45)


def test_the_cosine_of_inert_replicates_has_a_uniform_p():
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        group = np.r_[np.full(20, -1), 0, 0, 0]
        p.append(cosine_test(rng.normal(size=(23, 5)), group, 1, group < 0, None, rng).p[0])
    assert kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize("block", [1, 100, 333])
def test_some_controls_at_a_time_are_ranked_as_all_at_once(monkeypatch, rng, block):
    unit = np.round(rng.normal(size=(40, 3)))  # whole numbers: the same products in any order, and many ties
    whole = replicates._ranks(unit)
    monkeypatch.setattr(replicates, "_BLOCK", block)
    np.testing.assert_array_equal(replicates._ranks(unit), whole)
    assert whole.max(axis=1).tolist() == [40] * 40  # a well is the last of its own row
    np.testing.assert_array_equal(np.diag(whole), 40)
