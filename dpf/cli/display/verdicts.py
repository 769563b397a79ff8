"""The items of a check as a text: grouped, the verdict coloured on a terminal, advice under what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dpf.analysis.design.item import CheckItem, Verdict
from dpf.cli.streams import harmless

_STYLES = {Verdict.GOOD: "green", Verdict.WARN: "yellow bold", Verdict.FAIL: "red bold", Verdict.NOT_APPLICABLE: "dim"}
_SHORT = {Verdict.NOT_APPLICABLE: "-"}
#: Below so many columns the text stands under the name, without its number.
_NARROW = 72
_INDENT = (0, 0, 0, 2)


def print_items(items: Sequence[CheckItem]) -> None:
    """Print items group by group, in their order; what is not good stands out."""
    console = Console(highlight=False, emoji=False)
    narrow = console.width < _NARROW
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    if not narrow:
        table.add_column(no_wrap=True)
        table.add_column(min_width=18, ratio=2)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(ratio=5)
    last = ""
    for group, members in groupby(items, key=lambda item: item.group):
        table.add_row(Text(group, style="bold"))
        for item in members:
            name = harmless(item.name, one_line=True)
            calm = item.verdict in (Verdict.GOOD, Verdict.NOT_APPLICABLE)
            verdict = Text(_SHORT.get(item.verdict, item.verdict), style=_STYLES[item.verdict])
            text = Text(harmless(item.text), style="dim" if calm else "")
            if narrow:
                table.add_row(Text.assemble(verdict, f"  {name}"))
                table.add_row(Padding(text, _INDENT))
            else:
                number = "" if item.value is None else f"{item.value:.3g}"
                table.add_row(verdict, Text(name), Text(number), text)
            if item.advice:
                advice = Text(harmless(f"next: {item.advice if item.advice != last else 'as above'}"), style="cyan")
                table.add_row(*[Padding(advice, _INDENT)] if narrow else ["", "", "", advice])
                last = item.advice
    console.print(table)
