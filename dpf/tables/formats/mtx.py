"""The 10x folder: `matrix.mtx` (genes × wells), `barcodes.tsv` (wells) and `features.tsv` or `genes.tsv`.

Cell Ranger, STARsolo and most DRUG-seq, BRB-seq and MAC-seq pipelines write it. Each file may be gzip or not, whatever
its name says, and the three may share a prefix (``GSM123_matrix.mtx.gz``, ``cells_x_genes.barcodes.txt``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import polars as pl

from dpf.errors import DataError, listed
from dpf.files import sha256_file
from dpf.tables.formats.matrix_market import BANNER, Header, read_entries, read_header
from dpf.tables.matrix import Matrix, MatrixFormat
from dpf.tables.options import Orientation
from dpf.tables.screen import Note, SourceFile
from dpf.tables.text.encodings import open_unpacked, parse_text, rounding_note

_BARCODES = ("barcodes.tsv", "barcodes.txt")
_FEATURES = ("features.tsv", "genes.tsv", "genes.txt")


class MtxFolder(NamedTuple):
    """The three files of one matrix."""

    matrix: Path
    barcodes: Path
    features: Path


def recognises_mtx(path: Path, head: bytes) -> bool:
    """Whether `path` is a folder with a MatrixMarket file, or begins like one."""
    if path.is_dir():
        return bool(_mtx_in(path))
    return head[: len(BANNER)].lower() == BANNER.lower()


def _mtx_in(folder: Path) -> list[Path]:
    """The matrices of a folder: those called ``matrix.mtx`` if there are any, else ``*matrix.mtx``, else ``*.mtx``."""
    found = _all_mtx(folder)
    plain = {path: path.name.removesuffix(".gz") for path in found}
    exact = [path for path in found if plain[path] == "matrix.mtx"]
    return exact or [path for path in found if plain[path].endswith("matrix.mtx")] or found


def _all_mtx(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.removesuffix(".gz").endswith(".mtx"))


def mtx_files(path: Path) -> MtxFolder:
    """The matrix, barcodes and features that belong together.

    Parameters
    ----------
    path
        The folder, or its ``.mtx`` file where the folder holds several.

    Raises
    ------
    DataError
        One of the three is missing, or there are several of it.
    """
    folder = path if path.is_dir() else path.parent
    matrix = path if path != folder else _only(folder, _mtx_in(folder), "matrix.mtx")
    prefix = re.sub(r"(matrix)?\.mtx(\.gz)?$", "", matrix.name)
    found = []
    for endings in (_BARCODES, _FEATURES):
        names = [f"{prefix}{joint}{ending}" for joint in (("", ".", "_") if prefix else ("",)) for ending in endings]
        beside = _existing(folder, names) or _existing(folder, list(endings))
        found.append(_only(folder, beside, names[0]))
    return MtxFolder(matrix, *found)


def _existing(folder: Path, names: list[str]) -> list[Path]:
    return [folder / full for name in names for full in (name, f"{name}.gz") if (folder / full).is_file()]


def _only(folder: Path, found: list[Path], wanted: str) -> Path:
    if len(found) == 1:
        return found[0]
    raise DataError(
        "a file of the 10x folder is missing" if not found else "several files of the 10x folder could be meant",
        where=folder,
        found=listed([path.name for path in found]) if found else f"no {wanted}, gzip or not",
        expected=f"one {wanted} (or .gz)",
        hint="move the others away, or name the .mtx file itself" if found else "put the three files in one folder",
    )


def read_mtx(path: Path, orientation: Orientation | None = None) -> Matrix:
    """Read a 10x folder.

    Parameters
    ----------
    path
        The folder or its ``.mtx`` file.
    orientation
        Of the matrix, where there are as many wells as genes and its size does not tell.

    Returns
    -------
    Matrix
        Genes × wells (a view of a C-ordered wells × genes array). Rows are named by gene id, columns by barcode;
        `row_table` has ``gene_id`` and, where the file has them, ``symbol`` and ``feature_type``; `column_table` has
        what stands beside the barcodes, if anything. Cells that the matrix does not list are 0.

    Raises
    ------
    DataError
        A file is missing, truncated, or not what its header says; an index is out of range; a cell stands twice.
    """
    files = mtx_files(path)
    barcodes, barcode_notes = _read_names(files.barcodes, ["barcode"])
    features, feature_notes = _read_names(files.features, ["gene_id", "symbol", "feature_type"])
    with open_unpacked(files.matrix) as stream:
        header = read_header(stream, files.matrix)
        wells_in_rows = _wells_in_rows(header, files, features.height, barcodes.height, orientation)
        by_wells, rounded = read_entries(stream, files.matrix, header, transpose=not wells_in_rows)
    notes = [*barcode_notes, *feature_notes, *rounding_note(rounded)]
    if path.is_dir() and (others := [other.name for other in _all_mtx(path) if other != files.matrix]):
        text = f"{files.matrix.name} was read; other matrices of the folder were not: {listed(others)}"
        notes.append(Note("warning", f"{text} (name one with --from FOLDER/FILE)"))
    if wells_in_rows:
        notes.append(Note("info", f"{files.matrix.name} has wells in its rows and genes in its columns"))
    return Matrix(
        values=by_wells.T,
        row_names=features.get_column("gene_id").to_list(),
        column_names=barcodes.get_column("barcode").to_list(),
        source=SourceFile(str(files.matrix), sha256_file(files.matrix)),
        row_table=features,
        column_table=barcodes if barcodes.width > 1 else None,
        notes=tuple(notes),
        orientation="genes-by-wells",
    )


def _wells_in_rows(
    header: Header, files: MtxFolder, n_features: int, n_barcodes: int, orientation: Orientation | None
) -> bool:
    if (header.rows, header.columns) == (n_features, n_barcodes) == (n_barcodes, n_features):
        if orientation is None:
            raise DataError(
                "cannot tell which side of the matrix holds the wells",
                where=files.matrix,
                found=f"{n_features:,} genes and {n_barcodes:,} wells",
                expected="genes in the rows, as 10x writes them, or wells",
                hint="say which it is with --orientation genes-by-wells or --orientation wells-by-genes",
            )
        return orientation == "wells-by-genes"
    if (header.rows, header.columns) == (n_features, n_barcodes):
        return False
    if (header.rows, header.columns) == (n_barcodes, n_features):
        return True
    headings = (n_features - header.rows, n_barcodes - header.columns) in {(1, 0), (0, 1), (1, 1)}
    raise DataError(
        "the matrix, the features and the barcodes do not have the same size",
        where=files.matrix,
        found=f"a matrix of {header.rows:,} × {header.columns:,}; {n_features:,} lines in {files.features.name}, "
        f"{n_barcodes:,} in {files.barcodes.name}",
        expected="a feature for each row of the matrix and a barcode for each column",
        hint="these files have no header line: remove it" if headings else "are the three files from one run?",
    )


def _read_names(path: Path, names: list[str]) -> tuple[pl.DataFrame, tuple[Note, ...]]:
    """A headerless tab-separated table; columns beyond `names` are called ``column_4`` and so on."""
    text, notes = parse_text(path, lambda stream: stream.read())
    lines = text.rstrip("\n").split("\n")
    fields = [[_unquoted(field) for field in line.split("\t")] for line in lines]
    width = max(map(len, fields))
    for number, line in enumerate(fields, start=1):
        if len(line) != width or not line[0]:
            raise DataError(
                "a line has no name" if not line[0] else "a line has another number of columns than the rest",
                where=f"{path}, line {number}",
                found=f"{len(line)} columns: {lines[number - 1][:200]!r}",
                expected=f"{names[0]} first, {width} columns separated by tabs",
            )
    headings = [*names[:width], *(f"column_{i + 1}" for i in range(len(names), width))]
    columns = {heading: [line[i] for line in fields] for i, heading in enumerate(headings)}
    return pl.DataFrame(columns, schema=dict.fromkeys(headings, pl.String)), notes


def _unquoted(field: str) -> str:
    field = field.strip()
    return field[1:-1] if len(field) > 1 and field[0] == field[-1] == '"' else field


MTX = MatrixFormat("mtx", recognises_mtx, read_mtx)
