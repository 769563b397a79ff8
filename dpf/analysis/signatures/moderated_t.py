"""Moderated t: a compound's wells against control wells, gene by gene, with variances that borrow strength (limma)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.ranking.p_values import benjamini_hochberg
from dpf.errors import DataError

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


Codes = NDArray[np.int64]


@dataclass(frozen=True)
class VariancePrior:
    """The scaled inverse chi-squared prior that the genes' variances are drawn towards.

    Attributes
    ----------
    freedom
        d₀, degrees of freedom; infinite where the variances differ no more than their estimation error explains.
    variance
        (G,) s₀², the same for all genes, or following the trend.
    """

    freedom: float
    variance: Floats


@dataclass(frozen=True)
class ModeratedT:
    """What `moderated_t` returns: (G,) each, except the two numbers.

    Attributes
    ----------
    effect
        Mean difference to the controls (within plates, where given), in units of the expression.
    t, p, q
        Moderated t, its two-sided p-value, Benjamini–Hochberg over the genes of this compound.
    mean_expression
        Over the wells used.
    variance
        Posterior variance s̃².
    freedom
        Degrees of freedom of t: residual + prior, at most those of all genes together.
    prior_freedom
        d₀.
    """

    effect: Floats
    t: Floats
    p: Floats
    q: Floats
    mean_expression: Floats
    variance: Floats
    freedom: float
    prior_freedom: float


@dataclass(frozen=True)
class ControlSummary:
    """The controls of each plate, as all that a moderated t needs of them: computed once, used for every compound.

    Attributes
    ----------
    plates
        (P,) codes of the plates that hold controls, ascending.
    counts
        (P,) control wells.
    mean, squares
        (P, G): their mean, and their sum of squared deviations from it.
    """

    plates: Codes
    counts: Codes
    mean: Floats
    squares: Floats


def summarise_wells(expression: ArrayLike, plate: ArrayLike | None = None) -> ControlSummary:
    """Counts, means and sums of squares of wells (n, G), plate by plate; all one plate where none are given."""
    y = np.asarray(expression, dtype=np.float64)
    codes = np.zeros(len(y), dtype=np.int64) if plate is None else np.asarray(plate, dtype=np.int64)
    plates, counts = np.unique(codes, return_counts=True)
    groups = [y[codes == code] for code in plates]
    mean = np.stack([group.mean(axis=0) for group in groups])
    squares = np.stack([((group - center) ** 2).sum(axis=0) for group, center in zip(groups, mean, strict=True)])
    return ControlSummary(plates, counts.astype(np.int64), mean, squares)


def moderated_t(
    treated: ArrayLike, controls: ControlSummary, plate: ArrayLike | None = None, *, trend: bool = False
) -> ModeratedT:
    """Moderated t of a compound's wells against the controls of their plates: a linear model with plates as blocks.

    t̃ = β̂/(s̃·√v), s̃² = (d₀s₀² + d·s²)/(d₀ + d), with d + d₀ degrees of freedom (Smyth 2004). β̂ is the within-plate
    difference; with one plate it is the difference of means. With `trend`, s₀² follows a natural cubic spline of the
    mean expression (limma's `eBayes(trend=TRUE)`), as fits counts on the log scale.

    From the plates' means a_s, m_s and counts n_s, k_s, with h_s = n_s·k_s/(n_s + k_s): β̂ = Σh_s(a_s − m_s)/Σh_s,
    v = 1/Σh_s, and the residual sum of squares is that within groups plus Σh_s(a_s − m_s)² − β̂²Σh_s. So a compound
    costs time in proportion to its own wells only.

    Parameters
    ----------
    treated
        (n, G) the compound's wells, on the normalised (log) scale.
    controls
        From `summarise_wells`; controls of plates without the compound are not used.
    plate
        (n,) plate codes; None where `controls` were summarised without plates. Wells on a plate without controls
        inform the variance, not the effect.
    trend
        See above.

    Raises
    ------
    DataError
        No plate that holds both, no residual degree of freedom, or no gene that varies.

    References
    ----------
    Smyth, Linear models and empirical Bayes methods for assessing differential expression, 2004;
    Law et al. 2014 for the trend; Ritchie et al. 2015 (limma).
    """
    own = summarise_wells(treated, plate)
    matched, in_own, in_controls = np.intersect1d(own.plates, controls.plates, return_indices=True)
    n, k = own.counts[in_own], controls.counts[in_controls]
    wells = int(own.counts.sum() + k.sum())
    freedom = wells - len(own.plates) - 1
    _require_estimable(int(own.counts.sum()), int(k.sum()), len(matched), freedom)
    h = (n * k / (n + k))[:, None]
    shift = own.mean[in_own] - controls.mean[in_controls]
    information = float(h.sum())
    effect: Floats = (h * shift).sum(axis=0) / information
    between = (h * (shift - effect) ** 2).sum(axis=0)
    variance: Floats = (own.squares.sum(axis=0) + controls.squares[in_controls].sum(axis=0) + between) / freedom
    mean = (own.counts @ own.mean + k @ controls.mean[in_controls]) / wells
    prior = fit_variance_prior(variance, freedom, mean if trend else None)
    posterior = squeeze(variance, freedom, prior)
    total = min(freedom + prior.freedom, float(freedom * len(variance)))
    t = effect * np.sqrt(information / posterior)
    p = two_sided_p(t, total)
    return ModeratedT(effect, t, p, benjamini_hochberg(p), mean, posterior, total, prior.freedom)


def fit_variance_prior(variance: ArrayLike, freedom: ArrayLike, covariate: ArrayLike | None = None) -> VariancePrior:
    """d₀ and s₀² by the moments of log s² (limma's `fitFDist`).

    With e = log s² − ψ(d/2) + log(d/2): d₀ solves ψ′(d₀/2) = var(e) − mean ψ′(d/2), and
    log s₀² = ē + ψ(d₀/2) − log(d₀/2). With a covariate, ē is a natural cubic spline of it (4 degrees of freedom
    from 30 genes on, fewer below) and var(e) the residual variance. Where var(e) is no larger than expected, d₀ is
    infinite and s₀² = exp(ē).

    Parameters
    ----------
    variance
        (G,) residual variances. Zeros are raised to 1e-5 of the median, as limma does.
    freedom
        Their degrees of freedom: a number or (G,), above 0.
    covariate
        (G,) mean expression, for a trend.

    Raises
    ------
    DataError
        Fewer than two genes, or no variance above 0.
    """
    from scipy.special import digamma, polygamma  # imported here: it costs more than the rest of this module

    s2 = np.asarray(variance, dtype=np.float64)
    half = np.broadcast_to(np.asarray(freedom, dtype=np.float64) / 2, s2.shape)
    if len(s2) < 2 or not (s2 > 0).any():
        raise DataError(
            "there is no variance between wells to test against",
            where="the genes",
            found=f"{(s2 > 0).sum()} of {len(s2):,} genes vary",
            expected="at least 2 genes, most of them varying between replicates",
            hint="look for wells that are copies of each other",
        )
    median = float(np.median(s2))
    s2 = np.maximum(s2, 1e-5 * (median if median > 0 else 1.0))
    e = np.log(s2) - digamma(half) + np.log(half)
    center, spread = _trend(e, None if covariate is None else np.asarray(covariate, dtype=np.float64))
    excess = spread - float(polygamma(1, half).mean())
    if not excess > 0:
        return VariancePrior(float("inf"), np.exp(center))
    d0 = 2 * trigamma_inverse(excess)
    return VariancePrior(d0, np.exp(center + digamma(d0 / 2) - np.log(d0 / 2)))


def squeeze(variance: ArrayLike, freedom: ArrayLike, prior: VariancePrior) -> Floats:
    """Posterior variances s̃² = (d₀s₀² + d·s²)/(d₀ + d), (G,)."""
    s2, d = np.asarray(variance, dtype=np.float64), np.asarray(freedom, dtype=np.float64)
    if np.isinf(prior.freedom):
        return np.broadcast_to(prior.variance, s2.shape).copy()
    return np.asarray((prior.freedom * prior.variance + d * s2) / (prior.freedom + d), dtype=np.float64)


def two_sided_p(t: ArrayLike, freedom: float) -> Floats:
    """P(|T| ≥ |t|) of Student's t."""
    from scipy.special import stdtr

    return np.asarray(2 * stdtr(freedom, -np.abs(np.asarray(t, dtype=np.float64))), dtype=np.float64)


def trigamma_inverse(x: float) -> float:
    """The y with ψ′(y) = x > 0, by Newton's method on 1/ψ′, which is convex and nearly linear (limma's)."""
    from scipy.special import polygamma

    if x > 1e7:
        return float(1 / np.sqrt(x))
    if x < 1e-6:
        return 1 / x
    y = 0.5 + 1 / x
    for _ in range(50):
        value = float(polygamma(1, y))
        step = value * (1 - value / x) / float(polygamma(2, y))
        y += step
        if -step / y < 1e-8:
            break
    return y


def _trend(e: Floats, covariate: Floats | None) -> tuple[Floats, float]:
    """Fitted mean (G,) and residual variance of e."""
    if covariate is None:
        return np.full(e.shape, e.mean()), float(e.var(ddof=1))
    n = len(e)
    columns = min(1 + (n >= 3) + (n >= 6) + (n >= 30), len(np.unique(covariate)))
    if columns < 2:
        return _trend(e, None)
    basis = natural_spline_basis(covariate, columns)
    coefficients, _, rank, _ = np.linalg.lstsq(basis, e, rcond=None)
    fitted = basis @ coefficients
    return fitted, float(((e - fitted) ** 2).sum() / (n - int(rank)))


def _require_estimable(treated: int, control: int, matched: int, freedom: int) -> None:
    found = f"{treated} wells of the compound, {control} control wells on their plates"
    if not matched:
        raise DataError(
            "no plate holds both the compound and a control",
            where="the signature",
            found=found,
            expected="a control on a plate of the compound",
            hint="compare over all plates instead (and report that plates may differ)",
        )
    if freedom < 1:
        raise DataError(
            "no well is left to estimate the variance from",
            where="the signature",
            found=found,
            expected="at least two more wells than plates",
            hint="compare over all plates instead, or run more control wells",
        )
