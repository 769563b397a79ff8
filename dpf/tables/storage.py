"""Parquet in and out. Every file says in its footer what it is, in which format, and what it was made from.

A flipped bit anywhere is found: the footer has a checksum of all that is before it, and one of itself (CRC-32). The
first is compared wherever a table is read; of the expression, which is read in parts, where its digest is needed anyway
(`expression_digest`). Files of before there were any are read as they are.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dpf import __version__
from dpf.config.settings import FORMAT, refuse_later
from dpf.errors import DataError, DeviceError, DpfError, ProjectError, first_line, listed, translated
from dpf.files import atomic_path, canonical_json, parse_object, require_regular
from dpf.tables.schemas.registry import SCHEMAS, always_there, misfits, undeclared

_KEY = b"dpf"
#: The footer's key of its checksums: of what is before it, and of itself with zeros in that very place.
_CHECKSUMS, _ZEROS = b"dpf_crc32", b"0" * 8
#: What the footers of inputs list, and the texts that each entry has.
_INPUTS = ("expression", "counts", "wells", "genes")
_LISTS = {"notes": ("severity", "text"), "sources": ("path", "sha256")}
_WELLS_A_GROUP = 4096
_CELLS_A_GROUP = 1 << 25
#: A matrix of more cells (256 MiB) lies in a file: memory then does not grow with the wells.
CELLS_IN_MEMORY = 1 << 26
_CELLS_A_BLOCK = 1 << 22


def fits_in_memory(wells: int, genes: int) -> bool:
    """Whether a matrix of this shape is held in memory: one of at most 2²⁶ cells."""
    return wells * genes <= CELLS_IN_MEMORY


def new_matrix(wells: int, genes: int, order: Literal["C", "F"] = "C") -> NDArray[np.float32]:
    """Zeros of shape (wells, genes), to be filled in: in memory or, of more than 2²⁶ cells, in a temporary file.

    The file lies where TMPDIR says, else in /var/tmp (which, unlike /tmp, is never in memory), has no name, and goes
    with the array.

    Raises
    ------
    DeviceError
        There is no room for the file.
    """
    if fits_in_memory(wells, genes):
        return np.zeros((wells, genes), np.float32, order=order)
    size = 4 * wells * genes
    folder = os.environ.get("TMPDIR") or ("/var/tmp" if Path("/var/tmp").is_dir() else tempfile.gettempdir())  # noqa: S108
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # else a full disk would end the process where it is written to
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            mapped = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise DeviceError(
            "there is no room for a temporary file",
            where=folder,
            found=f"{error.strerror or error}; {size / 2**30:.1f} GiB for {wells:,} wells × {genes:,} genes",
            hint="free some space there, or name a folder with room in the environment variable TMPDIR",
        ) from error
    return np.frombuffer(mapped, np.float32).reshape((wells, genes), order=order)


def wells_in_blocks(values: NDArray[np.floating]) -> Iterator[slice]:
    """All wells of a matrix in turn: at once where it is in memory, else some at a time.

    What was read or written of a file through one slice is no longer in memory with the next.
    """
    mapped = _mapped(values)
    step = max(1, len(values) if mapped is None else _CELLS_A_BLOCK // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        yield slice(start, min(start + step, len(values)))
        let_go(values)


def let_go(values: NDArray[np.floating]) -> None:
    """What of a matrix in a file has been read or written need not stay in memory: the file has it."""
    mapped = _mapped(values)
    if mapped is not None and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED)


def is_in_file(values: NDArray[np.floating]) -> bool:
    """Whether a matrix (or what it is a view of) is one of those of `new_matrix` that lie in a file."""
    return _mapped(values) is not None


def _mapped(values: NDArray[np.floating]) -> mmap.mmap | None:
    base: Any = values
    while isinstance(base, np.ndarray | memoryview):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    return base if isinstance(base, mmap.mmap) else None


@dataclass(frozen=True)
class Expression:
    """The expression matrix of a project.

    Attributes
    ----------
    well_ids
        N names.
    genes
        G names.
    values
        float32 array of shape (N, G).
    """

    well_ids: list[str]
    genes: list[str]
    values: NDArray[np.float32]


class UndeclaredError(Exception):
    """A table that is about to be written is not as its schema declares it: a bug in dpf, not in the data."""


def write_table(
    path: Path, frame: pl.DataFrame | Iterable[pl.DataFrame], kind: str, about: Mapping[str, Any] | None = None
) -> None:
    """Write a table, atomically, with its kind, its format and `about` (provenance) in the footer.

    A large one can come in parts, which are made as they are written. The same frame and `about` give the same bytes:
    no time of writing is stored.

    Raises
    ------
    UndeclaredError
        The table is not as `dpf.tables.schemas` declares tables of its kind.
    """
    schema = SCHEMAS.get(kind)
    if schema is None:
        raise UndeclaredError(f"{path.name}: no schema declares tables of kind {kind!r}")
    with atomic_path(path) as part, ExitStack() as opened:
        writer = None
        for one in [frame] if isinstance(frame, pl.DataFrame) else frame:
            wrong = misfits(schema, one, always_there(schema))
            wrong += [f"column {name} is not declared" for name in undeclared(schema, one)]
            if wrong:
                raise UndeclaredError(f"{path.name} is not as the schema of {kind!r} declares it: {'; '.join(wrong)}")
            table = one.to_arrow(compat_level=pl.CompatLevel.oldest()).replace_schema_metadata(_footer(kind, about))
            writer = writer or opened.enter_context(pq.ParquetWriter(part, table.schema, compression="zstd"))
            writer.write_table(table)
        opened.close()
        _sign(part)


def _footer(kind: str, about: Mapping[str, Any] | None) -> dict[bytes, bytes]:
    content = {"format": FORMAT, "kind": kind, "dpf": __version__, **(about or {})}
    return {_KEY: canonical_json(content).encode(), _CHECKSUMS: _ZEROS + _ZEROS}


def _sign(path: Path) -> None:
    """Put the checksums in the place that `_footer` has made for them."""
    found = _raw_footer(path)
    assert found is not None
    at, footer = found
    place = _place(footer)
    assert place is not None
    footer[place] = _hex(_read_head(path, at).crc32) + _ZEROS
    footer[place] = bytes(footer[place][:8]) + _hex(zlib.crc32(footer))
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(footer)


def _raw_footer(path: Path) -> tuple[int, bytearray] | None:
    """Where a Parquet file's footer begins, and its bytes; None where it has none."""
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - 8))
        tail = stream.read()
        at = size - 8 - int.from_bytes(tail[:4], "little")
        if tail[4:] != b"PAR1" or at < 4:
            return None
        stream.seek(at)
        return at, bytearray(stream.read())


