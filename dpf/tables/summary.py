"""What was understood of a screen, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import polars as pl

from dpf.tables.screen import Note, Screen


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


def summarise(screen: Screen, canonical: tuple[str, ...] = ("plate", "row", "column", "concentration")) -> Summary:
    """The numbers of a screen; see `Summary`. `canonical` are the optional columns worth telling of."""
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
    )


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
