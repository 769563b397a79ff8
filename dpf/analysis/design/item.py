"""One item of a check: its verdict, its number, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

Cell = str | float | int | bool | None


class Verdict(StrEnum):
    """What a check says of a screen, from harmless to harmful.

    ``not applicable``: the screen does not have what the check needs; ``good``; ``warn``: go on, and say so;
    ``fail``: results would be wrong or cannot be reached. Each item's rule says where its number turns.
    """

    NOT_APPLICABLE = "not applicable"
    GOOD = "good"
    WARN = "warn"
    FAIL = "fail"

    @property
    def harm(self) -> int:
        """Its place among the verdicts: larger is worse."""
        return list(Verdict).index(self)


@dataclass(frozen=True)
class CheckItem:
    """One thing that was checked.

    Attributes
    ----------
    name
        What was checked, unique within a check: ``position effect: Tscore``.
    group
        The heading it stands under: ``positions``, ``controls``, ``replicates``, ``targets``, ``power``, ``plates``.
    verdict
        See `Verdict`; where it is not applicable, `text` says what the screen lacks.
    value
        The number that decides the verdict; None where there is none. `rule` says what it is, with the limits.
    text
        What was found, in one or two sentences.
    advice
        What to do next; empty where there is nothing to do.
    rule
        What `value` is and which values warn and fail.
    table
        The details as columns of equal length, by name; empty where there are none.
    """

    name: str
    group: str
    verdict: Verdict
    value: float | None
    text: str
    advice: str = ""
    rule: str = ""
    table: dict[str, list[Cell]] = field(default_factory=dict)


def not_applicable(name: str, group: str, why: str) -> CheckItem:
    """An item that could not be checked, and why."""
    return CheckItem(name, group, Verdict.NOT_APPLICABLE, None, why)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The most harmful of some verdicts; ``not applicable`` when there are none."""
    return max(verdicts, key=lambda verdict: verdict.harm, default=Verdict.NOT_APPLICABLE)


def graded(value: float, warn: float, fail: float) -> Verdict:
    """``fail`` from `fail` on, ``warn`` from `warn` on, else ``good``: larger is worse."""
    if value >= fail:
        return Verdict.FAIL
    return Verdict.WARN if value >= warn else Verdict.GOOD


def columns_of(rows: Iterable[dict[str, Cell]]) -> dict[str, list[Cell]]:
    """Rows with the same keys, as the columns of a `CheckItem`'s table."""
    table: dict[str, list[Cell]] = {}
    for row in rows:
        for name, cell in row.items():
            table.setdefault(name, []).append(cell)
    return table
