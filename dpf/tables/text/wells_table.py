"""Tables about wells in CSV, TSV or semicolon-separated text: every cell as it is written, every row with its place."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import polars as pl

from dpf.errors import DataError, count, listed
from dpf.files import sha256_file
from dpf.tables.screen import Note, SourceFile
from dpf.tables.text.cells import commas, is_missing, number, points_are_unclear
from dpf.tables.text.encodings import leading_comments, parse_text, sniff_delimiter
from dpf.tables.text.spreadsheet import as_named

_SAMPLE_CHARACTERS = 1 << 20
_WELL = re.compile(r"[A-Za-z]{1,2}0?\d{1,2}")
_UNNAMED = re.compile(r"(?i)|unnamed: ?\d+|\.\.\.\d+|__index_level_\d+__")

#: The name of a first column without a heading that holds more than the numbers of the rows.
ROW_NAMES = "row_name"


@dataclass(frozen=True)
class Table:
    """A table about wells before its columns have roles.

    Attributes
    ----------
    frame
        String columns without nulls: what stands in the file, surrounding space included; headings stripped.
    places
        Where each row stands, for an error's `where`: ``wells.csv, line 17``.
    sources
        The files it came from.
    title
        What errors call it: the folder, where it was put together from several files; None for its files.
    decimal_comma
        Whether numbers are written 1,5: one mark a table, whichever column shows it.
    semicolons
        Whether semicolons separate cells, as where a comma is the decimal mark and a point may part thousands.
    notes
        What was odd.
    """

    frame: pl.DataFrame
    places: list[str]
    sources: tuple[SourceFile, ...]
    decimal_comma: bool = False
    semicolons: bool = False
    notes: tuple[Note, ...] = ()
    title: str | None = None

    @property
    def name(self) -> str:
        """What an error's `where` calls it: its files with their folders."""
        return self.title or listed([source.path for source in self.sources])

    @property
    def short_name(self) -> str:
        """What a note calls it: its files without their folders."""
        return listed([Path(source.path).name for source in self.sources])

    def at(self, row: int) -> str:
        """Where a row stands in its file: ``line 17``."""
        return self.places[row].rsplit(", ", 1)[-1]

    def take(self, rows: Sequence[int]) -> Table:
        """The same table with these rows, in this order."""
        return replace(self, frame=self.frame[list(rows)], places=[self.places[row] for row in rows])

    def with_column(self, name: str, cells: Sequence[str]) -> Table:
        """The same table with one more column."""
        return replace(self, frame=self.frame.with_columns(pl.Series(name, list(cells), dtype=pl.String)))

    def texts(self, column: str) -> list[str]:
        """The cells of one column, surrounding space stripped."""
        return [text.strip() for text in self.frame.get_column(column).to_list()]


def is_unnamed(heading: str) -> bool:
    """Whether a heading is none: empty, or what pandas, readr and arrow write for none."""
    return _UNNAMED.fullmatch(heading.strip()) is not None


def read_text_table(path: Path) -> Table:
    """Read a table about wells from delimited text.

    The delimiter is sniffed; quotes, CRLF, a missing last newline, empty lines at the end, trailing empty columns and
    R's heading line one cell short are all understood. An index column (no heading, numbers in order) is left out.

    Raises
    ------
    DataError
        The file is empty, has headings only, or a line has more or fewer cells than the line of headings.
    """
    table, notes = parse_text(path, lambda stream: _parse(stream, path))
    return replace(table, notes=(*notes, *table.notes))


def _parse(stream: TextIO, path: Path) -> Table:
    sample = stream.read(_SAMPLE_CHARACTERS)
    lines = sample.split("\n")
    if len(lines) > 1 and len(sample) == _SAMPLE_CHARACTERS:
        del lines[-1]
    lines = [line for line in lines[:50] if line.strip()]
    skipped = leading_comments(lines)
    delimiter = sniff_delimiter(lines[skipped:])
    stream.seek(0)
    reader = csv.reader(_lines(stream, path), delimiter=delimiter)
    try:
        rows = [(reader.line_num, cells) for cells in reader]
    except csv.Error as error:
        raise DataError("cannot read a table", where=f"{path}, line {reader.line_num}", found=error) from error
    source = SourceFile(str(path), sha256_file(path))
    table = table_from_rows(rows[skipped:], path, source, comma_separated=delimiter == ",")
    return replace(table, semicolons=delimiter == ";")


def _lines(stream: TextIO, path: Path) -> Iterator[str]:
    for line in stream:
        if "\0" in line:
            raise DataError("not a table of text", where=path, found="a zero byte", expected="text")
        yield line


def table_from_rows(
    rows: Sequence[tuple[int, list[str]]], path: Path, source: SourceFile, *, comma_separated: bool
) -> Table:
    """A table from (line number, cells), the line of headings first.

    Raises
    ------
    DataError
        There is no line below the headings, or a line has too many or too few cells.
    """
    one_column = bool(rows) and len(rows[0][1]) == 1
    while rows and not (rows[-1][1] if one_column else any(cell.strip() for cell in rows[-1][1])):
        rows = rows[:-1]
    if len(rows) < 2:
        found = "headings only" if rows else "an empty file"
        raise DataError("a table has no rows", where=path, found=found, expected="a line of headings and one a well")
    rows = [(line, [as_named(cell) for cell in cells]) for line, cells in rows]
    (_, headings), body = rows[0], rows[1:]
    notes: list[Note] = []
    if not one_column:  # in a column of its own an empty line is an empty cell; in a table it is nothing
        empty = [line for line, cells in body if not any(cell.strip() for cell in cells)]
        body = [(line, cells) for line, cells in body if any(cell.strip() for cell in cells)]
        if empty:
            notes.append(Note("info", f"{path.name}: {count(len(empty), 'empty line')} left out: {listed(empty)}"))
    headings = _full_headings(headings, [cells for _, cells in body])
    _refuse_data_as_headings(headings, body, path)
    columns = _columns(headings, body, path)
    names, columns = _named(headings, columns, path, notes)
    frame = pl.DataFrame(dict(zip(names, columns, strict=True)), schema=dict.fromkeys(names, pl.String))
    places = [f"{path}, line {line}" for line, _ in body]
    cells = (cell for column in columns for cell in column if "," in cell)
    decimal_comma = not comma_separated and commas(cells) == "decimal"
    return Table(frame, places, (source,), decimal_comma, notes=tuple(notes))


