"""The screen in memory: what every importer returns, what `init` writes, what everything later reads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

#: Columns of `inputs/wells.parquet` whose meaning and type are fixed. Only `well_id`, `compound` and
#: `is_control` are always there. Every other column is the user's own and keeps its name.
CANONICAL_COLUMNS: dict[str, type[pl.DataType]] = {
    "well_id": pl.String,  # unique
    "compound": pl.String,
    "is_control": pl.Boolean,
    "plate": pl.String,
    "row": pl.String,  # A, B, ... AF: as printed on the plate
    "column": pl.Int64,  # 1, 2, ...
    "concentration": pl.Float64,
    "cluster": pl.String,
    "batch": pl.String,
}


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