def _place(footer: bytearray) -> slice | None:
    """Where in a footer the checksums are (after their key, a field's header and the length); None: there are none."""
    key = _CHECKSUMS + b"\x18\x10"
    at = footer.rfind(key)
    return None if at < 0 else slice(at + len(key), at + len(key) + 16)


def _hex(checksum: int) -> bytes:
    return b"%08x" % checksum


class _Head(NamedTuple):
    """Of what is before a file's footer: the checksum, and the SHA-256 so far."""

    crc32: int
    sha256: hashlib._Hash


def _read_head(path: Path, end: int) -> _Head:
    crc32, sha256 = 0, hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(min(end, 1 << 20)):
            crc32 = zlib.crc32(block, crc32)
            sha256.update(block)
            end -= len(block)
    return _Head(crc32, sha256)


def read_about(path: Path, kind: str) -> dict[str, Any]:
    """What a table says of itself in its footer: format, kind, version, provenance.

    Raises
    ------
    ProjectError
        The file is missing, is of another kind, or of a later format.
    DataError
        The file is truncated or is not Parquet.
    """
    return _about(_open(path), path, kind)


def expression_digest(path: Path, check: bool = True) -> str:
    """The SHA-256 of the file with the expression; with `check`, a file that is not as it was written is an error.

    Raises
    ------
    DataError
        The file is damaged.
    """
    at, footer = _raw_footer(path) or (path.stat().st_size, bytearray())
    head, place = _read_head(path, at), _place(footer)
    if check and place and footer[place][:8] != _hex(head.crc32):
        raise _damaged(path, "restore it from a copy, or run dpf init again from the source files")
    head.sha256.update(footer)
    return head.sha256.hexdigest()


def _damaged(path: Path, hint: str) -> DataError:
    return DataError("a table is damaged", where=path, found="its content is not what was written", hint=hint)


def _unreadable(path: Path, error: BaseException) -> DataError:
    return DataError(
        "a table cannot be read: it is truncated or is not a Parquet file",
        where=path,
        found=first_line(error),
        hint="restore it from a copy, or make it again with the command that wrote it",
    )


