"""The items of a check as a text: grouped, the verdict coloured on a terminal, advice under what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dpf.analysis.design.item import CheckItem, Verdict

_STYLES = {Verdict.GOOD: "green", Verdict.WARN: "yellow bold", Verdict.FAIL: "red bold", Verdict.NOT_APPLICABLE: "dim"}
_SHORT = {Verdict.NOT_APPLICABLE: "-"}


def print_items(items: Sequence[CheckItem]) -> None:
    """Print items group by group, in their order; what is not good stands out."""
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(min_width=18, ratio=2)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=5)
    last = ""
    for group, members in groupby(items, key=lambda item: item.group):
        table.add_row(Text(group, style="bold"))
        for item in members:
            style = _STYLES[item.verdict]
            calm = item.verdict in (Verdict.GOOD, Verdict.NOT_APPLICABLE)
            table.add_row(
                Text(_SHORT.get(item.verdict, item.verdict), style=style),
                Text(item.name),
                Text("" if item.value is None else f"{item.value:.3g}"),
                Text(item.text, style="dim" if calm else ""),
            )
            if item.advice:
                said = item.advice if item.advice != last else "as above"
                table.add_row("", "", "", Text(f"next: {said}", style="cyan"))
                last = item.advice
    console.print(table)
