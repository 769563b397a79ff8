"""GCTX: genes × wells in HDF5, with the metadata of both inside, as the Connectivity Map publishes large tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpf.errors import DataError, listed
from dpf.files import sha256_file
from dpf.tables.formats.gct import metadata, missing_note
from dpf.tables.formats.hdf5 import holds, open_hdf5, read_dense
from dpf.tables.matrix import Matrix, MatrixFormat
from dpf.tables.screen import Note, SourceFile
from dpf.tables.text.encodings import decode, rounding_note


def recognises_gctx(path: Path, head: bytes) -> bool:
    """Whether `path` is an HDF5 file with GCTX's group ``0`` (where h5py is not installed: by its suffix)."""
    return not path.is_dir() and holds(path, head, "0", ".gctx")


def read_gctx(path: Path) -> Matrix:
    """Read a GCTX file (GCTX 1.0: Enache et al., Bioinformatics 2019, doi:10.1093/bioinformatics/bty784).

    Metadata are understood as `read_gct` does: -666 and empty text are missing.

    Parameters
    ----------
    path
        The file. Numbers are taken from ``/0/DATA/0/matrix``, metadata from ``/0/META/ROW`` and ``/0/META/COL``.

    Returns
    -------
    Matrix
        Genes × wells (a view of a C-ordered wells × genes array, which is how the file has it).

    Raises
    ------
    UsageError
        h5py is not installed (extra ``gctx``).
    DataError
        The file is damaged, is no GCTX file, or its metadata are not as long as its matrix.
    """
    with open_hdf5(path, "gctx", "reading GCTX") as file:
        needed = ("0/DATA/0/matrix", "0/META/ROW/id", "0/META/COL/id")
        if absent := [name for name in needed if name not in file]:
            raise DataError("not a GCTX file", where=path, found=f"no {listed(absent)}", expected=listed(needed),
                            hint="is this the right file?")  # fmt: skip
        by_wells, rounded = read_dense(file["0/DATA/0/matrix"], path)
        genes, gene_notes = _read_metadata(file["0/META/ROW"], by_wells.shape[1], path)
        wells, well_notes = _read_metadata(file["0/META/COL"], by_wells.shape[0], path)
    gene_names, well_names = ([str(value).strip() for value in table.pop("id")] for table in (genes, wells))
    (row_table, row_missing), (column_table, column_missing) = metadata(genes), metadata(wells)
    notes = (*gene_notes, *well_notes, *rounding_note(rounded), *missing_note(path, row_missing + column_missing))
    return Matrix(
        values=by_wells.T,
        row_names=gene_names,
        column_names=well_names,
        source=SourceFile(str(path), sha256_file(path)),
        row_table=row_table,
        column_table=column_table,
        notes=tuple(dict.fromkeys(notes)),
        orientation="genes-by-wells",
    )


def _read_metadata(group: Any, length: int, path: Path) -> tuple[dict[str, list[Any]], tuple[Note, ...]]:
    table: dict[str, list[Any]] = {}
    notes: tuple[Note, ...] = ()
    for name in group:
        shape, kind = (getattr(group[name], part, None) for part in ("shape", "dtype"))
        if kind is None or shape != (length,) or kind.kind not in "biufSUO":
            raise DataError(
                "the metadata of a GCTX file are no column as long as its matrix",
                where=f"{path}, {group.name}/{name}",
                found="a group" if kind is None else f"type {kind}, shape {shape}",
                expected=f"{length:,} numbers or texts",
                hint="write the file again with the program that made it",
            )
        values = group[name][()]
        table[name] = values.tolist()
        if values.dtype.kind in "SO":
            decoded = [decode(value, path) if isinstance(value, bytes) else (value, ()) for value in values]
            table[name] = [text.strip() for text, _ in decoded]
            notes += tuple(note for _, more in decoded for note in more)
    return table, notes


GCTX = MatrixFormat("gctx", recognises_gctx, read_gctx)
