"""Files as bytes, unpacked where they are gzip whatever their name says."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpf.errors import DataError
from dpf.tables.screen import Note

_GZIP_MAGIC = b"\x1f\x8b"
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
            packed = raw.peek(2)[:2] == _GZIP_MAGIC
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
        raise DataError("cannot read a file", where=path, found=error.strerror or error) from error


def decode(data: bytes, path: Path) -> tuple[str, tuple[Note, ...]]:
    """Text from `data`: UTF-8 with or without its mark, else Latin-1, which is noted."""
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        text = f"{path.name} is not UTF-8; its names were read as Latin-1: check those with accents or Greek letters"
        return data.decode("latin-1"), (Note("warning", text),)


def rounded_in_float32(values: NDArray[np.generic]) -> int:
    """How many of `values` lie beyond 16,777,216 in size and are changed by float32, which has 24 bits."""
    large = values[np.abs(values) > _LARGEST_EXACT].astype(np.float64)
    return int(np.count_nonzero(large.astype(np.float32) != large))


def rounding_note(rounded: int) -> tuple[Note, ...]:
    """The warning for `rounded` values beyond 16,777,216; none where there are none."""
    text = f"{rounded:,} values beyond {_LARGEST_EXACT:,} were rounded to the 24 bits of float32"
    return (Note("warning", text),) if rounded else ()
