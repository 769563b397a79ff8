"""The MatrixMarket coordinate format, read into a dense array block by block, every line checked."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from dpf.errors import DataError
from dpf.tables.text.encodings import rounded_in_float32

BANNER = b"%%MatrixMarket"
_EXPECTED = "%%MatrixMarket matrix coordinate integer (or real) general"
_BLOCK_BYTES = 1 << 24
_LONGEST_LINE = 1 << 16
_ENTRY = ["row", "column", "value"]

Values = NDArray[np.int64] | NDArray[np.float64]


class Header(NamedTuple):
    """What the first lines promise.

    Attributes
    ----------
    is_integer
        Whether every value is a whole number.
    rows, columns, entries
        The size line.
    lines
        How many lines the header takes.
    """

    is_integer: bool
    rows: int
    columns: int
    entries: int
    lines: int


def read_header(stream: io.BufferedReader, path: Path) -> Header:
    """Read the banner, the comments and the size line, and leave `stream` at the first entry.

    Raises
    ------
    DataError
        This is no MatrixMarket file, or of a kind that holds no table of counts (dense, complex, symmetric, pattern).
    """
    line = stream.readline(_LONGEST_LINE)
    words = line.decode("latin-1").lower().split()
    shown = repr(line[:200].decode("latin-1"))
    if words[:1] != [BANNER.decode().lower()]:
        raise DataError("not a MatrixMarket file", where=f"{path}, line 1", found=shown, expected=_EXPECTED)
    if words[1:3] != ["matrix", "coordinate"] or words[3:] not in (["integer", "general"], ["real", "general"]):
        raise DataError(
            "this kind of MatrixMarket file is not read",
            where=f"{path}, line 1",
            found=shown,
            expected=_EXPECTED,
            hint="write it again as a sparse matrix of counts, for example with scipy.io.mmwrite",
        )
    number, line = _skip_comments(stream)
    sizes = line.split()
    if len(sizes) != 3 or not all(size.isdigit() for size in sizes):
        raise DataError(
            "the size line of a MatrixMarket file is wrong",
            where=f"{path}, line {number}",
            found=repr(line[:200].decode("latin-1")),
            expected="three whole numbers: rows, columns, entries",
        )
    rows, columns, entries = map(int, sizes)
    return Header(words[3] == "integer", rows, columns, entries, number)


def _skip_comments(stream: io.BufferedReader) -> tuple[int, bytes]:
    """The number and the text of the first line after the banner that is neither comment nor empty."""
    number = 2
    while line := stream.readline(_LONGEST_LINE):
        if line.strip() and not line.startswith(b"%"):
            break
        while line and not line.endswith(b"\n"):  # a comment longer than one read
            line = stream.readline(_LONGEST_LINE)
        number += 1
    return number, line


def read_entries(
    stream: io.BufferedReader, path: Path, header: Header, transpose: bool
) -> tuple[NDArray[np.float32], int]:
    """Read the entries; cells that the file does not list are 0.

    Parameters
    ----------
    stream
        At the first entry.
    transpose
        Fill an array of shape (columns, rows) instead of (rows, columns).

    Returns
    -------
    tuple
        The C-ordered float32 array, and how many values were too large for float32 to hold exactly.

    Raises
    ------
    DataError
        A line is no entry, an index is out of range, a cell stands twice, or there are more or fewer entries than
        promised.
    """
    shape = (header.columns, header.rows) if transpose else (header.rows, header.columns)
    dense = np.zeros(shape[0] * shape[1], dtype=np.float32)
    filled = np.zeros(shape[0] * shape[1], dtype=np.bool_)
    entries, line, rounded = 0, header.lines + 1, 0
    for block in _blocks(stream):
        rows, columns, values = _parse(block, path, line, header)
        first, second = (columns, rows) if transpose else (rows, columns)
        cells = (first - 1) * shape[1] + (second - 1)
        dense[cells] = values
        filled[cells] = True
        entries += len(cells)
        rounded += rounded_in_float32(values)
        line += block.count(b"\n")
    _check_entries(entries, int(np.count_nonzero(filled)), path, header)
    return dense.reshape(shape), rounded


def _check_entries(entries: int, cells: int, path: Path, header: Header) -> None:
    if entries != header.entries:
        raise DataError(
            "a MatrixMarket file has another number of entries than it says",
            where=path,
            found=f"{entries:,} entries",
            expected=f"{header.entries:,} entries (line {header.lines})",
            hint="the file was cut short: copy it again" if entries < header.entries else "was it edited by hand?",
        )
    if cells < entries:
        raise DataError(
            "a MatrixMarket file gives some cells more than once",
            where=path,
            found=f"{entries - cells:,} entries for a cell that has one already",
            expected="one entry a cell",
            hint="if they are to be added, sum them first: scipy.io.mmread, then sum_duplicates(), then mmwrite",
        )


def _blocks(stream: io.BufferedReader) -> Iterator[bytes]:
    """The rest of `stream` in pieces that end with a line."""
    rest = b""
    while data := stream.read(_BLOCK_BYTES):
        whole, newline, tail = data.rpartition(b"\n")
        if newline:
            yield rest + whole + newline
            rest = tail
        else:
            rest += tail
    if rest:
        yield rest


def _parse(
    block: bytes, path: Path, first_line: int, header: Header
) -> tuple[NDArray[np.int64], NDArray[np.int64], Values]:
    text = _single_spaces(block)
    if not text.strip():
        none = np.zeros(0, dtype=np.int64)
        return none, none, none
    kinds = [pa.int64(), pa.int64(), pa.int64() if header.is_integer else pa.float64()]
    try:
        table = csv.read_csv(
            pa.BufferReader(text),
            csv.ReadOptions(column_names=_ENTRY, use_threads=False),
            csv.ParseOptions(delimiter=" ", quote_char=False),
            csv.ConvertOptions(column_types=dict(zip(_ENTRY, kinds, strict=True)), null_values=[]),
        )
    except pa.ArrowInvalid as error:
        raise _bad_line(block, path, first_line, header) from error
    rows, columns, values = (column.to_numpy() for column in table.columns)
    for indices, limit in ((rows, header.rows), (columns, header.columns)):
        if indices.min() < 1 or indices.max() > limit:
            raise _bad_line(block, path, first_line, header)
    return rows, columns, values


def _single_spaces(block: bytes) -> bytes:
    """The format allows any white space between numbers; the fast parser wants exactly one space."""
    usual = not any(odd in block for odd in (b"\t", b"\r", b"  ", b"\n ", b" \n")) and block[:1] != b" "
    return block if usual else re.sub(rb"(?m)^ | $", b"", re.sub(rb"[ \t\r]+", b" ", block))


def _bad_line(block: bytes, path: Path, first_line: int, header: Header) -> DataError:
    """The error for the first line of `block` that is no entry: the fast parser says only that there is one."""
    real = rb"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf)"
    entry = re.compile(rb"\s*(\d+)\s+(\d+)\s+(?i:" + (rb"[+-]?\d+" if header.is_integer else real) + rb")\s*")
    number, text = first_line, b""
    for number, text in enumerate(block.split(b"\n"), start=first_line):  # noqa: B007 (used after the loop)
        match = entry.fullmatch(text)
        in_range = match and 1 <= int(match[1]) <= header.rows and 1 <= int(match[2]) <= header.columns
        if text.strip() and not in_range:
            break
    kind = "a whole number" if header.is_integer else "a number"
    return DataError(
        "a line of a MatrixMarket file is no entry of the matrix",
        where=f"{path}, line {number}",
        found=repr(text[:200].decode("latin-1")),
        expected=f"row 1 to {header.rows:,}, column 1 to {header.columns:,}, {kind}",
        hint="indices count from 1; a last line cut short means that the file is truncated",
    )
