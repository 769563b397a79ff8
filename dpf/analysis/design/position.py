"""Where a well lies on its plate: what position alone can predict, and what is left without it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.design.wells import MISSING, Codes, codes_of
from dpf.analysis.latent.position_adjustment import one_hot
from dpf.tables.roles.well_names import PLATE_SHAPES, row_number

Floats = NDArray[np.float64]


def position_design(
    plate: Sequence[str | None] | None, row: Sequence[str | None] | None, column: Sequence[int | None] | None
) -> Floats | None:
    """What a model that sees no gene may know of N wells, shape (N, P); None where nothing of their position is known.

    One-hot plate, row and column (a missing one is a level of its own), and `edge_distance` where it is known. What is
    the same in every well is left out.
    """
    factors = [codes_of(values)[0] + 1 for values in (plate, row, column) if values is not None]
    varying = [codes for codes in factors if np.ptp(codes) > 0]
    columns = [one_hot(varying)] if varying else []
    edge = None if row is None or column is None else edge_distance(row, column)
    if edge is not None and np.ptp(edge) > 0:
        columns.append(edge[:, None])
    return np.concatenate(columns, axis=1) if columns else None


def depth_design(plate: Sequence[str | None] | None, depth: Floats) -> Floats | None:
    """What a model may know of N wells that sees how many counts they have, and no gene: shape (N, Q); else None.

    Log depth over all wells as z-scores (0 where it is not known), and the plate one-hot. None where depth does not
    vary.

    Parameters
    ----------
    depth
        Shape (N,): counts; NaN where not known.
    """
    logs = np.log(np.where(depth > 0, depth, np.nan))
    known = ~np.isnan(logs)
    if not known.any() or np.ptp(logs[known]) == 0:
        return None
    scaled = np.where(known, (logs - logs[known].mean()) / logs[known].std(), 0.0)[:, None]
    plates = np.zeros(len(depth), dtype=np.intp) if plate is None else codes_of(plate)[0] + 1
    return np.concatenate([scaled, one_hot([plates])], axis=1) if np.ptp(plates) > 0 else scaled


def edge_distance(row: Sequence[str | None], column: Sequence[int | None]) -> Floats | None:
    """Wells between each well and the nearest edge of its plate, shape (N,): 0 in the outer ring.

    All plates are taken to be of the smallest format (96, 384, 1536) that holds every well. None where a row is
    not a row letter (A, B, ... AF), a column not a number from 1, or a well lies on no such plate.
    """
    lettered = [re.fullmatch("[A-Za-z]{1,2}", value or "") is not None for value in row]
    if not lettered or not all(lettered) or not all(value is not None and value >= 1 for value in column):
        return None
    y = np.array([row_number(str(value)) for value in row])
    x = np.array([int(value) for value in column if value is not None])
    for height, width in PLATE_SHAPES.values():
        if y.max() <= height and x.max() <= width:
            return np.asarray(np.minimum.reduce([y - 1, height - y, x - 1, width - x]), dtype=np.float64)
    return None


def position_cells(plate: Sequence[str | None] | None, column: Sequence[int | None]) -> Codes:
    """The number of each well's plate×column cell, shape (N,); −1 where its plate or column is unknown.

    Without plate names (None) all wells are taken to lie on one plate.
    """
    plates = np.zeros(len(column), dtype=np.intp) if plate is None else codes_of(plate)[0]
    columns, names = codes_of(column)
    return np.where((plates == MISSING) | (columns == MISSING), MISSING, plates * len(names) + columns)


def within_position(values: ArrayLike, cells: Codes) -> Floats:
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
