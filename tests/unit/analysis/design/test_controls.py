"""Where controls and replicates stand: what is far, what is chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from dpf.analysis.design.controls import control_spread, replicate_spread
from dpf.analysis.design.wells import Positions, within_plate


def plates(count: int) -> Positions:
    row, column = np.divmod(np.tile(np.arange(96), count), 12)
    codes, levels = within_plate(row, column, 8, 12)
    names = tuple(f"p{number}" for number in range(count))
    return Positions({"plate": np.repeat(np.arange(count), 96), **codes}, {"plate": names, **levels}, 96)


def test_controls_in_the_last_column() -> None:
    positions = plates(2)
    control = positions.codes["column"] == 11
    spreads = {s.factor: s for s in control_spread(positions, control, np.random.default_rng(0))}
    column = spreads["column"]
    assert (column.distance, column.above_chance, column.reach) == (1.0, 1.0, 0.0)
    assert (column.levels_used, column.levels) == (1, 12)
    assert column.p_value == 0.001
    assert spreads["row"].distance == 0
    assert spreads["plate"].distance == 0


def test_the_distance_is_the_share_that_would_have_to_move() -> None:
    positions = plates(1)
    column = positions.codes["column"]
    control = np.isin(np.arange(96), [0, 1, 12, 13])  # two in column 1, two in column 2
    share = np.bincount(column[~control], minlength=12) / 92
    expected = np.abs(np.bincount(column[control], minlength=12) / 4 - share).sum() / 2
    found = {s.factor: s for s in control_spread(positions, control, np.random.default_rng(0), 9)}
    assert found["column"].distance == pytest.approx(expected)
    assert found["column"].reach == pytest.approx(share[:2].sum())


def test_random_controls_have_uniform_p_values() -> None:
    positions, rng = plates(2), np.random.default_rng(1)
    found = []
    for _ in range(120):
        control = np.zeros(192, dtype=bool)
        control[rng.choice(192, size=24, replace=False)] = True
        (row,) = (s for s in control_spread(positions, control, rng, 99) if s.factor == "row")
        found.append(row.p_value)
    # Distances take few values, and ties count: p is uniform or larger.
    assert kstest(found, "uniform", alternative="greater").pvalue > 0.001


def test_no_controls_or_no_compounds() -> None:
    rng = np.random.default_rng(0)
    assert control_spread(plates(1), np.zeros(96, dtype=bool), rng) == []
    assert control_spread(plates(1), np.ones(96, dtype=bool), rng) == []


def test_replicates_at_one_position() -> None:
    positions, nobody = plates(2), np.zeros(192, dtype=bool)
    found = {
        s.place: s for s in replicate_spread(positions, np.tile(np.arange(96), 2), nobody, np.random.default_rng(0))
    }
    assert {place: s.together for place, s in found.items()} == {
        "position": 96,
        "row": 96,
        "column": 96,
        "quadrant": 96,
        "plate": 0,
    }
    assert found["position"].chance == pytest.approx(1, abs=0.4)
    assert found["row"].chance == pytest.approx(96 / 8, abs=1)


def test_controls_are_no_replicates() -> None:
    control = np.arange(96) < 10
    units = np.arange(96)
    assert replicate_spread(plates(1), units, control, np.random.default_rng(0)) == []
