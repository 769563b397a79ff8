"""The design as arrays: positions as numbers, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from dpf.analysis.design.wells import MISSING, DesignInput, codes_of, compound_units, locate
from dpf.errors import DataError


def one_plate(**changes: object) -> DesignInput:
    parts: dict[str, object] = {
        "compound": ["a", "a", "b", "dmso"],
        "is_control": np.array([False, False, False, True]),
        "row": ["A", "b", "H", None],
        "column": [1, 12, 7, None],
    }
    return DesignInput(**(parts | changes))  # type: ignore[arg-type]


def test_positions_as_numbers() -> None:
    positions = locate(one_plate())
    assert positions.plate_format == 96
    assert positions.codes["row"].tolist() == [0, 1, 7, MISSING]
    assert positions.codes["column"].tolist() == [0, 11, 6, MISSING]
    assert positions.codes["quadrant"].tolist() == [0, 1, 3, MISSING]
    assert positions.codes["edge"].tolist() == [1, 1, 1, MISSING]
    assert positions.known.tolist() == [True, True, True, False]
    assert positions.well.tolist() == [0, 23, 90, MISSING]
    assert "interleave" not in positions.codes
    assert positions.well_names(np.arange(3)) == ["A1", "B12", "H7"]


def test_a_bigger_plate_has_interleaved_quarters() -> None:
    positions = locate(one_plate(row=["A", "B", "C", "P"], column=np.array([1, 1, 2, 24])))
    assert positions.plate_format == 384
    assert positions.codes["interleave"].tolist() == [0, 2, 1, 3]
    assert [*positions.codes] == ["plate", "row", "column", "quadrant", "interleave", "edge"]


def test_a_given_format_is_taken() -> None:
    assert locate(one_plate(plate_format=1536)).codes["edge"].tolist() == [1, 0, 0, MISSING]


def test_without_rows_and_columns_only_plates_are_known() -> None:
    positions = locate(one_plate(row=None, column=None, plate=["x", "x", "y", ""]))
    assert positions.codes["plate"].tolist() == [0, 0, 1, MISSING]
    assert (positions.codes["column"] == MISSING).all()
    assert not positions.known.any()


def test_names_as_numbers() -> None:
    codes, levels = codes_of(["b", None, "a", "", float("nan"), "b"])
    assert codes.tolist() == [1, -1, 0, -1, -1, 1]
    assert levels == ("a", "b")
    assert codes_of([None, None])[1] == ()


def test_controls_and_nameless_wells_are_units_of_their_own() -> None:
    units = compound_units(one_plate(compound=["a", "a", None, "a"]))
    assert units[0] == units[1]
    assert len(set(units.tolist())) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compound": []}, "without wells"),
        ({"plate": ["x"]}, "design's plate has another number of wells"),
        ({"targets": {"t": np.zeros(3)}}, "design's target t has another number"),
        ({"row": None}, "both rows and columns"),
        ({"plate_format": 24}, "no such plate format"),
        ({"targets": {"t": np.array([0, 1, np.inf, 0])}}, "t has an infinite value"),
        ({"label": "t"}, "the label is not one of the targets"),
        ({"targets": {"t": np.array([0, 1, 2.0, np.nan])}, "label": "t"}, "the label t is not binary"),
    ],
)
def test_what_is_no_design_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        one_plate(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"row": ["A", "3", "B", None]}, "row is not a row letter\n  where: well 2\n  found: '3'"),
        ({"column": [1, 0, 2, None]}, "not a column number\n  where: well 2\n  found: 0"),
        ({"column": [1, 1.5, 2, None]}, "not a column number"),
        ({"column": ["1", "x", "2", "3"]}, "a plate column is not a number"),
        ({"column": [1, 49, 2, None]}, "on no plate of 96, 384 or 1536"),
        (
            {"column": [1, 13, 2, None], "plate_format": 96},
            "not on a 96-well plate\n  where: well 2\n  found: row B, col",
        ),
    ],
)
def test_what_is_no_position_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        locate(one_plate(**changes))
