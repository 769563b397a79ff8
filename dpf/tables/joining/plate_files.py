"""Which plate of a table about wells is which expression file, by the names of the files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from dpf.errors import DataError, listed
from dpf.tables.joining.same_names import as_r_writes, position
from dpf.tables.joining.well_matching import are_unique
from dpf.tables.matrix import Matrix
from dpf.tables.roles.headings import guess_columns, named_or_headed
from dpf.tables.roles.positions import PLATE_HEADINGS, WELL_HEADINGS
from dpf.tables.screen import Note
from dpf.tables.text.cells import is_missing_name
from dpf.tables.text.wells_table import Table

#: Words with a number behind them that say nothing about a plate.
_NO_PLATES = frozenset({"v", "ver", "version", "rev", "draft", "final", "copy"})


def tables_by_plate(
    table: Table, matrices: Sequence[Matrix], labels: Sequence[str], plate_column: str | None, well_column: str | None
) -> list[Table]:
    """One table a file, in the order of the files, from one with a plate column and wells of the same names on each.

    The table itself, alone, where its wells need no plate to tell them apart.

    Raises
    ------
    DataError
        The plate of a file is not clear, or two files have one.
    """
    wells = named_or_headed(table, well_column, "--well-column", WELL_HEADINGS)
    plates = named_or_headed(table, plate_column, "--plate-column", PLATE_HEADINGS)
    repeated = [well for well in wells if not are_unique(table.texts(well))]
    if not repeated or not plates or len(wells) > len(repeated) or (len(matrices) == 1 and _names_plates(matrices[0])):
        return [table]
    names = _names_of_files(matrices, labels)
    for plate in plates:
        texts = table.texts(plate)
        values = [value for value in dict.fromkeys(texts) if not is_missing_name(value)]
        of_file = [[value for value in values if any(_is_named(value, name) for name in file)] for file in names]
        chosen = [max(found, key=len) if found else None for found in of_file]
        if None not in chosen and len(set(chosen)) == len(chosen):
            return [table.take([row for row, value in enumerate(texts) if value == own]) for own in chosen]
    if len(matrices) == 1:
        return [table]
    raise DataError(
        "which plate of the wells table is which expression file is not clear",
        where=f"{table.name}, column {plates[0]}",
        found=f"plates {listed(list(dict.fromkeys(table.texts(plates[0]))), 8)}; files {listed(list(labels), 8)}",
        expected="files named after their plates",
        hint="rename the files, or split the table and give one --wells a --from, in the same order",
    )


def refuse_other_order(matrices: Sequence[Matrix], tables: Sequence[Table], labels: Sequence[str]) -> None:
    """Raise where the names of the files, or a plate column, say that a table belongs to another file than its own.

    Raises
    ------
    DataError
        The order of ``--wells`` is another than that of ``--from``.
    """
    ours = _distinct_parts([Path(matrix.path) for matrix in matrices])
    theirs = _distinct_parts([Path(table.sources[0].path) for table in tables])
    if ours and theirs and sorted(ours) == sorted(theirs) and ours != theirs:
        found = "; ".join(f"{m.path} with {t.short_name}" for m, t in zip(matrices, tables, strict=True))
        raise _other_order(found, "file names that go together")
    names = _names_of_files(matrices, labels)
    for at, table in enumerate(tables):
        for column in guess_columns(table, PLATE_HEADINGS):
            values = {value for value in table.texts(column) if not is_missing_name(value)}
            if len(values) != 1:
                continue
            plate = values.pop()
            files = [number for number, own in enumerate(names) if any(_is_named(plate, name) for name in own)]
            if files and at not in files:
                found = f"plate {plate} in {table.short_name}, which is given with {matrices[at].path}"
                raise _other_order(found, f"{matrices[files[0]].path}, which is named so")


def note_other_plate(matrix: Matrix, table: Table) -> tuple[Note, ...]:
    """A warning where one file's name, or its plate column, has another number than the other's name in one place.

    ``plate1_counts.csv`` with ``plate2_map.csv``, or with a column ``plate`` that has plate2 throughout.
    """
    file = Path(matrix.path)
    ours = _numbered(file.name)
    others = [(_numbered(Path(source.path).name), Path(source.path).name) for source in table.sources]
    for column in guess_columns(table, PLATE_HEADINGS):
        values = {value for value in table.texts(column) if not is_missing_name(value)}
        if not any(_is_named(value, file.name) for value in values):
            others += [(_numbered(value), f"{column} {value} of {table.short_name}") for value in sorted(values)[:1]]
    for words, what in others:
        if any(ours[word] != number for word, number in words.items() if word in ours):
            return (Note("warning", f"{file.name} is joined with {what}: is that the same plate?"),)
    return ()


def _numbered(name: str) -> dict[str, int]:
    """The numbers behind the words of a name that could count plates: ``plate`` 1, ``GSM`` 4712."""
    if name.isdecimal():
        return dict.fromkeys(("plate", "p", "pl"), int(name))
    found = re.findall(r"(?i)(?<![a-z])([a-z]+)[-_. ]?0*(\d+)(?!\d)", re.sub(r"(\.[A-Za-z]\w*)+$", "", name))
    return {word.casefold(): int(number) for word, number in found if word.casefold() not in _NO_PLATES}


def _names_plates(matrix: Matrix) -> bool:
    """Whether the names on one side of an expression table are wells with their plates."""
    sides = [[position(name) for name in names] for names in (matrix.row_names or [], matrix.column_names)]
    return any(2 * sum(at is not None and at.plate is not None for at in side) > len(side) for side in sides)


def _other_order(found: str, expected: str) -> DataError:
    return DataError(
        "the wells tables seem to stand in another order than the expression tables",
        found=found,
        expected=expected,
        hint="give --wells in the order of --from; if this is the right order, rename the files",
    )


def _names_of_files(matrices: Sequence[Matrix], labels: Sequence[str]) -> list[tuple[str, ...]]:
    """What each file may be called by: its label, its own name, and its folder's where that tells it from others."""
    parents = [Path(matrix.path).resolve().parent.name for matrix in matrices]
    told_apart = len(set(parents)) == len(parents)
    named = zip(labels, matrices, parents, strict=True)
    return [(label, Path(matrix.path).name, *([parent] if told_apart else [])) for label, matrix, parent in named]


