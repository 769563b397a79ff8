"""Dose curves, one small panel a compound."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from dpf.errors import DataError
from dpf.figures.drawing.arrays import at_least_one, numbers, same_length
from dpf.figures.drawing.style import (
    BAND,
    GREY,
    INK,
    PAGE,
    SMALL,
    TEXT,
    direction_colour,
    house_style,
    new_figure,
    shorten,
)
from dpf.figures.ranking import Band, control_band

_COLUMNS = 5
_LETTERS_AN_INCH = 18  # of a panel title
_NO_FIT = "no fit"
_UP_DOWN = "above 0: activating; below 0: suppressing"

_Array = NDArray[np.float64]


class DoseFit(NamedTuple):
    """A fitted curve as points, and its EC50 with the ends of its interval, open ones 0 or infinite.

    Where the EC50 is NaN, the panel gives the bound at its closed end, EC₅₀ ≥ `low` or EC₅₀ ≤ `high`.
    """

    concentration: ArrayLike
    response: ArrayLike
    ec50: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")


class _Ticks(NamedTuple):
    """The ticks of the concentration axis, and the place of concentration 0."""

    positions: list[float]
    labels: list[str]
    zero: float


class _Panel(NamedTuple):
    name: str
    dose: _Array
    response: _Array
    fit: DoseFit | None
    colour: str


@house_style()
def dose_curves(
    names: Sequence[str],
    concentrations: Sequence[ArrayLike],
    responses: Sequence[ArrayLike],
    activation: ArrayLike,
    *,
    fits: Sequence[DoseFit | None] | None = None,
    notes: Sequence[str | None] | None = None,
    controls: ArrayLike = (),
    response_label: str = "standardised distance T",
    signed: bool = False,
) -> Figure:
    """Draw the response of each compound's wells against concentration, with the fitted curve and its EC50.

    Parameters
    ----------
    names
        C compounds, in the order of the panels.
    concentrations, responses
        For each compound, arrays of one length: its wells. A concentration of 0 stands apart at the left.
    activation
        Array of shape (C,), the mean position on the activation axis; its sign colours the panel: activating
        vermillion, suppressing blue, neither grey.
    fits
        One a compound, None where the fit failed, which the panel then says.
    notes
        One a compound: the text instead of "no fit", and before the bound of an EC50 that is NaN.
    controls
        The control wells' responses, drawn as a band.
    signed
        The response is a position on the activation axis: the axis names its sides.

    Raises
    ------
    DataError
        Lengths disagree, a concentration is negative, or there is no compound.
    """
    count = len(names)
    at_least_one("compounds", count)
    same_length("concentrations", len(concentrations), count)
    same_length("responses", len(responses), count)
    for name, given in (("fits", fits), ("notes", notes)):
        if given is not None:
            same_length(name, len(given), count)
    side = numbers("activation", activation, (count,))
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    width = max(PAGE * columns / _COLUMNS, 3.2)
    short = shorten(names, int(_LETTERS_AN_INCH * width / columns))
    panels = [
        _panel(names[i], short[i], concentrations[i], responses[i], None if fits is None else fits[i], side[i])
        for i in range(count)
    ]
    figure = new_figure(width, 1.35 * rows + 0.85)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    band = control_band(numbers("controls", controls, (None,)))
    ticks = _dose_ticks(np.concatenate([panel.dose for panel in panels]))
    for index, axes in enumerate(grid.ravel()):
        if index >= count:
            axes.set_axis_off()
            continue
        failed = "" if fits is None else (_NO_FIT if notes is None else notes[index]) or _NO_FIT
        _draw(axes, panels[index], band, ticks, failed)
        if index + columns >= count:  # nothing below it, so the numbers stand here
            axes.tick_params(labelbottom=True)
    figure.supylabel(fill(response_label, 24 if rows == 1 else 60), fontsize=TEXT)
    figure.supxlabel("\n".join(["concentration"] + [_UP_DOWN] * signed), fontsize=TEXT)
    _legend(figure, side, [panel.fit for panel in panels], band, 3 if columns > 2 else 2)
    return figure


def _panel(
    name: str, short: str, doses: ArrayLike, responses: ArrayLike, fit: DoseFit | None, activation: float
) -> _Panel:
    dose = numbers(f"concentrations of {name}", doses, (None,))
    response = numbers(f"responses of {name}", responses, (len(dose),))
    if (dose < 0).any():
        raise DataError("a concentration is negative", where=name, found=f"{dose[dose < 0][0]:g}", expected="0 or more")
    kept = np.isfinite(dose) & np.isfinite(response)
    return _Panel(short, dose[kept], response[kept], fit, direction_colour(activation))


def _dose_ticks(doses: _Array) -> _Ticks:
    positive = np.unique(doses[doses > 0])
    if not len(positive):
        return _Ticks([1.0], ["0"], 1.0)
    exponents = np.arange(np.ceil(np.log10(positive[0]) - 1e-9), np.floor(np.log10(positive[-1]) + 1e-9) + 1)
    ticks = list(10.0 ** exponents[:: -(-len(exponents) // 4)]) if len(exponents) > 1 else list(_thinned(positive))
    labels = [f"{tick:g}" for tick in ticks]
    step = 10 ** max(0.5, 0.2 * np.log10(positive[-1] / positive[0]))
    zero = float(positive[0] / step)
    return _Ticks([zero, *ticks], ["0", *labels], zero) if (doses == 0).any() else _Ticks(ticks, labels, zero)


def _thinned(doses: _Array) -> _Array:
    return doses[:: -(-len(doses) // 4)]


def _draw(axes: Axes, panel: _Panel, band: Band | None, ticks: _Ticks, failed: str) -> None:
    if band is not None:
        axes.axhspan(band.low, band.high, facecolor=BAND, edgecolor=BAND, lw=1.0, zorder=0)
    axes.set_xscale("log")
    where = np.where(panel.dose > 0, panel.dose, ticks.zero)
    axes.scatter(where, panel.response, s=7, color=panel.colour, alpha=0.6, linewidths=0, zorder=3)
    note = failed if len(where) else "no wells with a value"
    if panel.fit is not None:
        note = _draw_fit(axes, panel.fit, panel.colour, failed)
    else:
        doses = np.unique(where)
        means = [panel.response[where == dose].mean() for dose in doses]
        axes.plot(doses, means, color=panel.colour, lw=0.8, ls=":", zorder=2)
    axes.set_title(f"{panel.name}\n{note}" if note else panel.name, fontsize=SMALL)
    axes.set_xticks(ticks.positions, ticks.labels)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))


def _draw_fit(axes: Axes, fit: DoseFit, colour: str, failed: str) -> str:
    dose = numbers("a fit's concentrations", fit.concentration, (None,))
    axes.plot(dose, numbers("a fit's responses", fit.response, (len(dose),)), color=colour, lw=1.2, zorder=2)
    low, high = fit.low > 0, np.isfinite(fit.high)  # which ends of the interval are closed
    if not np.isfinite(fit.ec50):
        start = f"{failed}, " if failed != _NO_FIT else ""
        if low == high:
            return f"{start}no EC₅₀"
        return f"{start}EC₅₀ {'≥' if low else '≤'} {fit.low if low else fit.high:.2g}"
    axes.axvline(fit.ec50, color=INK, lw=0.6, ls="--", zorder=1)
    middle = f"EC₅₀ {fit.ec50:.2g}"
    return f"{middle} ({fit.low:.2g}–{fit.high:.2g})" if low and high else middle


def _legend(figure: Figure, side: _Array, fits: Sequence[DoseFit | None], band: Band | None, columns: int) -> None:
    met = [("activating", side > 0, 1.0), ("suppressing", side < 0, -1.0), ("no direction", ~(np.abs(side) > 0), 0.0)]
    handles: list[Line2D | Patch] = [
        Line2D([], [], ls="", marker="o", ms=3.5, color=direction_colour(sign), label=name)
        for name, where, sign in met
        if where.any()
    ]
    if any(fit is not None for fit in fits):
        handles.append(Line2D([], [], color=GREY, label="fitted curve"))
    if any(fit is not None and np.isfinite(fit.ec50) for fit in fits):
        handles.append(Line2D([], [], color=INK, lw=0.6, ls="--", label="EC₅₀ (its interval)"))
    if any(fit is None for fit in fits):
        handles.append(Line2D([], [], color=GREY, lw=0.8, ls=":", label="mean of wells"))
    if band is not None:
        handles.append(Patch(facecolor=BAND, label=band.label))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)
