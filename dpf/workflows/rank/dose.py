"""Dose and response of every compound: of T, and of the place on the activation axis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.ranking.dose import DoseFit, dose_shape, fit_dose_response, monotone_trend
from dpf.analysis.ranking.p_values import benjamini_hochberg
from dpf.workflows.project.inputs import Inputs
from dpf.workflows.rank.rows import CompoundRows, compound_rows
from dpf.workflows.rank.wells import RankedWells

Floats = NDArray[np.float64]

#: Fewer levels than this are no dose series.
MIN_LEVELS = 3
_DRAWN = 25
_POINTS = 100
#: What a panel says where no curve is drawn, by `dpf.analysis.ranking.dose.dose_shape`.
_NOTES = {
    "rising": "rising, no EC₅₀",
    "falling": "falling, no EC₅₀",
    "flat": "flat: at its plateau",
    "unclear": "no fit",
}


@dataclass(frozen=True)
class Evidence:
    """Of each compound by name: T, and whether it is called against the controls, by T and by activation."""

    t: dict[str, float]
    called: dict[str, dict[str, bool]]


def evidence(table: pl.DataFrame, fdr: float) -> Evidence:
    """From a ranking; of rows by dose, the largest T, and called where any dose is."""
    rates = {"t": "q", "activation": "activation_q"}
    best = table.group_by("compound").agg(
        pl.col("t").max(), *(pl.col(name).min() for name in rates.values() if name in table.columns)
    )
    names = best.get_column("compound").to_list()
    called = {
        response: dict(zip(names, (best.get_column(rate) <= fdr).fill_null(value=False).to_list(), strict=True))
        for response, rate in rates.items()
        if rate in best.columns
    }
    return Evidence(dict(zip(names, best.get_column("t").to_list(), strict=True)), called)


@dataclass(frozen=True)
class DoseResult:
    """One row a compound and response ("t", "activation"), the fits in the same order, and what was left out."""

    table: pl.DataFrame
    fits: dict[str, list[DoseFit]]
    rows: CompoundRows
    series: NDArray[np.int64]
    usable: NDArray[np.bool_]
    dose: Floats
    statements: tuple[str, ...]


def dose_response(wells: RankedWells, inputs: Inputs, found: Evidence) -> DoseResult | None:
    """Fit a four-parameter log-logistic curve and test for a monotone trend, compound by compound.

    For compounds of at least three concentrations above 0. The trend compares the doses of one compound with each
    other, never with the controls, so it needs no held-out wells. Wells at 0 or without a concentration are left out
    and counted. A negative concentration is no concentration: no curve is then fitted, which a line reports. `shape` is
    a word for what the doses show (`dpf.analysis.ranking.dose.dose_shape`). `ec50`, `hill`, `bottom`, `top` are empty
    where the EC50 is not identified, and `no_ec50_because` says why; `ec50_low` and `ec50_high` stay as its bounds, an
    open end being 0 or infinite.

    Returns
    -------
    DoseResult or None
        None where the screen has no dose series.
    """
    if "concentration" not in inputs.wells.columns:
        return None
    dose = inputs.wells.get_column("concentration").cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
    rows = compound_rows(inputs, by_dose=False)
    treated = rows.codes >= 0
    positive = treated & np.isfinite(dose) & (dose > 0)
    if len(np.unique(dose[treated & np.isfinite(dose)])) < MIN_LEVELS:
        return None
    if (negative := int((treated & (dose < 0)).sum())) > 0:
        text = (
            f"no dose curves: {negative:,} wells have a negative concentration (logarithms?); write them as "
            "concentrations and run dpf init again"
        )
        return DoseResult(pl.DataFrame(), {}, rows, np.zeros(0, np.int64), positive, dose, (text,))
    series = _series(rows, dose, positive)
    if not len(series):
        return None
    absent = int((treated & ~positive).sum())
    lines = [f"dose curves: {absent:,} compound wells at 0 or without a concentration are left out"] if absent else []
    responses = {"t": wells.t.value} | ({} if wells.activation is None else {"activation": wells.activation})
    tables, fits = [], {}
    for name, response in responses.items():
        table, fits[name] = _fit_all(name, response, dose, rows, series, positive, found, inputs.is_control)
        tables.append(table)
    return DoseResult(pl.concat(tables), fits, rows, series, positive, dose, tuple(lines))


def _series(rows: CompoundRows, dose: Floats, usable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The compounds of at least three usable concentrations."""
    pairs = np.unique(np.stack([rows.codes[usable].astype(np.float64), dose[usable]]), axis=1)
    return np.flatnonzero(np.bincount(pairs[0].astype(np.int64), minlength=rows.count) >= MIN_LEVELS)