def refuse_unclear_points(table: Table, column: str) -> None:
    """Refuse a column of numbers such as 1.020 throughout, in a table with semicolons: 1020, or 1.02?

    Raises
    ------
    DataError
        They could be either.
    """
    texts = table.texts(column)
    if table.semicolons and points_are_unclear(texts):
        raise DataError(
            "a point may be a decimal point or part thousands",
            where=f"{table.name}, column {column}",
            found=listed([text for text in dict.fromkeys(texts) if "." in text], 5),
            expected="numbers without thousands separators",
            hint="write 1020 for one thousand and twenty, 1.02 for the other",
        )


def _refuse_data_as_headings(headings: list[str], body: list[tuple[int, list[str]]], path: Path) -> None:
    """Refuse headings that are a line of data: with a number in them, or with a well above wells."""
    numbers = [heading for heading in headings if number(heading.replace(",", ".")) is not None]
    in_order = numbers == [str(at) for at in range(1, len(numbers) + 1)] and len(numbers) > 1  # a plate's columns
    first = [cells[0] for _, cells in body if cells]
    wells = sum(_WELL.fullmatch(cell.strip()) is not None for cell in first)
    is_well = _WELL.fullmatch(headings[0].strip()) is not None and 2 * wells > len(first)
    if is_well or (numbers and not in_order and 3 * len(numbers) >= len(headings)):
        raise DataError(
            "the line of headings holds data",
            where=path,
            found=listed(headings, 8),
            expected="names of columns in the first line",
            hint="the line of headings is missing: write it above the table",
        )


def _full_headings(headings: list[str], body: list[list[str]]) -> list[str]:
    """Headings for every column: R leaves out the one above the row names, spreadsheets those of empty columns."""
    width = Counter(len(cells) for cells in body).most_common(1)[0][0]
    if width == len(headings) + 1 and any(cells[-1].strip() for cells in body if len(cells) == width):
        return ["", *headings]
    return headings


def _columns(headings: list[str], body: Iterable[tuple[int, list[str]]], path: Path) -> list[list[str]]:
    width = len(headings)
    fitted: list[list[str]] = []
    for line, cells in body:
        if not cells:
            cells = [""]
        if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
            cells = cells[:width]
        missing = headings[len(cells) :]
        if len(cells) < width and not any(heading.strip() for heading in missing):
            cells = [*cells, *[""] * len(missing)]
        if len(cells) != width:
            raise DataError(
                "a line has too many or too few cells",
                where=f"{path}, line {line}",
                found=f"{len(cells)} cells",
                expected=f"{width}, as in the line of headings",
                hint="a name with the delimiter in it needs quotes around it",
            )
        fitted.append(cells)
    return [list(column) for column in zip(*fitted, strict=True)]


def _named(
    headings: list[str], columns: list[list[str]], path: Path, notes: list[Note]
) -> tuple[list[str], list[list[str]]]:
    """Unique headings, without index columns and empty columns."""
    kept: list[tuple[str, list[str]]] = []
    empty: list[int] = []
    for position, (heading, column) in enumerate(zip(headings, columns, strict=True)):
        name = heading.strip()
        if is_unnamed(name):
            if all(is_missing(cell) for cell in column):
                empty.append(position + 1)
                continue
            if position == 0 and is_row_number(column):
                notes.append(Note("info", f"{path.name}: the index column (numbers in order) left out"))
                continue
            name = ROW_NAMES if position == 0 else f"unnamed_{position + 1}"
            notes.append(Note("info", f"{path.name}: column {position + 1} has no heading: called {name}"))
        kept.append((name, column))
    if empty:
        notes.append(Note("info", f"{path.name}: {count(len(empty), 'empty column')} left out: {listed(empty)}"))
    names = unique_names([name for name, _ in kept])
    for (name, _), unique in zip(kept, names, strict=True):
        if name != unique:
            notes.append(Note("warning", f"{path.name}: a second column {name!r} is called {unique!r}"))
    return names, [column for _, column in kept]


def is_row_number(cells: Sequence[str]) -> bool:
    """Whether the cells count the rows, from 0 or from 1."""
    stripped = [cell.strip() for cell in cells]
    return any(stripped == [str(row) for row in range(start, start + len(stripped))] for start in (0, 1))


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, later duplicates as ``NAME.2``, ``NAME.3``; a number that is taken is passed over."""
    taken = set(names)
    seen: set[str] = set()
    numbers: Counter[str] = Counter()
    result = []
    for name in names:
        unique = name
        if name in seen:
            number = max(numbers[name], 1) + 1
            while f"{name}.{number}" in taken:
                number += 1
            numbers[name] = number
            unique = f"{name}.{number}"
            taken.add(unique)
        seen.add(unique)
        result.append(unique)
    return result
