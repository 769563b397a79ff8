"""AnnData's `.h5ad`: `X` or a named layer (wells × genes), `obs` (wells) and `var` (genes)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array

from dpf.errors import DataError, listed
from dpf.files import sha256_file
from dpf.tables.formats.hdf5 import check_numeric, holds, open_hdf5, read_dense, require
from dpf.tables.matrix import Matrix, MatrixFormat
from dpf.tables.screen import Note, SourceFile
from dpf.tables.storage import let_go, new_matrix
from dpf.tables.text.encodings import rounded_in_float32, rounding_note

_PURPOSE = "reading .h5ad"
_BLOCK_CELLS = 1 << 23


def recognises_h5ad(path: Path, head: bytes) -> bool:
    """Whether `path` is an HDF5 file with ``obs`` in it (where h5py is not installed: by its suffix)."""
    return not path.is_dir() and holds(path, head, "obs", ".h5ad")


def read_h5ad(path: Path, layer: str | None = None) -> Matrix:
    """Read an AnnData file. Only what is asked for is loaded; a sparse matrix becomes dense block by block.

    Parameters
    ----------
    path
        The ``.h5ad`` file.
    layer
        The name of a layer; ``raw`` means `adata.raw` where no layer has that name; None means ``X``.

    Returns
    -------
    Matrix
        Wells × genes. `row_table` is `obs` and `column_table` is `var`, categories as text.

    Raises
    ------
    UsageError
        anndata is not installed (extra ``h5ad``).
    DataError
        There is no such layer (those there are are listed), or the file is damaged or no AnnData file.
    """
    require("anndata", "h5ad", _PURPOSE)
    with open_hdf5(path, "h5ad", _PURPOSE) as file:
        missing = [name for name in ("obs", "var") if name not in file]
        if missing:
            raise DataError(
                "not an AnnData file",
                where=path,
                found=f"an HDF5 file with {listed(list(file))}",
                expected="obs, var, X",
            )
        element, genes = _element(file, path, layer)
        obs, wells, obs_notes = _read_table(file["obs"], path)
        var, gene_names, var_notes = _read_table(genes, path)
        values, rounded = _read_values(element, path)
    return Matrix(
        values=values,
        row_names=wells,
        column_names=gene_names,
        source=SourceFile(str(path), sha256_file(path)),
        row_table=obs,
        column_table=var,
        notes=(*obs_notes, *var_notes, *rounding_note(rounded)),
        orientation="wells-by-genes",
    )


def _element(file: Any, path: Path, layer: str | None) -> tuple[Any, Any]:
    """The HDF5 object that holds the numbers, and the one that describes its genes."""
    layers = list(file["layers"]) if "layers" in file else []
    if layer in layers:
        return file["layers"][layer], file["var"]
    if layer is None and "X" in file and file["X"].attrs.get("encoding-type") != "null":
        return file["X"], file["var"]
    if layer == "raw" and "raw" in file:
        return file["raw/X"], file["raw/var"]
    others = [*layers, *(["raw"] if "raw" in file else [])]
    advice = ["name one of them with --layer"] if others else []
    advice += ["leave out --layer to read X"] if layer and "X" in file else []
    raise DataError(
        f"the file has no layer {layer!r}" if layer else "the file has no X",
        where=path,
        found=f"layers {listed(others)}" if others else "no layers",
        expected=layer or "X",
        hint=", or ".join(advice) or None,
    )


def _read_table(group: Any, path: Path) -> tuple[pl.DataFrame, list[str], tuple[Note, ...]]:
    """`obs` or `var`: the columns, the index as text, and what was odd."""
    frame = require("anndata.io", "h5ad", _PURPOSE).read_elem(group)
    if not hasattr(frame, "columns"):
        raise DataError(
            "this AnnData file has a layout from before 2019",
            where=f"{path}, {group.name}",
            found=type(frame).__name__,
            expected="a data frame",
            hint="open it with anndata and write it again: anndata.read_h5ad(old).write_h5ad(new)",
        )
    columns, as_text = {}, []
    for name in map(str, frame.columns):
        try:
            columns[name] = pl.Series(name, pl.from_pandas(frame[name]), strict=True)
        except (TypeError, ValueError, pl.exceptions.PolarsError):
            columns[name] = pl.Series(name, [None if value != value else str(value) for value in frame[name]])
            as_text.append(name)
        if columns[name].dtype in (pl.Categorical, pl.Enum):
            columns[name] = columns[name].cast(pl.String)
    text = f"{path.name}: columns of several types in {group.name} were read as text: {listed(as_text)}"
    notes = (Note("warning", text),) if as_text else ()
    return pl.DataFrame(columns), [str(value).strip() for value in frame.index], notes


def _read_values(element: Any, path: Path) -> tuple[NDArray[np.float32], int]:
    if element.attrs.get("encoding-type") not in ("csr_matrix", "csc_matrix"):
        return read_dense(element, path)
    by_rows = element.attrs["encoding-type"] == "csr_matrix"
    shape = tuple(int(side) for side in element.attrs["shape"])
    indices, data, starts = element["indices"], element["data"], element["indptr"][:]
    check_numeric(data.dtype, shape, f"{path}, {element.name}")
    if len(starts) == 0 or starts[0] != 0 or {indices.shape, data.shape} != {(int(starts[-1]),)}:
        raise _not_sparse(path, element, f"{indices.shape} indices and {data.shape} values for indptr {starts}")
    values = new_matrix(shape[0], shape[1])
    lines = values if by_rows else values.T
    step = max(1, _BLOCK_CELLS // max(1, lines.shape[1]))
    rounded = 0
    for start in range(0, len(lines), step):
        own = starts[start : start + step + 1]
        stored = slice(int(own[0]), int(own[-1]))
        try:
            block = csr_array(
                (data[stored], indices[stored], own - own[0]), (len(lines[start : start + step]), lines.shape[1])
            )
            block.check_format(full_check=True)  # SciPy's arithmetic would write wherever an index points to
        except ValueError as error:
            raise _not_sparse(path, element, str(error)) from error
        rounded += rounded_in_float32(block.data)
        lines[start : start + step] = block.toarray()
        let_go(values)
    return values, rounded


def _not_sparse(path: Path, element: Any, found: str) -> DataError:
    return DataError(
        "a sparse matrix is damaged",
        where=f"{path}, {element.name}",
        found=found,
        expected="indices within the matrix, and as many as indptr says",
        hint="copy or download the file again, and compare checksums",
    )


H5AD = MatrixFormat("h5ad", recognises_h5ad, read_h5ad)
