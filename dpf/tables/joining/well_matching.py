"""Which wells of an expression table are which rows of the table about wells."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError, count, listed
from dpf.tables.genes.names import name_genes
from dpf.tables.genes.not_genes import refuse_columns_about_wells
from dpf.tables.joining.same_names import Matching, match_names, position
from dpf.tables.matrix import Matrix, orient
from dpf.tables.options import DuplicateGenes, Orientation
from dpf.tables.roles.headings import find_column, guess_columns
from dpf.tables.roles.positions import COLUMN_HEADINGS, PLATE_HEADINGS, ROW_HEADINGS, WELL_HEADINGS
from dpf.tables.roles.well_names import row_letters
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


class WellColumn(NamedTuple):
    """What names the wells in a table: a column, or plate and well together (`columns` has both)."""

    columns: tuple[str, ...]
    texts: list[str]

    @property
    def name(self) -> str:
        """As errors and notes call it."""
        return " and ".join(self.columns)


class _Candidate(NamedTuple):
    column: WellColumn
    side: str
    names: int
    matching: Matching

    @property
    def found(self) -> int:
        return len(set(self.matching.places.values()))


def choose_well_column(
    table: Table, matrices: Sequence[Matrix], named: str | None, plate_column: str | None = None
) -> tuple[WellColumn, list[Note]]:
    """The column with the well ids, and a note where nobody named it.

    It is the one whose names, each there once, are most of the expression's. Where another column names half as many
    of these wells and other rows (a second running number), the one headed as the expression's own names are is taken,
    else the one headed as wells are; where neither decides it is refused.

    Raises
    ------
    DataError
        The column named is not there, no column shares a name with the expression tables, or several do and disagree.
    """
    _refuse_grid(table)
    if named is not None:
        name = find_column(table, named, "--well-column")
        return WellColumn((name,), table.texts(name)), []
    found = _candidates(table, matrices, plate_column)
    if not found:
        raise _no_column(table, matrices[0])
    if not any(one.found for one in found):
        raise _clash(found[0].matching, found[0].column, table, matrices[0])
    unique = [one for one in found if are_unique(one.column.texts)]
    best = max(unique or found, key=lambda one: (one.found, one.found / one.names))
    rivals = [one for one in unique if 2 * one.found >= best.found and _disagree(one, best)]
    notes = []
    if rivals:
        best = _decided([best, *rivals], table, matrices)
        others = [one.column.name for one in unique if 2 * one.found >= best.found and _disagree(one, best)]
        notes.append(Note("info", f"{table.short_name}: column {listed(others)} could name wells too (--well-column)"))
    text = f"{table.short_name}: wells are matched on column {best.column.name} ({count(best.found, 'name')} in common)"
    return best.column, [Note("info", text), *notes]


def find_well_column(table: Table, matrix: Matrix) -> tuple[WellColumn, Matching] | None:
    """The column that names the wells of `matrix`, and which they are; None where no column does.

    Raises
    ------
    DataError
        As `choose_well_column`, where several do and disagree.
    """
    _refuse_grid(table)
    if not any(are_unique(one.column.texts) for one in _candidates(table, [matrix], None)):
        return None
    column, _ = choose_well_column(table, [matrix], None)
    return column, max(_matched_sides(column.texts, matrix).values(), key=lambda matching: len(matching.places))


def _sides(matrix: Matrix) -> dict[str, list[str]]:
    """The names that could be the wells of an expression table, by the side they stand on."""
    sides: dict[str, list[str]] = {}
    if matrix.orientation != "genes-by-wells" and matrix.row_names is not None:
        sides["rows"] = matrix.row_names
    if matrix.orientation != "wells-by-genes":
        sides["columns"] = matrix.column_names
    return sides


def _candidates(table: Table, matrices: Sequence[Matrix], plate_column: str | None) -> list[_Candidate]:
    """Every column that shares names with one side of the expression tables: by rule where none does word for word."""
    sides: dict[str, list[str]] = {}
    for matrix in matrices:
        for side, names in _sides(matrix).items():
            sides[side] = list(dict.fromkeys([*sides.get(side, []), *names]))
    columns = [WellColumn((name,), table.texts(name)) for name in table.frame.columns]
    columns += _plate_and_well(table, plate_column)
    exact = []
    for column in columns:
        for side, names in sides.items():
            own = set(names)
            places = {row: 0 for row, text in enumerate(column.texts) if text in own and not is_missing_name(text)}
            exact.append((column, side, len({column.texts[row] for row in places})))
    complete = any(
        are_unique(column.texts) and shared and shared == min(len(set(column.texts) - {""}), len(sides[side]))
        for column, side, shared in exact
    )
    wanted = [(column, side) for column, side, shared in exact if shared or not complete]
    found = [_Candidate(c, side, len(sides[side]), match_names(c.texts, sides[side])) for c, side in wanted]
    return [one for one in found if one.matching.places or one.matching.clashes]


def _plate_and_well(table: Table, plate_column: str | None) -> list[WellColumn]:
    """Plate and well as one name, where wells are there once a plate and not once in all; row and column as a well."""
    plates = (
        [find_column(table, plate_column, "--plate-column")] if plate_column else guess_columns(table, PLATE_HEADINGS)
    )
    apart = _row_and_column(table)
    made = [one for one in apart if are_unique(one.texts)]
    for well in [*(WellColumn((name,), table.texts(name)) for name in guess_columns(table, WELL_HEADINGS)), *apart]:
        for plate in plates:
            both = zip(table.texts(plate), well.texts, strict=True)
            texts = ["" if is_missing_name(w) or is_missing_name(p) else f"{p}_{w}" for p, w in both]
            if not are_unique(well.texts) and are_unique(texts):
                made.append(WellColumn((plate, *well.columns), texts))
    return made


def _row_and_column(table: Table) -> list[WellColumn]:
    """Row (letters or numbers) and column as one name, where the table has both."""
    made = []
    for row in guess_columns(table, ROW_HEADINGS)[:1]:
        for column in guess_columns(table, COLUMN_HEADINGS)[:1]:
            both = list(zip(table.texts(row), table.texts(column), strict=True))
            if all(re.fullmatch(r"[A-Za-z]{1,2}|\d{1,2}", r) and re.fullmatch(r"\d{1,2}", c) for r, c in both):
                letters = [row_letters(int(r)) if r.isdecimal() else r for r, _ in both]
                made.append(WellColumn((row, column), [f"{r}{c}" for r, (_, c) in zip(letters, both, strict=True)]))
    return made


def _disagree(one: _Candidate, other: _Candidate) -> bool:
    if one.side != other.side:
        return one.column != other.column  # of one column that both sides know the orientation is asked
    places = other.matching.places
    return any(places.get(row, place) != place for row, place in one.matching.places.items())


def _decided(rivals: list[_Candidate], table: Table, matrices: Sequence[Matrix]) -> _Candidate:
    """The one of several columns that its heading, or the share of the side that it names, decides for."""
    corners = {matrix.corner.casefold() for matrix in matrices if matrix.corner}
    headed = [one for one in rivals if one.column.columns[-1].casefold() in corners and one.side == "rows"]
    if len(headed) == 1:
        return headed[0]
    if len({one.side for one in rivals}) > 1:  # genes knocked out, in a column of their own: a few of all genes
        share = sorted(rivals, key=lambda one: one.found / one.names)
        if share[-1].found / share[-1].names > 2 * share[-2].found / share[-2].names:
            return share[-1]
    likely = guess_columns(table, WELL_HEADINGS[:2])
    headed = [one for one in rivals if one.column.columns[-1] in likely]
    if len(headed) == 1 and headed[0].found == max(one.found for one in rivals):
        return headed[0]
    raise DataError(
        "several columns of the wells table name the wells of the expression table, and they disagree",
        where=f"{matrices[0].path} and {table.name}",
        found="; ".join(f"{one.column.name}: {count(one.found, 'name')} in common" for one in rivals),
        expected="one column of well names, headed as in the expression table",
        hint=f"say which it is: --well-column {quote(rivals[0].column.name)}",
    )


def _clash(matching: Matching, column: WellColumn, table: Table, matrix: Matrix) -> DataError:
    return DataError(
        "names on one side could be the same well on the other",
        where=f"{matrix.path} and {table.name}, column {column.name}",
        found=listed(matching.clashes),
        expected="one spelling a well, the same on both sides",
        hint=f"correct column {column.name}, or name another with --well-column",
    )


def _no_column(table: Table, matrix: Matrix) -> DataError:
    names = [name for side in _sides(matrix).values() for name in side]
    plates: list[set[str]] = []
    for side in ([text for name in table.frame.columns for text in table.texts(name)], names):
        plates.append({at.plate for name in side if (at := position(name)) is not None and at.plate is not None})
    hint = "names were compared as text, without case, path and ending, and by row and column: is this the right table?"
    if all(plates) and not plates[0] & plates[1]:
        hint = f"plates {listed(sorted(plates[0]), 3)} here, {listed(sorted(plates[1]), 3)} in the expression: which?"
    return DataError(
        "no column of the wells table names the wells of the expression table",
        where=f"{matrix.path} and {table.name}",
        found=f"rows {listed(matrix.row_names or [], 3)}; columns {listed(matrix.column_names, 3)}",
        expected=f"names such as {listed(table.texts(table.frame.columns[0]), 3)} ({table.frame.columns[0]})",
        hint=hint,
    )


def _refuse_grid(table: Table) -> None:
    """Refuse a map that lies as the plate lies: letters down the side, numbers along the top."""
    first, *rest = table.frame.columns
    numbers = [int(name) for name in rest if name.isdecimal()]
    letters = [text.upper() for text in table.texts(first) if text]
    in_order = numbers == list(range(1, len(numbers) + 1)) and letters == list(
        map(row_letters, range(1, len(letters) + 1))
    )
    if len(numbers) >= 3 and len(letters) >= 2 and in_order:
        raise DataError(
            "the wells table lies as the plate does, rows down the side and columns along the top",
            where=table.name,
            found=f"rows {letters[0]} to {letters[-1]}, columns 1 to {numbers[-1]}",
            expected="a list with one well a row: well, compound, ...",
            hint="turn it into a list (melt() in R or pandas, unpivot in a spreadsheet), the well being row and column",
        )


def are_unique(ids: Sequence[str]) -> bool:
    """Whether no name is there twice; missing ones do not count."""
    present = [name for name in ids if not is_missing_name(name)]
    return len(set(present)) == len(present)


def _matched_sides(texts: Sequence[str], matrix: Matrix) -> dict[str, Matching]:
    """The rows that each side of an expression table knows: by rule where no side knows all word for word."""
    present = {text for text in texts if not is_missing_name(text)}
    sides = {side: set(names) for side, names in _sides(matrix).items()}
    complete = [side for side, names in sides.items() if len(present & names) == min(len(present), len(names))]
    return {side: match_names(texts, names) for side, names in _sides(matrix).items() if side in (complete or sides)}


def match_wells(
    matrix: Matrix, table: Table, column: WellColumn, orientation: Orientation | None, policy: DuplicateGenes
) -> tuple[WellsWithExpression, list[Note]]:
    """The wells that an expression table and a table about wells have in common, and what was odd.

    Parameters
    ----------
    matrix
        As read.
    table, column
        The table about wells, and what names them there.
    orientation
        That of `matrix`, if given.
    policy
        What to do with gene names that appear more than once.

    Raises
    ------
    DataError
        The table names no rows, a well id is there twice on either side, or no well is known to both sides.
    """
    ids = column.texts
    sides = _sides(matrix)
    known = {sides[side][at] for side, found in _matched_sides(ids, matrix).items() for at in found.places.values()}
    wells = orient(matrix, known, orientation)
    if wells.row_names is None:
        raise DataError(
            "the rows of the expression table have no names to match wells by",
            where=matrix.path,
            found=f"a first column of numbers, {matrix.column_names[0]}",
            expected="a first column with well ids (or gene names, wells in the columns)",
            hint="add that column to the file",
        )
    _refuse_duplicates(table, column)
    _refuse_repeated_names(wells)
    places, rule, clashes = match_names(ids, wells.row_names)
    if clashes:
        raise _clash(Matching(places, rule, clashes), column, table, matrix)
    rows = sorted(places)
    if not rows:
        raise DataError(
            "no well of the expression table is in the wells table",
            where=f"{matrix.path} and {table.name}",
            found=f"wells {listed(wells.row_names, 3)}",
            expected=f"names such as {listed(sorted(set(ids) - {''}), 3)} (column {column.name})",
            hint="name another column with --well-column, or check --orientation",
        )
    file = Path(matrix.path).name
    refuse_columns_about_wells(wells)
    values, genes, gene_notes = name_genes(wells, policy)
    notes = list(gene_notes)
    if rule is not None:
        example = next((row for row in rows if ids[row] != wells.row_names[places[row]]), rows[0])
        text = f"{ids[example]} of {table.short_name} is {wells.row_names[places[example]]} of {file}"
        notes.append(Note("info", f"names of wells were compared {rule}: {text}"))
    matched = set(places.values())
    left_out = [name for at, name in enumerate(wells.row_names) if at not in matched]
    if left_out:
        text = f"{count(len(left_out), 'well')} not in the wells table, left out: {listed(left_out)}"
        notes.append(Note("warning", f"{file}: {text}"))
    return WellsWithExpression(values, genes, [ids[row] for row in rows], [places[row] for row in rows], rows), notes


def _refuse_duplicates(table: Table, column: WellColumn) -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for row, name in enumerate(column.texts):
        places[name].append(table.at(row))
    twice = [f"{name} ({', '.join(at)})" for name, at in places.items() if len(at) > 1 and not is_missing_name(name)]
    if twice:
        raise DataError(
            "a well id is there more than once",
            where=f"{table.name}, column {column.name}",
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
            hint="add a plate column with the names of the files, or give one --wells a --from, in the same order",
        )


def note_left_out(table: Table, column: WellColumn, rows: Sequence[int]) -> list[Note]:
    """Warnings that name the rows of a table that are not among `rows`: they have no expression, or no id."""
    ids, kept = column.texts, set(rows)
    left_out = [row for row in range(len(ids)) if row not in kept]
    named = [ids[row] for row in left_out if not is_missing_name(ids[row])]
    nameless = [table.at(row) for row in left_out if is_missing_name(ids[row])]
    notes = []
    if named:
        text = f"{table.short_name}: {count(len(named), 'well')} without expression, left out: {listed(named)}"
        notes.append(Note("warning", text))
    if nameless:
        text = f"{table.short_name}: {count(len(nameless), 'row')} without a well id, left out: {listed(nameless)}"
        notes.append(Note("warning", text))
    return notes
