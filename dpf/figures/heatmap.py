"""Which compounds' signatures are alike: a similarity matrix in the order of its clustering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from dpf.figures.drawing.arrays import at_least_one, numbers
from dpf.figures.drawing.labels import apart
from dpf.figures.drawing.style import (
    ACTIVATING,
    DIVERGING,
    FAINT,
    GREY,
    SMALL,
    SUPPRESSING,
    house_style,
    new_figure,
    shorten,
    text_size,
)

#: Up to this many compounds every row has its name.
_ALL_NAMED = 110
#: Inches: what a name needs, the margins, and the parts at the left of the matrix and below it.
_LINE, _MARGIN, _TREE, _STRIP, _BAR = 0.115, 0.06, 0.75, 0.15, 1.8
_MISSING = "#BFBFBF"

_Array = NDArray[np.float64]


@house_style()
def similarity_heatmap(
    similarity: ArrayLike,
    names: Sequence[str],
    *,
    linkage: ArrayLike | None = None,
    activation: ArrayLike | None = None,
    named: Sequence[int] = (),
    label: str = "cosine similarity of signatures",
) -> Figure:
    """Draw the similarity of every pair of compounds, with the tree it was clustered by and each one's direction.

    Parameters
    ----------
    similarity
        Array of shape (C, C), symmetric; NaN is grey. Red: alike; blue: opposite.
    linkage
        Array of shape (C − 1, 4), the merges as `scipy.cluster.hierarchy.linkage` returns them: the tree and the order
        of the rows. None: the order given, no tree.
    activation
        Array of shape (C,), the mean position on the activation axis: its sign is drawn as a strip next to the rows,
        activating vermillion, suppressing blue, neither grey.
    named
        Above 110 compounds, the row numbers (before clustering) of those to name, most important first.

    Raises
    ------
    DataError
        Lengths disagree, the linkage is not one of C rows, or there is no compound.
    """
    count = len(names)
    at_least_one("compounds", count)
    values = numbers("similarity", similarity, (count, count))
    tree = None
    if linkage is not None and count > 1:
        from scipy.cluster.hierarchy import dendrogram  # imported here: it costs more than the rest of this module

        tree = dendrogram(numbers("linkage", linkage, (count - 1, 4)), no_plot=True)
    order = np.arange(count) if tree is None else np.array(tree["leaves"])
    everything = count <= _ALL_NAMED
    side = max(_LINE * count, 1.6) if everything else 6.0
    rows = list(range(count)) if everything else list(dict.fromkeys(named))[: int(side / _LINE)]
    figure = new_figure(1, 1, arranged=False)
    axes, bar_axes = _frame(figure, side, shorten([names[row] for row in rows], 30), tree is not None)
    looks: dict[str, Any] = {"cmap": _colours(), "vmin": -1, "vmax": 1}
    drawn = axes.imshow(values[np.ix_(order, order)], aspect="auto", interpolation="nearest", **looks)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    _name_rows(axes, names, order, rows, side)
    if activation is not None:
        _strip(figure, axes, numbers("activation", activation, (count,))[order], side)
    if tree is not None:
        # scipy puts the leaves at 5, 15, 25, ...
        brackets = np.stack([tree["dcoord"], (np.array(tree["icoord"]) - 5) / 10], axis=-1)  # [C - 1, 4, 2]
        _draw_tree(axes, brackets, count, side)
    bar = figure.colorbar(drawn, cax=bar_axes, orientation="horizontal", ticks=[-1, -0.5, 0, 0.5, 1])
    bar.set_label(f"{label}\n(blue: opposite, red: alike)")
    bar.outline.set_visible(False)
    if not everything:
        text = f"{count:,} compounds, {len(rows):,} of them named"
        figure.text(0.01, 0.01, text, fontsize=SMALL, color=GREY, va="bottom")
    return figure


def _frame(figure: Figure, side: float, names: Sequence[str], has_tree: bool) -> tuple[Axes, Axes]:
    """Size the figure to its contents, in inches, and place the matrix and its colour bar."""
    words = max((text_size(figure, name)[0] for name in names), default=0) / 72
    left, bottom, top = _MARGIN + _STRIP + (_TREE if has_tree else 0), 1.0, 0.32
    width, height = left + max(side, _BAR - left) + 0.3 + words + _MARGIN, bottom + side + top
    figure.set_size_inches(width, height)
    axes = figure.add_axes((left / width, bottom / height, side / width, side / height))
    bar_left = max(left + side / 2 - _BAR / 2, 2 * _MARGIN)
    bar_axes = figure.add_axes((bar_left / width, 0.72 / height, _BAR / width, 0.1 / height))
    return axes, bar_axes


def _colours() -> ListedColormap:
    steps = colormaps[DIVERGING](np.linspace(0, 1, 256))
    return ListedColormap(steps).with_extremes(bad=_MISSING)  # type: ignore[return-value]


def _draw_tree(axes: Axes, brackets: _Array, count: int, side: float) -> None:
    tree = axes.inset_axes((-(_STRIP + _TREE) / side, 0, 0.97 * _TREE / side, 1))
    tree.set_axis_off()
    tree.add_collection(LineCollection(list(brackets), colors=GREY, linewidths=0.5))
    tree.set_xlim(1.02 * max(float(brackets[..., 0].max(initial=0)), 1e-12), 0)
    tree.set_ylim(count - 0.5, -0.5)


def _strip(figure: Figure, axes: Axes, activation: _Array, side: float) -> None:
    strip = axes.inset_axes((-0.85 * _STRIP / side, 0, 0.6 * _STRIP / side, 1))
    strip.set_axis_off()
    sign = np.sign(np.nan_to_num(activation))
    strip.imshow(sign[:, None], cmap=ListedColormap([SUPPRESSING, FAINT, ACTIVATING]), vmin=-1, vmax=1, aspect="auto")
    meanings = [(ACTIVATING, "activating", 1), (SUPPRESSING, "suppressing", -1), (FAINT, "no direction", 0)]
    handles = [Patch(color=colour, label=text) for colour, text, value in meanings if (sign == value).any()]
    figure.legend(handles=handles, loc="upper left", ncols=3)


def _name_rows(axes: Axes, names: Sequence[str], order: NDArray[np.intp], rows: Sequence[int], side: float) -> None:
    """Write the rows' names at the right, moved apart where they would touch, and then joined to their rows."""
    if not rows:
        return
    count = len(order)
    place = np.empty(count)
    place[order] = np.arange(count)
    rows = sorted(rows, key=lambda row: place[row])
    wanted = place[list(rows)]
    heights = wanted if len(rows) == count else apart(wanted, _LINE * count / side, count - 1)
    edge, step = count - 0.5, count / side  # one step is an inch
    for text, at, height in zip(shorten([names[row] for row in rows], 30), wanted, heights, strict=True):
        if len(rows) < count:
            line = ([edge, edge + 0.06 * step, edge + 0.2 * step], [at, at, height])
            axes.plot(*line, color=GREY, lw=0.4, clip_on=False, scalex=False, scaley=False)
        gap = (0.05 if len(rows) == count else 0.23) * step
        axes.text(edge + gap, height, text, fontsize=SMALL, va="center_baseline")
