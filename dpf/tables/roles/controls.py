"""Compounds and controls: which wells are controls, and which spellings should make a user look twice."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from dpf.errors import DataError, count, listed
from dpf.tables.screen import Note
from dpf.tables.text.cells import is_missing, is_missing_name, truth
from dpf.tables.text.wells_table import Table

#: What wells without cells are called, whatever the case.
EMPTY_WELLS = frozenset(
    {"empty", "empty well", "blank", "no cells", "no cell", "no_cells", "nocells", "cell-free", "cell free", "unused"}
)

#: The control where the user names none.
DEFAULT_CONTROL = "DMSO"

_HYPHENS = r"[\s\-\u2010-\u2015\u2212_]+"
_BETWEEN_DIGITS = re.compile(rf"(?<=\d){_HYPHENS}(?=\d)")
_JOINT = re.compile(_HYPHENS)
_LIKE_CONTROLS = ("dmso", "vehicle", "control", "untreated", "mock")


def as_key(name: str) -> str:
    """The same for names that differ in case, surrounding space or the encoding of a letter only."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def spelling_key(name: str) -> str:
    """The same for names that differ in case, spaces or hyphens only; what parts two numbers (``1-2``) is kept."""
    return _JOINT.sub("", _BETWEEN_DIGITS.sub("/", as_key(name)))


def read_compounds(table: Table, column: str) -> tuple[list[str], tuple[Note, ...]]:
    """The compound of every well, surrounding space stripped, and what was stripped.

    Raises
    ------
    DataError
        A well has no compound.
    """
    raw = table.frame.get_column(column).to_list()
    nameless = [place for place, text in zip(table.places, raw, strict=True) if is_missing_name(text)]
    if nameless:
        raise DataError(
            "wells have no compound",
            where=f"{table.name}, column {column}",
            found=f"{len(nameless):,} empty cells: {listed([place.rsplit(', ', 1)[-1] for place in nameless])}",
            expected="a name in every well",
            hint="write what is in them (empty, medium), or take these rows out of the wells table",
        )
    compounds = [text.strip() for text in raw]
    notes = []
    stripped = sorted({text for text in raw if text != text.strip()})
    if stripped:
        shown = listed([repr(text) for text in stripped], 5)
        text = f"surrounding space was taken off {count(len(stripped), 'compound name')}: {shown}"
        notes.append(Note("info", text))
    return compounds, tuple(notes)


def kept_apart(compounds: Sequence[str]) -> tuple[Note, ...]:
    """A warning about names that have one `spelling_key`: only the user knows whether they are one compound."""
    several = spelled_in_several_ways(compounds, spelling_key)
    if not several:
        return ()
    text = f"{count(len(several), 'compound')} spelled in several ways, kept apart: {listed(several, 20)}"
    return (Note("warning", f"{text}; --merge-names joins them"),)


def spelled_in_several_ways(names: Sequence[str], key: Callable[[str], str]) -> list[str]:
    """Names that have one `key`, with counts: ``A (2) / a (1)``."""
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for name in names:
        spellings[key(name)][name] += 1
    return [_counted(counts.most_common()) for counts in spellings.values() if len(counts) > 1]


def _counted(spellings: Sequence[tuple[str, int]]) -> str:
    return " / ".join(f"{name} ({times})" for name, times in spellings)


def find_controls(compounds: Sequence[str], controls: Sequence[str], where: str) -> tuple[list[bool], tuple[Note, ...]]:
    """Which wells are controls: their compound is one of `controls`, whatever its case.

    Parameters
    ----------
    compounds
        The compound of each of N wells.
    controls
        Names the user gave; none means DMSO.
    where
        File and column, for errors.

    Returns
    -------
    is_control, notes
        N truth values; warnings about compounds that look like controls and were not taken, and about controls that
        are spelled in several ways.

    Raises
    ------
    DataError
        No well holds one of the controls.
    """
    wanted = {as_key(name): name for name in controls or (DEFAULT_CONTROL,)}
    counts = Counter(compounds)
    present = {as_key(name) for name in counts}
    absent = [name for key, name in wanted.items() if key not in present]
    if absent:
        raise _no_control(absent, counts, where)
    is_control = [as_key(name) in wanted for name in compounds]
    notes = []
    taken = [name for name, control in zip(compounds, is_control, strict=True) if control]
    if several := spelled_in_several_ways(taken, as_key):
        notes.append(Note("warning", f"spelled in several ways, all taken as controls: {listed(several)}"))
    alike = [(name, n) for name, n in counts.most_common() if as_key(name) not in wanted and _looks_like_control(name)]
    if alike:
        text = f"not taken as controls, though they look like it: {listed([f'{name} ({n})' for name, n in alike])}"
        notes.append(Note("warning", text))
    if sum(is_control) == 1:
        notes.append(Note("warning", "there is one control well only: how much controls vary cannot be known"))
    return is_control, tuple(notes)


def read_flags(table: Table, column: str, compounds: Sequence[str]) -> tuple[list[bool], tuple[Note, ...]]:
    """Which wells are controls by a column of truth values; an empty cell is what all others of its compound are.

    Raises
    ------
    DataError
        A cell is no truth value, or no well is a control.
    """
    texts = table.texts(column)
    flags = [None if is_missing(text) else truth(text) for text in texts]
    odd = [text for text, flag in zip(texts, flags, strict=True) if flag is None and not is_missing(text)]
    if odd or True not in flags:
        raise DataError(
            "the column of controls holds no truth values" if odd else "no well is a control",
            where=f"{table.name}, column {column}",
            found=listed(list(dict.fromkeys(odd or texts))),
            expected="true and false, yes and no, or 1 and 0",
            hint="correct it, or name the control compound with --control",
        )
    known: dict[str, set[bool]] = defaultdict(set)
    for name, flag in zip(compounds, flags, strict=True):
        if flag is not None:
            known[as_key(name)].add(flag)
    notes = [Note("info", f"controls are column {column}")]
    if gaps := [compounds[at] for at, flag in enumerate(flags) if flag is None]:
        text = f"column {column} is empty in {count(len(gaps), 'well')} ({listed(list(dict.fromkeys(gaps)), 5)})"
        notes.append(Note("warning", f"{text}: taken as other wells of the compound are, else as no controls"))
    both = zip(compounds, flags, strict=True)
    return [known[as_key(name)] == {True} if flag is None else flag for name, flag in both], tuple(notes)


def _looks_like_control(name: str) -> bool:
    return any(word in as_key(name) for word in _LIKE_CONTROLS)


def _no_control(absent: Sequence[str], counts: Counter[str], where: str) -> DataError:
    alike = [name for name in counts if _looks_like_control(name)]
    near = [match for name in absent for match in difflib.get_close_matches(name, list(counts), n=2)]
    common = [f"{name} ({times})" for name, times in counts.most_common(10)]
    candidates = list(dict.fromkeys([*alike, *near])) or [counts.most_common(1)[0][0]]
    return DataError(
        f"no well holds the control {listed(absent)}",
        where=where,
        found=f"{len(counts):,} compounds, the commonest: {', '.join(common)}",
        expected="control wells",
        hint=f"name the control: --control {' --control '.join(repr(name) for name in candidates[:3])}",
    )
