"""A result as a table on a terminal: the most important columns, as many as fit its width."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dpf.cli.streams import harmless
from dpf.errors import count
from dpf.tables.schemas.column import Column, Schema, Type, Unit
from dpf.tables.schemas.registry import SCHEMAS

if TYPE_CHECKING:
    import polars as pl

_WIDEST, _NARROWEST = 24, 8  # of names, with further columns and where even these do not fit; numbers are never cut
_GAP = 2
_MOST_NAMED = 4
#: Columns whose largest value is smaller than the first are rounding errors of 0, unless their unit is exact ...
_ROUNDING = 1e-12
#: ... and between these they have a fixed number of decimals.
_SCIENTIFIC = (1e-3, 1e6)
_FLAGS = {True: "yes", False: "no"}


@dataclass
class _Shown:
    """A column on screen; those of one group are left out together, one that is `kept` never."""

    name: str
    group: str
    heading: str
    unit: str
    cells: list[str]
    numbers: bool
    kept: bool
    full: int
    width: int


def print_table(frame: pl.DataFrame, kind: str, title: str = "", sorted_by: str = "") -> None:
    """Print what the schema of `kind` chooses of a table, and the column that it was sorted by.

    What does not fit is left out from the right, but for the first columns and those that the schema keeps (q); a line
    below names what is not shown. Names are cut where that is not enough, numbers never.
    """
    console = Console(highlight=False, emoji=False)
    schema = SCHEMAS[kind]
    shown = _fitted(_chosen(frame, schema, sorted_by), console.width)
    if (needed := _width(shown)) > console.width:
        console = Console(highlight=False, emoji=False, width=needed)
    if title:
        console.print(title, style="italic", markup=False)
    table = Table(header_style="bold", box=None, pad_edge=False)
    has_units = any(column.unit for column in shown)
    for column in shown:
        # As Text: square brackets in a compound's name are not markup.
        table.add_column(
            Text(f"{column.heading}\n{column.unit}" if has_units else column.heading),
            justify="right" if column.numbers else "left",
            width=column.width,
            overflow="ellipsis",
            no_wrap=True,
        )
    for row in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*map(Text, row))
    console.print(table)
    there = {column.name for column in shown}
    if hidden := [name for name in frame.columns if name not in there]:
        console.print(harmless(_not_shown(hidden, schema), one_line=True), style="dim", markup=False)


def _chosen(frame: pl.DataFrame, schema: Schema, sorted_by: str) -> list[_Shown]:
    """The columns that the schema chooses, in its order; all of them where it chooses none."""
    declared = {name: column.name for name in frame.columns if (column := schema.column(name))}
    groups = {
        name: text if " " in text else name
        for text in schema.shown
        for part in text.split()
        for name in frame.columns
        if declared.get(name) == part
    } or {name: name for name in frame.columns}
    if sorted_by in frame.columns:
        groups.setdefault(sorted_by, sorted_by)
    first = next(iter(groups.values()))
    return [_shown(frame, schema, name, group, group == first or name == sorted_by) for name, group in groups.items()]


def _shown(frame: pl.DataFrame, schema: Schema, name: str, group: str, kept: bool) -> _Shown:
    column = schema.column(name) or Column(name, Type.ANY, "")
    series = frame.get_column(name)
    cells = _texts(series, column.unit)
    heading, unit, numbers = (
        harmless(column.heading_of(name), one_line=True),
        column.unit.short,
        series.dtype.is_numeric(),
    )
    full = max(map(cell_len, [heading, unit, *cells]))
    width = full if numbers else min(full, _WIDEST)
    return _Shown(name, group, heading, unit, cells, numbers, kept or column.kept, full, width)


def _fitted(shown: list[_Shown], room: int) -> list[_Shown]:
    """Those that are kept, then, group by group, what there is room for; names take what is left, or are cut."""
    groups = {column.group for column in shown if column.kept}
    for group in dict.fromkeys(column.group for column in shown):
        if _width([column for column in shown if column.group in {*groups, group}]) <= room:
            groups.add(group)
    fitted = [column for column in shown if column.group in groups]
    for column in sorted(fitted, key=lambda column: -column.width):
        if not column.numbers:
            column.width = min(column.full, max(_NARROWEST, column.width + room - _width(fitted)))
    return fitted


def _width(shown: Sequence[_Shown]) -> int:
    return sum(column.width + _GAP for column in shown) - _GAP


def _not_shown(names: list[str], schema: Schema) -> str:
    """How many columns are not shown, which if they are few (numbered ones are one), and where to find them."""
    runs = [list(run) for _, run in groupby(names, key=lambda name: re.sub(r"\d+$", "#", name))]
    texts = [f"{run[0]} ... {run[-1]}" if len(run) > 1 else run[0] for run in runs]
    which = f" ({', '.join(texts)})" if len(texts) <= _MOST_NAMED else ""
    where = "in the Parquet file" if schema.is_stored else "with --format csv"
    return f"{count(len(names), 'more column')}{which}: {where}; see dpf info PROJECT --columns {schema.kind}"


def _texts(series: pl.Series, unit: Unit) -> list[str]:
    if series.dtype.is_float():
        return _numbers(series.to_list(), unit)
    texts = ["-" if value is None else _FLAGS[value] if isinstance(value, bool) else str(value) for value in series]
    return [harmless(text, one_line=True) for text in texts]


def _numbers(values: list[float | None], unit: Unit) -> list[str]:
    """The largest with the digits of its unit, the others with as many decimals; of an exact unit each by itself."""
    known = [0.0 if value is None or not math.isfinite(value) else value for value in values]
    largest = max(map(abs, known), default=0.0)
    form = f".{unit.digits}g"
    if not unit.exact and (largest < _ROUNDING or _SCIENTIFIC[0] <= largest < _SCIENTIFIC[1]):
        decimals = max(0, unit.digits - 1 - math.floor(math.log10(largest))) if largest >= _ROUNDING else 0
        form = f"z.{0 if all(value.is_integer() for value in known) else decimals}f"
    return ["-" if value is None or math.isnan(value) else format(value, form) for value in values]
