"""GCT 1.2 and 1.3: genes × wells as text, with the metadata of both inside, as L1000 publishes them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from dpf.errors import DataError, listed
from dpf.files import sha256_file
from dpf.tables.matrix import Matrix, MatrixFormat
from dpf.tables.screen import Note, SourceFile
from dpf.tables.storage import new_matrix
from dpf.tables.text.encodings import decode, open_unpacked, rounded_in_float32, rounding_note, unpacked_at_most

_BLOCK_BYTES = 1 << 24
_MISSING_NUMBERS = ["", "NA", "na", "NaN", "nan", "N/A", "NULL", "null"]
_MINUS_666 = r"^-666(\.0*)?$"


class _Header(NamedTuple):
    """The first lines of a GCT file, up to the matrix."""

    rows: int
    row_fields: list[str]
    well_names: list[str]
    column_table: dict[str, list[str]]
    lines: int


def recognises_gct(path: Path, head: bytes) -> bool:
    """Whether the file begins ``#1.2`` or ``#1.3``."""
    return not path.is_dir() and re.match(rb"(\xef\xbb\xbf)?#1\.[23]\s", head + b"\n") is not None


def read_gct(path: Path) -> Matrix:
    """Read a GCT file, gzip or not.

    The metadata value -666 means missing, in Connectivity Map files (clue.io, "GCT format"), and becomes null. In the
    matrix, an empty cell, ``NA`` or ``NaN`` is NaN, and -666 is the number.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Matrix
        Genes × wells (a view of a C-ordered wells × genes array). `row_table` holds the row metadata (GCT 1.2:
        ``Description``), `column_table` the column metadata.

    Raises
    ------
    DataError
        The header is wrong, the file has other counts of rows or columns than it says, or a cell is no number.
    """
    with open_unpacked(path) as stream:
        header, header_notes = _read_header(stream, path)
        names, texts, by_wells, notes = _read_body(stream, path, header)
    row_table, row_missing = metadata(dict(zip(header.row_fields, texts, strict=True)))
    column_table, column_missing = metadata(header.column_table)
    return Matrix(
        values=by_wells.T,
        row_names=names,
        column_names=header.well_names,
        source=SourceFile(str(path), sha256_file(path)),
        row_table=row_table,
        column_table=column_table,
        notes=(*dict.fromkeys((*header_notes, *notes)), *missing_note(path, row_missing + column_missing)),
        orientation="genes-by-wells",
    )


def _read_header(stream: io.BufferedReader, path: Path) -> tuple[_Header, tuple[Note, ...]]:
    rows, wells, n_row_fields, n_column_fields = _read_sizes(stream, path)
    width = 1 + n_row_fields + wells
    names, notes = _fields(stream, path)
    _check_width(names, width, path, 3)
    fields, table = names[1 : 1 + n_row_fields], {}
    for number in range(4, 4 + n_column_fields):
        values, more = _fields(stream, path, keep_empty=width)
        _check_width(values, width, path, number)
        table[values[0]] = values[1 + n_row_fields :]
        notes += more
    if len(set(fields)) < n_row_fields or len(table) < n_column_fields:
        raise DataError(
            "a GCT file names a metadata field twice",
            where=f"{path}, line 3" if len(set(fields)) < n_row_fields else f"{path}, lines 4 to {3 + n_column_fields}",
            found=listed(fields if len(set(fields)) < n_row_fields else list(table)),
            expected="different names",
        )
    return _Header(rows, fields, names[1 + n_row_fields :], table, 3 + n_column_fields), notes


def _read_sizes(stream: io.BufferedReader, path: Path) -> tuple[int, int, int, int]:
    """Data rows, data columns, row fields, column fields: the first two lines."""
    version = _fields(stream, path)[0][0]
    if version not in ("#1.2", "#1.3"):
        raise DataError(
            "not a GCT file of version 1.2 or 1.3",
            where=f"{path}, line 1",
            found=repr(version[:80]),
            expected="#1.2 or #1.3",
        )
    sizes, _ = _fields(stream, path)
    expected = "rows, columns" if version == "#1.2" else "rows, columns, row fields, column fields"
    if len(sizes) != expected.count(",") + 1 or not all(size.isdecimal() for size in sizes):
        raise DataError(
            "the size line of a GCT file is wrong",
            where=f"{path}, line 2",
            found=repr("\t".join(sizes)[:80]),
            expected=f"whole numbers separated by tabs: {expected}",
        )
    rows, wells, *fields = map(int, sizes)
    return (rows, wells, fields[0], fields[1]) if fields else (rows, wells, 1, 0)


def _fields(stream: io.BufferedReader, path: Path, keep_empty: int = 0) -> tuple[list[str], tuple[Note, ...]]:
    """The next line at its tabs, without empty fields at its end beyond `keep_empty` (spreadsheets add them)."""
    text, notes = decode(stream.readline(), path)
    fields = [field.strip() for field in text.split("\t")]
    while len(fields) > max(1, keep_empty) and not fields[-1]:
        fields.pop()
    return fields, notes


def _check_width(fields: list[str], width: int, path: Path, number: int) -> None:
    if len(fields) != width:
        raise DataError(
            "a line of a GCT file has another number of columns than the file says",
            where=f"{path}, line {number}",
            found=f"{len(fields):,} columns, beginning {listed(fields, 3)}",
            expected=f"{width:,} columns separated by tabs (from line 2)",
        )


