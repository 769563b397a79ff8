r"""Expression tables in delimited text, read in blocks: never the text of a whole table in memory.

Every line is cut into its row name and its numbers; the numbers of a block go through polars' parser as one column,
whatever the shape of the table, so 20,000 columns cost no more than 400. What that parser does not take for a number
is looked at again, cell by cell, with its line and its column at hand.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError, count, listed
from dpf.files import sha256_file
from dpf.tables.matrix import Matrix, select_rows
from dpf.tables.screen import Note, SourceFile
from dpf.tables.storage import fits_in_memory, is_in_file, let_go, new_matrix, wells_in_blocks
from dpf.tables.text.cells import is_missing, number
from dpf.tables.text.encodings import parse_text
from dpf.tables.text.layout import Layout, cut_line, detect_layout
from dpf.tables.text.spreadsheet import as_named
from dpf.tables.text.wells_table import is_row_number

_BLOCK_CHARACTERS = 1 << 24
_LONGEST_LINE = 1 << 28
_BAD_CELLS_SHOWN = 10
_GROWTH = 1.25


class _Lines(NamedTuple):
    """Lines of a block with their numbers in the file, from 1."""

    numbers: list[int]
    texts: list[str]


def read_text_matrix(path: Path) -> Matrix:
    """Read a table of numbers from delimited text.

    The delimiter is sniffed. Leading columns of text name the rows (the first) or describe them (`row_table`), as does
    a first column without a heading or with one such as ``gene_id``. Missing cells become NaN.

    Raises
    ------
    DataError
        The file is empty or cut short, a line has too many or too few cells, or a cell is no number: the first ten
        are listed with line, column and content.
    """
    matrix, notes = parse_text(path, lambda stream: parse_matrix(stream, path))
    return replace(matrix, notes=(*notes, *matrix.notes))


def parse_matrix(stream: TextIO, path: Path) -> Matrix:
    """Read a table of numbers from open text; see `read_text_matrix`. `path` is its name in errors and provenance."""
    blocks = _blocks(stream, path)
    first = next(blocks, None)
    if first is None:
        raise DataError("a table is empty", where=path, expected="a line of headings and the table below it")
    layout, skipped = detect_layout(first.texts, path)
    first = _Lines(first.numbers[skipped:], first.texts[skipped:])
    numbers = _Growing(len(layout.columns))
    names: list[list[str]] = [[] for _ in layout.leading]
    for block in _chain(first, blocks):
        leading, values = _parse_block(block, layout)
        numbers.append(values)
        for collected, new in zip(names, leading, strict=True):
            collected.extend(new)
    if numbers.rows == 0:
        raise DataError("a table has no rows", where=path, found="a line of headings only")
    return _assemble(layout, names, numbers.array())


def _chain(first: _Lines, rest: Iterator[_Lines]) -> Iterator[_Lines]:
    yield first
    yield from rest


class _Growing:
    """Rows that are added block by block, in one array that grows in place, or, a large one, from file to file."""

    def __init__(self, width: int) -> None:
        self._values = np.empty((0, width), dtype=np.float32)
        self.rows = 0

    def append(self, block: NDArray[np.float32]) -> None:
        needed = self.rows + block.shape[0]
        if needed > self._values.shape[0]:
            self._grow(max(needed, int(self._values.shape[0] * _GROWTH)) if self.rows else needed)
        self._values[self.rows : needed] = block
        let_go(self._values)
        self.rows = needed

    def _grow(self, capacity: int) -> None:
        width = self._values.shape[1]
        if fits_in_memory(capacity, width):
            self._values.resize((capacity, width), refcheck=False)
            return
        larger = new_matrix(capacity, width)
        for rows in wells_in_blocks(self._values):
            larger[rows] = self._values[rows]
            let_go(larger)
        self._values = larger

    def array(self) -> NDArray[np.float32]:
        if not is_in_file(self._values):
            self._values.resize((self.rows, self._values.shape[1]), refcheck=False)
        return self._values[: self.rows]


def _blocks(stream: TextIO, path: Path) -> Iterator[_Lines]:
    line, rest = 1, ""
    while chunk := stream.read(_BLOCK_CHARACTERS):
        texts = (rest + chunk).split("\n")
        rest = texts.pop()
        if len(rest) > _LONGEST_LINE:
            raise DataError(
                "a line is too long to be one of a table",
                where=f"{path}, line {line + len(texts)}",
                found=f"more than {_LONGEST_LINE:,} characters",
                hint="is this a table with a line a gene or a well?",
            )
        if texts:
            yield _Lines(list(range(line, line + len(texts))), texts)
            line += len(texts)
    if rest:
        yield _Lines([line], [rest])


def _parse_block(block: _Lines, layout: Layout) -> tuple[list[list[str]], NDArray[np.float32]]:
    leading: list[list[str]] = [[] for _ in layout.leading]
    bodies: list[str] = []
    lines: list[int] = []
    for line, text in zip(block.numbers, block.texts, strict=True):
        if not text.strip():
            continue
        names, body = cut_line(text, line, layout)
        for collected, name in zip(leading, names, strict=True):
            collected.append(as_named(name.strip()))
        bodies.append(body)
        lines.append(line)
    if not bodies:
        return leading, np.empty((0, len(layout.columns)), dtype=np.float32)
    return leading, _numbers("\n".join(bodies), lines, layout)


def _numbers(flat: str, lines: list[int], layout: Layout) -> NDArray[np.float32]:
    shape = (len(lines), len(layout.columns))
    if layout.decimal_comma:
        if "." in flat:  # 1.234,5: not one number is taken from such a cell
            cells = flat.split("\n")
            flat = "\n".join(f"<{cell}>" if "." in cell else cell.replace(",", ".") for cell in cells)
        else:
            flat = flat.replace(",", ".")
    parsed = _one_column(flat, pl.Float32)
    unread = parsed.is_null()
    values = parsed.fill_null(float("nan")).to_numpy().copy()
    if unread.any():
        where = unread.arg_true().to_numpy()
        texts = _one_column(flat, pl.String).filter(unread).fill_null("")
        known = {text: _second_look(text) for text in texts.unique()}
        bad = [(int(at), text) for at, text in zip(where, texts, strict=True) if known[text] is None]
        if bad:
            raise _not_numbers(bad, lines, layout)
        values[where] = [known[text] for text in texts]
    return values.reshape(shape)


def _one_column(flat: str, dtype: type[pl.DataType]) -> pl.Series:
    """The lines of `flat` as one column; what does not fit `dtype`, and an empty line, is null."""
    frame = pl.read_csv(
        (flat + "\n").encode(),
        has_header=False,
        schema={"value": dtype},
        ignore_errors=True,
        quote_char=None,
        separator="\x1f",
    )
    return frame.get_column("value")


def _second_look(text: str) -> float | None:
    return float("nan") if is_missing(text) else number(text)


def _not_numbers(bad: list[tuple[int, str]], lines: list[int], layout: Layout) -> DataError:
    def place(at: int) -> str:
        row, column = divmod(at, len(layout.columns))
        heading = layout.columns[column] or f"number {column + len(layout.leading) + 1}"
        return f"line {lines[row]}, column {heading}"

    def shown(text: str) -> str:
        if layout.decimal_comma:
            text = text.replace(".", ",") if not text.startswith("<") else text[1:-1]
        return repr(text)

    listing = "; ".join(f"{place(at)}: {shown(text)}" for at, text in bad[:_BAD_CELLS_SHOWN])
    more = f"; and {len(bad) - _BAD_CELLS_SHOWN:,} more" if len(bad) > _BAD_CELLS_SHOWN else ""
    mark = "comma" if layout.decimal_comma else "point"
    hint = "correct these cells, or take that column or line out of the table"
    if layout.unclear_commas:
        hint = "a comma here may be a decimal comma or a thousands separator: write numbers with a decimal point"
    return DataError(
        "a cell of the table is no number" if len(bad) == 1 else f"{len(bad):,} cells of the table are no numbers",
        where=f"{layout.path}, {place(bad[0][0])}",
        found=listing + more,
        expected=f"numbers with a decimal {mark} and without thousands separators",
        hint=hint,
    )


def _assemble(layout: Layout, names: list[list[str]], values: NDArray[np.float32]) -> Matrix:
    notes: list[Note] = []
    columns = layout.columns
    if layout.trailing and np.isnan(values[:, -layout.trailing :]).all():
        notes.append(Note("info", f"{layout.path.name}: {count(layout.trailing, 'trailing empty column')} left out"))
        values, columns = values[:, : -layout.trailing], columns[: -layout.trailing]
    empty = np.isnan(values[:, 0]) if values.shape[1] else np.zeros(len(values), bool)
    empty[empty] = np.isnan(values[empty]).all(axis=1)
    if names:
        empty &= np.array([name == "" for name in names[0]])
    if empty.any():
        notes.append(Note("info", f"{layout.path.name}: {count(int(empty.sum()), 'empty line')} left out"))
        values = select_rows(values, np.flatnonzero(~empty))
        names = [[name for name, drop in zip(side, empty, strict=True) if not drop] for side in names]
    if layout.decimal_comma:
        notes.append(Note("info", f"{layout.path.name} is written with decimal commas"))
    leading = layout.leading
    if len(names) > 1 and is_row_number(names[0]):
        notes.append(Note("info", f"{layout.path.name}: the index column (numbers in order) left out"))
        leading, names = leading[1:], names[1:]
    described = leading[1:]
    if described:
        text = f"{layout.path.name}: columns {listed(described)} describe the rows: they are no expression"
        notes.append(Note("info", text))
    return Matrix(
        values=values,
        row_names=names[0] if names else None,
        column_names=columns,
        source=SourceFile(str(layout.path), sha256_file(layout.path)),
        corner=leading[0] or None if leading else None,
        row_table=_row_table(described, names[1:]),
        notes=tuple(notes),
    )


def _row_table(headings: list[str], columns: list[list[str]]) -> pl.DataFrame | None:
    if not headings:
        return None
    named = [heading or f"unnamed_{position + 2}" for position, heading in enumerate(headings)]
    return pl.DataFrame(dict(zip(named, columns, strict=True)), schema=dict.fromkeys(named, pl.String))


def matrix_from_cells(rows: list[list[str]], path: Path) -> Matrix:
    """A matrix from a sheet of text cells, headings first, by the rules of `read_text_matrix`."""
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="\n").writerows(rows)
    text.seek(0)
    return parse_matrix(text, path)
