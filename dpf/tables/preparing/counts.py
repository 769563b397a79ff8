"""Are these counts? What the numbers themselves say, before anything is done to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpf.errors import DataError
from dpf.tables.screen import Note

_CHECKED_WELLS = 48
_WELLS_AT_A_TIME = 256
LARGEST_LOG = 30.0  # 2**30 counts in one gene of one well: no log of a count is larger
_SAME_DEPTH = 1e-3
#: What a logarithm in float32 loses of a count, as a share of it.
_ROUNDING = 1e-4
_MOSTLY_WHOLE = 0.5


class Scale(NamedTuple):
    """What values are by themselves, and what shows it."""

    kind: Literal["counts", "normalised", "unclear"]
    evidence: str


def check_counts(
    values: NDArray[np.floating],
    where: str,
    whole: bool = False,
    wells: Sequence[str] | None = None,
    genes: Sequence[str] | None = None,
) -> tuple[Note, ...]:
    """Refuse what cannot be counts; say what makes it doubtful, with the numbers.

    Fractions alone are no reason: tools that share a read among genes write expected counts (RSEM, kallisto, salmon).
    What tells these from a logarithm: some are above 30, past every log2 of a count; or, on a shallow plate, most
    values above 0 are whole (reads of one gene alone), and undoing a logarithm does not make all whole. Refused are
    fractions without either, and values that add up to the same in every well, which CPM and TPM do and counts do not.

    Parameters
    ----------
    values
        Array of shape (N, G), wells × genes.
    where
        The file, for errors.
    whole
        Refuse fractions (VST models whole counts; fractions come from tools that share a read among genes).
    wells, genes
        N and G names, for errors; None where they have none.

    Raises
    ------
    DataError
        A value is negative, missing or infinite; there are fractions, and the values look normalised or `whole` is on.
    """
    if not np.isfinite(values).all():
        found = _first(values, ~np.isfinite(values), wells, genes)
        raise DataError("counts are missing or infinite", where=where, found=found, expected="finite numbers")
    if values.size and values.min() < 0:
        raise DataError(
            "counts are negative",
            where=where,
            found=_first(values, values < 0, wells, genes),
            expected="whole numbers from 0",
            hint="these values look normalised already: use --normalize none",
        )
    fractions = _fractions(values)
    if not fractions:
        return ()
    found = f"{fractions:,} of {values.size:,} values have a fraction"
    if evidence := already_normalised(values):
        raise DataError(
            "values given as counts are normalised already",
            where=where,
            found=f"{found}; {evidence}",
            expected="counts; expected counts may have fractions, but most are whole or some above "
            f"{LARGEST_LOG:g}, and wells differ in their sums",
            hint="use --normalize none, or give the counts (of h5ad: --layer)",
        )
    if whole:
        raise DataError(
            "counts are not whole numbers",
            where=where,
            found=found,
            expected="whole numbers",
            hint="round them, or use --normalize log-cpm, which takes fractions",
        )
    text = f"{where}: {fractions:,} of {values.size:,} values given as counts have a fraction"
    return (Note("warning", f"{text}: taken as expected counts (a read shared among genes)"),)


def looks_like_counts(values: NDArray[np.floating], where: str) -> tuple[Note, ...]:
    """The warning for values given as normalised that look like counts: whole, from 0, some beyond any logarithm."""
    kind, evidence = scale_of(values) if np.isfinite(values).all() else Scale("unclear", "")
    if kind != "counts":
        return ()
    return (Note("warning", f"{where}: {evidence}, which look like counts: is --normalize log-cpm meant?"),)


def scale_of(values: NDArray[np.floating]) -> Scale:
    """Whether values are counts or normalised, where they say so themselves.

    ``counts``: whole numbers from 0, some beyond any logarithm of a count. ``normalised``: some are negative, or
    there are fractions and none is beyond any logarithm. ``unclear``: whole numbers that are all small (a shallow
    plate, rounded logarithms), or fractions and large values (expected counts, CPM).

    Parameters
    ----------
    values
        Array of shape (N, G), finite.
    """
    if not values.size:
        return Scale("unclear", "there are no values")
    largest = values.max()
    if values.min() < 0:
        return Scale("normalised", f"values go down to {values.min():.4g}")
    if not _fractions(values):
        text = f"all values are whole numbers from 0 to {largest:,.0f}"
        return Scale("counts" if largest > LARGEST_LOG else "unclear", text)
    text = f"values have fractions and go up to {largest:,.4g}"
    return Scale("normalised" if largest <= LARGEST_LOG else "unclear", text)


def _fractions(values: NDArray[np.floating]) -> int:
    blocks = (values[start : start + _WELLS_AT_A_TIME] for start in range(0, len(values), _WELLS_AT_A_TIME))
    return sum(int(np.count_nonzero(block != np.rint(block))) for block in blocks)


def already_normalised(values: NDArray[np.floating]) -> str | None:
    """What shows that values from 0 were normalised, as they stand or after undoing a logarithm; None: nothing."""
    if not _fractions(values):
        return None
    some = values[np.linspace(0, len(values) - 1, min(_CHECKED_WELLS, len(values)), dtype=int)].astype(np.float64)
    undone = {"": some}
    if values.max() <= LARGEST_LOG:
        undone |= {"2^x - 1 of the values": np.exp2(some) - 1, "e^x - 1 of the values": np.expm1(some)}
    for what, raw in undone.items():
        depth = raw.sum(axis=1)
        if len(depth) > 1 and depth.min() > 0 and depth.max() / depth.min() - 1 < _SAME_DEPTH:
            return f"{what or 'the values'} add up to {depth.mean():,.0f} in every well"
        if what and (np.abs(raw - np.rint(raw)) <= _ROUNDING * np.maximum(raw, 1)).all():
            return f"{what} are whole numbers"
    above = some[some > 0]
    if values.max() <= LARGEST_LOG and (above == np.rint(above)).mean() < _MOSTLY_WHOLE:
        return f"the largest is {values.max():.4g}, as after a logarithm"
    return None


def _first(
    values: NDArray[np.floating], wrong: NDArray[np.bool_], wells: Sequence[str] | None, genes: Sequence[str] | None
) -> str:
    well, gene = np.argwhere(wrong)[0]
    place = f"well {wells[well] if wells else well + 1}, gene {genes[gene] if genes else gene + 1}"
    return f"{int(wrong.sum()):,} values, the first {values[well, gene]:.6g} in {place}"
