"""Well names become positions, for all wells or for none."""

from __future__ import annotations

import itertools
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpf.errors import DataError, UsageError
from dpf.tables.roles.well_names import PLATE_SHAPES, parse_well_names, row_letters, row_number

_FORMS = ["{row}{column:02d}", "{row}{column}", "dge1_{row}{column:02d}", "tc1_A1_{row}{column}", "P-1:{row}{column}"]


def _whole_plate(form: str, plate_format: int) -> tuple[list[str], list[str], list[int]]:
    n_rows, n_columns = PLATE_SHAPES[plate_format]
    wells = list(itertools.product([row_letters(i + 1) for i in range(n_rows)], range(1, n_columns + 1)))
    return [form.format(row=row, column=column) for row, column in wells], [r for r, _ in wells], [c for _, c in wells]


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("plate_format", [96, 384, 1536])
def test_every_well_of_every_plate(form: str, plate_format: int) -> None:
    names, rows, columns = _whole_plate(form, plate_format)
    parsed = parse_well_names(names)
    assert parsed is not None
    assert (parsed.row, parsed.column, parsed.format, parsed.notes) == (rows, columns, plate_format, ())


@pytest.mark.parametrize(
    ("name", "plate", "row", "column", "plate_format"),
    [
        ("A01", None, "A", 1, 96),
        ("a1", None, "A", 1, 96),
        ("P24", None, "P", 24, 384),
        ("AF48", None, "AF", 48, 1536),
        ("dge1_A01", "dge1", "A", 1, 96),
        ("tc1_A1_A10", "tc1_A1", "A", 10, 96),
        ("LJP009_A375_24H_X1_B20:A03", "LJP009_A375_24H_X1_B20", "A", 3, 96),
        ("Plate 2 - H12", "Plate 2", "H", 12, 96),
    ],
)
def test_names_of_real_screens(name: str, plate: str | None, row: str, column: int, plate_format: int) -> None:
    parsed = parse_well_names([name])
    assert parsed is not None
    plates = None if plate is None else [plate]
    assert (parsed.plate, parsed.row, parsed.column, parsed.format) == (plates, [row], [column], plate_format)


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["A01", "control"],
        ["A01", "dge1_A02"],
        ["AACAAGGTAC", "AACAATCAGG"],
        ["S1", "S2", "S3"],
        ["drugA_R1", "drugA_R2", "drugB_R1"],
        [f"{row}{column}" for row in "CT" for column in range(1, 13)],
        ["A00", "A01"],
        ["A01", "A49"],
        ["AG01", "A01"],
    ],
)
def test_no_guess_where_it_would_be_too_bold(names: list[str]) -> None:
    assert parse_well_names(names) is None


def test_two_wells_in_one_position_are_noted() -> None:
    parsed = parse_well_names(["A01", "A1", "B02"])
    assert parsed is not None
    (note,) = parsed.notes
    assert note.severity == "warning"
    assert "1 positions hold more than one well: A1" in note.text


def test_pattern_with_numbered_rows_and_plate() -> None:
    parsed = parse_well_names(["x1r02c11", "x2r16c24"], r"(?P<plate>x\d)r(?P<row>\d+)c(?P<column>\d+)")
    assert parsed is not None
    assert (parsed.plate, parsed.row, parsed.column, parsed.format) == (["x1", "x2"], ["B", "P"], [11, 24], 384)


def test_pattern_may_match_a_part_of_the_name() -> None:
    parsed = parse_well_names(["S7_B03_L001", "S8_B04_L001"], r"(?<=_)(?P<row>[A-H])(?P<column>\d+)(?=_)")
    assert parsed is not None
    assert (parsed.plate, parsed.row, parsed.column) == (None, ["B", "B"], [3, 4])


def test_ambiguous_name_is_refused_with_the_matches() -> None:
    with pytest.raises(DataError) as caught:
        parse_well_names(["tc1_A1_A10"], r"(?P<row>[A-P])(?P<column>\d+)")
    text = str(caught.value)
    assert "more than one place" in text
    assert "well tc1_A1_A10" in text
    assert "A1, A10" in text


def test_names_that_miss_the_pattern_are_listed() -> None:
    with pytest.raises(DataError, match="1 of 2 wells") as caught:
        parse_well_names(["A01", "control"], r"(?P<row>[A-H])(?P<column>\d\d)")
    assert caught.value.found == "control"


@pytest.mark.parametrize(
    ("pattern", "text"),
    [("(?P<row>[A-P]", "not a regular expression"), (r"(?P<row>[A-P])\d+", r"\(\?P<column>")],
)
def test_wrong_pattern_is_wrong_usage(pattern: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        parse_well_names(["A01"], pattern)


@pytest.mark.parametrize("name", ["Z99", "A00", "AZ01"])
def test_position_beyond_the_largest_plate(name: str) -> None:
    with pytest.raises(DataError, match="no position on a plate"):
        parse_well_names([name], r"(?P<row>[A-Z]+)(?P<column>\d+)")


def test_pattern_with_a_plate_in_some_names_only() -> None:
    with pytest.raises(DataError, match="plate in some well names only"):
        parse_well_names(["p_A01", "A02"], r"(?:(?P<plate>\w)_)?(?P<row>[A-Z])(?P<column>\d+)")


@given(st.integers(1, 26 * 27))
def test_row_letters_and_numbers_are_inverse(number: int) -> None:
    assert row_number(row_letters(number)) == number


@given(st.lists(st.text(max_size=12), min_size=1, max_size=6))
def test_any_text_parses_or_not_but_never_fails(names: list[str]) -> None:
    parsed = parse_well_names(names)
    assert parsed is None or len(parsed.row) == len(parsed.column) == len(names)


def test_classic_metadata(real_data: Path) -> None:
    names = pl.read_csv(real_data / "classic-metadata" / "well_id.csv").to_series().to_list()
    parsed = parse_well_names(names)
    assert parsed is not None
    assert parsed.plate is not None
    assert (parsed.format, len(set(parsed.plate)), parsed.notes) == (96, 8, ())


def test_driad(real_data: Path) -> None:
    names = pl.read_csv(real_data / "driad-dge" / "prepared" / "wells.csv").to_series().to_list()
    parsed = parse_well_names(names)
    assert parsed is not None
    assert (parsed.format, sorted(set(parsed.plate or []))) == (384, ["dge1", "dge2"])
