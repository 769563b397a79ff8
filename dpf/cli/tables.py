"""A result as a table on a terminal."""

from __future__ import annotations

import polars as pl
from rich.console import Console
from rich.table import Table

_MOST_COLUMNS = 12


def print_table(frame: pl.DataFrame, title: str = "") -> None:
    """Print a table as wide as the terminal allows; what does not fit is named, not lost."""
    console = Console(highlight=False)
    fitting = max(3, min(_MOST_COLUMNS, console.width // 11))
    shown = frame.select(frame.columns[:fitting])
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name, dtype in shown.schema.items():
        table.add_column(name, justify="right" if dtype.is_numeric() else "left", overflow="ellipsis", no_wrap=True)
    for row in shown.iter_rows():
        table.add_row(*(_text(value) for value in row))
    console.print(table)
    hidden = frame.columns[fitting:]
    if hidden:
        console.print(f"and {len(hidden)} more columns (--format csv shows all): {', '.join(hidden)}", style="dim")


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    # Square brackets in a compound's name are not markup.
    return str(value).replace("[", r"\[")
