"""Which column of a table about wells an option names, and which one to take where none is named."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from dpf.errors import DataError, listed
from dpf.tables.text.cells import as_key, legible
from dpf.tables.text.wells_table import Table


def find_column(table: Table, name: str, flag: str) -> str:
    """The heading that `name` means: exactly that, or the only one that is written otherwise only (`as_key`).

    Raises
    ------
    DataError
        There is no such column, or there are several.
    """
    columns = table.frame.columns
    if name in columns:
        return name
    alike = [column for column in columns if as_key(column) == as_key(name)]
    if len(alike) == 1:
        return alike[0]
    keys = {as_key(column): column for column in columns}
    near = alike or [keys[match] for match in difflib.get_close_matches(as_key(name), list(keys), n=3)]
    raise DataError(
        f"the wells table has no column {name!r}",
        where=table.name,
        found=f"columns {listed(columns, 20)}",
        expected=f"the column named with {flag}",
        hint=f"did you mean {' or '.join(map(legible, near))}?" if near else f"name one of these with {flag}",
    )


def named_columns(table: Table, texts: Sequence[str]) -> tuple[str, ...]:
    """Names that stand apart by commas, as the table has them: a heading with a comma in it (``IL-2, pg/ml``) is one.

    What is no heading is a name as it is written, for `find_column` to refuse.
    """
    headings = set(map(as_key, table.frame.columns))
    names = []
    for text in texts:
        parts = text.split(",")
        while parts:
            longest = range(len(parts), 0, -1)
            size = next((n for n in longest if as_key(",".join(parts[:n])) in headings), 1)
            names.append(",".join(parts[:size]).strip())
            del parts[:size]
    return tuple(filter(None, names))


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
