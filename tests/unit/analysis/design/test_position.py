"""The position design has one column a level, and nothing of plate and column survives its removal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpf.analysis.design.position import (
    edge_distance,
    position_cells,
    position_design,
    within_position,
)
from dpf.analysis.evaluation import metrics


def full_plate(rows=16, columns=24):
    row = [chr(ord("A") + i) for i in range(rows) for _ in range(columns)]
    return row, [c + 1 for _ in range(rows) for c in range(columns)]


def test_design_of_two_plates():
    row, column = full_plate()
    design = position_design(["P1"] * 384 + ["P2"] * 384, row * 2, column * 2)
    assert design.shape == (768, 2 + 16 + 24 + 1)
    np.testing.assert_array_equal(design[:, :-1].sum(axis=1), 3)
    assert (design[:, :-1].sum(axis=0) == [384] * 2 + [48] * 16 + [32] * 24).all()
    assert len(np.unique(design, axis=0)) == 768  # no two positions are alike
    assert design[384 + 25, -1] == 1


def test_edge_distance_by_hand():
    assert edge_distance(["A", "H", "D", "B"], [5, 5, 6, 12]).tolist() == [0, 0, 3, 0]  # 96 wells
    assert edge_distance(["A", "H", "D", "P"], [5, 5, 6, 12]).tolist() == [0, 4, 3, 0]  # 384 wells
    assert edge_distance(["AF", "Z"], [24, 24]).tolist() == [0, 6]  # 1,536 wells
    for row, column in ([["A", None], [1, 2]], [["A", "7"], [1, 2]], [["A", "B"], [1, 49]], [["A"], [None]], [[], []]):
        assert edge_distance(row, column) is None


def test_rows_follow_the_plate_and_missing_is_a_level():
    design = position_design(None, ["AA", "B", "A", None], [10, 2, None, 1])
    np.testing.assert_array_equal(design, np.hstack([np.eye(4)[[2, 3, 1, 0]], np.eye(4)[[2, 3, 0, 1]]]))
    assert position_design(None, None, None) is None
    assert position_design(["P1", "P1"], None, None) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(2, 12))
def test_nothing_of_plate_and_column_is_left(seed, plates, columns):
    rng = np.random.default_rng(seed)
    n = 120
    plate, column = rng.integers(0, plates, n), rng.integers(1, columns + 1, n)
    cells = position_cells([f"P{p}" for p in plate], column.tolist())
    values = rng.normal(size=(n, 2))
    values[rng.random((n, 2)) < 0.2] = np.nan
    effect = rng.normal(scale=10, size=(plates, columns + 1))[plate, column]
    left = within_position(values, cells)
    np.testing.assert_allclose(within_position(values + effect[:, None], cells), left, atol=1e-9)
    for cell in np.unique(cells):
        kept = left[cells == cell]
        assert np.abs(np.nansum(kept, axis=0)).max() < 1e-9
    np.testing.assert_allclose(within_position(values[:, 0], cells), left[:, 0])


def test_a_well_alone_in_its_cell_is_masked_and_so_is_one_without_a_place():
    cells = position_cells(["P", "P", "P", None, "P"], [1, 1, 2, 1, None])
    assert cells.tolist() == [0, 0, 1, -1, -1]
    left = within_position([1.0, 3.0, 5.0, 7.0, 9.0], cells)
    np.testing.assert_array_equal(left, [-1, 1, np.nan, np.nan, np.nan])
    assert position_cells(None, [1, 1, 2]).tolist() == [0, 0, 1]


def test_a_predictor_that_knows_the_position_alone_scores_nothing_within_it():
    rng = np.random.default_rng(0)
    column = np.repeat(np.arange(1, 25), 16)
    effect = rng.normal(size=25)[column]
    measured, expressed = effect + 0.3 * rng.normal(size=384), rng.normal(size=384)
    measured = measured + 0.3 * expressed
    cells = position_cells(None, column.tolist())
    assert metrics.r2(measured, effect) > 0.7
    truth, guess = (within_position(values, cells) for values in (measured, effect))
    assert metrics.r2(truth, guess) == pytest.approx(0, abs=1e-9)
    assert np.isnan(metrics.pearson(truth, guess))  # nothing is left, not even rounding
    truth, guess = (within_position(values, cells) for values in (measured, effect + 0.3 * expressed))
    assert metrics.r2(truth, guess) > 0.3