def _read_body(
    stream: io.BufferedReader, path: Path, header: _Header
) -> tuple[list[str], list[list[str]], NDArray[np.float32], tuple[Note, ...]]:
    """Row names, the row metadata field by field, the wells × genes array, and what was odd."""
    n_texts, n_wells = 1 + len(header.row_fields), len(header.well_names)
    texts: list[list[str]] = [[] for _ in range(n_texts)]
    if header.rows > (most := unpacked_at_most(path) // (n_texts + n_wells)):  # a tab or a line end a cell
        raise _rows_differ(path, header, most)
    by_wells = new_matrix(n_wells, header.rows)
    notes: tuple[Note, ...] = ()
    row, line, rounded = 0, header.lines + 1, 0
    for block in _blocks(stream):
        if block.strip():
            table = _parse(block, path, line, header)
            if row + table.num_rows <= header.rows:
                for i in range(n_texts):
                    values, more = decode(b"\n".join(table.column(i).to_pylist()), path)
                    texts[i] += [value.strip() for value in values.split("\n")]
                    notes += more
                for j in range(n_wells):
                    cells = table.column(n_texts + j).to_numpy()
                    by_wells[j, row : row + table.num_rows] = cells
                    rounded += rounded_in_float32(cells)
            row += table.num_rows
        line += block.count(b"\n")
    if row != header.rows:
        raise _rows_differ(path, header, row)
    return texts[0], texts[1:], by_wells, (*notes, *rounding_note(rounded))


def _rows_differ(path: Path, header: _Header, found: int) -> DataError:
    return DataError(
        "a GCT file has another number of rows than it says",
        where=path,
        found=f"{found:,} rows",
        expected=f"{header.rows:,} rows (line 2)",
        hint="the file was cut short: copy it again" if found < header.rows else "was it edited by hand?",
    )


def _blocks(stream: io.BufferedReader) -> Iterator[bytes]:
    """The rest of `stream` in pieces that end with a line."""
    while block := stream.read(_BLOCK_BYTES):
        yield block + stream.readline()


def _parse(block: bytes, path: Path, first_line: int, header: _Header) -> pa.Table:
    n_texts = 1 + len(header.row_fields)
    width = n_texts + len(header.well_names)
    names = [str(i) for i in range(width)]
    kinds = {name: pa.binary() if i < n_texts else pa.float64() for i, name in enumerate(names)}
    try:
        return csv.read_csv(
            pa.BufferReader(block),
            csv.ReadOptions(column_names=names, use_threads=False, block_size=len(block) + 1),
            csv.ParseOptions(delimiter="\t", quote_char=False),
            csv.ConvertOptions(column_types=kinds, null_values=_MISSING_NUMBERS, strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        raise _bad_line(block, path, first_line, header) from error


def _bad_line(block: bytes, path: Path, first_line: int, header: _Header) -> DataError:
    """The error for the first line of `block` that does not fit: the fast parser says only that there is one."""
    n_texts = 1 + len(header.row_fields)
    for number, line in enumerate(block.split(b"\n"), start=first_line):
        cells = line.rstrip(b"\r").decode("latin-1").split("\t")
        if cells == [""]:
            continue
        if len(cells) != n_texts + len(header.well_names):
            return DataError(
                "a line of a GCT file has another number of columns than the file says",
                where=f"{path}, line {number} ({cells[0]})",
                found=f"{len(cells):,} columns",
                expected=f"{n_texts + len(header.well_names):,} columns separated by tabs (from line 2)",
                hint="a last line cut short means that the file is truncated",
            )
        for well, cell in zip(header.well_names, cells[n_texts:], strict=True):
            if cell not in _MISSING_NUMBERS and not _is_number(cell):
                return DataError(
                    "a cell of a GCT file is no number",
                    where=f"{path}, line {number} ({cells[0]}), column {well}",
                    found=repr(cell[:80]),
                    expected="a number with a decimal point, or nothing, NA or NaN where it is missing",
                    hint="write decimal points, not commas" if "," in cell else None,
                )
    return DataError("a GCT file could not be parsed", where=f"{path}, from line {first_line}", expected="plain GCT")


def _is_number(cell: str) -> bool:
    return re.fullmatch(r"\s*[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|inf|nan)\s*", cell, re.IGNORECASE) is not None


def metadata(table: dict[str, list[Any]]) -> tuple[pl.DataFrame | None, int]:
    """Metadata as a table, and how many values of -666 became null; None where there are no metadata.

    Text stays text, for its role to be read as that of any table is: ``12E3`` may be a name. Empty text becomes null.
    """
    if not table:
        return None, 0
    columns, missing = [], 0
    for name, values in table.items():
        column = pl.Series(name, values, strict=False)
        text = column.cast(pl.String)
        minus = text.str.contains(_MINUS_666)
        missing += int(minus.sum())
        columns.append(pl.select(pl.when(minus | (text == "")).then(None).otherwise(column).alias(name)).to_series())
    return pl.DataFrame(columns), missing


def missing_note(path: Path, missing: int) -> tuple[Note, ...]:
    """What to say of `missing` values of -666; nothing where there are none."""
    return (Note("info", f"{path.name}: {missing:,} metadata values of -666 were read as missing"),) if missing else ()


GCT = MatrixFormat("gct", recognises_gct, read_gct)
