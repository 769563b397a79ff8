"""P-values beyond what the sets of control wells can resolve, by a tail fit: an extrapolation, reported as one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.ranking.subsets import comparisons
from dpf.errors import DataError

Floats = NDArray[np.float64]

#: Draws above the threshold that a fit needs.
MIN_EXCEEDANCES = 30
#: With at least this many draws beyond the observed value, the count itself is the better estimate.
ENOUGH_BEYOND = 10


@dataclass(frozen=True)
class TailFit:
    """A generalised Pareto distribution over the largest draws of a null.

    Attributes
    ----------
    threshold
        u: the fit describes the draws above it.
    share
        The share of the draws above u.
    scale, shape
        σ > 0 and ξ ≥ 0 of P(X − u > y | X > u) = (1 + ξy/σ)^(−1/ξ), exp(−y/σ) for ξ = 0.
    ks
        Largest gap between the fitted and the empirical distribution of the exceedances; near 0 is good.
    draws
        How many draws the null has.
    """

    threshold: float
    share: float
    scale: float
    shape: float
    ks: float
    draws: int


def fit_tail(null: ArrayLike, share: float = 0.1, most: int | None = 250) -> TailFit:
    """Fit the largest `share` of the draws, at most `most` of them, by probability-weighted moments.

    ξ = 2 − α₀/(α₀ − 2α₁), σ = 2α₀α₁/(α₀ − 2α₁), α₀ the mean excess and α₁ its mean weighted by 1 − F. A negative ξ is
    set to 0 (σ = α₀): a bounded tail would give p = 0 beyond its end, which no finite sample supports. The limit of
    250 is for independent draws (Knijnenburg et al.); sets of wells share wells, and want none (`compound_tail`).

    Raises
    ------
    DataError
        Fewer than 30 draws in the tail, or a tail without spread.

    References
    ----------
    Hosking & Wallis, Technometrics 1987; Knijnenburg et al., Fewer permutations, more accurate P-values, 2009.
    """
    draws = np.sort(np.asarray(null, dtype=np.float64))
    count = min(int(share * len(draws)), len(draws) if most is None else most)
    if count < MIN_EXCEEDANCES:
        raise DataError(
            "too few draws to fit the tail of the null",
            where="the null distribution",
            found=f"{len(draws):,} draws, {count} in the tail",
            expected=f"at least {MIN_EXCEEDANCES} in the tail ({MIN_EXCEEDANCES / share:,.0f} draws)",
            hint="use the p-values without a tail fit, or run more control wells",
        )
    threshold = float(draws[-count - 1 :][:2].mean())
    excess = draws[-count:] - threshold
    mean = float(excess.mean())
    if not mean > 0:
        raise DataError(
            "the tail of the null has no spread", where="the null distribution", found=f"{count} equal draws"
        )
    weighted = float((excess * (1 - (np.arange(1, count + 1) - 0.35) / count)).mean())
    shape = 2 - mean / (mean - 2 * weighted)
    scale = 2 * mean * weighted / (mean - 2 * weighted)
    if not shape > 0:
        shape, scale = 0.0, mean
    steps = np.arange(count + 1) / count
    fitted = 1 - _survival(excess, scale, shape)
    ks = float(max(np.abs(fitted - steps[1:]).max(), np.abs(fitted - steps[:-1]).max()))
    return TailFit(threshold, count / len(draws), scale, shape, ks, len(draws))


def tail_p_values(observed: ArrayLike, null: ArrayLike, fit: TailFit) -> tuple[Floats, NDArray[np.bool_]]:
    """P-values, and where they are extrapolated: by the fit where fewer than 10 draws reach the observed value.

    Elsewhere p = (b+1)/(m+1). The extrapolated p is share·P(X − u > t − u | X > u), always above 0.
    """
    t, draws = np.asarray(observed, dtype=np.float64), np.sort(np.asarray(null, dtype=np.float64))
    beyond = len(draws) - np.searchsorted(draws, t)
    p = (beyond + 1) / (len(draws) + 1)
    extrapolated = (beyond < ENOUGH_BEYOND) & (t > fit.threshold)
    fitted = fit.share * _survival(np.maximum(t - fit.threshold, 0.0), fit.scale, fit.shape)
    return np.where(extrapolated, np.maximum(fitted, np.finfo(np.float64).tiny), p), extrapolated


def _survival(excess: Floats, scale: float, shape: float) -> Floats:
    if shape == 0:
        return np.asarray(np.exp(-excess / scale), dtype=np.float64)
    return np.asarray((1 + shape * excess / scale) ** (-1 / shape), dtype=np.float64)


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
