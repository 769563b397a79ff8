"""Wells in two dimensions of the latent space."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from dpf.errors import DataError
from dpf.figures.drawing.arrays import at_least_one, flags, numbers, same_length
from dpf.figures.drawing.labels import place_labels
from dpf.figures.drawing.style import (
    CLASSES,
    CONTROL,
    FAINT,
    GREY,
    INK,
    SEQUENTIAL,
    SMALL,
    count_of,
    footnote,
    house_style,
    new_figure,
    printable,
    settle,
    shorten,
)

#: Above this many wells, dots become smaller, and in SVG and PDF an image: a file of 20,000 dots is slow to open.
_MANY = 5_000

_Array = NDArray[np.float64]
_Rows = NDArray[np.bool_]


@house_style()
def latent_map(
    coordinates: ArrayLike,
    *,
    explained: Sequence[float] | None = None,
    method: str = "PC",
    classes: Sequence[object] | None = None,
    values: ArrayLike | None = None,
    colour_label: str = "",
    controls: ArrayLike | None = None,
    hits: Mapping[str, Sequence[int]] | None = None,
    activation_direction: Sequence[float] | None = None,
) -> Figure:
    """Scatter wells by two coordinates (PCA, UMAP), coloured by a class or an amount, with the hits named.

    Parameters
    ----------
    coordinates
        Array of shape (N, 2), finite.
    explained
        The two components' shares of the variance, in [0, 1]; they stand on the axes. None: not a PCA.
    method
        Name of the axes: ``PC`` gives ``PC 1`` and ``PC 2``.
    classes
        One of a few values a well (text, numbers, flags; None: not given). The ten most frequent keep a colour of
        their own, the rest is ``other``. Not together with `values`.
    values
        Array of shape (N,), a continuous colour; NaN is drawn grey.
    colour_label
        What the colour means, with its unit; for a position on the activation axis, which side activates.
    controls
        Array of shape (N,), booleans: drawn as black crosses over the others, in place of their colour.
    hits
        Compound to its wells' row numbers, most important first: ringed, joined, and named at the outermost one.
    activation_direction
        Where wells move with activation, in these coordinates, any length: drawn as an arrow.

    Raises
    ------
    DataError
        Shapes disagree, a coordinate is not finite, or there is no well.
    """
    where = numbers("coordinates", coordinates, (None, 2))
    at_least_one("wells", len(where))
    if np.isnan(where).any():
        row = int(np.isnan(where).any(axis=1).argmax())
        raise DataError(
            "a well has no place on the map", where=f"row {row}", found="not finite", expected="two numbers"
        )
    if classes is not None and values is not None:
        raise DataError("a map has one colour", found="classes and values", expected="one of them")
    apart = np.zeros(len(where), bool) if controls is None else flags("controls", controls, len(where))
    figure = new_figure(5.4, 3.9)
    axes = figure.subplots()
    axes.set_aspect("equal", adjustable="datalim")  # the map shows distances
    axes.set_xlabel(_axis_label(method, 0, explained))
    axes.set_ylabel(_axis_label(method, 1, explained))
    notes = []
    if values is not None:
        notes = _draw_values(axes, where, numbers("values", values, (len(where),)), apart, colour_label)
    else:
        kinds = [None] * len(where) if classes is None else list(classes)
        same_length("classes", len(kinds), len(where))
        _draw_classes(axes, where, kinds, apart)
    if apart.any():
        count = int(apart.sum())
        size = {"s": 13, "linewidths": 0.8} if len(where) <= _MANY else {"s": 5, "linewidths": 0.4}
        _scatter(axes, where[apart], marker="x", c=CONTROL, zorder=3, label=f"controls (n = {count:,})", **size)
    _legend(figure, axes, printable(colour_label) if classes is not None else "", len(where))
    footnote(figure, "; ".join(notes))
    arrow = np.empty((0, 2))
    if activation_direction is not None:
        arrow = _draw_axis(axes, where, numbers("activation_direction", activation_direction, (2,)))
    _name_hits(axes, where, hits or {}, arrow)
    return figure


def _axis_label(method: str, index: int, explained: Sequence[float] | None) -> str:
    name = f"{method} {index + 1}"
    return name if explained is None else f"{name} ({100 * explained[index]:.1f}% of variance)"


def _scatter(axes: Axes, spots: _Array, **looks: Any) -> PathCollection:
    return axes.scatter(spots[:, 0], spots[:, 1], **looks)


def _dots(count: int) -> dict[str, Any]:
    many = count > _MANY
    return {"s": 3 if many else 11, "linewidths": 0 if many else 0.25, "edgecolors": "white", "rasterized": many}


def _draw_values(axes: Axes, where: _Array, values: _Array, apart: _Rows, label: str) -> list[str]:
    missing = np.isnan(values) & ~apart
    shown = ~np.isnan(values) & ~apart
    dots = _dots(len(where))
    _scatter(axes, where[missing], c=FAINT, **dots)
    if shown.any():
        drawn = _scatter(axes, where[shown], c=values[shown], cmap=SEQUENTIAL, **dots)
        figure = axes.figure
        bar = figure.colorbar(drawn, ax=axes, shrink=0.6, aspect=18, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label(printable(label))
    return [f"light grey: {count_of(int(missing.sum()), 'well')} without a value"] if missing.any() else []


def _draw_classes(axes: Axes, where: _Array, kinds: Sequence[object], apart: _Rows) -> None:
    names = [None if kind is None or kind != kind or kind == "" else str(kind) for kind in kinds]  # NaN is not NaN
    met = Counter(name for name, control in zip(names, apart, strict=True) if name is not None and not control)
    ordered = sorted(met, key=lambda name: (-met[name], name))
    own, rest = ordered[: len(CLASSES)], set(ordered[len(CLASSES) :])
    dots = _dots(len(where))
    of = np.array([name if name is not None else "" for name in names], dtype=object)

    def draw(rows: _Rows, colour: str, marker: str, label: str) -> None:
        text = f"{label} (n = {int(rows.sum()):,})"
        _scatter(axes, where[rows], c=colour, marker=marker, label=text, **dots)

    unnamed = (of == "") & ~apart
    other = np.array([name in rest for name in of], dtype=bool) & ~apart
    for name, short, (colour, marker) in zip(own, shorten(own, 26), CLASSES, strict=False):
        draw((of == name) & ~apart, colour, marker, short)
    if other.any():
        draw(other, GREY, "o", f"{len(rest):,} other")
    if unnamed.any():
        draw(unnamed, FAINT if met else GREY, "o", "not given" if met else "wells")


def _legend(figure: Figure, axes: Axes, title: str, count: int) -> None:
    handles = axes.get_legend_handles_labels()[0]
    if not handles:
        return
    larger = 1.6 if count > _MANY else 1.0
    if len(handles) > 1:
        figure.legend(loc="outside right upper", title=title or None, alignment="left", markerscale=larger)
    else:
        figure.legend(loc="outside upper left", markerscale=larger)


def _draw_axis(axes: Axes, where: _Array, direction: _Array) -> _Array:
    """Draw the direction of activation in the emptiest corner; return the points of the map that it covers."""
    length = float(np.linalg.norm(direction))
    if not length > 0:
        return np.empty((0, 2))
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    settle(figure)
    seen = axes.transAxes.inverted().transform(axes.transData.transform(where))
    corners = [np.array([x, y]) for x in (0.1, 0.9) for y in (0.11, 0.89)]
    middle = min(corners, key=lambda corner: int((np.abs(seen - corner) < 0.12).all(axis=1).sum()))
    half = 0.07 * direction / length
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0}
    tip, tail = tuple(middle + half), tuple(middle - half)
    axes.annotate("", tip, tail, xycoords="axes fraction", textcoords="axes fraction", arrowprops=arrow)
    below = (middle[0], middle[1] - abs(half[1]) - 0.015)
    axes.text(*below, "activating", transform=axes.transAxes, fontsize=SMALL, ha="center", va="top")
    grid = np.stack(np.meshgrid(np.linspace(-0.09, 0.09, 25), np.linspace(-0.12, 0.08, 25)), axis=-1).reshape(-1, 2)
    covered: _Array = axes.transData.inverted().transform(axes.transAxes.transform(middle + grid))
    return covered


def _name_hits(axes: Axes, where: _Array, hits: Mapping[str, Sequence[int]], covered: _Array) -> None:
    """Ring each hit's wells, join them, and write its name at the one farthest from the middle of the map."""
    anchors = []
    for name, rows in hits.items():
        at_least_one(f"wells of {name}", len(rows))
        own = where[list(rows)]
        anchors.append(own[np.linalg.norm(own - where.mean(axis=0), axis=1).argmax()])
        for spot in own:
            axes.plot([spot[0], anchors[-1][0]], [spot[1], anchors[-1][1]], color=INK, lw=0.4, alpha=0.5, zorder=2)
        _scatter(axes, own, s=26, facecolors="none", edgecolors=INK, linewidths=0.6, zorder=4)
    if not anchors:
        return
    names = shorten(list(hits), 28)
    unplaced = place_labels(axes, np.array(anchors), names, obstacles=np.vstack([where, covered]))
    if unplaced:
        axes.set_title(f"{unplaced:,} of {len(hits):,} names found no room", loc="right", fontsize=SMALL, color=GREY)
