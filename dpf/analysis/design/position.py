"""Where a well lies on its plate: what position alone can predict, and what is left without it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.tables.roles.well_names import PLATE_SHAPES, row_number

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PositionDesign:
    """The features of a model of position alone.

    Attributes
    ----------
    names
        The P columns: ``plate=P1``, ``row=A``, ``column=12``, ``edge``.
    matrix
        float64 array of shape (N, P): one-hot plate, row and column (a missing one is a level of its own),
        and `edge`, the number of wells between a well and the nearest edge of its plate.
    """

    names: tuple[str, ...]
    matrix: Floats


def position_design(
    plate: Sequence[str | None] | None, row: Sequence[str | None] | None, column: Sequence[int | None] | None
) -> PositionDesign | None:
    """The position design of N wells; None where nothing about their position is known.

    A factor with a single level is left out, and `edge` where `edge_distance` is not known.
    """
    names: list[str] = []
    columns: list[Floats] = []
    for name, values in (("plate", plate), ("row", row), ("column", column)):
        levels = _levels(values)
        if len(levels) > 1 and values is not None:
            for level in levels:
                names.append(f"{name}={'unknown' if level is None else level}")
                columns.append(np.array([_level(value) == level for value in values], dtype=np.float64))
    edge = None if row is None or column is None else edge_distance(row, column)
    if edge is not None and np.ptp(edge) > 0:
        names.append("edge")
        columns.append(edge)
    return PositionDesign(tuple(names), np.stack(columns, axis=1)) if columns else None


def edge_distance(row: Sequence[str | None], column: Sequence[int | None]) -> Floats | None:
    """Wells between each well and the nearest edge of its plate, shape (N,): 0 in the outer ring.

    All plates are taken to be of the smallest format (96, 384, 1536) that holds every well. None where a row is
    not a row letter (A, B, ... AF), a column not a number from 1, or a well lies on no such plate.
    """
    lettered = [re.fullmatch("[A-Za-z]{1,2}", str(value or "")) is not None for value in row]
    numbered = [_level(value) is not None and value >= 1 for value in column if value is not None]
    if not lettered or not all(lettered) or len(numbered) < len(column) or not all(numbered):
        return None
    y = np.array([row_number(str(value)) for value in row])
    x = np.array([int(value) for value in column if value is not None])
    for height, width in PLATE_SHAPES.values():
        if y.max() <= height and x.max() <= width:
            return np.asarray(np.minimum.reduce([y - 1, height - y, x - 1, width - x]), dtype=np.float64)
    return None


def position_cells(plate: Sequence[str | None] | None, column: Sequence[int | None]) -> NDArray[np.intp]:
    """The number of each well's plate×column cell, shape (N,); −1 where its plate or column is unknown.

    Without plate names (None) all wells are taken to lie on one plate.
    """
    plates: Sequence[str | None] = ["the plate"] * len(column) if plate is None else plate
    numbers: dict[tuple[object, object], int] = {}
    cells = []
    for key in ((_level(name), _level(value)) for name, value in zip(plates, column, strict=True)):
        cells.append(-1 if None in key else numbers.setdefault(key, len(numbers)))
    return np.array(cells, dtype=np.intp)


def within_position(values: ArrayLike, cells: NDArray[np.intp]) -> Floats:
    """`values` less the mean of their plate×column cell: what no effect of plate and column can explain.

    `v'_i = v_i − mean(v_j : cell_j = cell_i, v_j observed)`.

    Parameters
    ----------
    values
        Shape (N,) or (N, S), nan where missing.
    cells
        Shape (N,), from `position_cells`.

    Returns
    -------
    ndarray
        As `values`; nan where a well is not placed or is the only one observed in its cell, since its own mean
        would leave 0 and count as a perfect prediction.
    """
    v = np.asarray(values, dtype=np.float64)
    table = v[:, None] if v.ndim == 1 else v
    result = np.full_like(table, np.nan)
    for s in range(table.shape[1]):
        known = np.flatnonzero(~np.isnan(table[:, s]) & (cells >= 0))
        count = np.bincount(cells[known])
        total = np.bincount(cells[known], weights=table[known, s])
        shared = known[count[cells[known]] > 1]
        left = table[shared, s] - total[cells[shared]] / count[cells[shared]]
        # What is left of a constant is rounding; it must not be correlated with anything.
        rounding = 64 * np.finfo(np.float64).eps * np.abs(table[shared, s])
        result[shared, s] = np.where(np.abs(left) <= rounding, 0.0, left)
    return result.reshape(v.shape)


def _level(value: object) -> object:
    missing = value is None or value == "" or (isinstance(value, float) and math.isnan(value))
    return None if missing else value


def _levels(values: Sequence[object] | None) -> list[object]:
    """The distinct levels in natural order, None (missing) last."""
    levels = {_level(value) for value in values or ()}
    known = [level for level in levels if level is not None]
    ordered = sorted(known, key=lambda v: (isinstance(v, str), len(v) if isinstance(v, str) else 0, v))
    return [*ordered, None] if None in levels else list(ordered)
