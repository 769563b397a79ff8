"""Which names on two sides mean the same well, however each writes it: `A1`, `A01`, `a01`, `R01C01`, `X384.A01`."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from dpf.tables.roles.well_names import PLATE_SHAPES, row_number
from dpf.tables.text.cells import is_missing_name

_POSITION = re.compile(
    r"(?:(?P<plate>.*[^_:\-./| ])[_:\-./| ]+)?"
    r"(?:(?P<letters>[a-z]{1,2})[-_. ]{0,3}0?(?P<column>\d{1,2})|r(?P<row_number>\d{1,2})c(?P<column_number>\d{1,2}))",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)
_ENDINGS = re.compile(
    r"(?i)(\.(bam|sam|cram|fastq|fq|gz|txt|tsv|csv|counts?|sorted|dedup|markdup|htseq|out|tab)|"
    r"(readspergene|aligned)\.out\S*)+$"
)
_QUOTED = re.compile(r'="(.*)"|"(.*)"|\'(.*)\'', re.DOTALL)


class Matching(NamedTuple):
    """Which rows of a table about wells are which names of an expression table.

    `places` maps rows to places among the names. `rule` says how the names had to be compared; None where they are the
    same text. `clashes` are names of one side that such a rule would make one well: then it was not followed.
    """

    places: dict[int, int]
    rule: str | None = None
    clashes: tuple[str, ...] = ()


def match_names(rows: Sequence[str], names: Sequence[str]) -> Matching:
    """The rows of a table that have one of `names`: the same text, or the same by the first rule that finds most.

    Where every name of the shorter side is the other side's word for word, no rule is tried. Otherwise names are
    compared without case, quotes and path, without the ``-1`` of 10x, as R rewrites names, and by row and column.

    Parameters
    ----------
    rows
        The cells of a column; missing ones match nothing. Of equal cells each is matched.
    names
        The names of the expression table's wells.
    """
    present = {row: text for row, text in enumerate(rows) if not is_missing_name(text)}
    exact = _pairs(present, dict(enumerate(names)))
    most, shorter = len(set(exact.values())), min(len(set(present.values())), len(set(names)))
    best = Matching(exact)
    if most == shorter:
        return best
    clashes: tuple[str, ...] = ()
    for text, keys_of in _RULES:
        keys = keys_of(list(present.values()), list(names))
        if keys is None:
            continue
        theirs, ours = keys
        pairs = _pairs(dict(zip(present, theirs, strict=True)), dict(enumerate(ours)))
        if len(set(pairs.values())) <= most:
            continue
        twice = _clashes(list(present.values()), theirs) or _clashes(names, ours)
        if twice:
            clashes = clashes or twice
            continue
        best, most = Matching(pairs, text), len(set(pairs.values()))
    return best if best.rule or not clashes else best._replace(clashes=clashes)


def _pairs(rows: dict[int, Hashable] | dict[int, str], names: dict[int, Hashable] | dict[int, str]) -> dict[int, int]:
    place = {key: at for at, key in names.items()}
    return {row: place[key] for row, key in rows.items() if key in place}


def _clashes(names: Sequence[str], keys: Sequence[Hashable]) -> tuple[str, ...]:
    """Different names that have one key."""
    different = dict.fromkeys(zip(keys, names, strict=True))
    times = Counter(key for key, _ in different)
    return tuple(name for key, name in different if times[key] > 1)


def plain(name: str) -> str:
    """A name without quotes (``="A01"``), path, file ending and case."""
    text = unicodedata.normalize("NFKC", name).strip()
    if quoted := _QUOTED.fullmatch(text):
        text = next(part for part in quoted.groups() if part is not None)
    base = re.split(r"[/\\]", text)[-1] if re.search(r"[/\\]", text) else text
    return (_ENDINGS.sub("", base) or base).strip().casefold()


def without_suffix(name: str) -> str:
    """A plain name without the ``-1`` that 10x puts behind a barcode."""
    return re.sub(r"-\d{1,2}$", "", plain(name)) or plain(name)


def as_r_writes(name: str) -> str:
    """A plain name as R's `make.names` has it: a point for what is no letter, X before a number."""
    text = re.sub(r"[^\w.]|_", ".", plain(name))
    return re.sub(r"^x(?=\d)", "", text)


class _Position(NamedTuple):
    plate: str | None
    row: int
    column: int


def position(name: str) -> _Position | None:
    """Plate (as R writes it), row and column of a well's name; None where it is none."""
    for text in dict.fromkeys((plain(name), without_suffix(name))):
        if match := _POSITION.fullmatch(text):
            row = row_number(match["letters"]) if match["letters"] else int(match["row_number"])
            column = int(match["column"] or match["column_number"])
            if 1 <= row <= PLATE_SHAPES[1536][0] and 1 <= column <= PLATE_SHAPES[1536][1]:
                return _Position(match["plate"] and as_r_writes(match["plate"]), row, column)
    return None


_Keys = tuple[list[Hashable], list[Hashable]]


def _each(key: Callable[[str], str]) -> Callable[[list[str], list[str]], _Keys | None]:
    return lambda theirs, ours: ([key(name) for name in theirs], [key(name) for name in ours])


def _by_position(theirs: list[str], ours: list[str]) -> _Keys | None:
    """Row and column, and the plate where both sides have one; None where a side is not mostly names of wells."""
    sides = [[position(name) for name in side] for side in (theirs, ours)]
    if any(2 * sum(at is not None for at in side) <= len(side) for side in sides):
        return None
    with_plate = all(at.plate is not None for side in sides for at in side if at is not None)
    keys: list[list[Hashable]] = []
    for names, side in zip((theirs, ours), sides, strict=True):
        both = zip(names, side, strict=True)
        keys.append([name if at is None else (at if with_plate else (at.row, at.column)) for name, at in both])
    return keys[0], keys[1]


_RULES: tuple[tuple[str, Callable[[list[str], list[str]], _Keys | None]], ...] = (
    ("without case, quotes, path and file ending", _each(plain)),
    ("without the -1 that 10x adds", _each(without_suffix)),
    ("as R rewrites names (a point for what is no letter, X before a number)", _each(as_r_writes)),
    ("by row and column", _by_position),
)
