"""Are these counts? What the numbers themselves say, before anything is done to them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dpf.errors import DataError
from dpf.tables.screen import Note

_CHECKED_WELLS = 48
_LARGEST_LOG = 30.0  # 2**30 counts in one gene of one well: no log of a count is larger
_SAME_DEPTH = 1e-3


def check_counts(values: NDArray[np.floating], where: str, whole: bool = False) -> tuple[Note, ...]:
    """Refuse what cannot be counts; say what makes it doubtful, with the numbers.

    Parameters
    ----------
    values
        Array of shape (N, G), wells × genes.
    where
        The file, for errors.
    whole
        Refuse fractions (VST models whole counts; fractions come from tools that share a read among genes).

    Raises
    ------
    DataError
        A value is negative, missing or infinite, or `whole` and it has a fraction.
    """
    if not np.isfinite(values).all():
        raise _error("counts are missing or infinite", values, ~np.isfinite(values), where, "finite numbers")
    if values.size and values.min() < 0:
        hint = "these values look normalised already: use --normalize none"
        raise _error("counts are negative", values, values < 0, where, "whole numbers from 0", hint)
    fractions = _fractions(values)
    if not fractions:
        return ()
    evidence = _already_normalised(values)
    if whole:
        hint = "use --normalize none" if evidence else "round them, or use --normalize log-cpm, which takes fractions"
        found = f"{fractions:,} values with a fraction; {evidence or 'no sign of a logarithm'}"
        raise DataError("counts are not whole numbers", where=where, found=found, expected="whole numbers", hint=hint)
    text = f"{where}: {fractions:,} of {values.size:,} values given as counts have a fraction"
    return (Note("warning", f"{text}; {evidence}: is --normalize none meant?" if evidence else text),)


def looks_like_counts(values: NDArray[np.floating], where: str) -> tuple[Note, ...]:
    """The warning for values said to be normalised that look like counts: whole, from 0, some beyond any logarithm."""
    if not values.size or not np.isfinite(values).all() or values.min() < 0:
        return ()
    if _fractions(values) or values.max() <= _LARGEST_LOG:
        return ()
    text = f"all values are whole numbers from 0 to {values.max():,.0f}, which look like counts"
    return (Note("warning", f"{where}: {text}: is --normalize log-cpm meant?"),)


def _fractions(values: NDArray[np.floating]) -> int:
    return sum(int(np.count_nonzero(row != np.rint(row))) for row in values)


def _already_normalised(values: NDArray[np.floating]) -> str | None:
    """What shows that the values were normalised: depths equal as they stand or after undoing a logarithm."""
    some = values[np.linspace(0, len(values) - 1, min(_CHECKED_WELLS, len(values)), dtype=int)].astype(np.float64)
    undone = {"": some}
    if values.max() <= _LARGEST_LOG:
        undone |= {"2^x - 1 of the values": np.exp2(some) - 1, "e^x - 1 of the values": np.expm1(some)}
    for what, raw in undone.items():
        depth = raw.sum(axis=1)
        if len(depth) > 1 and depth.min() > 0 and depth.max() / depth.min() - 1 < _SAME_DEPTH:
            return f"{what or 'the values'} add up to {depth.mean():,.0f} in every well"
    if values.max() <= _LARGEST_LOG:
        return f"the largest is {values.max():.4g}, as after a logarithm"
    return None


def _error(
    what: str,
    values: NDArray[np.floating],
    wrong: NDArray[np.bool_],
    where: str,
    expected: str,
    hint: str | None = None,
) -> DataError:
    well, gene = np.argwhere(wrong)[0]
    found = f"{int(wrong.sum()):,} values, the first {values[well, gene]:.6g} in well {well + 1}, gene {gene + 1}"
    return DataError(what, where=where, found=found, expected=expected, hint=hint)
