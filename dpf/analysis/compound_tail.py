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

#: Of the sets: large, because they share wells. See `extrapolated_p_values`.
SHARE = 0.25
#: A fit is rejected where its gap exceeds this over the root of the wells it rests on (Kolmogorov's 5% point).
LARGEST_GAP = 1.36


@dataclass(frozen=True)
class TailPValues:
    """Of C compounds.

    Attributes
    ----------
    p
        (C,) the given p-values, replaced by those of the tail fit where too few sets lie beyond.
    extrapolated
        (C,) bool: where they are.
    worst_fit
        The largest gap (Kolmogorov–Smirnov) between a fitted and an empirical tail that was accepted; near 0 is good.
    fewest_wells
        Of the accepted fits, the least effective number of control wells that a tail rests on.
    rejected
        Compounds whose tail no generalised Pareto distribution describes.
    """

    p: Floats
    extrapolated: NDArray[np.bool_]
    worst_fit: float
    fewest_wells: float
    rejected: int


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
    generalised Pareto distribution over the largest quarter of their means (`tail.fit_tail`).

    **Such a p orders compounds that tie at their smallest p; nothing may be called by it.** The sets share wells: the
    largest tenth of the 780 pairs of 40 controls rests on 12 wells (1/Σw², w the wells' shares in those sets), the
    largest quarter on 21, and how a compound fares beyond the largest control was never observed. With
    Benjamini–Hochberg on these p, 1–2% of inert screens get a call at 5% where T is normal, but 16–19% where it is
    exponential or log-normal (σ 0.5), and about 10% still with 100 controls (`python -m tests.bench.calibration`).

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
        No composition has the 120 sets of controls that a fit needs.
    """
    found, extrapolated = p.copy(), np.zeros(len(p), dtype=bool)
    gaps, wells, most, rejected = [], [], 0, 0
    for case in comparisons(group, len(p), is_control, strata, "pseudo", rng, largest_floor=1.0):
        draws = t[case.controls][case.subsets.index].mean(axis=1)
        most = max(most, len(draws))
        if SHARE * len(draws) < MIN_EXCEEDANCES:
            continue
        fit = fit_tail(draws, SHARE, most=None)
        rests_on = effective_wells(case.subsets.index[draws > fit.threshold])
        if fit.ks > LARGEST_GAP / np.sqrt(rests_on):
            rejected += len(case.compounds)
            continue
        tail, beyond = tail_p_values(t[case.own].mean(axis=1), draws, fit)
        found[case.compounds[beyond]] = tail[beyond]
        extrapolated[case.compounds[beyond]] = True
        gaps.append(fit.ks)
        wells.append(rests_on)
    if not gaps and not rejected:
        raise DataError(
            "too few control wells to fit a tail",
            where="--tail gpd",
            found=f"{most:,} sets of control wells as large as a compound",
            expected=f"at least {MIN_EXCEEDANCES / SHARE:,.0f}",
            hint="leave out --tail gpd, or run more control wells",
        )
    return TailPValues(found, extrapolated, max(gaps, default=0.0), min(wells, default=0.0), rejected)


def effective_wells(sets: Codes) -> float:
    """1/Σw² of the wells' shares w in some sets of wells, (D, n) indices: D·n if none came twice."""
    shares = np.bincount(sets.ravel()) / sets.size
    return float(1 / (shares**2).sum())
