"""What one cell of a table means: missing, a number, a truth value, or text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import listed
from dpf.tables.screen import Note

#: What stands for "no value", whatever its case. For names (wells, compounds) only `MISSING_NAMES` does.
MISSING = frozenset({"", "na", "n/a", "#n/a", "#nv", "#n/d", "nan", "null", "none"})
MISSING_NAMES = frozenset({"", "NA", "N/A", "#N/A", "#NV", "#N/D", "NaN", "nan"})

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|infinity)", re.IGNORECASE)
_COMMA_NUMBER = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
_MAYBE_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3}){2,}(?:\.\d*)?|[+-]?\d{1,3}(?:,\d{3})+\.\d*")
_POINT_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+")
_PADDED_INTEGER = re.compile(r"[+-]?0\d+")

Commas = Literal["none", "decimal", "thousands", "unclear"]


def is_missing(text: str) -> bool:
    """Whether a cell stands for "no value"."""
    return text.strip().casefold() in MISSING


def is_missing_name(text: str) -> bool:
    """Whether a cell that should hold a name is empty. ``None`` and ``null`` are names: some screens call wells so."""
    return text.strip() in MISSING_NAMES


def as_key(name: str) -> str:
    """The same for names that differ in case, surrounding space, signs without width or the encoding of a letter."""
    seen = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    return unicodedata.normalize("NFKC", seen).strip().casefold()


def legible(name: str) -> str:
    """A name as a reader can tell it from one that looks the same: escapes for what cannot be seen."""
    whole = unicodedata.normalize("NFC", name) == name
    return name if whole and name.isprintable() else name.encode("ascii", "backslashreplace").decode()


def number(text: str, decimal_comma: bool = False) -> float | None:
    """The number in a cell, infinities included; None when there is none.

    Thousands separators, units, underscores and hexadecimals are no numbers. With `decimal_comma`, a point is none
    either: ``1.234`` would be 1234 to whoever writes 1,5.
    """
    text = text.strip()
    if decimal_comma:
        if "." in text:
            return None
        text = text.replace(",", ".")
    return float(text) if _NUMBER.fullmatch(text) else None


#: Numbers that stand for "no value" in some programs' tables (-666: the Connectivity Map's).
_CODES = (-666.0, -999.0, -9999.0)


def code_notes(what: str, values: NDArray[np.floating]) -> tuple[Note, ...]:
    """A warning about finite values that are codes for "missing" in some programs; they stay numbers."""
    if not values.size or values.min() > max(_CODES):
        return ()
    found = {code: int(np.count_nonzero(values == code)) for code in _CODES}
    shown = listed([f"{code:g} ({times:,})" for code, times in found.items() if times])
    return (Note("warning", f"{what} holds codes for missing values: {shown}; empty these cells"),) if shown else ()


_MONTH = (
    "(jan|ene|gen|feb|f[eé]vr?|mar|mär|mars|mrt|mrz|m[aä]rz|apr|avr|abr|ma[iyjg]|maggio|jun|juin|giu|jul|juil|lug|aug|"
    "août?|ago|sept?|set|oct|okt|out|ott|nov|dec|déc|dez|dic)"
)
_MADE = (
    rf"(?i)^(\d{{1,2}}[-. ]{{1,2}}{_MONTH}\.?|{_MONTH}\.?[-. ]\d{{1,2}}|{_MONTH}\.?[-. ](19|20)\d\d|"
    rf"\d{{1,2}}[-. ]{{1,2}}{_MONTH}\.?[-. ]\d{{2,4}}|\d{{1,2}}([/.])\d{{1,2}}[/.](19|20)\d\d|"
    r"(19|20)\d\d[-/]\d{1,2}[-/]\d{1,2}([ T]00:00:00(\.0+)?)?|\d[.,]\d+E\+\d+)$"
)


def spreadsheet_notes(what: str, names: Sequence[str | None]) -> tuple[Note, ...]:
    """A warning about names that a spreadsheet made of others: dates, in its languages, and rounded numbers."""
    column = pl.Series(names, dtype=pl.String).drop_nulls().unique(maintain_order=True)
    made = column.filter(column.str.strip_chars().str.contains(_MADE)).to_list()
    text = f"dates or rounded numbers among the {what} ({len(made):,}), which a spreadsheet made of names such as"
    return (Note("warning", f"{text} MARCH1, 1-2 or 2E13: {listed(made, 5)}"),) if made else ()


_TRUE = frozenset({"true", "t", "yes", "y", "1", "wahr", "vrai", "vero", "verdadero", "verdadeiro", "waar"})
_FALSE = frozenset({"false", "f", "no", "n", "0", "falsch", "faux", "falso", "onwaar"})


def truth(text: str) -> bool | None:
    """The truth value in a cell: true, false, yes, no, their first letters, 1, 0 (``1.0``); None for anything else.

    True and false are those of spreadsheets in other languages, too.
    """
    value = number(text)
    word = text.strip().casefold() if value is None else f"{value:g}"
    return True if word in _TRUE else False if word in _FALSE else None


def commas(cells: Iterable[str]) -> Commas:
    """What commas mean in the numbers of a table that is not separated by commas.

    ``0,5`` and ``12,75`` show a decimal comma, ``1,234,567`` and ``1,234.5`` thousands; where every number with a
    comma could be either (``1,234``), it is unclear, and where no cell is a number with a comma there are none.
    """
    seen: set[Commas] = set()
    for cell in cells:
        text = cell.strip()
        if _THOUSANDS.fullmatch(text):
            return "thousands"
        if _COMMA_NUMBER.fullmatch(text):
            seen.add("unclear" if _MAYBE_THOUSANDS.fullmatch(text) else "decimal")
    return "decimal" if "decimal" in seen else "unclear" if seen else "none"


def as_numbers(column: pl.Series, decimal_comma: bool = False) -> pl.Series | None:
    """A column of text as Int64 or Float64, missing cells as null; None when a cell is neither number nor missing."""
    texts = column.to_list()
    values: list[float | None] = []
    for text in texts:
        if is_missing(text):
            values.append(None)
            continue
        value = number(text, decimal_comma)
        if value is None:
            return None
        values.append(value)
    whole = all(value is None or (value.is_integer() and abs(value) < 2**53) for value in values)
    no_mark = all(not set(text) & set(".,eE") for text, value in zip(texts, values, strict=True) if value is not None)
    dtype = pl.Int64 if whole and no_mark else pl.Float64
    if dtype == pl.Int64:
        return pl.Series(column.name, [None if value is None else int(value) for value in values], dtype=dtype)
    return pl.Series(column.name, values, dtype=dtype)


def points_are_unclear(cells: Iterable[str]) -> bool:
    """Whether every number with a point could be written with a thousands separator (``1.020``), and there is one."""
    with_point = [text for cell in cells if "." in (text := cell.strip()) and number(text.replace(".", "")) is not None]
    return bool(with_point) and all(_POINT_THOUSANDS.fullmatch(text) for text in with_point)


def typed(column: pl.Series, decimal_comma: bool = False) -> pl.Series:
    """A column of text as what it holds: numbers, truth values, else text with empty cells as null.

    Numbers with a leading zero (``007``) are names and stay text.
    """
    texts = column.to_list()
    present = [text.strip() for text in texts if not is_missing(text)]
    if present and not any(_PADDED_INTEGER.fullmatch(text) for text in present):
        numbers = as_numbers(column, decimal_comma)
        if numbers is not None:
            return numbers
        if {text.casefold() for text in present} <= {"true", "false"}:
            values = [None if is_missing(text) else truth(text) for text in texts]
            return pl.Series(column.name, values, dtype=pl.Boolean)
    names = [None if is_missing_name(text) else text for text in texts]
    return pl.Series(column.name, names, dtype=pl.String)
