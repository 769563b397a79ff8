"""The results of a design check as a table: written by `dpf check`, shown with results that rest on the design."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dpf.analysis.design.item import Cell, CheckItem, Verdict, worst
from dpf.errors import DataError
from dpf.tables.schemas.registry import polars_schema
from dpf.tables.storage import read_about, read_table, write_table
from dpf.workflows.progress import Progress
from dpf.workflows.project.provenance import Now, made_of, why_stale

#: The item on whether a difference from the controls can be one of position: shown with every ranking.
EXCHANGEABLE = "controls: exchangeable with compounds"
_NAMED = 5


@dataclass(frozen=True)
class FlaggedItem:
    """An item of a stored check, without its details; see `dpf.analysis.design.item.CheckItem`."""

    name: str
    group: str
    verdict: Verdict
    value: float | None
    text: str
    advice: str


@dataclass(frozen=True)
class StoredCheck:
    """The last check of a project.

    Attributes
    ----------
    verdict
        The worst of its items.
    counts
        Items by verdict, every verdict named.
    flagged
        What fails, then what warns, each in reading order.
    stale
        Why it is stale, or None.
    """

    verdict: Verdict
    counts: dict[Verdict, int]
    flagged: tuple[FlaggedItem, ...]
    stale: str | None

    def named(self, verdict: Verdict) -> list[str]:
        """The names of the items that got one verdict, ``fail`` or ``warn``."""
        return [item.name for item in self.flagged if item.verdict == verdict]


def items_table(items: Sequence[CheckItem]) -> pl.DataFrame:
    """One row an item, in reading order: the parts of a `CheckItem`, its details as JSON in `table`."""
    rows = [asdict(item) | {"table": _as_json(item)} for item in items]
    return pl.DataFrame(rows, schema=polars_schema("check"))


def _as_json(item: CheckItem) -> str:
    """The details of an item, columns in their order, with null for what JSON has no number for."""
    columns = {name: [_finite(cell) for cell in column] for name, column in item.table.items()}
    return json.dumps(columns, ensure_ascii=False, allow_nan=False)


def _finite(cell: Cell) -> Cell:
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def store_check(now: Now, items: Sequence[CheckItem], about: dict[str, Any]) -> Path:
    """Write `check/check.parquet`; its footer names the inputs and the targets that were checked."""
    path = now.project.check.table("check")
    write_table(path, items_table(items), "check", made_of(now, "check") | about)
    return path


def stored_check(now: Now) -> StoredCheck | None:
    """The last check of a project, or None where there has been none.

    Raises
    ------
    DataError, ProjectError
        The stored table is damaged or of a later format.
    """
    path = now.project.check.table("check")
    if not path.exists():
        return None
    return summarised(_read_items(path), why_stale(read_about(path, "check"), now))


def summarised(items: Sequence[FlaggedItem], stale: str | None = None) -> StoredCheck:
    """The items of a check as what is shown of them."""
    counts = Counter(item.verdict for item in items)
    flagged = tuple(item for verdict in (Verdict.FAIL, Verdict.WARN) for item in items if item.verdict == verdict)
    return StoredCheck(worst(counts), {verdict: counts[verdict] for verdict in reversed(Verdict)}, flagged, stale)


def _read_items(path: Path) -> list[FlaggedItem]:
    rows = read_table(path, "check", ["name", "group", "verdict", "value", "text", "advice"]).rows(named=True)
    try:
        return [FlaggedItem(**row | {"verdict": Verdict(row["verdict"])}) for row in rows]
    except ValueError as error:
        raise DataError("the stored check has a verdict that does not exist", where=path, found=error,
                        expected=", ".join(Verdict), hint="dpf check PROJECT makes it again") from None  # fmt: skip


def design_of(now: Now, progress: Progress) -> StoredCheck | None:
    """The last check for a result that only mentions it: a damaged one is as none, with a word about it."""
    try:
        return stored_check(now)
    except DataError as error:
        path = now.project.check.table("check")
        progress.warn(f"{path.name}: {error.what} ({error.found}); dpf check makes it again")
        return None


def design_lines(stored: StoredCheck | None, project: Path) -> list[str]:
    """The check as lines under a result: the counts, the items' names, and the text on the controls' positions."""
    if stored is None:
        return [f"design not checked: dpf check {project}"]
    if stored.stale:
        return [f"design not checked as it is now ({stored.stale}): dpf check {project}"]
    lines = [f"design: {counted(stored.counts)}; dpf check {project}"]
    for verdict in (Verdict.FAIL, Verdict.WARN):
        if names := stored.named(verdict):
            # Not `listed`: the names have commas of their own.
            more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
            lines.append(f"  {verdict}: {'; '.join([*names[:_NAMED], *more])}")
    return lines + [f"  {item.text}" for item in stored.flagged if item.name == EXCHANGEABLE]


def counted(counts: dict[Verdict, int]) -> str:
    """``2 fail, 3 warn, 17 good``; what there is none of is left out, but for ``0 fail``."""
    shown = [verdict for verdict in reversed(Verdict) if counts[verdict] or verdict == Verdict.FAIL]
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in shown)
