"""The genes a prediction rests on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from dpf.figures.drawing.arrays import at_least_one, numbers
from dpf.figures.drawing.style import (
    ACTIVATING,
    GREY,
    INK,
    SUPPRESSING,
    count_of,
    direction_colour,
    even_ticks,
    footnote,
    house_style,
    new_figure,
    shorten,
)


@house_style()
def top_genes(
    genes: Sequence[str],
    importance: ArrayLike,
    signed: ArrayLike,
    *,
    target: str = "activation",
    spread: ArrayLike | None = None,
    top: int = 25,
) -> Figure:
    """Draw the most important genes as bars, coloured by whether they push the target up or down.

    Parameters
    ----------
    genes
        G names, in any order.
    importance
        Array of shape (G,), 0 or more: the bars' lengths, and the order. A gene without a value is not drawn.
    signed
        Array of shape (G,), the gene's direction (the mean gradient). Above 0: more of the gene pushes the target up
        (towards activation); below 0, down (towards suppression).
    target
        What was explained.
    spread
        Array of shape (G,), the half width of each bar's whisker, NaN for none.

    Raises
    ------
    DataError
        Lengths disagree, or no gene has a value.
    """
    count = len(genes)
    heights = numbers("importance", importance, (count,))
    signs = numbers("signed", signed, (count,))
    order = np.argsort(-heights, kind="stable")[: min(top, int(np.isfinite(heights).sum()))]
    at_least_one("genes with a value", len(order))
    figure = new_figure(4.2, 0.15 * len(order) + 0.95)
    axes = figure.subplots()
    rows = np.arange(len(order))
    colours = [direction_colour(signs[index]) for index in order]
    axes.barh(rows, heights[order], height=0.72, color=colours)
    if spread is not None:
        width = numbers("spread", spread, (count,))[order]
        axes.errorbar(heights[order], rows, xerr=np.nan_to_num(width), fmt="none", ecolor=INK, elinewidth=0.7)
    axes.set_yticks(rows, shorten([genes[index] for index in order], 24))
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("importance: mean |gradient × input| over wells")
    axes.xaxis.set_major_locator(even_ticks(5))
    up, down = ("towards activation", "towards suppression") if target == "activation" else ("raises it", "lowers it")
    handles = [Patch(color=ACTIVATING, label=up), Patch(color=SUPPRESSING, label=down)]
    if not (np.abs(signs[order]) > 0).all():
        handles.append(Patch(color=GREY, label="no sign"))
    title = f"{target}: more of the gene pushes" if target == "activation" else f"{target}: more of the gene"
    figure.legend(handles=handles, loc="outside upper left", ncols=3, title=title, alignment="left")
    whiskers = "; whiskers: SD over members" if spread is not None else ""
    footnote(figure, f"{len(order):,} of {count_of(count, 'gene')}{whiskers}")
    return figure