def _fit_all(
    name: str, response: Floats, dose: Floats, rows: CompoundRows, series: NDArray[np.int64], usable: NDArray[np.bool_],
    evidence: Evidence, is_control: NDArray[np.bool_],
) -> tuple[pl.DataFrame, list[DoseFit]]:  # fmt: skip
    names, called = rows.names, evidence.called.get(name, {})
    found: list[dict[str, Any]] = []
    fits = []
    for row in series.tolist():
        own = rows.wells(row)
        own = own[usable[own]]
        fit, trend = fit_dose_response(dose[own], response[own]), monotone_trend(dose[own], response[own])
        fits.append(fit)
        shape = dose_shape(
            dose[own], response[own], fit, trend, response[is_control], called=called.get(names[row], False)
        )
        found.append(
            {"compound": names[row], "response": name, "shape": shape, "n": len(own),
             "doses": len(np.unique(dose[own])),
             **_claimed(fit), "r_squared": fit.r_squared, "p_flat": fit.p_flat,
             "no_ec50_because": fit.failure or fit.open_because, "trend_tau": trend.tau, "trend_p": trend.p}
        )  # fmt: skip
    table = pl.DataFrame(found, schema_overrides={"no_ec50_because": pl.String}, infer_schema_length=None)
    q = benjamini_hochberg(table.get_column("trend_p").to_numpy()) if found else np.zeros(0)
    return table.with_columns(trend_q=pl.Series(q, dtype=pl.Float64)).fill_nan(None), fits


def _claimed(fit: DoseFit) -> dict[str, float]:
    """The curve's numbers that the wells support: all of them, or the ends of the interval of the EC50 alone."""
    ends = {"ec50_low": fit.ec50_low, "ec50_high": fit.ec50_high}
    of_curve = {"hill": fit.hill, "bottom": fit.bottom, "top": fit.top}
    if not fit.identified:
        return {"ec50": float("nan")} | ends | dict.fromkeys(of_curve, float("nan"))
    return {"ec50": fit.ec50} | ends | of_curve


def strongest(table: pl.DataFrame, evidence: Evidence) -> NDArray[np.intp]:
    """The rows of one response to draw: hits first, by T; then the others, the smallest trend p first."""
    names = table.get_column("compound").to_list()
    hit = np.array([evidence.called.get("t", {}).get(name, False) for name in names])
    t = np.array([evidence.t[name] for name in names])
    p = table.get_column("trend_p").fill_null(1.0).to_numpy()
    return np.lexsort((-t, np.where(hit, -t, p), ~hit))[:_DRAWN]


def draw_dose(
    path: Path, result: DoseResult, wells: RankedWells, inputs: Inputs, evidence: Evidence
) -> tuple[Path, ...]:
    """One figure a response, of the same compounds in the same order: the `strongest` of T."""
    from dpf.figures.dose import DoseFit as Curve
    from dpf.figures.dose import dose_curves
    from dpf.figures.drawing.style import save

    files: list[Path] = []
    order = strongest(result.table.filter(pl.col("response") == "t"), evidence)
    for name, fits in result.fits.items():
        table = result.table.filter(pl.col("response") == name)
        values = wells.t.value if name == "t" or wells.activation is None else wells.activation
        own = [result.rows.wells(int(result.series[index])) for index in order]
        own = [places[result.usable[places]] for places in own]
        side = np.array([np.nan if wells.activation is None else wells.activation[places].mean() for places in own])
        figure = dose_curves(
            [table.item(int(index), "compound") for index in order],
            [result.dose[places] for places in own],
            [values[places] for places in own],
            side,
            fits=[_curve(fits[index], result.dose[places], Curve) for index, places in zip(order, own, strict=True)],
            notes=[_note(table.item(int(index), "shape"), fits[index]) for index in order],
            controls=values[inputs.is_control],
            response_label="standardised distance T" if name == "t" else "position on the activation axis (robust SD)",
            signed=name == "activation",
        )
        files += save(figure, path if name == "t" else path.with_name(f"{path.name}_activation"))
    return tuple(files)


def _curve(fit: DoseFit, dose: Floats, curve: Any) -> Any:
    if fit.failure is not None:
        return None
    at = np.geomspace(dose.min(), dose.max(), _POINTS)
    values = fit.response(at)
    if fit.identified:
        return curve(at, values, fit.ec50, fit.ec50_low, fit.ec50_high)
    inside = [dose.min() <= bound <= dose.max() for bound in (fit.ec50_low, fit.ec50_high)]
    low, high = (bound if known else np.nan for bound, known in zip((fit.ec50_low, fit.ec50_high), inside, strict=True))
    return curve(at, values, float("nan"), low, high)


def _note(shape: str, fit: DoseFit) -> str | None:
    """A fit that is drawn without its EC50 is named by its shape; the figure adds the bound, where there is one."""
    return shape if fit.failure is None else _NOTES.get(shape)