def _is_named(plate: str, name: str) -> bool:
    """Whether a file's name has a plate's in it, as whole words: ``P1`` in ``P1_counts.csv``; ``1`` in ``plate-1``."""
    wanted, words = as_r_writes(plate).strip("."), as_r_writes(name)
    return re.search(rf"(^|[.]){re.escape(wanted)}([.]|$)", words) is not None or (
        wanted.isdecimal() and re.search(rf"(^|[.])(plate|p|pl)[.]?0*{int(wanted)}([.]|$)", words) is not None
    )


def _distinct_parts(paths: Sequence[Path]) -> list[str]:
    """What is left of file names without what all begin and end with; empty where that tells none apart.

    A number is never cut: of ``plate1`` and ``plate12`` it is ``1`` and ``12``.
    """
    names = [re.sub(r"(\.[A-Za-z][A-Za-z0-9]*)+$", "", path.name).casefold() for path in paths]
    if len(set(names)) < len(names) or len(names) < 2:
        return []
    start = _shared_start(names)
    while start and names[0][start - 1].isdecimal():
        start -= 1
    rest = [name[start:] for name in names]
    end = _shared_start([name[::-1] for name in rest])
    while end and rest[0][len(rest[0]) - end].isdecimal():
        end -= 1
    return [name[: len(name) - end].strip("-_. ") for name in rest]


def _shared_start(names: Sequence[str]) -> int:
    """How many letters all names begin with."""
    return sum(1 for _ in takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False)))
