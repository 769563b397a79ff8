"""Methods side by side, a panel a metric, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from dpf.figures.drawing.arrays import at_least_one, numbers, same_length
from dpf.figures.drawing.style import (
    BAND,
    GREY,
    INK,
    OKABE_ITO,
    SMALL,
    even_ticks,
    footnote,
    house_style,
    new_figure,
    shorten,
)

_PANELS_A_ROW = 4


class Metric(NamedTuple):
    """One metric of every method: array of shape (M,), NaN where it does not apply, and the ends of its interval."""

    name: str
    value: ArrayLike
    low: ArrayLike | None = None
    high: ArrayLike | None = None
    higher_is_better: bool = True
    chance: float | None = None  # the value at chance: a dotted line


@house_style()
def scoreboard(
    methods: Sequence[str],
    metrics: Sequence[Metric],
    *,
    ours: Sequence[str] = (),
) -> Figure:
    """Draw each method's metrics as dots with their intervals, the methods in the order given.

    Parameters
    ----------
    methods
        M names, from top to bottom.
    metrics
        A panel each; the axis label says which direction is better.
    ours
        The methods to draw in colour; the others are grey.

    Raises
    ------
    DataError
        Lengths disagree, or there is no method or no metric.
    """
    at_least_one("methods", len(methods))
    at_least_one("metrics", len(metrics))
    columns = min(len(metrics), _PANELS_A_ROW)
    rows = -(-len(metrics) // columns)
    figure = new_figure(1.5 + 1.55 * columns, rows * (0.17 * len(methods) + 0.75) + 0.2)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    short = shorten(methods, 32)
    for axes, metric in zip(panels.ravel(), metrics, strict=False):
        _panel(axes, metric, [name in ours for name in methods])
    for axes in panels.ravel()[len(metrics) :]:
        axes.set_axis_off()
    for axes in panels[:, 0]:
        axes.set_yticks(range(len(methods)), short)
        axes.set_ylim(len(methods) - 0.4, -0.6)
    shown = any(metric.low is not None for metric in metrics)
    footnote(figure, "bars: 95% bootstrap interval over compounds" if shown else "")
    return figure


def _panel(axes: Axes, metric: Metric, ours: Sequence[bool]) -> None:
    count = len(ours)
    value = numbers(metric.name, metric.value, (count,))
    ends = [None if end is None else numbers(metric.name, end, (count,)) for end in (metric.low, metric.high)]
    same_length(f"ends of the interval of {metric.name}", sum(end is None for end in ends) % 2, 0)
    if metric.chance is not None:
        axes.axvline(metric.chance, color=GREY, lw=0.7, ls=":", zorder=0)
    for row, own in enumerate(ours):
        colour = OKABE_ITO["blue"] if own else GREY
        if np.isnan(value[row]):
            looks: dict[str, Any] = {"fontsize": 5, "color": GREY, "va": "center"}
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
            axes.text(0.03, row, "does not apply", transform=axes.get_yaxis_transform(), bbox=box, **looks)
            continue
        if ends[0] is not None and ends[1] is not None:
            axes.plot([ends[0][row], ends[1][row]], [row, row], color=colour, lw=1.1, solid_capstyle="butt")
        axes.plot(value[row], row, "o", ms=4.5, color=colour, mec="white", mew=0.4, zorder=3)
    axes.set_title(metric.name)
    axes.set_xlabel("higher is better →" if metric.higher_is_better else "← lower is better", fontsize=SMALL, color=INK)
    axes.grid(axis="y", color=BAND, lw=0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(even_ticks(4))
