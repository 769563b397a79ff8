"""Where on which plate a well sits, read from its name: `A01`, `dge1_A01`, `tc1_A1_A10`, `LJP009_A375:P24`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import polars as pl

from dpf.errors import DataError, UsageError, listed
from dpf.tables.screen import Note

PlateFormat = Literal[96, 384, 1536]

#: Rows and columns of each plate format, smallest first.
PLATE_SHAPES: dict[PlateFormat, tuple[int, int]] = {96: (8, 12), 384: (16, 24), 1536: (32, 48)}

_WELL = re.compile(
    r"(?:(?P<plate>.*[^_:\-./| ])[_:\-./| ]+)?(?P<row>[A-Za-z]{1,2})(?P<column>\d{1,2})", re.DOTALL | re.ASCII
)


@dataclass(frozen=True)
class WellNames:
    """Positions of N wells, in the order of their names.

    Attributes
    ----------
    plate
        The plate of each well as written in its name, or None when the names carry no plate.
    row
        Row letters in upper case, without padding: ``A`` ... ``Z``, ``AA`` ... ``AF``.
    column
        Column numbers from 1.
    format
        The smallest plate (96, 384 or 1536 wells) that holds every position. A guess: a 384-well plate used in
        its upper left quarter only looks like 96.
    notes
        What was odd.
    """

    plate: list[str] | None
    row: list[str]
    column: list[int]
    format: PlateFormat
    notes: tuple[Note, ...] = ()


def row_number(letters: str) -> int:
    """The number from 1 of a row: ``A`` is 1, ``P`` 16, ``AF`` 32. Letters only, either case."""
    number = 0
    for letter in letters.upper():
        number = 26 * number + ord(letter) - ord("A") + 1
    return number


def row_letters(number: int) -> str:
    """The letters of row `number`, from 1; the inverse of `row_number`."""
    letters = ""
    while number > 0:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def parse_well_names(names: list[str], pattern: str | None = None) -> WellNames | None:
    r"""Plate, row and column of every well.

    Without `pattern` the well is the last part of a name, after ``_ : - . / |`` or a space, and what stands before
    it is the plate: ``tc1_A1_A10`` is well A10 of plate ``tc1_A1``. Letters and number may be padded (``A01``) or
    not, in either case. The guess is made for all names or for none, and refused where it would be one too bold:
    some names with a plate and some without; unpadded names all in one row of one letter (``S1``, ``S2``, ``S3``
    number samples), or that would need a 1536-well plate and fill less than a 96-well one (``C1`` ... ``T12``).

    Parameters
    ----------
    names
        N well names.
    pattern
        A regular expression with the named groups ``row`` (letters, or a number from 1), ``column`` and, where
        there is one, ``plate``. It must match the whole name, or exactly one part of it.

    Returns
    -------
    WellNames or None
        None when no pattern was given and not every name is a well name.

    Raises
    ------
    UsageError
        The pattern is no regular expression, or lacks a group.
    DataError
        A name does not match the pattern, matches it in two places that disagree, or lies beyond row AF, column 48.

    Examples
    --------
    >>> parse_well_names(["dge1_A01", "dge1_P24"]).plate
    ['dge1', 'dge1']
    >>> parse_well_names(["x1r02c11"], r"(?P<plate>x\d)r(?P<row>\d+)c(?P<column>\d+)").row
    ['B']
    """
    if not names:
        return None
    if pattern is not None:
        return _positions(*_parse_by_pattern(names, pattern))
    matches = [_WELL.fullmatch(name.strip()) for name in names]
    found = [match for match in matches if match is not None]
    if len(found) < len(names):
        return None
    plates = [match["plate"] for match in found]
    if len({plate is None for plate in plates}) > 1:
        return None
    rows = [match["row"].upper() for match in found]
    columns = [int(match["column"]) for match in found]
    if any(_beyond(row, column) for row, column in zip(rows, columns, strict=True)):
        return None
    padded = any(match["column"].startswith("0") for match in found)
    if not padded and _looks_like_sample_numbers(plates, rows, columns):
        return None
    return _positions(plates, rows, columns)


def _beyond(row: str, column: int) -> bool:
    n_rows, n_columns = PLATE_SHAPES[1536]
    return not (1 <= row_number(row) <= n_rows and 1 <= column <= n_columns)


def _looks_like_sample_numbers(plates: list[str | None], rows: list[str], columns: list[int]) -> bool:
    if len(rows) == 1 or any(len(row) == 2 for row in rows):
        return False
    wells_per_plate = len(rows) / len(set(plates))
    return len(set(rows)) == 1 or (_plate_format(rows, columns) == 1536 and wells_per_plate < 96)


def _plate_format(rows: list[str], columns: list[int]) -> PlateFormat:
    last_row, last_column = max(map(row_number, rows)), max(columns)
    return next(
        plate_format
        for plate_format, (n_rows, n_columns) in PLATE_SHAPES.items()
        if last_row <= n_rows and last_column <= n_columns
    )


def _parse_by_pattern(names: list[str], pattern: str) -> tuple[list[str | None], list[str], list[int]]:
    compiled = _compile(pattern)
    parsed = [_parse_one(name, compiled) for name in names]
    missed = [name for name, position in zip(names, parsed, strict=True) if position is None]
    if missed:
        raise DataError(
            "well names do not match the well pattern",
            where=f"{len(missed):,} of {len(names):,} wells",
            found=listed(missed),
            expected=pattern,
            hint="correct --well-pattern, or leave it out to keep the names without positions",
        )
    positions = [position for position in parsed if position is not None]
    plates, rows, columns = (list(part) for part in zip(*positions, strict=True))
    return plates, rows, columns


def _compile(pattern: str) -> re.Pattern[str]:
    hint = r"for example '(?P<plate>.+)_(?P<row>[A-P])(?P<column>\d+)'"
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            "the well pattern is not a regular expression", found=f"{pattern}: {error}", hint=hint
        ) from error
    missing = {"row", "column"} - set(compiled.groupindex)
    if missing:
        raise UsageError(
            "the well pattern lacks a named group",
            found=pattern,
            expected=" and ".join(f"(?P<{name}>...)" for name in sorted(missing)),
            hint=hint,
        )
    return compiled


def _parse_one(name: str, pattern: re.Pattern[str]) -> tuple[str | None, str, int] | None:
    whole = pattern.fullmatch(name)
    matches = [whole] if whole is not None else list(pattern.finditer(name))
    positions = list(dict.fromkeys(_position(match, name, pattern) for match in matches))
    if len(positions) > 1:
        raise DataError(
            "a well name matches the well pattern in more than one place",
            where=f"well {name}",
            found=listed([match[0] for match in matches]),
            expected=f"one match of {pattern.pattern}",
            hint="anchor --well-pattern: $ at the end takes the last match, ^ at the start the first",
        )
    return positions[0] if positions else None


def _position(match: re.Match[str], name: str, pattern: re.Pattern[str]) -> tuple[str | None, str, int]:
    plate = match["plate"] if "plate" in pattern.groupindex else None
    row_text, column_text = match["row"] or "", match["column"] or ""
    row = row_letters(int(row_text)) if row_text.isdecimal() else row_text.upper()
    is_row = re.fullmatch("[A-Z]{1,2}", row) is not None
    if not is_row or not column_text.isdecimal() or _beyond(row, int(column_text)):
        raise DataError(
            "a well name gives no position on a plate",
            where=f"well {name}",
            found=f"row {row_text!r}, column {column_text!r}",
            expected="row A to AF (or 1 to 32), column 1 to 48",
            hint="correct --well-pattern",
        )
    return plate, row, int(column_text)


def _positions(plates: list[str | None], rows: list[str], columns: list[int]) -> WellNames:
    named = [plate for plate in plates if plate is not None]
    if named and len(named) < len(plates):
        raise DataError(
            "the well pattern finds a plate in some well names only",
            found=f"{len(plates) - len(named):,} of {len(plates):,} wells without a plate",
            expected="a plate in every name or in none",
            hint="make the plate group of --well-pattern obligatory, or leave it out",
        )
    plate_format = _plate_format(rows, columns)
    return WellNames(named or None, rows, columns, plate_format, _shared_positions(plates, rows, columns))


def _shared_positions(plates: list[str | None], rows: list[str], columns: list[int]) -> tuple[Note, ...]:
    table = pl.DataFrame(
        {"plate": plates, "row": rows, "column": columns},
        schema={"plate": pl.String, "row": pl.String, "column": pl.Int64},
    )
    shared = table.filter(table.is_duplicated()).unique(maintain_order=True)
    if shared.is_empty():
        return ()
    labels = [f"{plate} {row}{column}" if plate else f"{row}{column}" for plate, row, column in shared.iter_rows()]
    return (Note("warning", f"{shared.height:,} positions hold more than one well: {listed(labels)}"),)
