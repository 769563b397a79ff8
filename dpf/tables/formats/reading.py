"""One file of any known kind: recognised by its content, read by the reader that knows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from dpf.errors import DataError, UsageError, listed
from dpf.files import copied, regular_file, sha256_file
from dpf.tables.formats.columnar import (
    FEATHER,
    PARQUET,
    XLSX,
    read_columnar_table,
    read_xlsx_table,
    recognises_feather,
    recognises_parquet,
    recognises_xlsx,
)
from dpf.tables.formats.gct import GCT
from dpf.tables.formats.gctx import GCTX
from dpf.tables.formats.h5ad import H5AD, read_h5ad, recognises_h5ad
from dpf.tables.formats.h5ad import layers_of_counts as h5ad_layers_of_counts
from dpf.tables.formats.mtx import MTX, read_mtx
from dpf.tables.matrix import Matrix, MatrixFormat
from dpf.tables.options import Orientation
from dpf.tables.screen import SourceFile
from dpf.tables.text.encodings import (
    GZIP_MAGIC,
    UNPACKED_AT_LEAST,
    UNPACKED_TIMES,
    open_unpacked,
    unpacked_head,
)
from dpf.tables.text.expression import read_text_matrix
from dpf.tables.text.wells_table import Table, read_text_table

CLASSIC = "classic"
TEXT = MatrixFormat("text", lambda path, head: not path.is_dir() and b"\0" not in head, read_text_matrix)

#: Every kind of expression table, in the order in which they are tried; text comes last, since much else is text.
FORMATS: tuple[MatrixFormat, ...] = (MTX, GCT, GCTX, H5AD, PARQUET, FEATHER, XLSX, TEXT)
FORMAT_NAMES: tuple[str, ...] = (CLASSIC, *(known.name for known in FORMATS))

#: Readers of these look here and there in a file: one that is packed is unpacked to a copy first.
_BINARY = (b"\x89HDF", b"PAR1", b"ARROW1", b"PK\x03\x04")

#: Files that begin so are known, and are not read: what to do instead.
_FOREIGN = {
    b"\xd0\xcf\x11\xe0": ("an old Excel file (.xls)", "save it as .xlsx or CSV"),
    b"FEA1": ("Feather of version 1", "write it again as Feather 2 or Parquet"),
    b"PK\x03\x04": ("a zip archive", "unpack it, and name the table in it"),
    b"BZh": ("a bzip2 archive", "unpack it with bunzip2"),
    b"\xfd7zXZ": ("an xz archive", "unpack it with unxz"),
    b"(\xb5/\xfd": ("a zstd archive", "unpack it with unzstd"),
    b"RDX": ("R data (.RData)", "in R: write.csv(as.matrix(x), 'table.csv')"),
    b"X\n": ("R data (.rds)", "in R: write.csv(as.matrix(x), 'table.csv')"),
    b"%PDF": ("a PDF file", "export the table as CSV"),
    b"\x89HDF": ("an HDF5 file that is neither h5ad nor GCTX", "export it as .h5ad, GCTX or CSV"),
}


def refuse_absent(paths: Sequence[Path]) -> None:
    """Raise DataError that lists those of `paths` that are not there."""
    absent = [path for path in paths if not path.exists()]
    if absent:
        raise DataError("a file or folder is not there", where=listed(absent), hint="check the spelling of the path")


def read_matrix(
    path: Path, format_name: str | None = None, layer: str | None = None, orientation: Orientation | None = None
) -> Matrix:
    """Read one expression table of any known kind, as the file has it.

    Parameters
    ----------
    path
        A file, or the folder of an MTX matrix.
    format_name
        One of `FORMAT_NAMES` but ``classic``; None recognises it by its content.
    layer
        The layer of an h5ad file.
    orientation
        What the user says; only a square matrix of a 10x folder is read by it.

    Raises
    ------
    UsageError
        There is no such format, or `layer` is given for a file that has none.
    DataError
        The file is not there, of an unknown kind, or damaged.
    """
    refuse_absent([path])
    with _at_hand(path) as file:
        known = _named_format(format_name) if format_name is not None else _recognised(file)
        if layer is not None and known is not H5AD:
            raise UsageError("only h5ad files have layers", where=path, found=f"a file of format {known.name}")
        readers = {MTX.name: partial(read_mtx, orientation=orientation), H5AD.name: partial(read_h5ad, layer=layer)}
        matrix = readers.get(known.name, known.read)(file)
        return matrix if file == path else replace(matrix, source=_source(path, file))


def layers_of_counts(path: Path) -> list[str]:
    """The layers of an h5ad file whose first wells hold counts; none where it is another file, or no longer there."""
    if not path.is_file():
        return []
    with _at_hand(path) as file:
        return h5ad_layers_of_counts(file) if recognises_h5ad(file, unpacked_head(file)) else []


@contextmanager
def _at_hand(path: Path) -> Iterator[Path]:
    """Yield a file that can be opened again and read at any place: `path`, or a copy of a pipe or a packed table."""
    with regular_file(path) as file:
        if file.is_dir() or not unpacked_head(file).startswith(_BINARY) or not _is_packed(file):
            yield file
            return
        longest = max(UNPACKED_AT_LEAST, UNPACKED_TIMES * file.stat().st_size)
        with open_unpacked(file) as stream, copied(stream, path, file.name.removesuffix(".gz"), longest) as unpacked:
            yield unpacked


def _is_packed(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == GZIP_MAGIC


def _source(path: Path, copy: Path) -> SourceFile:
    """Where a copy came from, with the digest of what the user has: of a pipe, of what it held."""
    return SourceFile(str(path), sha256_file(path if path.is_file() else copy))


def _named_format(name: str) -> MatrixFormat:
    for known in FORMATS:
        if known.name == name:
            return known
    raise UsageError("there is no such format", found=name, expected=listed(FORMAT_NAMES, len(FORMAT_NAMES)))


def _recognised(path: Path) -> MatrixFormat:
    head = b"" if path.is_dir() else unpacked_head(path)
    for known in FORMATS[:-1]:
        if known.recognises(path, head):
            return known
    _refuse_foreign(path, head)
    return TEXT


def _refuse_foreign(path: Path, head: bytes) -> None:
    """Raise where a file is known not to be a table of text; anything else is for the text reader to judge."""
    if path.is_dir():
        raise DataError(
            "a folder holds no screen that is known",
            where=path,
            found=listed(sorted(child.name for child in path.iterdir()), 8) or "nothing",
            expected="expr_mat.csv (the classic layout), or matrix.mtx with barcodes and features",
            hint="name the expression table itself with --from",
        )
    for magic, (kind, hint) in _FOREIGN.items():
        if head.startswith(magic):
            raise DataError("a file is of a kind that is not read", where=path, found=kind, hint=hint)


def read_table(path: Path) -> Table:
    """Read a table about wells: text, Parquet, Feather or Excel, recognised by its content.

    Raises
    ------
    UsageError
        The file is an Excel workbook, and its reader is not installed.
    DataError
        The file is not there, of another kind, damaged, or has no rows.
    """
    refuse_absent([path])
    if path.is_dir():
        raise DataError("a wells table is a file", where=path, found="a folder", expected="CSV, TSV, Parquet or Excel")
    with _at_hand(path) as file:
        table = _read_table(file)
        places = [place.replace(str(file), str(path)) for place in table.places]
        return table if file == path else replace(table, sources=(_source(path, file),), places=places)


def _read_table(path: Path) -> Table:
    head = unpacked_head(path)
    if recognises_parquet(path, head) or recognises_feather(path, head):
        return read_columnar_table(path)
    if recognises_xlsx(path, head):
        return read_xlsx_table(path)
    _refuse_foreign(path, head)
    return read_text_table(path)
