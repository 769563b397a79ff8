"""Tables of text, as people really have them: gzip or not, in any encoding, line end and delimiter."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from dpf.errors import DataError, first_line, translated
from dpf.files import regular_file
from dpf.tables.screen import Note

_FALLBACK = "latin-1"  # fits any bytes
GZIP_MAGIC = b"\x1f\x8b"
_GZIP_PACKS_AT_MOST = 1032  # times, by the format
_LARGEST_EXACT = 2**24  # every integer up to here is a float32


@contextmanager
def open_unpacked(path: Path) -> Iterator[io.BufferedReader]:
    """Yield the bytes of `path`, through gzip where they begin as gzip does; the file's name decides nothing.

    Raises
    ------
    DataError
        The file is missing or unreadable, or its gzip data end early or are damaged. Also raised for these when
        they show only while the caller reads.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == GZIP_MAGIC
            yield io.BufferedReader(gzip.GzipFile(fileobj=raw)) if packed else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            "a gzip file ends early or is damaged",
            where=path,
            found=error,
            expected="a whole gzip file",
            hint=f"copy or download it again, and compare checksums; `gzip -t {path.name}` tests it",
        ) from error
    except OSError as error:
        hint = "name a file that is there and that you may read"
        raise DataError("cannot read a file", where=path, found=error.strerror or error, hint=hint) from error


def unpacked_at_most(path: Path) -> int:
    """Bytes that a file can hold, unpacked: what it says of its own size is compared with that."""
    with path.open("rb") as stream:
        return path.stat().st_size * (_GZIP_PACKS_AT_MOST if stream.read(2) == GZIP_MAGIC else 1)


def decode(data: bytes, path: Path) -> tuple[str, tuple[Note, ...]]:
    """Text from a piece of a file of bytes: UTF-8 with or without its mark, else Latin-1, which is noted."""
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        return data.decode(_FALLBACK), (_fallback_note(path),)


def _fallback_note(path: Path) -> Note:
    return Note("warning", f"{path.name} is not UTF-8: read as Latin-1; check names with accents or Greek letters")


def rounded_in_float32(values: NDArray[np.generic]) -> int:
    """How many of `values` lie beyond 16,777,216 in size and are changed by float32, which has 24 bits."""
    large = values[np.abs(values) > _LARGEST_EXACT].astype(np.float64)
    return int(np.count_nonzero(large.astype(np.float32) != large))


def rounding_note(rounded: int) -> tuple[Note, ...]:
    """The warning for `rounded` values beyond 16,777,216; none where there are none."""
    text = f"{rounded:,} values beyond {_LARGEST_EXACT:,} were rounded to the 24 bits of float32"
    return (Note("warning", text),) if rounded else ()


