"""Which wells of an expression table are which rows of the table about wells."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError, count, listed
from dpf.tables.genes.names import name_genes
from dpf.tables.matrix import Matrix, orient
from dpf.tables.options import DuplicateGenes, Orientation
from dpf.tables.roles.headings import find_column
from dpf.tables.screen import Note
from dpf.tables.text.cells import is_missing_name
from dpf.tables.text.wells_table import Table


class WellsWithExpression(NamedTuple):
    """The wells of one expression table that the table about wells knows.

    `values` is wells × genes with every well of the file; `ids` are the wells that both sides know, `positions` their
    rows in `values`, `rows` their rows in the table about wells.
    """

    values: NDArray[np.float32]
    genes: pl.DataFrame
    ids: list[str]
    positions: list[int]
    rows: list[int]


def choose_well_column(table: Table, matrices: Sequence[Matrix], named: str | None) -> tuple[str, list[Note]]:
    """The column with the well ids, and a note where nobody named it: the one that shares most names.

    Raises
    ------
    DataError
        The column named is not there, or no column shares a name with the expression tables.
    """
    if named is not None:
        return find_column(table, named, "--well-column"), []
    names: set[str] = set()
    for matrix in matrices:
        if matrix.orientation != "genes-by-wells":
            names.update(matrix.row_names or [])
        if matrix.orientation != "wells-by-genes":
            names.update(matrix.column_names)
    shared = {column: len(names & set(table.texts(column)) - {""}) for column in table.frame.columns}
    most = max(shared.values())
    # A table of genes knocked out names genes in one of its columns; wells are named once each.
    unique = [column for column in shared if 2 * shared[column] >= most and _are_unique(table.texts(column))]
    best = max(unique or list(shared), key=lambda column: shared[column])
    if shared[best] == 0:
        raise DataError(
            "no column of the wells table names the wells of the expression table",
            where=f"{matrices[0].path} and {table.name}",
            found=f"rows {listed(matrices[0].row_names or [], 3)}; columns {listed(matrices[0].column_names, 3)}",
            expected=f"names such as {listed(table.texts(table.frame.columns[0]), 3)} ({table.frame.columns[0]})",
            hint="the same spelling on both sides: A1 is not A01. Is this the right wells table?",
        )
    text = f"{table.short_name}: wells are matched on column {best} ({count(shared[best], 'name')} in common)"
    return best, [Note("info", text)]


def _are_unique(ids: list[str]) -> bool:
    present = [name for name in ids if not is_missing_name(name)]
    return len(set(present)) == len(present)


def match_wells(
    matrix: Matrix, table: Table, column: str, orientation: Orientation | None, policy: DuplicateGenes
) -> tuple[WellsWithExpression, list[Note]]:
    """The wells that an expression table and a table about wells have in common, and what was odd.

    Parameters
    ----------
    matrix
        As read.
    table, column
        The table about wells, and its column with their ids.
    orientation
        What the user said about `matrix`.
    policy
        What to do with gene names that appear more than once.

    Raises
    ------
    DataError
        The table names no rows, a well id is there twice on either side, or no well is known to both sides.
    """
    ids = table.texts(column)
    known = {name for name in ids if not is_missing_name(name)}
    wells = orient(matrix, known, orientation)
    if wells.row_names is None:
        raise DataError(
            "the rows of the expression table have no names to match wells by",
            where=matrix.path,
            found=f"a first column of numbers, {matrix.column_names[0]}",
            expected="a first column with well ids (or gene names, wells in the columns)",
            hint="add that column to the file",
        )
    _refuse_duplicates(table, column, ids)
    _refuse_repeated_names(wells)
    position = {name: at for at, name in enumerate(wells.row_names)}
    rows = [row for row, name in enumerate(ids) if name in position and name in known]
    if not rows:
        raise DataError(
            "no well of the expression table is in the wells table",
            where=f"{matrix.path} and {table.name}",
            found=f"wells {listed(wells.row_names, 3)}",
            expected=f"names such as {listed(sorted(known), 3)} (column {column})",
            hint="name another column with --well-column, or check --orientation",
        )
    values, genes, notes = name_genes(wells, policy)
    left_out = [name for name in wells.row_names if name not in known]
    if left_out:
        text = f"{count(len(left_out), 'well')} not in the wells table, left out: {listed(left_out)}"
        text = f"{Path(matrix.path).name}: {text}"
        notes = (*notes, Note("warning", text))
    part = WellsWithExpression(values, genes, [ids[row] for row in rows], [position[ids[row]] for row in rows], rows)
    return part, list(notes)


def _refuse_duplicates(table: Table, column: str, ids: list[str]) -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for name, place in zip(ids, table.places, strict=True):
        places[name].append(place.rsplit(", ", 1)[-1])
    twice = [f"{name} ({', '.join(at)})" for name, at in places.items() if len(at) > 1 and not is_missing_name(name)]
    if twice:
        raise DataError(
            "a well id is there more than once",
            where=f"{table.name}, column {column}",
            found=listed(twice),
            expected="one row a well",
            hint="if these are several plates, use ids that say so, or give one --from and --wells a plate",
        )


def _refuse_repeated_names(wells: Matrix) -> None:
    names = wells.row_names or []
    if len(set(names)) == len(names):
        return
    places: dict[str, list[int]] = defaultdict(list)
    for number, name in enumerate(names, 1):
        places[name].append(number)
    twice = [f"{name!r} (wells {', '.join(map(str, at))})" for name, at in places.items() if len(at) > 1]
    raise DataError(
        "a well id is there more than once in the expression table",
        where=wells.path,
        found=listed(twice),
        expected="unique well ids",
        hint="rename or remove the repeated wells",
    )


def refuse_wells_in_two_files(parts: Sequence[WellsWithExpression]) -> None:
    """Raise DataError when two expression tables claim the same row of their one table about wells."""
    rows = Counter(row for part in parts for row in part.rows)
    named = dict(pair for part in parts for pair in zip(part.rows, part.ids, strict=True))
    twice = [named[row] for row, times in rows.items() if times > 1]
    if twice:
        raise DataError(
            "several expression tables hold a well of the same name, and one wells table cannot tell them apart",
            found=listed(twice),
            hint="give one --wells a --from, in the same order",
        )


def note_left_out(table: Table, column: str, rows: Sequence[int]) -> list[Note]:
    """Warnings that name the rows of a table that are not among `rows`: they have no expression, or no id."""
    ids, kept = table.texts(column), set(rows)
    left_out = [row for row in range(len(ids)) if row not in kept]
    named = [ids[row] for row in left_out if not is_missing_name(ids[row])]
    nameless = [table.places[row].rsplit(", ", 1)[-1] for row in left_out if is_missing_name(ids[row])]
    notes = []
    if named:
        text = f"{table.short_name}: {count(len(named), 'well')} without expression, left out: {listed(named)}"
        notes.append(Note("warning", text))
    if nameless:
        text = f"{table.short_name}: {count(len(nameless), 'row')} without a well id, left out: {listed(nameless)}"
        notes.append(Note("warning", text))
    return notes
