"""`dpf check`: whether a project's files are intact, and whether its plate layout could bias the results."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from dpf.analysis.design.check import check_design
from dpf.analysis.design.item import CheckItem
from dpf.analysis.design.items.expression import expression_items
from dpf.analysis.design.items.positions import ALPHA
from dpf.analysis.design.wells import POSITION_FACTORS, DesignInput
from dpf.errors import UsageError
from dpf.files import together
from dpf.project.directory import Project
from dpf.workflows.check.integrity import ReadBack, read_back
from dpf.workflows.check.plate_figures import draw_plates
from dpf.workflows.check.stored import FlaggedItem, StoredCheck, items_table, store_check, summarised
from dpf.workflows.options import CheckOptions
from dpf.workflows.progress import Progress, Silent

#: With fewer, no p-value could reach the level after Bonferroni over the position factors.
FEWEST_PERMUTATIONS = round(len(POSITION_FACTORS) / ALPHA) - 1

#: Usual headings of the counts and the detected genes of a well (dpf, scanpy, Seurat, sequencing cores), in lower case
#: with `_` for any sign; the first that is there is taken.
LIBRARY_SIZE = (
    *("library_size", "n_counts", "total_counts", "ncount_rna", "n_umis", "umis", "total_umis", "umi_count"),
    *("read_count", "reads", "total_reads", "depth"),
)
DETECTED = (
    *("detected", "n_genes", "n_genes_by_counts", "nfeature_rna", "detected_genes", "genes_detected", "n_features"),
    "number_of_genes",
)
COMPOSITION = ("composition_factor",)


@dataclass(frozen=True)
class CheckResult:
    """What was checked, and the files written.

    Attributes
    ----------
    items
        In reading order: integrity first, then `dpf.analysis.design.check.check_design`.
    summary
        As `rank`, `evaluate` and `info` show it again.
    path, figures
        The table of items, and the plates.
    read_as
        Columns of the wells table that were taken for library size and detected genes: ``library size: n_counts``.
    """

    items: tuple[CheckItem, ...]
    summary: StoredCheck
    path: Path
    figures: tuple[Path, ...]
    read_as: tuple[str, ...]

    @property
    def table(self) -> pl.DataFrame:
        """One row an item, without its details."""
        return items_table(self.items).drop("table")


def check_project(
    project: Project, options: CheckOptions | None = None, *, progress: Progress | None = None
) -> CheckResult:
    """Check the inputs and the design of a project, draw its plates, and keep what was found.

    The same seed gives the same verdicts.

    Raises
    ------
    UsageError
        There are too few permutations.
    DataError, ProjectError
        There is nothing to check: the wells table cannot be read, or a position is not on a plate.
    """
    options, progress = options or CheckOptions(), progress or Silent()
    fdr, permutations, seed = options.fdr, options.permutations, options.seed
    _require_permutations(permutations)
    inputs = read_back(project)
    progress.plan(f"{inputs.wells.height:,} wells x {len(inputs.genes):,} genes, {permutations:,} permutations")
    library_size, detected = (quality_column(inputs.wells, inputs.targets, names) for names in (LIBRARY_SIZE, DETECTED))
    design = design_of(inputs, library_size, detected)
    # Thousands of products of small matrices: synchronising threads would cost more than it gains.
    with threadpool_limits(1):
        found = check_design(design, np.random.default_rng(seed), fdr=fdr, permutations=permutations)
    well_ids = inputs.wells.get_column("well_id").to_list()
    compounds = inputs.wells.get_column("compound").to_list()
    of_expression = expression_items(inputs.expression, inputs.genes, well_ids, compounds)
    items = (*inputs.items, *of_expression, *found)
    with together(progress.warn):
        figures = draw_plates(project.check.figure("plates"), design, progress)
        path = store_check(inputs.now, items, {"fdr": fdr, "permutations": permutations, "seed": seed})
    flagged = [FlaggedItem(*(getattr(item, part.name) for part in fields(FlaggedItem))) for item in items]
    summary = summarised(flagged)
    named = {"library size": library_size, "detected genes": detected}
    read_as = tuple(f"{quantity}: {column}" for quantity, column in named.items() if column is not None)
    return CheckResult(items, summary, path, figures, read_as)


def _require_permutations(permutations: int) -> None:
    if permutations < FEWEST_PERMUTATIONS:
        raise UsageError(
            "with so few permutations nothing could ever be flagged",
            found=permutations,
            expected=f"{FEWEST_PERMUTATIONS} or more: {len(POSITION_FACTORS)} factors at the level {ALPHA:g}",
        )


def quality_column(wells: pl.DataFrame, targets: Collection[str], names: Sequence[str]) -> str | None:
    """The column of the wells table with one of these headings: numbers, none of them negative, and no target."""
    headings = {re.sub(r"\W+", "_", name.strip().casefold()): name for name in reversed(wells.columns)}
    for name in names:
        column = headings.get(name)
        if column is None or column in targets or not wells.schema[column].is_numeric():
            continue
        values = wells.get_column(column).cast(pl.Float64).fill_nan(None).drop_nulls()
        if values.len() and bool(values.is_finite().all()) and bool((values >= 0).all()):
            return column
    return None


def design_of(inputs: ReadBack, library_size: str | None, detected: str | None) -> DesignInput:
    """The inputs as a `DesignInput`."""
    wells, aside = inputs.wells, inputs.set_aside
    return DesignInput(
        **_layout(wells),
        is_control=inputs.is_control,
        batch=_cells(wells, "batch"),
        donor=_cells(wells, "donor"),
        set_aside=DesignInput(**_layout(aside), is_control=np.zeros(aside.height, dtype=bool))
        if aside.height
        else None,
        targets=inputs.targets,
        label=inputs.label,
        expression=inputs.expression,
        library_size=_numbers(wells, library_size),
        detected=_numbers(wells, detected),
        composition=_numbers(wells, quality_column(wells, inputs.targets, COMPOSITION)),
        cluster=_cells(wells, "cluster"),
    )


def _layout(wells: pl.DataFrame) -> dict[str, Any]:
    """The fields of a `DesignInput` that say what each well is, and where."""
    placed = {"row", "column"} <= set(wells.columns)
    return {
        "compound": wells.get_column("compound").to_list(),
        "well_id": wells.get_column("well_id").to_list(),
        "plate": _cells(wells, "plate"),
        "row": _cells(wells, "row") if placed else None,
        "column": _numbers(wells, "column") if placed else None,
    }


def _cells(wells: pl.DataFrame, name: str) -> NDArray[np.object_] | None:
    return wells.get_column(name).to_numpy().astype(object) if name in wells.columns else None


def _numbers(wells: pl.DataFrame, name: str | None) -> NDArray[np.float64] | None:
    if name is None:
        return None
    return wells.get_column(name).cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
