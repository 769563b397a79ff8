"""P-values beyond what the sets of control wells can resolve, by a tail fit: an extrapolation, reported as one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.subsets import comparisons
from dpf.analysis.tail import MIN_EXCEEDANCES, fit_tail, tail_p_values
from dpf.errors import DataError

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_SHARE = 0.1


@dataclass(frozen=True)
class TailPValues:
    """Of C compounds.

    Attributes
    ----------
    p
        (C,) the given p-values, replaced where the tail fit goes lower.
    extrapolated
        (C,) bool: where it does.
    worst_fit
        The largest gap (Kolmogorov–Smirnov) between a fitted and an empirical tail; near 0 is good.
    """

    p: Floats
    extrapolated: NDArray[np.bool_]
    worst_fit: float


def extrapolated_p_values(
    t: Floats,
    group: Codes,
    p: Floats,
    is_control: NDArray[np.bool_],
    strata: Codes,
    rng: np.random.Generator,
) -> TailPValues:
    """Fit the tail of the pseudo-compounds' mean T and read off the p-values that counting cannot resolve.

    For compounds of one composition: all sets of as many control wells (10,000 random ones where there are more), a
    generalised Pareto distribution over the largest tenth of their means (`tail.fit_tail`). The sets share wells: with
    40 controls the tail of 780 pairs rests on three or four wells, so such a p-value is a way to order compounds that
    tie at the floor, not a probability to rely on.

    Parameters
    ----------
    t
        (N,) standardised distances.
    group
        (N,) compound codes 0 ... C − 1, −1 for other wells.
    p
        (C,) the p-values by counting.
    is_control, strata
        As in `nulls.compound_p_values`.

    Raises
    ------
    DataError
        No composition has the 300 sets of controls that a fit needs.
    """
    smallest, extrapolated = p.copy(), np.zeros(len(p), dtype=bool)
    fits, most = [], 0
    for case in comparisons(group, len(p), is_control, strata, "pseudo", rng, largest_floor=1.0):
        draws = t[case.controls][case.subsets.index].mean(axis=1)
        most = max(most, len(draws))
        if _SHARE * len(draws) < MIN_EXCEEDANCES:
            continue
        fit = fit_tail(draws, _SHARE)
        found, beyond = tail_p_values(t[case.own].mean(axis=1), draws, fit)
        lower = beyond & (found < p[case.compounds])
        smallest[case.compounds[lower]] = found[lower]
        extrapolated[case.compounds[lower]] = True
        fits.append(fit.ks)
    if not fits:
        raise DataError(
            "too few control wells to fit a tail",
            where="--tail gpd",
            found=f"{most:,} sets of control wells as large as a compound",
            expected=f"at least {MIN_EXCEEDANCES / _SHARE:,.0f}",
            hint="leave out --tail gpd, or run more control wells",
        )
    return TailPValues(smallest, extrapolated, max(fits))
