"""Natural cubic splines."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def natural_spline_basis(x: ArrayLike, columns: int) -> Floats:
    """Basis (n, columns) of the cubic splines that are linear beyond the range of x, the intercept included.

    `columns` − 2 inner knots lie at equally spaced quantiles of x: the column space of R's
    `ns(x, df=columns, intercept=TRUE)`. The basis itself is the truncated-power one of Hastie, Tibshirani & Friedman
    (The Elements of Statistical Learning, 5.2.1), on x scaled to [0, 1]. Knots that coincide count once, which leaves
    fewer columns.

    Parameters
    ----------
    x
        (n,), not all equal.
    columns
        At least 2: intercept and slope.
    """
    values = np.asarray(x, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    u = (values - low) / (high - low)
    knots = np.unique(np.quantile(u, np.linspace(0, 1, columns)))  # where x has ties, knots can coincide
    last = knots[-1]

    def bend(knot: float) -> Floats:
        return np.asarray(
            (np.maximum(u - knot, 0) ** 3 - np.maximum(u - last, 0) ** 3) / (last - knot), dtype=np.float64
        )

    final = bend(knots[-2])
    return np.column_stack([np.ones_like(u), u, *(bend(knot) - final for knot in knots[:-2])])
