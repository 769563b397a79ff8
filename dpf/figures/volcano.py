"""Distance against false discovery rate: which compounds are hits, and how large their effect is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import ArrayLike, NDArray

from dpf.errors import DataError
from dpf.figures.drawing.arrays import at_least_one, numbers
from dpf.figures.drawing.labels import comb_labels, place_labels
from dpf.figures.drawing.style import (
    ACTIVATING,
    FAINT,
    GREY,
    INK,
    SMALL,
    STATISTIC,
    SUPPRESSING,
    count_of,
    even_ticks,
    footnote,
    house_style,
    new_figure,
    shorten,
)

#: Many hits may share the smallest possible p-value: from this many on, their names stand above the axes.
_COMB_FROM = 4
#: How many hits are named: by turns the farthest one and the one of smallest q that is not named yet. (The smallest q
#: alone would name compounds of many wells, whose q can be smaller.)
_NAMED = 15

_Array = NDArray[np.float64]


@house_style()
def volcano(
    names: Sequence[str],
    statistic: ArrayLike,
    q: ArrayLike,
    activation: ArrayLike,
    *,
    fdr: float = 0.05,
    neither_label: str = "no direction",
    statistic_label: str = STATISTIC,
) -> Figure:
    """Draw each compound's distance against its q-value; hits are coloured by direction and named.

    Parameters
    ----------
    names
        C compounds, in any order.
    statistic
        Array of shape (C,).
    q
        Array of shape (C,), in (0, 1]: the false discovery rate at which the compound is called.
    activation
        Array of shape (C,), the mean position on the activation axis. Its sign is the direction: above 0 activating
        (vermillion, pointing up), below 0 suppressing (blue, pointing down), 0 or NaN neither (grey, `neither_label` in
        the legend).
    fdr
        The rate at which hits are called: q at or below it. Drawn as a line.
    statistic_label
        What the statistic is.

    Raises
    ------
    DataError
        Lengths disagree, a q or `fdr` is outside (0, 1], or no compound has both numbers.
    """
    count = len(names)
    distance, rate = numbers("statistic", statistic, (count,)), numbers("q", q, (count,))
    side = numbers("activation", activation, (count,))
    for where, value in [("fdr", fdr), *zip(names, rate.tolist(), strict=True)]:
        if value <= 0 or value > 1:
            raise DataError("not a rate of false discoveries", where=where, found=f"{value:g}", expected="0 < q ≤ 1")
    shown = np.flatnonzero(np.isfinite(distance) & np.isfinite(rate))
    at_least_one("compounds with a distance and a q-value", len(shown))
    ranked = shown[np.lexsort((-distance[shown], rate[shown]))]
    hits = _to_name(ranked[rate[ranked] <= fdr], distance)[:_NAMED]
    height, line = -np.log10(rate), -np.log10(fdr)
    highest = max(float(height[shown].max()), line, 0.1)
    tied = hits[height[hits] > 0.99 * highest]
    combed = tied if len(tied) >= _COMB_FROM else tied[:0]
    figure = new_figure(4.6, 4.2 if len(combed) else 3.6)
    axes = figure.subplots()
    _points(axes, distance, height, _groups(shown, rate <= fdr, side, neither_label))
    axes.set_ylim(-0.04 * highest, (1.04 if len(combed) else 1.12) * highest)
    axes.margins(x=0.08)
    _draw_line(axes, line, f"q = {fdr:g}")
    axes.set_xlabel(statistic_label)
    axes.set_ylabel("q (false discovery rate), small is up")
    _q_ticks(axes)
    figure.legend(loc="outside upper left", ncols=4)
    absent = count - len(shown)
    footnote(figure, f"not shown: {count_of(absent, 'compound')} without a q-value" if absent else "")
    _name_hits(axes, names, np.column_stack([distance, height]), hits, combed, shown, line)
    return figure


def _to_name(hits: NDArray[np.intp], distance: _Array) -> NDArray[np.intp]:
    """Hits in the order in which they are named; `hits` come by q."""
    farthest = hits[np.argsort(-distance[hits], kind="stable")]
    turns = np.column_stack([farthest, hits]).ravel()
    return turns[np.sort(np.unique(turns, return_index=True)[1])]


def _draw_line(axes: Axes, line: float, text: str) -> None:
    axes.axhline(line, color=INK, lw=0.6, ls="--", zorder=0)
    across = axes.get_yaxis_transform()
    looks: dict[str, Any] = {"textcoords": "offset points", "ha": "right", "va": "bottom", "fontsize": SMALL}
    axes.annotate(text, (1, line), (0, 2), xycoords=across, **looks)


def _name_hits(
    axes: Axes,
    names: Sequence[str],
    spots: _Array,
    hits: NDArray[np.intp],
    combed: NDArray[np.intp],
    shown: NDArray[np.intp],
    line: float,
) -> None:
    others = hits[~np.isin(hits, combed)]
    short = dict(zip(hits.tolist(), shorten([names[index] for index in hits], 26), strict=True))
    unplaced = comb_labels(axes, spots[combed], [short[index] for index in combed.tolist()]) if len(combed) else 0
    ruled = np.column_stack([np.linspace(*axes.get_xlim(), 80), np.full(80, line)])  # no name across the line
    obstacles = np.vstack([spots[shown], ruled])
    unplaced += place_labels(axes, spots[others], [short[index] for index in others.tolist()], obstacles=obstacles)
    if unplaced:
        text = f"{unplaced} of {len(hits)} names found no room"
        axes.text(0.99, 0.02, text, transform=axes.transAxes, ha="right", fontsize=SMALL, color=GREY)


def _groups(
    shown: NDArray[np.intp], hit: NDArray[np.bool_], side: _Array, neither_label: str
) -> list[tuple[str, NDArray[np.intp], str, str]]:
    """(label, compounds, colour, marker), what is not a hit first."""
    called, sign = hit[shown], np.nan_to_num(side[shown])
    return [
        ("not called", shown[~called], FAINT, "o"),
        (f"hit, {neither_label}", shown[called & (sign == 0)], GREY, "o"),
        ("activating hit", shown[called & (sign > 0)], ACTIVATING, "^"),
        ("suppressing hit", shown[called & (sign < 0)], SUPPRESSING, "v"),
    ]


def _points(
    axes: Axes, distance: _Array, height: _Array, groups: Sequence[tuple[str, NDArray[np.intp], str, str]]
) -> None:
    for label, rows, colour, marker in groups:
        if len(rows) or colour != GREY:  # a hit without a direction is rare: no place in the legend unless met
            edge = GREY if colour == FAINT else "white"
            looks: dict[str, Any] = {"s": 16, "c": colour, "marker": marker, "edgecolors": edge, "linewidths": 0.3}
            axes.scatter(distance[rows], height[rows], label=f"{label} ({len(rows):,})", **looks)


def _q_ticks(axes: Axes) -> None:
    """Ticks written as the q they stand for: by factors of ten, or finer where less than two of those are in view."""
    span = axes.get_ylim()[1]
    if span >= 2:
        axes.yaxis.set_major_locator(even_ticks(6, whole=True))
    else:
        axes.set_yticks([-np.log10(rate) for rate in (1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01) if -np.log10(rate) <= span])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{10.0**-value:.3g}" if value > -0.01 else ""))
