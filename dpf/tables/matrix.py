"""A table of numbers with names on both sides, as a file holds it: what every reader of expression returns.

A reader fills in what its format knows and nothing else. Which side holds the wells is settled afterwards, by
`orient`: from the user's word, else from the format, else from the ids of the wells table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError, UsageError, listed
from dpf.tables.options import Orientation
from dpf.tables.screen import Note, SourceFile
from dpf.tables.storage import is_in_file, let_go, new_matrix, wells_in_blocks

Floats = NDArray[np.float64]

_BLOCK_CELLS = 1 << 22


def select_rows(values: NDArray[np.float32], rows: Sequence[int] | NDArray[np.intp]) -> NDArray[np.float32]:
    """``values[rows]``, written over the first rows of `values` itself.

    Parameters
    ----------
    values
        Array of shape (N, G), in any memory order; its contents are lost.
    rows
        At most N different row numbers, in any order.

    Returns
    -------
    ndarray of shape (len(rows), G)
        A view of `values`; a new matrix, where it lies in a file well by well.
    """
    chosen = np.asarray(rows, dtype=np.intp)
    selected = values[: len(chosen)]
    if (chosen == np.arange(len(chosen))).all():
        return selected
    if is_in_file(values) and values.strides[0] > values.strides[1]:  # a few columns of all wells are the whole file
        selected = new_matrix(len(chosen), values.shape[1])
        for block in wells_in_blocks(selected):
            selected[block] = values[chosen[block]]
            let_go(values)
        return selected
    step = max(1, _BLOCK_CELLS // max(1, len(values)))
    for start in range(0, values.shape[1], step):
        block = slice(start, start + step)
        selected[:, block] = values[:, block][chosen]
        let_go(values)
    return selected


def select_columns(values: NDArray[np.float32], columns: NDArray[np.bool_]) -> NDArray[np.float32]:
    """``values[:, columns]``, written over the first columns of `values` itself.

    Parameters
    ----------
    values
        Array of shape (N, G), in any memory order; its contents are lost.
    columns
        Boolean array of shape (G,): the K columns to keep.

    Returns
    -------
    ndarray of shape (N, K)
        A view of `values`.
    """
    if columns.all():
        return values
    selected = values[:, : int(columns.sum())]
    step = max(1, _BLOCK_CELLS // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        block = slice(start, start + step)
        selected[block] = values[block][:, columns]
        let_go(values)
    return selected


def take_columns(values: NDArray[np.float32], columns: Sequence[int] | NDArray[np.intp]) -> NDArray[np.float32]:
    """``values[:, columns]`` of an array of shape (N, G), as a new matrix (`dpf.tables.storage.new_matrix`)."""
    taken = new_matrix(len(values), len(columns))
    for wells in wells_in_blocks(values):
        taken[wells] = values[wells][:, columns]
        let_go(taken)
    return taken


def gene_moments(expression: NDArray[np.float32], wells: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Mean and population standard deviation of G genes over some of N wells, float64; `wells` has shape (N,)."""
    parts = [part for part in wells_in_blocks(expression) if wells[part].any()]
    number = max(1, int(wells.sum()))

    def mean_of(number_of: Callable[[NDArray[np.float32]], NDArray[np.floating]]) -> Floats:
        total = np.zeros(expression.shape[1])
        for part in parts:
            total += number_of(expression[part][wells[part]]).sum(0, dtype=np.float64)
            let_go(expression)
        return total / number

    def squares(rows: NDArray[np.float32]) -> Floats:
        deviations = rows - mean
        return np.square(deviations, out=deviations)

    mean = mean_of(lambda rows: rows)
    return mean, np.sqrt(mean_of(squares))


