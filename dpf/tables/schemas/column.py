"""How a table of dpf is declared: its file, and of every column the name, type, unit, meaning and when it is empty."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal, NamedTuple

Better = Literal["higher", "lower", "neither"]


class Type(StrEnum):
    """What the cells of a column are."""

    TEXT = "text"
    WHOLE = "whole number"
    NUMBER = "number"
    FLAG = "yes/no"
    ANY = "any"


class Unit(NamedTuple):
    """What a number counts; `short` heads it on screen, with `digits` significant digits.

    Of an `exact` unit the smallest value means something; of others anything below 1e-12 is a rounding error of 0.
    """

    text: str
    short: str = ""
    digits: int = 3
    exact: bool = False


NO_UNIT = Unit("")
PROBABILITY = Unit("probability, 0 to 1", digits=2, exact=True)
SHARE = Unit("share, 0 to 1")
COSINE = Unit("cosine, −1 to 1")
CORRELATION = Unit("correlation, −1 to 1")
CONTROL_SD = Unit("robust SD of the held-out controls", "SD")
LATENT = Unit("latent units, which differ between members")
EXPRESSION = Unit("units of the expression (log2 where dpf normalised it)")
TARGET = Unit("the target's own unit")
CONCENTRATION = Unit("the concentrations' own unit", exact=True)
RESPONSE = Unit("the response's own unit")
METRIC = Unit("the metric's own unit")
LOG2 = Unit("log2", "log2")
COUNTS = Unit("counts")
SECONDS = Unit("seconds", "s")

#: What stands for something in the names of columns.
PARAMETERS = {
    "target": "a score, the label or the activation, under its name in `dpf.toml`",
    "label": "the label, under its name in `dpf.toml`",
    "k": "a dimension of the latent space, counted from 0",
    "gene": "a gene, as in the column `gene` of the genes table",
    "own column": "a column of your wells table, under your name for it",
    "group column": "the column that was named with `--group-column`",
    "program": "a gene program of the simulation",
    "plate": "a plate",
}
_PARAMETER = re.compile(r"<([^>]+)>")


@dataclass(frozen=True)
class Column:
    """A column, or all those whose names follow one pattern.

    Attributes
    ----------
    name
        As it stands in the file; ``<target>_predicted`` stands for one column a target (`PARAMETERS`).
    type, meaning, unit
        What its cells are.
    better
        Which end stands first when a table is sorted by the column: the stronger effect, the surer call, the better
        fit. Neither: that is for the reader to say.
    empty
        When a cell has no value; "" where every cell has one.
    when
        When the table has the column; "" where it always does.
    heading
        Its name on screen, where that is another.
    kept
        It is never left out on screen, however narrow that is.
    newer
        Tables that earlier versions of the same format wrote lack it.
    may_be_own
        A column of the user's own may have this name, and then holds what it holds.
    """

    name: str
    type: Type
    meaning: str
    unit: Unit = NO_UNIT
    better: Better = "neither"
    empty: str = ""
    when: str = ""
    heading: str = ""
    kept: bool = False
    newer: bool = False
    may_be_own: bool = False

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        """What stands for something in the name."""
        return tuple(_PARAMETER.findall(self.name))

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What the names of such columns look like, with a group for each parameter."""
        parts = _PARAMETER.split(self.name)
        texts = [re.escape(part) if at % 2 == 0 else rf"({_SHAPES.get(part, '.+')})" for at, part in enumerate(parts)]
        return re.compile("".join(texts))

    def heading_of(self, name: str) -> str:
        """How a column of that name is headed on screen."""
        values = self.pattern.fullmatch(name)
        if not self.heading or values is None:
            return name
        return _PARAMETER.sub(lambda found: values[self.parameters.index(found[1]) + 1], self.heading)


_SHAPES = {"k": r"\d+"}


@dataclass(frozen=True)
class Schema:
    """A table.

    Attributes
    ----------
    kind
        Its name, which the footer of the file has too.
    file
        Where it is in a project; what is on screen only says so.
    made_by
        The command that writes it.
    row
        What a row is.
    columns
        In the order of the file.
    shown
        What a table on screen shows, in this order: names of `columns`, those in one string together or not at all.
        From the last on they are left out where the screen is narrow. Empty: all.
    remedy
        What to do where the file cannot be used; "": run `made_by` again.
    """

    kind: str
    file: str
    made_by: str
    row: str
    columns: tuple[Column, ...]
    shown: tuple[str, ...] = ()
    remedy: str = ""

    @property
    def is_stored(self) -> bool:
        """Whether there is a Parquet file of it."""
        return ".parquet" in self.file

    @property
    def next_step(self) -> str:
        """What to do where the file cannot be used."""
        return self.remedy or f"run {self.made_by} again"

    def candidates(self, name: str) -> list[Column]:
        """What a column of that name may be: the one of just that name, else those whose pattern it follows."""
        exact = [column for column in self.columns if column.name == name]
        if exact and not exact[0].may_be_own:
            return exact
        return exact + [column for column in self.columns if column.parameters and column.pattern.fullmatch(name)]

    def column(self, name: str) -> Column | None:
        """What a column of that name is."""
        return next(iter(self.candidates(name)), None)

    def sorts_ascending(self, name: str) -> bool:
        """Whether the first row of the table sorted by a column has its smallest value, as of names."""
        column = self.column(name)
        return column is not None and (column.better == "lower" or column.type is Type.TEXT)
