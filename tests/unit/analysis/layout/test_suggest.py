"""The suggested layout passes the program's own check, is random, and refuses what does not fit."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from dpf.analysis.layout.suggest import Layout, suggest_layout
from dpf.errors import DataError
from dpf.tables.roles.well_names import PlateFormat, parse_well_names


def names(count: int) -> list[str]:
    return [f"c{number}" for number in range(count)]


def verdicts(layout: Layout) -> dict[str, str]:
    return {item.name: item.verdict for item in layout.check() if item.verdict != "not applicable"}


@pytest.mark.parametrize(
    ("compounds", "replicates", "controls", "plates", "plate_format", "edge_free"),
    [
        (40, 2, 8, 1, 96, False),
        (364, 2, 20, 2, 384, False),
        (170, 2, 20, 1, 384, False),
        (180, 3, 20, 2, 384, True),
        (300, 1, 20, 1, 384, False),
        (10, 5, 10, 1, 96, True),
        (700, 2, 60, 1, 1536, False),
    ],
)
def test_it_passes_its_own_check(
    compounds: int, replicates: int, controls: int, plates: int, plate_format: PlateFormat, edge_free: bool
) -> None:
    for seed in range(2):
        layout = suggest_layout(names(compounds), replicates, controls, plates, plate_format, seed, edge_free=edge_free)
        found = verdicts(layout)
        assert found["controls: exchangeable with compounds"] == "good"
        assert found["repeated positions"] == "good"
        assert "fail" not in found.values()
        assert found.get("replicates: shared positions", "good") == "good"


@pytest.mark.parametrize("seed", range(3))
def test_every_well_is_accounted_for(seed: int) -> None:
    layout = suggest_layout(names(100), 3, 16, 2, 384, seed, control_name="DMSO")
    count = Counter(layout.compound)
    assert count.pop("DMSO") == 32 == layout.is_control.sum()
    assert set(count) == set(names(100))
    assert set(count.values()) == {3}
    assert len(set(layout.well_id)) == 332 == 768 - layout.free
    parsed = parse_well_names(list(layout.well_id))
    assert parsed is not None
    assert (parsed.plate, parsed.row, parsed.column) == (list(layout.plate), list(layout.row), list(layout.column))


def test_controls_are_balanced_over_rows_columns_and_quadrants() -> None:
    layout = suggest_layout(names(300), 1, 48, 1, 384, seed=4)
    row, column = np.array(layout.row)[layout.is_control], np.array(layout.column)[layout.is_control]
    assert max(Counter(row.tolist()).values()) - min(Counter(row.tolist()).values()) <= 1
    assert set(Counter(column.tolist()).values()) == {2}
    quadrant = Counter(zip((row >= "I").tolist(), (column > 12).tolist(), strict=True))
    assert max(quadrant.values()) - min(quadrant.values()) <= 1


def test_replicates_are_on_other_plates_rows_columns_and_quadrants() -> None:
    layout = suggest_layout(names(364), 2, 20, 2, 384, seed=1)
    wells = defaultdict(list)
    for place in zip(layout.compound, layout.plate, layout.row, layout.column, strict=True):
        wells[place[0]].append(place[1:])
    del wells["control"]
    for (plate_a, row_a, column_a), (plate_b, row_b, column_b) in wells.values():
        assert plate_a != plate_b
        assert row_a != row_b
        assert column_a != column_b
        assert (row_a >= "I", column_a > 12) != (row_b >= "I", column_b > 12)


def test_more_replicates_than_plates_are_spread_evenly() -> None:
    layout = suggest_layout(names(60), 4, 10, 3, 96, seed=1)
    on_plate = Counter(zip(layout.compound, layout.plate, strict=True))
    assert max(count for (compound, _), count in on_plate.items() if compound != "control") == 2


def test_a_compound_can_be_anywhere() -> None:
    """Over seeds, the first compound's column is uniform: order in the list does not decide the place."""
    layouts = [suggest_layout(names(40), 2, 8, 1, 96, seed) for seed in range(120)]
    first = [
        column
        for layout in layouts
        for column, name in zip(layout.column, layout.compound, strict=True)
        if name == "c0"
    ]
    count = np.bincount(first, minlength=13)[1:]
    assert ((count - 20) ** 2 / 20).sum() < 40  # chi squared, 11 degrees of freedom: p = 4e-5


def test_the_seed_makes_it_again() -> None:
    first, again, other = (suggest_layout(names(30), 2, 6, 1, 96, seed) for seed in (5, 5, 6))
    assert first.compound == again.compound
    assert first.compound != other.compound


def test_a_free_edge_is_free() -> None:
    layout = suggest_layout(names(20), 2, 8, 1, 96, seed=0, edge_free=True)
    assert not set(layout.row) & {"A", "H"}
    assert not set(layout.column) & {1, 12}


def test_only_controls_left_over_fill_the_plate() -> None:
    layout = suggest_layout(names(48), 1, 48, 1, 96, seed=0)
    assert layout.free == 0
    assert suggest_layout(["only"], 1, 95, 1, 96, seed=0).compound.count("only") == 1


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"compounds": names(50), "replicates": 2}, r"more wells than places\n.*\n.*\n  next: 2 plates would do"),
        ({"controls": 97}, "fewer controls, or a larger plate"),
        ({"compounds": []}, "a layout needs more compounds"),
        ({"replicates": 0}, "a layout needs more replicates"),
        ({"controls": 0}, "a layout needs more controls"),
        ({"seed": -1}, "a layout needs more seed"),
        ({"compounds": ["a", "b", "a"]}, "once each.*\n  found: 'a'"),
        ({"compounds": ["a", " "]}, "must be there"),
        ({"compounds": ["control", "b"]}, "not be the control's"),
        ({"plate_format": 6}, "no such plate format"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(request_: dict[str, object], message: str) -> None:
    request = {"compounds": ["a", "b"], "replicates": 1, "controls": 4, "plates": 1, "plate_format": 96, "seed": 0}
    with pytest.raises(DataError, match=message):
        suggest_layout(**(request | request_))  # type: ignore[arg-type]
