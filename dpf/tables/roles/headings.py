"""Which column of a table about wells an option names, and which one to take where none is named."""

from __future__ import annotations

import difflib
import re

from dpf.errors import DataError, listed
from dpf.tables.text.wells_table import Table


def find_column(table: Table, name: str, flag: str) -> str:
    """The heading that `name` means: exactly that, or the only one that differs in case and surrounding space only.

    Raises
    ------
    DataError
        There is no such column.
    """
    columns = table.frame.columns
    if name in columns:
        return name
    alike = [column for column in columns if column.casefold() == name.strip().casefold()]
    if len(alike) == 1:
        return alike[0]
    lower = {column.casefold(): column for column in columns}
    near = [lower[match] for match in difflib.get_close_matches(name.casefold(), list(lower), n=3)]
    raise DataError(
        f"the wells table has no column {name!r}",
        where=table.name,
        found=f"columns {listed(columns, 20)}",
        expected=f"the column named with {flag}",
        hint=f"did you mean {' or '.join(near)}?" if near else f"name one of these with {flag}",
    )


def named_or_headed(table: Table, named: str | None, flag: str, patterns: tuple[str, ...]) -> list[str]:
    """The column that the user names, alone; else those headed so (`guess_columns`)."""
    return guess_columns(table, patterns) if named is None else [find_column(table, named, flag)]


def guess_columns(table: Table, patterns: tuple[str, ...]) -> list[str]:
    """Columns whose whole heading, in lower case, matches one of `patterns`: in the order of the patterns."""
    found: list[str] = []
    for pattern in patterns:
        compiled = re.compile(pattern)
        found += [c for c in table.frame.columns if c not in found and compiled.fullmatch(c.strip().casefold())]
    return found
