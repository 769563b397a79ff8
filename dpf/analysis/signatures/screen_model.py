"""Moderated t with positions as covariates: one linear model of all wells, a coefficient a compound (limma)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.ranking.p_values import benjamini_hochberg
from dpf.analysis.signatures.moderated_t import ModeratedT, fit_variance_prior, squeeze, two_sided_p
from dpf.errors import DataError

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

#: Genes that are worked on at once, to bound the memory on top of the expression.
_BLOCK = 256
#: Singular values and distances below this share of the largest are rounding.
_ROUNDING = 1e-8


@dataclass(frozen=True)
class ScreenFit:
    """The fitted model of N wells, G genes and Q covariate columns.

    Attributes
    ----------
    covariates
        (N, Q).
    slope
        (Q, G) minimum-norm coefficients of the covariates.
    spread
        (Q, Q) unscaled covariance of `slope`: the pseudo-inverse of the cross-product within groups.
    span
        (Q, rank) orthonormal basis of the directions of the covariates that the wells can estimate.
    control_wells
        k.
    control_mean, control_covariates
        (G,) and (Q,): means over the control wells.
    mean_expression
        (G,) over all wells.
    variance
        (G,) posterior variance s̃².
    freedom, residual_freedom, prior_freedom
        Degrees of freedom: of t, of the residual variances, d₀.
    """

    covariates: Floats
    slope: Floats
    spread: Floats
    span: Floats
    control_wells: int
    control_mean: Floats
    control_covariates: Floats
    mean_expression: Floats
    variance: Floats
    freedom: float
    residual_freedom: int
    prior_freedom: float

    def estimable(self, wells: ArrayLike) -> bool:
        """Whether the effect of a compound in these wells can be separated from that of its positions.

        The difference of its covariates from the controls' must lie in what differences within compounds span: rows
        and columns are tied to each other by compounds, or controls, that stand in several of them. limma gives NA
        for the other coefficients.
        """
        away = self._away(np.asarray(wells, dtype=np.int64))
        outside = away - self.span @ (self.span.T @ away)
        return bool(np.linalg.norm(outside) <= 1e-6)

    def compare(self, expression: NDArray[np.float32], wells: ArrayLike) -> ModeratedT:
        """The moderated t of one compound's wells against the controls, at equal positions.

        Raises
        ------
        DataError
            It is not estimable.
        """
        own = np.asarray(wells, dtype=np.int64)
        if not self.estimable(own):
            raise DataError(
                "the effect of a compound cannot be separated from its position",
                where="the signature",
                found=f"{len(own)} wells in places that nothing ties to the controls' places",
                expected="controls, or other compounds with wells both there and elsewhere",
                hint="leave out --adjust, or spread controls and replicates over the plate (dpf check)",
            )
        away = self._away(own)
        effect = expression[own].mean(axis=0, dtype=np.float64) - self.control_mean - away @ self.slope
        unscaled = 1 / len(own) + 1 / self.control_wells + float(away @ self.spread @ away)
        t = effect / np.sqrt(self.variance * unscaled)
        p = two_sided_p(t, self.freedom)
        q = benjamini_hochberg(p)
        return ModeratedT(effect, t, p, q, self.mean_expression, self.variance, self.freedom, self.prior_freedom)

    def _away(self, own: Codes) -> Floats:
        return np.asarray(self.covariates[own].mean(axis=0) - self.control_covariates, dtype=np.float64)


def fit_screen(
    expression: NDArray[np.float32], group: ArrayLike, is_control: ArrayLike, covariates: Floats, *, trend: bool = False
) -> ScreenFit:
    """Least squares of ``expression ~ group + covariates`` over all wells, and empirical Bayes on its variances.

    As limma's `lmFit` and `eBayes` on the whole screen with the contrasts compound − control: one residual variance a
    gene, from the spread between replicates of all compounds and of the controls, after the covariates. (Without
    covariates `moderated_t` takes only the compound's wells and the controls.) The groups are swept out first
    (Frisch–Waugh–Lovell), so 5,000 compounds cost no more than their wells.

    Parameters
    ----------
    expression
        (N, G).
    group
        (N,) compound codes; ignored for controls, which are a group of their own.
    is_control
        (N,) bool.
    covariates
        (N, Q), e.g. `position_adjustment.one_hot`: levels of several factors. They need not be independent.
    trend
        As `moderated_t`.

    Raises
    ------
    DataError
        No control, no residual degree of freedom, no gene that varies.

    References
    ----------
    Smyth 2004; Ritchie et al. 2015 (limma).
    """
    control = np.asarray(is_control, dtype=bool)
    if not control.any():
        raise DataError("signatures need control wells", where="the wells table", found="0 controls")
    codes = np.where(control, -1, np.asarray(group, dtype=np.int64))
    _, member = np.unique(codes, return_inverse=True)
    groups = _Groups.of(member)
    z = np.asarray(covariates, dtype=np.float64)
    within = groups.less_means(z)
    values, vectors = np.linalg.eigh(within.T @ within)
    kept = values > _ROUNDING * max(float(values.max(initial=0.0)), 1.0)
    span = vectors[:, kept]
    spread = (span / values[kept]) @ span.T
    freedom = len(z) - groups.count - span.shape[1]
    if freedom < 1:
        raise DataError(
            "no well is left to estimate the variance from",
            where="the signatures",
            found=f"{len(z):,} wells for {groups.count:,} groups and {span.shape[1]} position effects",
            expected="more wells than that",
            hint="leave out --adjust, or adjust for the plate only",
        )
    genes = expression.shape[1]
    slope, squares, mean = np.empty((z.shape[1], genes)), np.empty(genes), np.empty(genes)
    for start in range(0, genes, _BLOCK):
        block = slice(start, start + _BLOCK)
        y = expression[:, block].astype(np.float64)
        mean[block] = y.mean(axis=0)
        y = groups.less_means(y)
        slope[:, block] = spread @ (within.T @ y)
        squares[block] = ((y - within @ slope[:, block]) ** 2).sum(axis=0)
    variance = squares / freedom
    prior = fit_variance_prior(variance, freedom, mean if trend else None)
    return ScreenFit(
        covariates=z,
        slope=slope,
        spread=spread,
        span=span,
        control_wells=int(control.sum()),
        control_mean=expression[control].mean(axis=0, dtype=np.float64),
        control_covariates=z[control].mean(axis=0),
        mean_expression=mean,
        variance=squeeze(variance, freedom, prior),
        freedom=min(freedom + prior.freedom, float(freedom * genes)),
        residual_freedom=freedom,
        prior_freedom=prior.freedom,
    )


@dataclass(frozen=True)
class _Groups:
    """Wells in the order of their groups, where each group starts, and the group of each well."""

    order: Codes
    starts: Codes
    sizes: Codes
    member: Codes

    @classmethod
    def of(cls, member: Codes) -> _Groups:
        sizes = np.bincount(member)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        return cls(np.argsort(member, kind="stable"), starts, sizes, member)

    @property
    def count(self) -> int:
        return len(self.sizes)

    def less_means(self, values: Floats) -> Floats:
        """(N, K) less the means of their groups."""
        sums = np.add.reduceat(values[self.order], self.starts, axis=0)
        return np.asarray(values - (sums / self.sizes[:, None])[self.member], dtype=np.float64)
