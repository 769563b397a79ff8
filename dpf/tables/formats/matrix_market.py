"""The MatrixMarket coordinate format: SciPy parses it, this module refuses what SciPy would forgive."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.io import mmread

from dpf.errors import DataError
from dpf.tables.storage import new_matrix
from dpf.tables.text.encodings import rounded_in_float32, unpacked_at_most

BANNER = b"%%MatrixMarket"
_EXPECTED = "%%MatrixMarket matrix coordinate integer (or real) general"
_LONGEST_LINE = 1 << 16
_REAL = rb"(?:-?(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d++)?|-?(?:nan|inf))"


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
    words = _shown(line).lower().split()
    if words[:1] != [BANNER.decode().lower()]:
        raise DataError(
            "not a MatrixMarket file", where=f"{path}, line 1", found=repr(_shown(line)), expected=_EXPECTED
        )
    if words[1:3] != ["matrix", "coordinate"] or words[3:] not in (["integer", "general"], ["real", "general"]):
        raise DataError(
            "this kind of MatrixMarket file is not read",
            where=f"{path}, line 1",
            found=repr(_shown(line)),
            expected=_EXPECTED,
            hint="write it again as a sparse matrix of counts, for example with scipy.io.mmwrite",
        )
    number, line = _skip_comments(stream)
    sizes = line.split()
    if len(sizes) != 3 or not all(size.isdigit() for size in sizes):
        raise DataError(
            "the size line of a MatrixMarket file is wrong",
            where=f"{path}, line {number}",
            found=repr(_shown(line)),
            expected="three whole numbers: rows, columns, entries",
        )
    rows, columns, entries = map(int, sizes)
    return Header(words[3] == "integer", rows, columns, entries, number)


def _shown(line: bytes) -> str:
    """The beginning of a line for an error, in ASCII."""
    return line[:200].decode("ascii", "backslashreplace")


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


class _Checked(io.RawIOBase):
    """The header and entries of a file for SciPy, every line checked.

    SciPy takes the number that a value begins with and ignores the rest of the line: 1.5 in a file of whole numbers
    would become 1, and so would 1,234.
    """

    def __init__(self, stream: io.BufferedReader, path: Path, header: Header) -> None:
        value = rb"-?\d++" if header.is_integer else _REAL
        entry = rb"[ \t]*+\d++[ \t]++\d++[ \t]++" + value + rb"[ \t\r]*+\n"
        self._lines = re.compile(rb"(?:" + entry + rb"|[ \t\r]*+\n)*+", re.IGNORECASE)
        self._stream, self._path, self._header = stream, path, header
        self._line = header.lines + 1
        banner = BANNER + b" matrix coordinate " + (b"integer" if header.is_integer else b"real") + b" general\n"
        sizes = f"{header.rows} {header.columns} {header.entries}\n".encode()
        self._ready = banner + b"%\n" * (header.lines - 2) + sizes  # so that SciPy counts the lines as the file does

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if not self._ready:
            self._ready = self._next_lines(max(size, 1 << 20))
        given, self._ready = (self._ready[:size], self._ready[size:]) if size >= 0 else (self._ready, b"")
        return given

    def _next_lines(self, size: int) -> bytes:
        block = self._stream.read(size) + self._stream.readline()
        if block and not block.endswith(b"\n"):
            block += b"\n"
        good = self._lines.match(block)
        end = good.end() if good else 0
        if end < len(block):
            number = self._line + block.count(b"\n", 0, end)
            raise _no_entry(self._path, self._header, number, repr(_shown(block[end : block.index(b"\n", end)])))
        self._line += block.count(b"\n")
        return block


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
    if header.entries > header.rows * header.columns:
        raise _entries_differ(path, header, f"{header.rows * header.columns:,} cells, in which no more can stand")
    if header.entries * len(b"1 1 1\n") > unpacked_at_most(path) + 1:
        raise _entries_differ(path, header, "a file too short for so many")
    try:
        matrix = mmread(_Checked(stream, path, header))
    except (ValueError, OverflowError) as error:
        text = str(error)
        if place := re.match(r"Line (\d+): .*(bounds|range)", text):
            raise _no_entry(path, header, int(place[1]), text.partition(": ")[2]) from error
        raise _entries_differ(path, header, text.partition(": ")[2] or text) from error
    row, column = (matrix.col, matrix.row) if transpose else (matrix.row, matrix.col)
    shape = (header.columns, header.rows) if transpose else (header.rows, header.columns)
    filled = np.zeros(shape, dtype=np.bool_)
    filled[row, column] = True
    doubled = header.entries - int(np.count_nonzero(filled))
    if doubled:
        raise DataError(
            "a MatrixMarket file gives some cells more than once",
            where=path,
            found=f"{doubled:,} entries for a cell that has one already",
            expected="one entry a cell",
            hint="if they are to be added, sum them first: scipy.io.mmread, then sum_duplicates(), then mmwrite",
        )
    dense = new_matrix(*shape)
    dense[row, column] = matrix.data
    return dense, rounded_in_float32(matrix.data)


def _entries_differ(path: Path, header: Header, found: str) -> DataError:
    return DataError(
        "a MatrixMarket file has another number of entries than it says",
        where=path,
        found=found,
        expected=f"{header.entries:,} entries (line {header.lines})",
        hint="if it was cut short, copy it again; if it was edited by hand, correct the number",
    )


def _no_entry(path: Path, header: Header, line: int, found: str) -> DataError:
    kind = "a whole number" if header.is_integer else "a number"
    return DataError(
        "a line of a MatrixMarket file is no entry of the matrix",
        where=f"{path}, line {line}",
        found=found,
        expected=f"row 1 to {header.rows:,}, column 1 to {header.columns:,}, {kind}",
        hint="indices count from 1; a last line cut short means that the file is truncated",
    )