@dataclass(frozen=True)
class Matrix:
    """Numbers with names, in the orientation of the file.

    Attributes
    ----------
    values
        float32 array of shape (rows, columns). A cell the file marks as missing is NaN: readers do not judge it.
    row_names
        One a row, as in the file, surrounding space stripped; None where the file names no rows (the classic layout).
    column_names
        One a column, as in the file, surrounding space stripped. Neither side need be unique here.
    corner
        The heading above the row names (``gene``, ``HUGO``), or None.
    row_table, column_table
        What the file says about its rows and columns, one row each in the order of `values`, with the file's own
        column names; None where it says nothing (a table without columns becomes None). For genes, `gene_id` and
        `symbol` are understood where they stand.
    notes
        What was odd about the file.
    source
        The file, for provenance.
    orientation
        Which side holds the wells, where the format fixes it (h5ad, 10x, GCT); None where it does not (CSV).
    """

    values: NDArray[np.float32]
    row_names: list[str] | None
    column_names: list[str]
    source: SourceFile
    corner: str | None = None
    row_table: pl.DataFrame | None = None
    column_table: pl.DataFrame | None = None
    notes: tuple[Note, ...] = ()
    orientation: Orientation | None = None

    def __post_init__(self) -> None:
        """Refuse names or tables that are not as long as the side they describe: a reader's bug, not the user's."""
        rows, columns = self.values.shape
        for name in ("row_table", "column_table"):
            table: pl.DataFrame | None = getattr(self, name)
            if table is not None and table.width == 0:  # a frame without columns forgets its height
                object.__setattr__(self, name, None)
        sides = [
            ("row_names", None if self.row_names is None else len(self.row_names), rows),
            ("column_names", len(self.column_names), columns),
            ("row_table", None if self.row_table is None else self.row_table.height, rows),
            ("column_table", None if self.column_table is None else self.column_table.height, columns),
        ]
        for name, found, expected in sides:
            if found is not None and found != expected:
                raise ValueError(f"{name} has {found} entries for {expected} rows or columns of {self.source.path}")

    @property
    def path(self) -> str:
        """The file, as text for an error's `where`."""
        return self.source.path

    def transposed(self) -> Matrix:
        """The same table with rows and columns exchanged; the numbers are a view, not a copy.

        Raises
        ------
        ValueError
            The rows have no names, so they cannot become columns.
        """
        if self.row_names is None:
            raise ValueError("a table without row names cannot be transposed")
        flipped: dict[Orientation | None, Orientation | None] = {
            None: None,
            "wells-by-genes": "genes-by-wells",
            "genes-by-wells": "wells-by-genes",
        }
        return replace(
            self,
            values=self.values.T,
            row_names=self.column_names,
            column_names=self.row_names,
            row_table=self.column_table,
            column_table=self.row_table,
            orientation=flipped[self.orientation],
        )


class MatrixFormat(NamedTuple):
    """A kind of file that a reader knows.

    Attributes
    ----------
    name
        As a user names it: ``gct``, ``mtx``.
    recognises
        Says from the path (a file or a folder) and the first bytes, unpacked if they were gzip (empty for a folder),
        whether this reader should have it.
    read
        Reads it, raising DataError on anything wrong.
    """

    name: str
    recognises: Callable[[Path, bytes], bool]
    read: Callable[[Path], Matrix]


def orient(
    matrix: Matrix,
    well_ids: Set[str] | None,
    orientation: Orientation | None = None,
    *,
    genes: Set[str] | None = None,
) -> Matrix:
    """The table with one row a well and one column a gene.

    The user's `orientation` decides where it is given, else the one the format fixes, else the orientation in which
    more names are where they belong: well ids on the side of the wells, known genes on the side of the genes. A
    table without row names has wells in its rows.

    Parameters
    ----------
    matrix
        As read.
    well_ids
        The ids of the wells table; None where there is no such table.
    orientation
        What the user gave (``--orientation``).
    genes
        Genes that are known to be in the table, such as those of a model; None where none are.

    Raises
    ------
    UsageError
        The table names no rows, and the orientation given has genes in them.
    DataError
        The names decide nothing: none is known, or as many are for one orientation as for the other.
    """
    chosen = orientation or matrix.orientation
    if matrix.row_names is None:
        if chosen == "genes-by-wells":
            raise UsageError(
                "the rows of this table have no names, so they cannot be genes",
                where=matrix.path,
                expected="a first column with gene names",
                hint="leave out --orientation, or add the gene names to the file",
            )
        return replace(matrix, orientation="wells-by-genes")
    chosen = chosen or _by_overlap(matrix, matrix.row_names, well_ids or set(), genes or set())
    as_read = replace(matrix, orientation=chosen)
    return as_read if chosen == "wells-by-genes" else as_read.transposed()


def _by_overlap(matrix: Matrix, row_names: list[str], well_ids: Set[str], genes: Set[str]) -> Orientation:
    rows, columns = set(row_names), set(matrix.column_names)
    wells_in_rows = len(well_ids & rows) + len(genes & columns)
    wells_in_columns = len(well_ids & columns) + len(genes & rows)
    if wells_in_rows != wells_in_columns:
        return "wells-by-genes" if wells_in_rows > wells_in_columns else "genes-by-wells"
    known = [f"wells {listed(sorted(well_ids), 3)}"] if well_ids else []
    known += [f"genes {listed(sorted(genes), 3)}"] if genes else []
    raise DataError(
        "cannot tell which side of the table holds the wells",
        where=matrix.path,
        found=f"rows {listed(row_names, 3)}; columns {listed(matrix.column_names, 3)}; "
        + (f"{wells_in_rows:,} known names speak for either" if wells_in_rows else "none of these names is known"),
        expected=" and ".join(known) or None,
        hint="say which it is with --orientation wells-by-genes or --orientation genes-by-wells",
    )
