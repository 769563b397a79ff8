"""Compounds under several names: spellings that are joined, and the user's own list of aliases."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from dpf.errors import DataError, count, listed
from dpf.tables.formats.reading import read_table
from dpf.tables.roles.controls import as_key, spelling_key
from dpf.tables.screen import Note

_ALL = 10_000  # names in a note: what was joined is recorded whole


def read_aliases(path: Path) -> dict[str, str]:
    """The table of aliases: what each ``name`` ``is``.

    Raises
    ------
    DataError
        The table has other columns, an empty cell, or a name that is two things.
    """
    table = read_table(path)
    headings = {as_key(column): column for column in table.frame.columns}
    if set(headings) != {"name", "is"}:
        raise DataError(
            "a table of aliases has two columns",
            where=table.name,
            found=f"columns {listed(table.frame.columns, 10)}",
            expected="name (as in the wells table) and is (the compound)",
        )
    pairs = list(zip(table.texts(headings["name"]), table.texts(headings["is"]), table.places, strict=True))
    if gaps := [place for name, other, place in pairs if not (name and other)]:
        raise DataError("an alias has an empty cell", where=gaps[0], found=listed(gaps, 5), expected="name and is")
    found: dict[str, set[str]] = defaultdict(set)
    for name, other, _ in pairs:
        found[name].add(other)
    if twice := [f"{name} is {listed(sorted(others))}" for name, others in found.items() if len(others) > 1]:
        raise DataError("an alias is two compounds", where=table.name, found=listed(twice), expected="one a name")
    return {name: other for name, other, _ in pairs}


def one_name_each(
    compounds: Sequence[str], aliases: Mapping[str, str], merge: bool, where: str
) -> tuple[Callable[[str], str], tuple[Note, ...]]:
    """What each name of a compound becomes: its alias, then the commonest of the spellings that are joined.

    Parameters
    ----------
    compounds
        The name in each of N wells.
    aliases
        From `read_aliases`; names are compared as `merge` compares them, else by `as_key`.
    merge
        Join names that have one `spelling_key`.
    where
        What errors call the table of aliases.

    Returns
    -------
    rename, notes
        A function of any name (of a control that the user gave, too); what was joined, with the numbers of wells.

    Raises
    ------
    DataError
        Aliases lead in a circle or on to a further alias, or contradict each other.
    """
    key = spelling_key if merge else as_key
    target: dict[str, str] = {}
    for name, other in aliases.items():
        if name == other or (merge and key(name) == key(other)):
            continue
        if (first := target.setdefault(key(name), other)) != other:
            raise DataError(
                "an alias is two compounds", where=where, found=f"{name} is {first} and {other}", expected="one a name"
            )
    if further := [(name, other) for name, other in target.items() if key(other) in target and key(other) != name]:
        raise DataError(
            "aliases lead to further aliases",
            where=where,
            found=listed([f"{name} is {other}, which is {target[key(other)]}" for name, other in further]),
            expected="in column is the name that the compound shall have, which is no alias itself",
            hint="write the last name of each chain; of a circle, take one name out of column name",
        )
    present = {key(name) for name in compounds}
    known = [target.get(key(name), name) for name in compounds]
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for name in known:
        spellings[key(name)][name] += 1
    commonest = {same: names.most_common(1)[0][0] for same, names in spellings.items()} if merge else {}

    def rename(name: str) -> str:
        name = target.get(key(name), name)
        return commonest.get(key(name), name)

    notes = []
    if absent := [name for name in aliases if key(name) not in present]:
        notes.append(Note("warning", f"{where}: aliases that no well has: {listed(absent)}"))
    notes += _joined("aliases", compounds, known)
    notes += _joined("names that differ in case, spaces or hyphens", known, [rename(name) for name in known])
    return rename, tuple(notes)


def _joined(what: str, before: Sequence[str], after: Sequence[str]) -> list[Note]:
    """A note of every name that became another, with its number of wells."""
    changed = Counter((old, new) for old, new in zip(before, after, strict=True) if old != new)
    if not changed:
        return []
    shown = listed([f"{old} ({n}) is {new}" for (old, new), n in changed.items()], _ALL)
    return [Note("info", f"{what}: {count(len(changed), 'name')} joined with another: {shown}")]