T = TypeVar("T")

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon"}
_SEPARATOR_LINE = re.compile(r'(?i)"?sep=(\\t|.)?"?[,;]*')
#: A packed text may become so many times as large, or as large as this if that is more: repeated zeros pack a
#: thousandfold, tables hardly thirtyfold.
UNPACKED_TIMES, UNPACKED_AT_LEAST = 200, 1 << 26
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def unpacked_head(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file, unpacked if they are gzip.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    with open_unpacked(path) as stream:
        return stream.read(size)


def parse_text(path: Path, parse: Callable[[TextIO], T]) -> tuple[T, tuple[Note, ...]]:
    r"""What `parse` makes of the text of a file, and what was odd about the file.

    UTF-8 with or without its mark, UTF-16 with its mark, else Latin-1, which is noted: Latin-1 fits any bytes, so it
    is the last resort. Line ends reach `parse` as ``\n``. When the text turns out not to be UTF-8, `parse` is called
    again from the start.

    Raises
    ------
    DataError
        The file is missing, cut short, or no text.
    """
    with regular_file(path) as file:
        return _parse_text(file, parse)


def _parse_text(path: Path, parse: Callable[[TextIO], T]) -> tuple[T, tuple[Note, ...]]:
    head = unpacked_head(path)
    notes = list(_packing_notes(path))
    if head[:2] in _UTF16_MARKS:
        notes.append(Note("info", f"{path.name} is UTF-16 text"))
        with translated(lambda error: _no_text(path, first_line(error))):
            return _parse_as(path, "utf-16", parse), tuple(notes)
    if b"\0" in head:
        raise _no_text(path, "binary content")
    try:
        return _parse_as(path, "utf-8-sig", parse), tuple(notes)
    except UnicodeDecodeError:
        return _parse_as(path, _FALLBACK, parse), (*notes, _fallback_note(path))


def _no_text(path: Path, found: str) -> DataError:
    return DataError(
        "not a table of text",
        where=path,
        found=found,
        expected="comma-, tab- or semicolon-separated text",
        hint="export the table as CSV or Parquet; if it was text once, copy it again",
    )


class _Text(io.RawIOBase):
    """The bytes of a text: none of them is zero, and they are not many times as many as the packed ones."""

    def __init__(self, stream: io.BufferedReader, path: Path, wide: bool) -> None:
        self._stream, self._path, self._wide = stream, path, wide
        self._most = max(UNPACKED_AT_LEAST, UNPACKED_TIMES * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        block = self._stream.read1(len(buffer))
        if self._stream.tell() > self._most:
            raise DataError(
                f"a packed file of text becomes more than {UNPACKED_TIMES} times as large",
                where=self._path,
                found=f"{self._path.stat().st_size:,} bytes, packed",
                expected="a table, which becomes 3 to 30 times as large",
                hint="if it is a table all the same, unpack it first: gunzip",
            )
        if b"\0" in block and not self._wide:
            raise _no_text(self._path, "a zero byte in the middle of it")
        buffer[: len(block)] = block
        return len(block)


def _parse_as(path: Path, encoding: str, parse: Callable[[TextIO], T]) -> T:
    with open_unpacked(path) as stream:
        checked = io.BufferedReader(_Text(stream, path, encoding == "utf-16"), 1 << 16)
        with io.TextIOWrapper(checked, encoding=encoding, newline=None) as text:
            return parse(text)


def _packing_notes(path: Path) -> list[Note]:
    with path.open("rb") as stream:
        is_gzip = stream.read(2) == GZIP_MAGIC
    named_gzip = path.suffix.lower() == ".gz"
    if named_gzip and not is_gzip:
        return [Note("info", f"{path.name} is plain text in spite of its name")]
    if is_gzip and not named_gzip:
        return [Note("info", f"{path.name} is gzip in spite of its name")]
    return []


def split_line(line: str, delimiter: str) -> list[str]:
    """The cells of one line, quotes removed.

    Raises
    ------
    DataError
        Quotes are not closed, or a cell in quotes is longer than 131,072 characters.
    """
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error as error:
        raise DataError("a line of the table cannot be split into cells", found=f"{line[:60]}: {error}") from error


def sniff_delimiter(lines: list[str]) -> str:
    """The delimiter of a table, from its first lines, headings included: comma, tab or semicolon.

    The one that splits most lines into the same number of cells, more than one; of several such the one that splits
    the headings so too, then the one with the most cells: in ``id;A`` over ``x;1,5`` it is the semicolon. A table of
    one column has none: then comma is as good as any.
    """
    best, best_key = ",", (0.0, False, 0)
    for delimiter in DELIMITERS:
        counts = Counter(_cells(line, delimiter) for line in lines[1:] or lines)
        cells, times = counts.most_common(1)[0] if counts else (1, 0)
        agreement = times / max(len(lines[1:] or lines), 1)
        heading = _cells(lines[0], delimiter) if lines else 1
        if cells > 1 and heading in (cells, cells - 1, cells + 1):
            key = (round(agreement, 1), heading == cells, cells)
            if key > best_key:
                best, best_key = delimiter, key
    return best


def _cells(line: str, delimiter: str) -> int:
    """How many cells a line has, were it separated so; 1 where that makes no sense."""
    try:
        return len(split_line(line, delimiter))
    except DataError:
        return 1


def require_delimiter(lines: list[str], path: Path) -> None:
    """Refuse a table of one column, which is one of several with another delimiter.

    Raises
    ------
    DataError
        Most lines have no comma, tab or semicolon between two cells.
    """
    if 2 * sum(any(_cells(line, delimiter) > 1 for delimiter in DELIMITERS) for line in lines) > len(lines):
        return
    raise DataError(
        "the columns of a table are not separated by comma, tab or semicolon",
        where=path,
        found=f"lines such as {lines[0][:60]!r}",
        expected="commas, tabs or semicolons between the cells",
        hint="write it again as CSV; in R: write.csv(x, 'table.csv')",
    )


def leading_comments(lines: list[str]) -> int:
    """How many lines at the top are comments: they begin with ``#`` and are not split as the table is.

    A last one that does split as the table does is the line of headings (``#gene,A01,A02``). A first line such as
    ``sep=;``, which tells Excel the delimiter, is one too.
    """
    if lines and _SEPARATOR_LINE.fullmatch(lines[0].strip()):
        return 1 + leading_comments(lines[1:])
    count = 0
    while count < len(lines) and lines[count].startswith("#"):
        count += 1
    if count == 0 or count == len(lines):
        return 0
    delimiter = sniff_delimiter(lines[count:])
    cells = len(split_line(lines[count], delimiter))
    last = len(split_line(lines[count - 1], delimiter))
    is_heading = last > 1 and last in (cells, cells - 1)
    return count - 1 if is_heading else count
