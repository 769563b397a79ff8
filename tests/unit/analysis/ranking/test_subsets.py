"""Which sets of wells a compound is compared with."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dpf.analysis.ranking.subsets import (
    comparisons,
    compositions,
    draw_subsets,
    number_of_subsets,
    require_controls,
    smallest_p,
)
from dpf.errors import DataError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(614)


def as_sets(subsets):
    return {frozenset(row) for row in subsets.index.tolist()}


def test_small_designs_are_enumerated_each_set_once(rng):
    exchange = draw_subsets([(4, 2)], rng)
    assert exchange.exact
    assert as_sets(exchange) == {frozenset(c) for c in itertools.combinations(range(6), 2)}
    assert smallest_p(exchange) == pytest.approx(1 / 15)
    pseudo = draw_subsets([(4, 2)], rng, controls_only=True)
    assert as_sets(pseudo) == {frozenset(c) for c in itertools.combinations(range(4), 2)}


def test_wells_are_exchanged_within_their_plate_only(rng):
    # plate 0: controls 0 1 2, own well 5; plate 1: controls 3 4, own well 6
    sets = as_sets(draw_subsets([(3, 1), (2, 1)], rng))
    assert sets == {frozenset(c) for c in itertools.product([0, 1, 2, 5], [3, 4, 6])}
    assert number_of_subsets([(3, 1), (2, 1)]) == 12


def test_large_designs_are_drawn_uniformly_without_repeats(rng):
    drawn = draw_subsets([(50, 4)], rng)
    assert not drawn.exact
    assert drawn.index.shape == (10_000, 4)
    assert (np.diff(np.sort(drawn.index, axis=1), axis=1) > 0).all()
    shares = np.bincount(drawn.index.ravel(), minlength=54) / 10_000
    assert np.allclose(shares, 4 / 54, atol=0.015)


def test_compounds_are_grouped_by_their_layout_and_their_wells_lined_up():
    group = np.array([1, 0, 2, 1, 0, 2, -1, -1])
    strata = np.array([0, 0, 0, 1, 1, 0, 0, 1])
    control = group < 0
    plan = compositions(group, 3, control, strata)
    assert {c: codes.tolist() for c, codes in plan.items()} == {((0, 1), (1, 1)): [0, 1], ((0, 2),): [2]}
    both, alone = comparisons(group, 3, control, strata, np.random.default_rng(1), largest_floor=1.0)
    assert both.own.tolist() == [[1, 4], [0, 3]]
    assert both.controls.tolist() == [6, 7]
    assert alone.own.tolist() == [[2, 5]]
    assert alone.controls.tolist() == [6]


def test_a_compound_without_wells_is_refused():
    with pytest.raises(DataError, match=r"a compound has no wells(.|\n)*codes 1"):
        compositions(np.array([0, 2]), 3, np.zeros(2, dtype=bool), np.zeros(2, dtype=int))


def test_too_few_controls_says_how_many_are_needed():
    group, strata = np.array([0, 0, -1, -1, -1]), np.zeros(5, dtype=int)
    plan = compositions(group, 1, group < 0, strata)
    with pytest.raises(DataError, match=r"no compound could reach 0.05(.|\n)*found: 3 control(.|\n)*at least 5"):
        require_controls(plan, group < 0, strata)


def test_the_plate_with_too_few_controls_is_named_and_not_the_whole_screen():
    """Four controls on each of two plates: the compounds stand on the right one, and eight would have done."""
    group, strata = np.array([0, 0, *[-1] * 8]), np.array([1, 1, *[0, 1] * 4])
    plan = compositions(group, 1, group < 0, strata)
    with pytest.raises(
        DataError, match=r"where: the controls of plate right\n(.|\n)*found: 4 control(.|\n)*at least 5"
    ):
        require_controls(plan, group < 0, strata, names=["left", "right"])
    both = np.array([1, 0, *strata[2:]])
    require_controls(compositions(group, 1, group < 0, np.zeros(10, dtype=int)), group < 0, np.zeros(10, dtype=int))
    few = group < 0
    few[4:] = False
    with pytest.raises(DataError, match=r"where: the controls of plate left, right\n"):
        require_controls(compositions(group, 1, group < 0, both), few, both, names=["left", "right"])


def test_a_plate_without_controls_is_named():
    group, strata = np.array([0, 0, *[-1] * 30]), np.array([1, 1, *[0] * 30])
    plan = compositions(group, 1, group < 0, strata)
    with pytest.raises(DataError, match=r"plate right, which holds 2 wells(.|\n)*found: 0 control wells"):
        require_controls(plan, group < 0, strata, names=["left", "right"])
