"""Eta squared of positions, and p-values that keep their promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import f_oneway, kstest

from dpf.analysis.design.variance_explained import (
    _between,
    above_chance,
    edge_difference,
    eta_squared,
    often_together,
    permuted,
    permuted_in_blocks,
    position_shares,
    together_counts,
)
from dpf.analysis.design.wells import MISSING, Positions, within_plate


def plates(count: int) -> Positions:
    """Whole 96-well plates, row by row."""
    row, column = np.divmod(np.tile(np.arange(96), count), 12)
    codes, levels = within_plate(row, column, 8, 12)
    plate = np.repeat(np.arange(count), 96)
    names = tuple(f"p{number}" for number in range(count))
    return Positions({"plate": plate, **codes}, {"plate": names, **levels}, 96)


def test_eta_squared_is_that_of_the_one_way_analysis_of_variance() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 5, size=80)
    values = rng.normal(size=80) + 0.4 * codes
    f = f_oneway(*(values[codes == level] for level in range(5))).statistic
    assert eta_squared(values, codes) == pytest.approx(f * 4 / (f * 4 + 75), rel=1e-12)


def test_with_several_columns_it_is_the_share_of_squared_distances() -> None:
    rng = np.random.default_rng(2)
    table, codes = rng.normal(size=(40, 3)), rng.integers(0, 4, size=40)

    def mean_square(rows: np.ndarray) -> float:  # of all pairs, over n: the sum of squares around the mean
        return float(((rows[:, None] - rows[None]) ** 2).sum() / (2 * len(rows)))

    within = sum(mean_square(table[codes == level]) for level in range(4))
    assert eta_squared(table, codes) == pytest.approx(1 - within / mean_square(table), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_eta_squared_does_not_depend_on_units_order_or_names(seed: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    values, codes, order = rng.normal(size=30), rng.integers(0, 4, size=30), rng.permutation(30)
    renamed = rng.permutation(4)[codes]
    share = eta_squared(values, codes)
    assert 0 <= share <= 1
    assert eta_squared(shift + scale * values[order], renamed[order]) == pytest.approx(share, abs=1e-9)


@pytest.mark.parametrize("columns", [1, 3])
def test_shares_of_rearrangements_are_those_of_a_product_with_a_one_hot_matrix(columns: int) -> None:
    rng = np.random.default_rng(5)
    levels = np.r_[np.arange(6), rng.integers(0, 6, size=74)]
    centred = rng.normal(size=(80, columns))
    orders = np.array([rng.permutation(80) for _ in range(9)])
    scaled = np.eye(6)[levels] / np.sqrt(np.bincount(levels))
    expected = [((scaled.T @ centred[order]) ** 2).sum() for order in orders]
    np.testing.assert_allclose(_between(centred, levels, orders), expected, rtol=1e-12)


def test_wells_without_value_or_level_do_not_count() -> None:
    values = np.array([1.0, 2.0, 3.0, 5.0, np.nan, 100.0])
    codes = np.array([0, 0, 1, 1, 1, MISSING])
    assert eta_squared(values, codes) == eta_squared(values[:4], codes[:4])


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        ([1.0, 1.0, 1.0], [0, 1, 1]),
        ([0.1 + 0.2, 0.3, 0.1], [0, 0, 0]),
        ([np.nan, np.nan], [0, 1]),
        ([1.0, 2.0], [MISSING, MISSING]),
    ],
)
def test_nothing_to_explain_is_nan(values: list[float], codes: list[int]) -> None:
    assert np.isnan(eta_squared(np.array(values), np.array(codes)))


def test_rearrangements_keep_wells_in_their_stratum_and_units_whole() -> None:
    rng = np.random.default_rng(3)
    strata = np.tile([0, 1], 12)  # six units of two wells a stratum, in duplicate
    units = np.repeat(np.arange(6), 4)
    orders = permuted(units, strata, 50, rng)
    assert (np.sort(orders, axis=1) == np.arange(24)).all()
    assert (strata[orders] == strata).all()
    assert all(len(set(units[order][units == unit])) == 1 for order in orders for unit in range(6))
    assert len(np.unique(orders, axis=0)) > 40


def test_a_unit_like_no_other_stays() -> None:
    units, strata = np.array([0, 0, 0, 1, 2]), np.zeros(5, dtype=np.intp)
    orders = permuted(units, strata, 30, np.random.default_rng(0))
    assert (orders[:, :3] == [0, 1, 2]).all()
    assert {tuple(order[3:]) for order in orders} == {(3, 4), (4, 3)}


def test_blocks_bound_the_memory_and_add_up() -> None:
    blocks = list(permuted_in_blocks(np.arange(1000), np.zeros(1000, dtype=np.intp), 99, np.random.default_rng(0), 100))
    assert sum(len(block) for block in blocks) == 99
    assert max(block.size * 100 for block in blocks) <= 4_000_000


def test_together() -> None:
    units = np.array([0, 0, 1, 1, 2, 3, 3])
    codes = np.array([4, 4, 1, 2, 9, 5, MISSING])
    assert together_counts(units, codes) == (1, 2)
    assert often_together(units, codes)
    assert not often_together(np.repeat(np.arange(40), 2), np.random.default_rng(0).integers(0, 2, size=80))
    assert together_counts(units[:0], codes[:0]) == (0, 0)


def test_above_chance() -> None:
    assert above_chance(0.55, np.array([0.05, 0.15])) == pytest.approx(0.5)
    assert above_chance(1.0, np.array([1.0])) == 0.0


def test_p_values_are_uniform_when_compounds_act_and_positions_do_not() -> None:
    """Strong compounds, duplicates at random places: no effect of position."""
    positions, rng = plates(2), np.random.default_rng(5)
    p = {name: [] for name in ("plate", "row", "column", "quadrant", "edge")}
    for _ in range(100):
        units = rng.permutation(np.repeat(np.arange(96), 2))
        values = rng.normal(size=96)[units] + 0.5 * rng.normal(size=192)
        for share in position_shares(values, positions, units, np.zeros(192, dtype=bool), rng, permutations=99):
            if share.factor in ("row", "column"):
                assert share.unit == "well"
            p[share.factor].append(share.p_value)
    for factor, values_of in p.items():
        assert kstest(values_of, "uniform").pvalue > 0.001, factor


def test_replicates_at_one_position_do_not_pass_for_an_effect_of_position() -> None:
    """Duplicates in the same well of two plates: whole compounds change places, and p stays honest."""
    positions, rng = plates(2), np.random.default_rng(6)
    units = np.tile(np.arange(96), 2)
    found, naive = [], []
    for _ in range(80):
        values = rng.normal(size=96)[units] + 0.3 * rng.normal(size=192)
        shares = position_shares(values, positions, units, np.zeros(192, dtype=bool), rng, permutations=99)
        column = next(share for share in shares if share.factor == "column")
        assert column.unit == "compound"
        found.append(column.p_value)
        alone = position_shares(values, positions, np.arange(192), np.zeros(192, dtype=bool), rng, permutations=99)
        naive.append(next(share for share in alone if share.factor == "column").p_value)
    assert kstest(found, "uniform").pvalue > 0.001
    assert np.mean(np.array(naive) <= 0.05) > 0.2  # what permuting single wells would have claimed


def test_a_column_gradient_is_found_and_controls_alone_do_not_make_one() -> None:
    positions, rng = plates(2), np.random.default_rng(7)
    units = rng.permutation(np.repeat(np.arange(96), 2))
    column = positions.codes["column"]
    noise = rng.normal(size=192)
    nobody = np.zeros(192, dtype=bool)
    shares = {s.factor: s for s in position_shares(noise + 0.4 * column, positions, units, nobody, rng)}
    assert shares["column"].p_value == 0.001
    assert shares["column"].above_chance == pytest.approx(shares["column"].share_compounds, abs=0.06)
    assert shares["column"].above_chance > 0.4
    control = np.isin(column, (0, 11))
    shares = {s.factor: s for s in position_shares(noise + 5.0 * control, positions, units, control, rng)}
    assert shares["column"].share > 0.7
    assert shares["column"].share_compounds < 0.15
    assert shares["column"].p_value > 0.01


def test_plates_do_not_pass_for_rows_or_columns() -> None:
    positions, rng = plates(3), np.random.default_rng(8)
    values = rng.normal(size=288) + 3.0 * positions.codes["plate"]
    shares = position_shares(values, positions, np.arange(288), np.zeros(288, dtype=bool), rng)
    assert {s.factor for s in shares if s.p_value < 0.01} == {"plate"}


def test_unknown_positions_and_constant_values() -> None:
    positions, rng = plates(1), np.random.default_rng(9)
    nobody = np.zeros(96, dtype=bool)
    assert position_shares(np.ones(96), positions, np.arange(96), nobody, rng) == []
    values = rng.normal(size=96)
    values[::2] = np.nan
    codes = {name: np.where(np.arange(96) < 48, code, MISSING) for name, code in positions.codes.items()}
    half = Positions(codes, positions.levels, 96)
    shares = {s.factor: s.share for s in position_shares(values, half, np.arange(96), nobody, rng, 9)}
    keep = np.arange(1, 48, 2)
    assert shares["row"] == pytest.approx(eta_squared(values[keep], positions.codes["row"][keep]))


def test_edge_difference() -> None:
    positions = plates(1)
    edge = positions.codes["edge"].astype(float)
    nobody = np.zeros(96, dtype=bool)
    assert edge_difference(3 - 2 * edge, positions, nobody) == pytest.approx(-2 / (2 * edge).std())
    assert np.isnan(edge_difference(np.ones(96), positions, nobody))
    assert np.isnan(edge_difference(edge, positions, edge == 1))
