"""The ranked dot plot: how far each compound moves its wells from the controls, and in which direction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from dpf.figures.drawing.arrays import at_least_one, flags, numbers, same_length
from dpf.figures.drawing.style import (
    ACTIVATING,
    BAND,
    GREY,
    INK,
    PAGE,
    SMALL,
    STATISTIC,
    SUPPRESSING,
    count_of,
    direction_colour,
    even_ticks,
    footnote,
    house_style,
    new_figure,
    shorten,
)

_ROW = 0.165  # inches
_NAMED = 30
#: From this many control wells on, the band is their central 95%; below, their whole range.
_ENOUGH_CONTROLS = 20

_Array = NDArray[np.float64]


class Band(NamedTuple):
    """The control wells' spread, and its label."""

    low: float
    high: float
    label: str


class _Ranked(NamedTuple):
    """Compounds in the order of the figure, the best first."""

    names: list[str]
    mean: _Array  # [C]
    activation: _Array  # [C]
    wells: list[_Array]
    intervals: _Array | None  # [C, 2]
    called: NDArray[np.bool_] | None  # [C]


@house_style()
def ranked_dots(
    names: Sequence[str],
    statistic: ArrayLike,
    activation: ArrayLike,
    *,
    wells: Sequence[ArrayLike] | None = None,
    controls: ArrayLike = (),
    intervals: ArrayLike | None = None,
    called: ArrayLike | None = None,
    called_label: str = "hit",
    neither_label: str = "no direction",
) -> Figure:
    """Draw compounds by their statistic, largest first: the top ones named, next to all of them where there are more.

    Parameters
    ----------
    names
        C compounds, in any order.
    statistic
        Array of shape (C,): the large dots, and the order. A compound without a value is counted, not drawn.
    activation
        Array of shape (C,), the mean position on the activation axis. Its sign is the direction: above 0 activating
        (vermillion), below 0 suppressing (blue), 0 or NaN neither (grey, `neither_label` in the legend).
    wells
        For each compound its wells' own values: the small dots.
    controls
        The control wells' own values: a grey band over their central 95%, or their range where there are fewer than
        20. None: no band.
    intervals
        Array of shape (C, 2), lower and upper end of each compound's interval, NaN where there is none.
    called
        Array of shape (C,), booleans: filled dots; the others are hollow. None: all are filled.

    Raises
    ------
    DataError
        Lengths disagree, or no compound has a value.
    """
    count = len(names)
    mean = numbers("statistic", statistic, (count,))
    order = np.argsort(-mean, kind="stable")[: int(np.isfinite(mean).sum())]
    at_least_one("compounds with a value", len(order))
    if wells is not None:
        same_length("wells", len(wells), count)
    ranked = _Ranked(
        names=shorten([names[index] for index in order], 34),
        mean=mean[order],
        activation=numbers("activation", activation, (count,))[order],
        wells=[] if wells is None else [numbers(f"wells of {names[index]}", wells[index], (None,)) for index in order],
        intervals=None if intervals is None else numbers("intervals", intervals, (count, 2))[order],
        called=None if called is None else flags("called", called, count)[order],
    )
    band = control_band(numbers("controls", controls, (None,)))
    shown = min(_NAMED, len(order))
    whole = len(order) > shown
    figure = new_figure(PAGE if whole else 5.0, max(_ROW * shown + 1.0, 2.0 if whole else 1.6))
    panels = figure.subplots(1, 2 if whole else 1, squeeze=False, width_ratios=[1.9, 1] if whole else None)[0]
    _rows(panels[0], ranked, shown, band)
    panels[0].set_xlabel(STATISTIC)
    if whole:
        _overview(panels[1], ranked, shown, band)
    _legend(figure, ranked, band, called_label, neither_label)
    absent = count - len(order)
    footnote(figure, f"not shown: {count_of(absent, 'compound')} without a value" if absent else "")
    return figure