def _open(path: Path, whole: bool = False) -> pq.ParquetFile:
    """The file with its footer checked; with `whole`, all of it is read and checked."""
    try:
        require_regular(path)
        at, footer = _raw_footer(path) or (0, bytearray())
        stored = None
        if place := _place(footer):
            stored, footer[place] = bytes(footer[place]), bytes(footer[place][:8]) + _ZEROS
            if _hex(zlib.crc32(footer)) != stored[8:]:
                raise pa.ArrowInvalid("its footer is not what was written")
        if not whole:
            return pq.ParquetFile(path)
        content = path.read_bytes()
        if stored and _hex(zlib.crc32(memoryview(content)[:at])) != stored[:8]:
            raise _damaged(path, "restore it from a copy, or make it again with the command that wrote it")
        return pq.ParquetFile(pa.BufferReader(content))
    except FileNotFoundError:
        raise ProjectError("a file of the project is missing", where=path) from None
    except PermissionError as error:
        raise ProjectError("a file of the project may not be read", where=path, hint="ask its owner") from error
    except (DpfError, MemoryError):  # Arrow's lack of memory is of both kinds
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _about(file: pq.ParquetFile, path: Path, kind: str) -> dict[str, Any]:
    raw = (file.schema_arrow.metadata or {}).get(_KEY)
    if raw is None:
        raise ProjectError("the table was not written by dpf", where=path, expected=f"a dpf table of kind {kind!r}")
    try:
        about = parse_object(raw)
        refuse_later(about, "table", path, ProjectError)
        for name, parts in _LISTS.items() if kind in _INPUTS else ():
            if not all(isinstance(one[part], str) for one in about.get(name, []) for part in parts):
                raise TypeError(name)
    except (ValueError, TypeError, LookupError):
        raise DataError(
            "the table's footer is not one that dpf writes", where=path, found=raw[:80],
            hint="restore it from a copy, or make it again with the command that wrote it",
        ) from None  # fmt: skip
    if about.get("kind") != kind:
        raise ProjectError("the table is of another kind", where=path, found=about.get("kind"), expected=kind)
    return about


def require_intact(path: Path) -> None:
    """Refuse a table that is not as it was written, without looking at what is in it (errors as for `read_about`)."""
    _open(path, whole=True)


def read_table(path: Path, kind: str, columns: Sequence[str] | None = None, needed: Sequence[str] = ()) -> pl.DataFrame:
    """Read a table that `write_table` wrote.

    Parameters
    ----------
    columns
        Only these; None: all.
    needed
        Columns that must be there, beside those that every table of the kind has.

    Raises
    ------
    ProjectError
        As for `read_about`.
    DataError
        As for `read_about`, or a column is missing, of another type, or empty where it never is.
    """
    file = _open(path, whole=True)
    _about(file, path, kind)
    with translated(lambda error: _unreadable(path, error)):
        table = file.read(columns=None if columns is None else list(columns))
        table.validate(full=True)
        frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    schema = SCHEMAS[kind]
    always = always_there(schema, stored=True) if columns is None else columns
    if wrong := misfits(schema, frame, [*always, *needed]):
        raise DataError(
            f"{path.name} is not as dpf writes it",
            where=path,
            found="; ".join(wrong),
            expected=f"what dpf info PROJECT --columns {kind} lists",
            hint=schema.next_step,
        )
    return frame


def write_expression(
    path: Path,
    well_ids: Sequence[str],
    genes: Sequence[str],
    values: NDArray[np.float32],
    about: Mapping[str, Any] | None = None,
    kind: Literal["expression", "counts"] = "expression",
) -> None:
    """Write the wide matrix: `well_id`, then one float32 column a gene; counts in whole numbers (int32) if they are.

    Row groups of at most 4,096 wells and 2²⁵ cells (128 MiB), so that writing needs the matrix and one group beside
    it, not twice the matrix. No dictionaries and no statistics: on tens of thousands of float columns they only slow
    reading.
    """
    cell = pa.int32() if kind == "counts" and _are_whole(values) else pa.float32()
    schema = pa.schema([("well_id", pa.string()), *((gene, cell) for gene in genes)])
    schema = schema.with_metadata(_footer(kind, about))
    options = {"compression": "lz4", "use_dictionary": False, "write_statistics": False}
    with atomic_path(path) as part:
        _write_matrix(part, schema, options, well_ids, values)
        _sign(part)


