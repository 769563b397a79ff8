"""The meaning of a table's columns, as text."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from dpf.tables.schemas.column import PARAMETERS, Schema
from dpf.tables.schemas.registry import explained


def print_columns(schema: Schema) -> None:
    """Print where a table is and what a row is; then each column: name, type, unit, which end is better, meaning."""
    console = Console(highlight=False)
    console.print(Text(f"{schema.file}. By {schema.made_by}; one row is {schema.row}.", style="bold"))
    for column in schema.columns:
        better = "" if column.better == "neither" else f"{column.better} is better"
        facts = "; ".join(part for part in (column.type, column.unit.text, better) if part)
        console.print(Text.assemble((column.name, "bold"), f"  ({facts})"))
        console.print(Padding(Text(explained(column)), (0, 0, 0, 4)))
    for name in dict.fromkeys(name for column in schema.columns for name in column.parameters):
        console.print(Text(f"<{name}>: {PARAMETERS[name]}", style="dim"))
