"""A tail fit for p-values below what the draws can resolve. An extrapolation: always report it as one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