def _are_whole(values: NDArray[np.float32]) -> bool:
    """Whether every value is a whole number that int32 holds."""
    step = max(1, _CELLS_A_GROUP // max(1, values.shape[1]))
    blocks = (values[start : start + step] for start in range(0, len(values), step))
    return all(bool((np.trunc(block) == block).all()) and block.max(initial=0) < 2**31 for block in blocks)


def _write_matrix(
    path: Path, schema: pa.Schema, options: dict[str, Any], well_ids: Sequence[str], values: NDArray[np.float32]
) -> None:
    with pq.ParquetWriter(path, schema, **options) as writer:
        step = _wells_a_group(values.shape[1])
        for start in range(0, len(well_ids), step):
            rows = slice(start, start + step)
            block = np.asarray(values[rows].T, dtype=np.float32)
            if block.strides[1] != block.itemsize:  # in column order already, if it came from a table of genes × wells
                block = np.ascontiguousarray(block)
            if len(block):
                block = block.astype(schema.types[-1].to_pandas_dtype(), copy=False)
            arrays = [pa.array(well_ids[rows], pa.string()), *(pa.array(column) for column in block)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=step)
            let_go(values)


def _wells_a_group(genes: int) -> int:
    return max(1, min(_WELLS_A_GROUP, _CELLS_A_GROUP // max(1, genes)))


def read_names(path: Path) -> tuple[list[str], list[str]]:
    """The N well ids and the G genes of the matrix that `write_expression` wrote (errors as for `read_about`)."""
    file = _open(path)
    _about(file, path, "expression")
    genes = _gene_columns(file.schema_arrow, path)
    with translated(lambda error: _unreadable(path, error)):
        return file.read(columns=["well_id"]).column(0).to_pylist(), genes


def read_expression(path: Path, check: bool = True, genes: Sequence[str] | None = None) -> Expression:
    """Read the expression that `write_expression` wrote: all of it, or these `genes`, in this order.

    With `check`, values that are not finite are an error: someone has changed the file, and a NaN would reach the
    weights (errors otherwise as for `read_about`).
    """
    well_ids, there = read_names(path)
    if genes is not None and (absent := sorted(set(genes) - set(there))):
        raise DataError(
            "genes are missing from the expression table",
            where=path,
            found=listed(absent),
            expected="every gene of the genes table",
            hint="run dpf init again; the tables belong together",
        )
    genes = there if genes is None else list(genes)
    values, finite = new_matrix(len(well_ids), len(genes)), True
    step = _wells_a_group(len(there))
    with translated(lambda error: _unreadable(path, error)):
        # Group by group, so that a large matrix needs one group beside it; by polars, because on tens of thousands of
        # columns it is twice as fast as pyarrow.
        for start in range(0, len(well_ids), step):
            rows = pl.scan_parquet(path, use_statistics=False).slice(start, step)
            table = (rows.drop("well_id") if genes == there else rows.select(genes)).collect()
            some = slice(start, start + table.height)
            values[some] = table.to_numpy()
            finite = finite and bool(np.isfinite(values[some]).all())
            let_go(values)
    if check and not finite:
        _refuse_not_finite(path, well_ids, genes, values)
    return Expression(well_ids, genes, values)


def _gene_columns(schema: pa.Schema, path: Path) -> list[str]:
    names: list[str] = schema.names
    if names[:1] != ["well_id"]:
        raise DataError("the first column of the expression must be well_id", where=path, found=listed(names[:1]))
    if not (pa.types.is_string(schema.types[0]) or pa.types.is_large_string(schema.types[0])):
        raise DataError(
            "the well ids of the expression are no text", where=path, found=schema.types[0], hint="run dpf init again"
        )
    strange = [f"{field.name} ({field.type})" for field in list(schema)[1:] if field.type != pa.float32()]
    if strange:
        raise DataError("gene columns are not float32", where=path, found=listed(strange), hint="run dpf init again")
    return names[1:]


def _refuse_not_finite(path: Path, well_ids: list[str], genes: list[str], values: NDArray[np.float32]) -> None:
    places = np.argwhere(~np.isfinite(values))
    shown = [f"{well_ids[row]} / {genes[column]} = {values[row, column]}" for row, column in places[:10]]
    raise DataError(
        "the expression has values that are not finite",
        where=path,
        found=f"{len(places):,}: {listed(shown)}",
        expected="a finite number in every cell",
        hint="run dpf init again from the source files",
    )
