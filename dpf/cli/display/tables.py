"""A result as a table on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import polars as pl

_MOST_COLUMNS = 12
_WIDEST = 32  # names longer than this are cut; numbers never are
_GAP = 2


def print_table(frame: pl.DataFrame, title: str = "") -> None:
    """Print a table as wide as the terminal allows; what does not fit is named, not lost."""
    console = Console(highlight=False)
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    shown: list[list[str]] = []
    used = 0
    for name, dtype in list(frame.schema.items())[:_MOST_COLUMNS]:
        cells = [_text(value) for value in frame.get_column(name)]
        width = min(_WIDEST, max(map(cell_len, [name, *cells])))
        if shown and used + width > console.width:
            break
        used += width + _GAP
        # As Text: square brackets in a compound's name are not markup.
        table.add_column(
            Text(name),
            justify="right" if dtype.is_numeric() else "left",
            width=width,
            overflow="ellipsis",
            no_wrap=True,
        )
        shown.append(cells)
    for row in zip(*shown, strict=True):
        table.add_row(*map(Text, row))
    console.print(table)
    hidden = frame.columns[len(shown) :]
    if hidden:
        text = f"and {len(hidden)} more columns (--format csv shows all): {', '.join(hidden)}"
        console.print(text, style="dim", markup=False)


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
