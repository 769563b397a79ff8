"""Names next to their points, none on top of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dpf.figures.drawing.style import GREY, SMALL, settle, text_size

#: Where a label may go: right and left first, that is where a reader looks; distances in points.
_ANGLES: Final = np.deg2rad(sorted(range(0, 360, 15), key=lambda angle: (min(angle % 180, 180 - angle % 180), angle)))
_REACHES: Final = np.array([4, 8, 13, 19, 26, 34, 43, 53, 64, 76, 90, 105, 120, 135, 150], dtype=np.float64)
_TOUCHING: Final = 5.0  # a label this near needs no line to its point
_MARGIN: Final = 1.5
#: Costs of a place, in points of distance.
_COVERED_POINT: Final = 6.0
_COVERED_ANCHOR: Final = 60.0
_HEMMED_ANCHOR: Final = 6.0  # a label so near to another's point that it could be read as its name, or blocks its line
_STRUCK_POINT: Final = 3.0  # a line runs over it
_CROSSED_LINE: Final = 60.0
_CROSSED_NAME: Final = 120.0  # its line runs under another's name
_HEM: Final = 7.0
#: Rounds in which every label is placed again among the others, since the first ones may have blocked better places.
_ROUNDS: Final = 3
_TOOTH: Final = 9.5  # between the names of a comb
_MOST_OBSTACLES: Final = 4_000

_Array = NDArray[np.float64]


def comb_labels(axes: Axes, anchors: _Array, texts: Sequence[str]) -> int:
    """Write the names of points that lie side by side at the top of the axes above these, slanted, like a comb.

    For points that share one height, where names next to them would overlap. The order is the importance:
    where the axes are too narrow, the last ones are left out.

    Parameters
    ----------
    anchors
        Array of shape (K, 2), in data coordinates, finite.

    Returns
    -------
    How many labels found no place.
    """
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()  # the axes' width; names above them will not change it by much
    point = figure.dpi / 72
    frame = np.asarray(axes.get_window_extent().get_points(), dtype=np.float64) / point
    width = float(frame[1, 0] - frame[0, 0])
    kept = sorted(range(len(texts))[: int(width / _TOOTH)], key=lambda index: float(anchors[index, 0]))
    wanted = axes.transData.transform(anchors[kept])[:, 0] / point - frame[0, 0]
    heads = axes.transAxes.transform(np.column_stack([apart(wanted, _TOOTH, width) / width, np.ones(len(kept))]))
    across = axes.get_xaxis_transform()
    looks: dict[str, Any] = {"color": GREY, "lw": 0.4, "clip_on": False, "zorder": 0, "scalex": False, "scaley": False}
    for index, head in zip(kept, axes.transData.inverted().transform(heads)[:, 0], strict=True):
        x, y = anchors[index]
        axes.plot([x, x], [y, axes.get_ylim()[1]], **looks)
        axes.plot([x, head], [1, 1.06], transform=across, **looks)
        axes.text(head, 1.07, texts[index], transform=across, fontsize=SMALL, rotation=65, rotation_mode="anchor")
    return len(texts) - len(kept)


class _Places(NamedTuple):
    """The P places of one label within the axes: boxes and leader lines as corners and ends, in points, and costs."""

    boxes: _Array  # [P, 2, 2]
    lines: _Array  # [P, 2, 2]
    cost: _Array  # [P]


def place_labels(axes: Axes, anchors: _Array, texts: Sequence[str], *, obstacles: _Array) -> int:
    """Write each text near its anchor, on no other label, and over as few points as can be.

    Each label has a fixed ring of places around its anchor. In the order given (the most important first), and then
    twice more, it takes the one that costs least in distance, in points covered or struck by its leader line, and in
    lines crossed; a place on another label or outside the axes is never taken. A label that finds no place is not
    written. Fixes the figure's layout and the axes' limits, so call it last.

    Parameters
    ----------
    anchors
        Array of shape (K, 2), in data coordinates, finite.
    obstacles
        Array of shape (P, 2): the points to keep visible, in data coordinates.

    Returns
    -------
    How many labels found no place.
    """
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    settle(figure)
    axes.autoscale(False)
    point = figure.dpi / 72
    spots = axes.transData.transform(np.reshape(anchors, (-1, 2))) / point  # [K, 2], in points
    crowd = axes.transData.transform(np.reshape(obstacles, (-1, 2))) / point  # [P, 2]
    crowd = crowd[:: 1 + len(crowd) // _MOST_OBSTACLES]
    frame = np.asarray(axes.get_window_extent().get_points(), dtype=np.float64) / point  # [2, 2]
    places = [
        _places(spots[index], np.array(text_size(figure, text)), crowd, np.delete(spots, index, axis=0), frame)
        for index, text in enumerate(texts)
    ]
    chosen: list[int | None] = [None] * len(texts)
    for index in list(range(len(texts))) * _ROUNDS:
        chosen[index] = None
        placed = [(places[i].boxes[at], places[i].lines[at]) for i, at in enumerate(chosen) if at is not None]
        chosen[index] = _choice(places[index], placed)
    for index, at in enumerate(chosen):
        if at is not None:
            box, line = places[index].boxes[at], places[index].lines[at]
            _write(axes, texts[index], anchors[index], spots[index], box, line)
    return chosen.count(None)


def _places(spot: _Array, size: _Array, crowd: _Array, others: _Array, frame: _Array) -> _Places:
    reach, turn = (grid.ravel() for grid in np.meshgrid(_REACHES, np.arange(len(_ANGLES)), indexing="ij"))
    way = np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)]).round(6)[turn]
    low = spot + way * reach[:, None] + size / 2 * np.sign(way) - size / 2
    boxes = np.stack([low, low + size], axis=1)
    lines = np.stack([np.broadcast_to(spot, low.shape), np.clip(spot, low, low + size)], axis=1)
    near = crowd[(np.abs(crowd - spot) < _REACHES[-1] + size).all(axis=1)]
    cost = reach + 0.05 * turn
    cost += _COVERED_POINT * _inside(boxes, near, _MARGIN) + _COVERED_ANCHOR * _inside(boxes, others, _MARGIN)
    cost += _HEMMED_ANCHOR * _inside(boxes, others, _HEM) + _STRUCK_POINT * _struck(lines, near)
    inside = ((boxes[:, 0] - _MARGIN >= frame[0]) & (boxes[:, 1] + _MARGIN <= frame[1])).all(axis=1)
    return _Places(boxes[inside], lines[inside], cost[inside])


def _choice(places: _Places, placed: Sequence[tuple[_Array, _Array]]) -> int | None:
    """The cheapest place among labels already placed; None where every place is on one of them or outside."""
    boxes, lines, cost = places.boxes, places.lines, places.cost.copy()
    along = np.linspace(0, 1, 25)[:, None]
    ways = lines[:, :1] + along * (lines[:, 1:] - lines[:, :1])  # [P, 25, 2]
    for box, line in placed:
        overlaps = ((boxes[:, 0] - _MARGIN < box[1]) & (boxes[:, 1] + _MARGIN > box[0])).all(axis=1)
        barred = ((ways > box[0]) & (ways < box[1])).all(axis=2).any(axis=1)
        under = _inside(boxes, line[0] + along * (line[1] - line[0]), _MARGIN) > 0
        cost += _CROSSED_NAME * barred + _CROSSED_LINE * (under | _cross(lines, line))
        cost[overlaps] = np.inf
    return int(cost.argmin()) if np.isfinite(cost).any() else None


def _inside(boxes: _Array, points: _Array, margin: float) -> NDArray[np.int64]:
    """How many of the points lie in each box or within `margin` of it."""
    within = (points > boxes[:, :1] - margin) & (points < boxes[:, 1:] + margin)  # [P, points, 2]
    counts: NDArray[np.int64] = within.all(axis=2).sum(axis=1)
    return counts


def _struck(lines: _Array, points: _Array) -> NDArray[np.int64]:
    """How many of the points lie under each line, its own end aside."""
    way = lines[:, 1] - lines[:, 0]
    length = np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-9)
    from_start = points - lines[:, :1]  # [P, points, 2]
    along = (from_start * (way / length)[:, None]).sum(axis=2)
    distance = np.abs(from_start[..., 0] * way[:, 1:] - from_start[..., 1] * way[:, :1]) / length
    struck: NDArray[np.int64] = ((along > _REACHES[0]) & (along < length) & (distance < _MARGIN)).sum(axis=1)
    return struck


def _cross(lines: _Array, other: _Array) -> NDArray[np.bool_]:
    """Which of the lines cross the other one."""

    def side(a: _Array, b: _Array, c: _Array) -> _Array:
        turn: _Array = (b[..., 0] - a[..., 0]) * (c[..., 1] - a[..., 1]) - (b[..., 1] - a[..., 1]) * (
            c[..., 0] - a[..., 0]
        )
        return turn

    a, b, c, d = lines[:, 0], lines[:, 1], other[0], other[1]
    return (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)


def _write(axes: Axes, text: str, anchor: _Array, spot: _Array, box: _Array, line: _Array) -> None:
    if float(np.linalg.norm(line[1] - line[0])) > _TOUCHING:
        looks = {"arrowstyle": "-", "color": GREY, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 2}
        to = tuple(line[1] - spot)
        axes.annotate("", tuple(anchor), to, textcoords="offset points", arrowprops=looks, annotation_clip=False)
    axes.annotate(
        text,
        tuple(anchor),
        tuple(box.mean(axis=0) - spot),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=SMALL,
        bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.4},
        annotation_clip=False,
        zorder=5,
    )


def apart(wanted: _Array, gap: float, last: float) -> _Array:
    """The places in [0, last] nearest to the (sorted) wanted ones that are `gap` apart, by least squares."""
    from scipy.optimize import isotonic_regression  # imported here: it costs more than the rest of this module

    steps = gap * np.arange(len(wanted))
    pooled = isotonic_regression(wanted - steps).x
    spread: _Array = np.clip(pooled, 0, max(0.0, last - gap * (len(wanted) - 1))) + steps
    return spread
