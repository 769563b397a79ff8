"""Several tables about the same wells become one: a plate map here, a measured viability there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dpf.errors import DataError, count, listed
from dpf.tables.matrix import Matrix
from dpf.tables.screen import Note
from dpf.tables.text.cells import is_missing_name
from dpf.tables.text.wells_table import Table, unique_names


def merge_tables(tables: Sequence[Table], matrix: Matrix) -> Table:
    """One table with the columns of all, row by row where a column of each names the same wells.

    The table that shares most names with the expression decides which wells there are; the others add columns. A
    column that stands in both with the same cells is taken once; with others, the later one is called ``NAME.2``.

    Parameters
    ----------
    tables
        Tables about the wells of one expression table.
    matrix
        That expression table.

    Raises
    ------
    DataError
        A table shares no column of unique names with the first, so that its rows cannot be placed.
    """
    names = {*(matrix.row_names or []), *matrix.column_names}
    shared = [max((len(names & set(t.texts(column))) for column in t.frame.columns), default=0) for t in tables]
    base_at = shared.index(max(shared))
    merged = tables[base_at]
    for at, table in enumerate(tables):
        if at != base_at:
            merged = _add(merged, table)
    return merged


def _add(base: Table, other: Table) -> Table:
    mine, theirs = _common_column(base, other)
    row_of = {name: row for row, name in enumerate(other.texts(theirs)) if not is_missing_name(name)}
    rows = [row_of.get(name) for name in base.texts(mine)]
    found = {row for row in rows if row is not None}
    notes = [*base.notes, *other.notes]
    notes.append(Note("info", f"{other.short_name} is joined to {base.short_name} on column {mine}"))
    unknown = [name for name, row in row_of.items() if row not in found]
    if unknown:
        names = f"{base.short_name}, left out: {listed(unknown)}"
        notes.append(Note("warning", f"{other.short_name}: {count(len(unknown), 'well')} not in {names}"))
    if None in rows:
        text = f"{other.short_name} says nothing about {count(rows.count(None), 'well')}: empty cells there"
        notes.append(Note("warning", text))
    merged = base
    for name in other.frame.columns:
        cells = other.frame.get_column(name).to_list()
        placed = ["" if row is None else cells[row] for row in rows]
        if name in merged.frame.columns:
            own = merged.texts(name)
            if all(row is None or cell.strip() == mine for cell, mine, row in zip(placed, own, rows, strict=True)):
                continue
            new = unique_names([*merged.frame.columns, name])[-1]
            notes.append(Note("warning", f"column {name} of {other.short_name} has other cells: called {new}"))
            merged = merged.with_column(new, placed)
        elif name != theirs:
            merged = merged.with_column(name, placed)
    return replace(merged, notes=tuple(notes), sources=(*base.sources, *other.sources))


def _common_column(base: Table, other: Table) -> tuple[str, str]:
    """The columns, one of each table, that name wells once each and share most names."""
    best, columns = 0, ("", "")
    for mine in _unique_columns(base):
        for theirs in _unique_columns(other):
            shared = len(set(base.texts(mine)) & set(other.texts(theirs)) - {""})
            if shared > best:
                best, columns = shared, (mine, theirs)
    if best:
        return columns
    raise DataError(
        "two tables about wells have no column of well names in common",
        where=f"{base.name} and {other.name}",
        found=f"columns {listed(base.frame.columns)}; and {listed(other.frame.columns)}",
        expected="a column in each with the same names, each name once",
        hint="if they belong to different expression tables, give one --from for each --wells",
    )


def _unique_columns(table: Table) -> list[str]:
    unique = []
    for name in table.frame.columns:
        present = [text for text in table.texts(name) if not is_missing_name(text)]
        if len(set(present)) == len(present):
            unique.append(name)
    return unique