def control_band(values: _Array) -> Band | None:
    """The central 95% of the control wells' finite values; their range below 20 wells; None without any."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    if len(finite) < _ENOUGH_CONTROLS:
        return Band(float(finite.min()), float(finite.max()), f"control wells, range (n = {len(finite)})")
    low, high = np.quantile(finite, [0.025, 0.975])
    return Band(float(low), float(high), f"control wells, central 95% (n = {len(finite):,})")


def _draw_band(axes: Axes, band: Band | None) -> None:
    if band is not None:  # an edge of its own keeps a band of no width visible
        axes.axvspan(band.low, band.high, facecolor=BAND, edgecolor=BAND, lw=1.0, zorder=0)


def _rows(axes: Axes, ranked: _Ranked, shown: int, band: Band | None) -> None:
    _draw_band(axes, band)
    for row in range(shown):
        colour = direction_colour(ranked.activation[row])
        if ranked.intervals is not None and np.isfinite(ranked.intervals[row]).all():
            axes.plot(
                ranked.intervals[row], [row, row], color=colour, lw=0.9, alpha=0.6, solid_capstyle="butt", zorder=2
            )
        if ranked.wells:
            own = ranked.wells[row]
            axes.scatter(own, np.full(len(own), row), s=9, color=colour, edgecolors="white", linewidths=0.4, zorder=3)
        filled = ranked.called is None or ranked.called[row]
        axes.plot(ranked.mean[row], row, "o", ms=5, mfc=colour if filled else "white", mec=colour, mew=0.9, zorder=4)
    axes.set_yticks(range(shown), ranked.names[:shown])
    axes.set_ylim(shown - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=BAND, lw=0.5)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.05)
    axes.xaxis.set_major_locator(even_ticks(7))


def _overview(axes: Axes, ranked: _Ranked, shown: int, band: Band | None) -> None:
    count = len(ranked.mean)
    _draw_band(axes, band)
    ranks = np.arange(1, count + 1)
    colours = [direction_colour(value) for value in ranked.activation]
    filled = np.ones(count, bool) if ranked.called is None else ranked.called
    faces = [colour if full else "white" for colour, full in zip(colours, filled, strict=True)]
    size = 9 if count <= 150 else 5
    axes.scatter(ranked.mean, ranks, s=size, c=faces, edgecolors=colours, linewidths=0.5, rasterized=count > 2_000)
    axes.axhline(shown + 0.5, color=GREY, lw=0.6, ls=":")
    axes.text(
        0.98, shown + 0.5, f"named at left: {shown}", transform=axes.get_yaxis_transform(),
        ha="right", va="top", fontsize=SMALL, color=GREY,
    )  # fmt: skip
    axes.set_ylim(count + 0.02 * count + 1, 0 - 0.02 * count)
    axes.set_yticks([1, *[tick for tick in even_ticks(6, whole=True).tick_values(1, count) if 1 < tick <= count]])
    axes.set_ylabel(f"rank among {count:,} compounds")
    axes.set_xlabel("the same, all compounds")
    axes.margins(x=0.05)
    axes.xaxis.set_major_locator(even_ticks(5))


def _legend(figure: Figure, ranked: _Ranked, band: Band | None, called_label: str, neither_label: str) -> None:
    def dot(colour: str, label: str, *, size: float = 5, face: str | None = None) -> Line2D:
        return Line2D([], [], ls="", marker="o", ms=size, mec=colour, mfc=face or colour, mew=0.9, label=label)

    handles: list[Line2D | Patch] = [dot(ACTIVATING, "activating"), dot(SUPPRESSING, "suppressing")]
    if not (ranked.activation != 0).all() or np.isnan(ranked.activation).any():
        handles.append(dot(GREY, neither_label))
    if ranked.called is not None:
        handles.append(dot(INK, f"filled: {called_label}"))
        handles.append(dot(INK, "hollow: not", face="white"))
    if ranked.wells:
        handles.append(dot(GREY, "one well", size=2.5))
    if band is not None:
        handles.append(Patch(facecolor=BAND, label=band.label))
    figure.legend(handles=handles, loc="outside upper left", ncols=4 if len(handles) > 5 else len(handles))
