"""Plate quality: principal components, outliers, summaries."""

from __future__ import annotations

import numpy as np
import pytest

from dpf.analysis.design.context import context
from dpf.analysis.design.items.plates import plate_items
from dpf.analysis.design.plates import outliers, plate_summaries, repeated_positions
from dpf.analysis.design.wells import DesignInput, Positions, locate


def test_outliers_are_counted_in_mads_of_their_plate() -> None:
    values = np.r_[np.arange(11.0), 100 + np.arange(11.0), np.nan]
    values[10] = 60
    plate = np.repeat([0, 1, 1], [11, 11, 1])
    found = outliers(values, plate)
    assert found[10] == pytest.approx((60 - 5) / (1.4826 * 3))
    assert np.abs(np.delete(found, 10)).max() < 2
    assert found[-1] == 0
    assert (outliers(np.ones(5), np.zeros(5, dtype=np.intp)) == 0).all()


def two_plates() -> tuple[DesignInput, Positions]:
    """A whole plate, and one whose edge is free, with two wells at one place."""
    inner = [(r, c) for r in "BCDEFG" for c in range(2, 12)]
    places = [("a", r, c) for r in "ABCDEFGH" for c in range(1, 13)]
    places += [("b", r, c) for r, c in inner] + [("b", "C", 3)]
    plate, row, column = (list(part) for part in zip(*places, strict=True))
    control = np.arange(len(places)) % 10 == 0
    design = DesignInput([f"c{i}" for i in range(len(places))], control, plate, row, column)
    return design, locate(design)


def test_summaries() -> None:
    design, positions = two_plates()
    n = design.n_wells
    size = np.arange(n, dtype=float)
    size[0] = np.nan
    rng = np.random.default_rng(0)
    components = np.where(design.is_control[:, None], 1.0, 2.0) * rng.choice([-1.0, 1.0], size=(n, 500))
    whole, inner = plate_summaries(positions, None, design.is_control, size, None, components)
    assert (whole.plate, whole.wells, whole.controls, whole.missing, whole.missing_inside) == ("a", 96, 10, 0, 0)
    assert (inner.plate, inner.wells, inner.missing, inner.missing_inside) == ("b", 61, 36, 0)
    assert whole.library_size == np.median(np.arange(1, 96))
    assert np.isnan(whole.detected)
    assert whole.control_spread == pytest.approx(0.5, rel=0.02)


def test_a_place_whose_well_was_set_aside_is_not_missing() -> None:
    design, _ = two_plates()
    at = dict.fromkeys(zip(design.plate, design.row, design.column, strict=True))  # type: ignore[arg-type]
    gone = [("a", "A", 1), ("a", "D", 5), ("b", "H", 12), ("b", "C", 3), ("z", "B", 2)]
    aside = DesignInput(["x"] * 5, np.zeros(5, dtype=bool), *(list(part) for part in zip(*gone, strict=True)))
    rest = [place for place in at if place not in gone[:2]]
    plate, row, column = (list(part) for part in zip(*rest, strict=True))
    used = DesignInput(["c"] * len(rest), np.zeros(len(rest), dtype=bool), plate, row, column, set_aside=aside)
    found = plate_items(context(used, np.random.default_rng(0), 99), np.random.default_rng(0))
    table = next(item for item in found if item.name == "missing wells").table
    assert (table["plate"], table["missing"], table["missing_inside"]) == (["a", "b"], [0, 35], [0, 0])


def test_a_well_set_aside_counts_for_the_format_of_the_plate() -> None:
    aside = DesignInput(["x"], np.zeros(1, dtype=bool), ["a"], ["P"], [24])
    used = DesignInput(["c", "d"], np.zeros(2, dtype=bool), ["a", "a"], ["A", "B"], [1, 1], set_aside=aside)
    assert locate(used).plate_format == 384


def test_repeated_positions_are_named() -> None:
    assert repeated_positions(two_plates()[1]) == ["b C3"]
