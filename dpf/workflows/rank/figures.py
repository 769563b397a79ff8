"""The figures of a ranking."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.design.wells import DesignInput
from dpf.analysis.latent.pca import latent_pca
from dpf.workflows.check.plate_figures import draw_plates
from dpf.workflows.progress import Progress
from dpf.workflows.project.inputs import Inputs
from dpf.workflows.rank.rows import CompoundRows
from dpf.workflows.rank.verdicts import Verdict
from dpf.workflows.rank.wells import RankedWells

Floats = NDArray[np.float64]

_NAMED = 15


def draw_ranking(
    path: Path, table: pl.DataFrame, rows: CompoundRows, wells: RankedWells, inputs: Inputs, fdr: float,
    progress: Progress,
) -> tuple[Path, ...]:  # fmt: skip
    """Ranked dots, volcano (where there are q-values), latent map with the hits named, T on the plates.

    Parameters
    ----------
    path
        The ranked dots; the others are named after it.
    table
        The ranking in the order of `rows`.
    """
    from dpf.figures.drawing.style import save
    from dpf.figures.ranking import ranked_dots
    from dpf.figures.volcano import volcano

    names, nothing = rows.names, np.full(rows.count, np.nan)
    t = table.get_column("t").to_numpy()
    side = table.get_column("activation").to_numpy() if "activation" in table.columns else nothing
    q = table.get_column("q").fill_null(float("nan")).to_numpy()
    tested = bool(np.isfinite(q).any())
    off_axis = (table.get_column("verdict") == Verdict.OFF_AXIS).fill_null(value=False).to_numpy()
    side = np.where(off_axis, 0.0, side)  # they moved, but neither way
    neither = "off-axis" if off_axis.any() else "no direction"
    dots = ranked_dots(
        names, t, side, neither_label=neither,
        wells=_split(wells.t.value, rows), controls=wells.t.value[inputs.is_control],
        intervals=table.select("t_low", "t_high").fill_null(float("nan")).to_numpy(),
        called=np.nan_to_num(q, nan=1.0) <= fdr if tested else None, called_label=f"q ≤ {fdr:g}",
    )  # fmt: skip
    files = [*save(dots, path)]
    if tested:
        figure = volcano(names, t, q, side, fdr=fdr, neither_label=neither)
        files += save(figure, path.with_name(f"{path.name}_volcano"))
    files += _draw_map(path.with_name(f"{path.name}_map"), q, t, rows, wells, inputs, fdr)
    files += _draw_plates(path.with_name(f"{path.name}_plates"), wells.t.value, inputs, progress)
    return tuple(files)


def draw_unmodelled(path: Path, table: pl.DataFrame, names: list[str], fdr: float) -> tuple[Path, ...]:
    """The volcano of a ranking without a model: distance in expression against q; nothing without either."""
    from dpf.figures.drawing.style import save
    from dpf.figures.volcano import volcano

    if "expression_distance" not in table.columns:
        return ()
    distance, q = (table.get_column(name).fill_null(float("nan")).to_numpy() for name in ("expression_distance", "q"))
    if not (np.isfinite(distance) & np.isfinite(q)).any():
        return ()
    length = np.sqrt(np.maximum(distance, 0))
    figure = volcano(
        names, length, q, np.full(len(names), np.nan), fdr=fdr, neither_label="moved",
        statistic_label="distance of the expression from the controls' (root of the E-distance)",
    )  # fmt: skip
    return save(figure, path.with_name(f"{path.name}_volcano"))


def _split(values: Floats, rows: CompoundRows) -> list[Floats]:
    own = np.flatnonzero(rows.codes >= 0)
    order = own[np.argsort(rows.codes[own], kind="stable")]
    edges = np.cumsum(np.bincount(rows.codes[own], minlength=rows.count))[:-1]
    return np.split(values[order], edges)


def named_hits(q: Floats, t: Floats, fdr: float) -> NDArray[np.intp]:
    """The rows of the hits that a map names: those with the largest T, largest first.

    Not those with the smallest q: its floor falls with the number of wells, so compounds with many wells would crowd
    out stronger ones with few.
    """
    hits = np.flatnonzero(np.nan_to_num(q, nan=1.0) <= fdr)
    return hits[np.argsort(-t[hits], kind="stable")][:_NAMED]


def _draw_map(
    path: Path, q: Floats, t: Floats, rows: CompoundRows, wells: RankedWells, inputs: Inputs, fdr: float
) -> tuple[Path, ...]:
    """The first member's latent space: members cannot be drawn together. Hits of smallest q, then largest T, named."""
    from dpf.figures.drawing.style import save
    from dpf.figures.latent_map import latent_map

    pca = latent_pca(wells.outputs.latent[0], inputs.is_control)
    hits = named_hits(q, t, fdr)
    names = rows.names
    figure = latent_map(
        pca.places,
        explained=pca.explained.tolist(),
        values=np.clip(wells.t.value, *np.quantile(wells.t.value, [0.0, 0.99])),
        colour_label="standardised distance T (robust SD)",
        controls=inputs.is_control,
        hits={names[row]: rows.wells(row).tolist() for row in hits.tolist()},
        activation_direction=None if wells.pattern is None else (pca.axes @ wells.pattern[0]).tolist(),
    )
    return save(figure, path)


def _draw_plates(path: Path, t: Floats, inputs: Inputs, progress: Progress) -> tuple[Path, ...]:
    """T where the wells stand: nothing where no position is known."""

    def cells(name: str) -> NDArray[np.object_] | None:
        return inputs.wells.get_column(name).to_numpy().astype(object) if name in inputs.wells.columns else None

    if not {"row", "column"} <= set(inputs.wells.columns):
        return ()
    column = inputs.wells.get_column("column").cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
    design = DesignInput(
        compound=inputs.wells.get_column("compound").to_list(),
        is_control=inputs.is_control,
        plate=cells("plate"),
        row=cells("row"),
        column=column,
        targets={"standardised distance T (robust SD)": t},
    )
    return draw_plates(path, design, progress)
