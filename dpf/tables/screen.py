"""The screen in memory: what every importer returns, what `init` writes, what everything later reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.tables.schemas.registry import polars_schema


class Replicates(NamedTuple):
    """Wells a compound, controls aside: fewest, median, most."""

    fewest: int
    median: float
    most: int


@dataclass(frozen=True)
class TargetSummary:
    """One target: its role (``score``, ``label``, ``activation``), wells with a value and without, its spread.

    `minimum`, `mean` and `maximum` are over the wells with a value; `ones` counts the wells of class 1 of a label and
    is None for the others.
    """

    name: str
    role: str
    present: int
    missing: int
    minimum: float
    mean: float
    maximum: float
    ones: int | None


@dataclass(frozen=True)
class Summary:
    """A screen in numbers.

    Attributes
    ----------
    wells, genes, compounds
        Counts; `compounds` without the controls.
    replicates
        Wells a compound; None where every well is a control.
    controls
        Wells a control compound.
    plates
        Wells a plate; empty where plates are not known. Wells without a plate count under ``?``.
    targets
        In the order scores, label, activation.
    columns
        The canonical columns that are known.
    notes
        What was odd.
    model_genes
        Genes that the model reads.
    set_aside
        Wells that take no part and are in none of these numbers, by reason.
    """

    wells: int
    genes: int
    compounds: int
    replicates: Replicates | None
    controls: dict[str, int]
    plates: dict[str, int]
    targets: tuple[TargetSummary, ...]
    columns: tuple[str, ...]
    notes: tuple[Note, ...]
    model_genes: int = 0
    set_aside: dict[str, int] = field(default_factory=dict)


def summarise(
    screen: Screen,
    canonical: tuple[str, ...] = ("plate", "row", "column", "concentration"),
    keep_flagged: bool = False,
) -> Summary:
    """The numbers of a screen; see `Summary`. `canonical` are the optional columns worth telling of."""
    used, aside = takes_part(screen.wells, keep_flagged), list[str]()
    if "set_aside" in screen.wells.columns:
        aside = screen.wells.filter(~used).get_column("set_aside").to_list()
    screen = replace(screen, wells=screen.wells.filter(used))
    wells = screen.wells
    is_control = wells.get_column("is_control")
    treated = Counter(wells.get_column("compound").filter(~is_control).to_list())
    counts = pl.Series(list(treated.values()), dtype=pl.Int64)
    plates = wells.get_column("plate").fill_null("?").to_list() if "plate" in wells.columns else []
    return Summary(
        wells=wells.height,
        genes=screen.genes.height,
        compounds=len(treated),
        replicates=Replicates(min(treated.values()), _float(counts.median()), max(treated.values()))
        if treated
        else None,
        controls=dict(Counter(wells.get_column("compound").filter(is_control).to_list()).most_common()),
        plates=dict(sorted(Counter(plates).items())),
        targets=tuple(_target(screen, name) for name in screen.targets.columns),
        columns=tuple(name for name in canonical if name in wells.columns),
        notes=screen.notes,
        model_genes=int(screen.genes.get_column("in_model").sum())
        if "in_model" in screen.genes.columns
        else screen.genes.height,
        set_aside=dict(Counter(reason_of(reason) for reason in aside).most_common()),
    )


#: Why a well takes no part that holds no cells, by its name.
NO_CELLS = "no cells"


def takes_part(wells: pl.DataFrame, keep_flagged: bool = False) -> pl.Series:
    """Which wells take part: those that nothing sets aside; with `keep_flagged`, all that hold cells."""
    if "set_aside" not in wells.columns:
        return pl.repeat(True, wells.height, dtype=pl.Boolean, eager=True)
    reasons = wells.get_column("set_aside")
    return reasons.is_null() | (reasons != NO_CELLS) if keep_flagged else reasons.is_null()


def reason_of(text: str) -> str:
    """The reason why a well is set aside without its numbers, which are in brackets."""
    return text.partition(" (")[0]


def _target(screen: Screen, name: str) -> TargetSummary:
    column = screen.wells.get_column(name)
    present = column.drop_nulls()
    role = "score"
    if name == screen.targets.label:
        role = "label"
    elif name == screen.targets.activation:
        role = "activation"
    return TargetSummary(
        name=name,
        role=role,
        present=present.len(),
        missing=column.null_count(),
        minimum=_float(present.min()),
        mean=_float(present.mean()),
        maximum=_float(present.max()),
        ones=int(present.sum()) if role == "label" else None,
    )


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


#: Columns of `inputs/wells.parquet` whose meaning and type are fixed. Only `well_id`, `compound` and
#: `is_control` are always there. Every other column is the user's own and keeps its name. (Projects of before `donor`
#: was a role may have a column of their own that is called so: it is read as it is.)
CANONICAL_COLUMNS = polars_schema("wells") | {"donor": pl.String}


@dataclass(frozen=True)
class Targets:
    """Which columns of the wells table the model learns. Names are the user's.

    `scores` are continuous, any number; `label` is binary (0/1, null where unknown); `activation` is the
    continuous score of the auxiliary regression. A missing value is a masked value, never a dropped well.
    """

    scores: tuple[str, ...] = ()
    label: str | None = None
    activation: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Every target column, in the order scores, label, activation."""
        return (*self.scores, *(name for name in (self.label, self.activation) if name is not None))


@dataclass(frozen=True)
class Note:
    """Something odd that was met, and what was done about it. Nothing is repaired or left out without one."""

    severity: Literal["info", "warning"]
    text: str


@dataclass(frozen=True)
class SourceFile:
    """A file that a screen was read from, for provenance."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Screen:
    """A validated screen: one row a well, in one order, in `wells` and in `expression` alike.

    Attributes
    ----------
    wells
        N rows; `CANONICAL_COLUMNS` first (those that are known), then the targets and the user's own columns.
    genes
        G rows, one a column of `expression`, in that order: `gene` (unique; the column name in
        `inputs/expression.parquet`) and, where known, `gene_id`, `symbol`.
    expression
        float32 array of shape (N, G), finite, on the scale the model is trained on.
    targets
        The columns of `wells` the model learns.
    notes
        What was odd.
    sources
        The files it came from.
    """

    wells: pl.DataFrame
    genes: pl.DataFrame
    expression: NDArray[np.float32]
    targets: Targets
    notes: tuple[Note, ...] = ()
    sources: tuple[SourceFile, ...] = field(default=())

    @property
    def gene_names(self) -> list[str]:
        """The G gene names, in the order of the expression columns."""
        return self.genes.get_column("gene").to_list()

    def with_notes(self, *notes: Note) -> Screen:
        """The same screen with more notes."""
        return replace(self, notes=(*self.notes, *notes))
