"""Checks of the arrays that a figure gets, with the same messages in every figure."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.errors import DataError


def numbers(what: str, values: ArrayLike, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """`values` as float64, refused where its shape is not `shape` (None: any length).

    Missing values (None, NaN) and infinite ones come back as NaN: a figure shows what is finite.

    Raises
    ------
    DataError
        Not numbers, or another shape.
    """
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("a figure got something that is not a number", where=what, found=error) from error
    if array.ndim != len(shape) or any(
        wanted not in (None, got) for wanted, got in zip(shape, array.shape, strict=True)
    ):
        wanted = " × ".join("any" if length is None else f"{length:,}" for length in shape)
        found = " × ".join(f"{length:,}" for length in array.shape)
        raise DataError("a figure got numbers of the wrong shape", where=what, found=found, expected=wanted)
    array[~np.isfinite(array)] = np.nan
    return array


def flags(what: str, values: ArrayLike, length: int) -> NDArray[np.bool_]:
    """`values` as booleans of one length.

    Raises
    ------
    DataError
        Another length, or not booleans.
    """
    array = np.asarray(values)
    if array.dtype != np.bool_ or array.shape != (length,):
        found = f"{array.dtype} of shape {array.shape}"
        raise DataError("a figure got the wrong flags", where=what, found=found, expected=f"{length:,} booleans")
    return array


def at_least_one(what: str, count: int) -> None:
    """Refuse to draw nothing.

    Raises
    ------
    DataError
        There is nothing to draw.
    """
    if count < 1:
        raise DataError("there is nothing to draw", where=what, found="0", expected="at least 1")


def same_length(what: str, found: int, expected: int) -> None:
    """Refuse lists that do not belong together.

    Raises
    ------
    DataError
        The lengths differ.
    """
    if found != expected:
        raise DataError(
            "a figure got lists of different lengths", where=what, found=f"{found:,}", expected=f"{expected:,}"
        )
