"""Wells and genes chosen out of a large array without a second one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BLOCK_CELLS = 1 << 22


def select_rows(values: NDArray[np.float32], rows: Sequence[int] | NDArray[np.intp]) -> NDArray[np.float32]:
    """``values[rows]``, written over the first rows of `values` itself.

    Parameters
    ----------
    values
        Array of shape (N, G), in any memory order; its contents are lost.
    rows
        At most N different row numbers, in any order.

    Returns
    -------
    ndarray of shape (len(rows), G)
        A view of `values`.
    """
    chosen = np.asarray(rows, dtype=np.intp)
    selected = values[: len(chosen)]
    if (chosen == np.arange(len(chosen))).all():
        return selected
    step = max(1, _BLOCK_CELLS // max(1, len(values)))
    for start in range(0, values.shape[1], step):
        block = slice(start, start + step)
        selected[:, block] = values[:, block][chosen]
    return selected


def select_columns(values: NDArray[np.float32], columns: NDArray[np.bool_]) -> NDArray[np.float32]:
    """``values[:, columns]``, written over the first columns of `values` itself.

    Parameters
    ----------
    values
        Array of shape (N, G), in any memory order; its contents are lost.
    columns
        Boolean array of shape (G,): the K columns to keep.

    Returns
    -------
    ndarray of shape (N, K)
        A view of `values`.
    """
    if columns.all():
        return values
    selected = values[:, : int(columns.sum())]
    step = max(1, _BLOCK_CELLS // max(1, values.shape[1]))
    for start in range(0, len(values), step):
        block = slice(start, start + step)
        selected[block] = values[block][:, columns]
    return selected
