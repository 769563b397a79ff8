"""Several tables about the same wells become one: a plate map here, a measured viability there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from dpf.errors import DataError, count, listed
from dpf.tables.joining.same_names import Matching, match_names, plain, position
from dpf.tables.joining.well_matching import WellColumn, are_unique, find_well_column
from dpf.tables.matrix import Matrix
from dpf.tables.screen import Note
from dpf.tables.text.cells import as_key, is_missing, is_missing_name, number
from dpf.tables.text.wells_table import Table, is_row_number


def merge_tables(tables: Sequence[Table], matrix: Matrix) -> Table:
    """One table with the columns of all, row by row where they name the same wells.

    A table that names the expression's wells is joined by these; of several the first decides which wells there are.
    One that does not is joined to it by a column that both have and that names each well once, never by one that counts
    rows. A column that stands in both with the same cells is taken once.

    Parameters
    ----------
    tables
        Tables about the wells of one expression table.
    matrix
        That expression table.

    Raises
    ------
    DataError
        No table names the expression's wells; a table shares no column of unique names with the first, or several
        that disagree; or cells of the same column differ, which shows that the join is wrong.
    """
    named = [find_well_column(table, matrix) for table in tables]
    found = [0 if one is None else len(one[1].places) for one in named]
    base_at = found.index(max(found))
    base = named[base_at]
    merged = tables[base_at]
    for at, (table, own) in enumerate(zip(tables, named, strict=True)):
        if at == base_at:
            continue
        if base is not None and own is not None:
            place = {name_at: row for row, name_at in own[1].places.items()}
            rows = {row: place[name_at] for row, name_at in base[1].places.items() if name_at in place}
            merged = _add(merged, table, rows, own[0], own[0].name, own[1].rule)
        else:
            (mine, theirs), matching = _common_column(tables[base_at], table)
            merged = _add(merged, table, matching.places, theirs, mine.name, matching.rule)
    return merged


def _add(base: Table, other: Table, row_of: dict[int, int], key: WellColumn, shown: str, rule: str | None) -> Table:
    """`base` with the columns of `other`, whose row `row_of[i]` is row i, by its column `key` and the rule of names."""
    rows = [row_of.get(row) for row in range(base.frame.height)]
    notes = [*base.notes, *other.notes]
    how = "" if rule is None else f"; names of wells were compared {rule}"
    notes.append(Note("info", f"{other.short_name} is joined to {base.short_name} on column {shown}{how}"))
    matched = set(row_of.values())
    names = enumerate(key.texts)
    unknown = [name for row, name in names if row not in matched and not is_missing_name(name)]
    if unknown:
        text = (
            f"{other.short_name}: {count(len(unknown), 'well')} not in {base.short_name}, left out: {listed(unknown)}"
        )
        notes.append(Note("warning", text))
    if None in rows:
        text = f"{other.short_name} says nothing about {count(rows.count(None), 'well')}: empty cells there"
        notes.append(Note("warning", text))
    merged = base
    for name in other.frame.columns:
        cells = other.frame.get_column(name).to_list()
        placed = ["" if row is None else cells[row] for row in rows]
        heading = next((own for own in merged.frame.columns if as_key(own) == as_key(name)), None)
        if heading is None:
            merged = merged.with_column(name, placed)
            continue
        own = merged.texts(heading)
        if is_row_number(own) or is_row_number(cells):
            notes.append(Note("info", f"column {name} of {other.short_name} counts its own rows: left out"))
            continue
        _refuse_contradiction(base, other, heading, row_of, shown)
        merged = replace(
            merged,
            frame=merged.frame.with_columns(
                merged.with_column(
                    heading, [b if is_missing(a) else a for a, b in zip(own, placed, strict=True)]
                ).frame[heading]
            ),
        )
    return replace(merged, notes=tuple(notes), sources=(*base.sources, *other.sources))


def _refuse_contradiction(base: Table, other: Table, heading: str, row_of: dict[int, int], shown: str) -> None:
    mine = base.texts(heading)
    theirs = other.texts(next(name for name in other.frame.columns if as_key(name) == as_key(heading)))
    differ = [(at, row) for at, row in row_of.items() if not _same(mine[at], theirs[row])]
    if not differ:
        return
    lines = [f"{mine[at]} ({base.at(at)}) and {theirs[row]} ({other.at(row)})" for at, row in differ]
    raise DataError(
        "two tables about wells contradict each other",
        where=f"{base.name} and {other.name}, column {heading}, joined on {shown}",
        found=f"{len(differ):,} of {count(len(row_of), 'well')}: {listed(lines, 4)}",
        expected=f"the same {heading} of a well in both",
        hint="are these the same wells? If the columns mean different things, give one of them another name",
    )


def _same(one: str, other: str) -> bool:
    """Whether two cells say the same, or one of them nothing."""
    if is_missing(one) or is_missing(other) or plain(one) == plain(other):
        return True
    value = number(one)
    if value is not None:
        return value == number(other)
    mine, theirs = position(one), position(other)
    if mine is None or theirs is None or mine[1:] != theirs[1:]:
        return False
    return mine.plate == theirs.plate or None in (mine.plate, theirs.plate)


def _common_column(base: Table, other: Table) -> tuple[tuple[WellColumn, WellColumn], Matching]:
    """What names the same wells in both tables, once each: wells, else columns of one heading, else of one content."""
    found: list[tuple[tuple[WellColumn, WellColumn], Matching, tuple[bool, bool]]] = []
    for mine in _naming_columns(base):
        for theirs in _naming_columns(other):
            headed = as_key(mine.name) == as_key(theirs.name)
            if not headed and any(number(text) is not None for text in (*mine.texts, *theirs.texts)):
                continue
            matching = match_names(mine.texts, theirs.texts)
            if matching.places and not matching.clashes:
                are_wells = all(position(text) is not None for text in mine.texts if not is_missing_name(text))
                found.append(((mine, theirs), matching, (are_wells, headed)))
    if not found:
        raise DataError(
            "two tables about wells have no column of well names in common",
            where=f"{base.name} and {other.name}",
            found=f"columns {listed(base.frame.columns)}; and {listed(other.frame.columns)}",
            expected="a column in each with the same names, each name once; a running number is none",
            hint="if they belong to different expression tables, give one --from for each --wells",
        )
    most = max(len(matching.places) for _, matching, _ in found)
    likely = [one for one in found if 2 * len(one[1].places) >= most]
    likely.sort(key=lambda one: (one[2], len(one[1].places)), reverse=True)
    for one, next_one in pairwise(likely):
        rows = one[1].places.keys() & next_one[1].places.keys()
        if any(one[1].places[row] != next_one[1].places[row] for row in rows):
            raise DataError(
                "two tables about wells can be joined in several ways, which disagree",
                where=f"{base.name} and {other.name}",
                found="; ".join(f"{one[0][0].name} with {one[0][1].name}" for one in likely),
                expected="one column of well names in both",
                hint="take the other column out of one of the tables, or give both the expression's well names",
            )
    return likely[0][0], likely[0][1]


def _naming_columns(table: Table) -> list[WellColumn]:
    """Columns that name each row once and do not count rows."""
    columns = [WellColumn((name,), table.texts(name)) for name in table.frame.columns]
    named = [column for column in columns if sum(not is_missing_name(text) for text in column.texts) > 1]
    return [column for column in named if are_unique(column.texts) and not is_row_number(column.texts)]
