"""How much of a well's library is taken up by what other wells do not have: composition factors of library sizes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Genes with fewer expected counts are left out: chosen by what is expected and not by what was counted, zeros and
#: all, they bias no factor (less than 0.07 log2 between 800 and 400,000 counts; TMM of the counted genes: 0.2 to 0.5).
LEAST_EXPECTED = 5.0
#: With fewer such genes a factor would be rougher than the composition that it corrects.
FEWEST_GENES = 20
#: The most abundant genes that are used: with these a factor is exact to 0.5%.
_MOST_GENES = 2_000
#: A half makes the mean of a log count right, which is skewed and whose tails weigh less here.
_PSEUDO_COUNT = 1 / 3
#: Biological variance of a log count that is looked for in every gene (a coefficient of variation of 22%).
_DISPERSION = 0.05
_TUNING = 3.0
_MAD_SCALE = 1.4826
_TOLERANCE = 1e-8
_MOST_STEPS = 100


def robust_factors(counts: NDArray[np.floating], depth: Floats, share: Floats) -> Floats:
    r"""What the library size of each well would have to be multiplied by for most of its genes to have their share.

    With c the counts, L the depth and s a gene's share in the reference, genes with :math:`e = sL \ge 5` have

    .. math:: M = \log\frac{c + 1/3}{e}, \qquad v = 1/e + 0.05

    and the logarithm of the factor is their location by Tukey's biweight: the solution θ of
    :math:`\sum (M - \theta)\, w(r) / v = 0` with :math:`r = (M - \theta) / (3 \sigma \sqrt v)`,
    :math:`w(r) = (1 - r^2)^2` within ±1 and 0 beyond, found from the median by reweighting; σ is 1.4826 times the
    median of :math:`|M - \mathrm{median}| / \sqrt v`, at least 1.

    This is the weighted mean of M values of TMM (Robinson & Oshlack 2010, doi:10.1186/gb-2010-11-3-r25), with two
    changes that shallow wells need: the variance is that of the expected count, since genes chosen and weighted by
    their own counts shift the factor with depth; and far genes are left out by their distance instead of a fixed
    share of either side, which leaves an offset where they are all on one.

    Parameters
    ----------
    counts
        Shape (N, D): wells × the genes that make up the depth.
    depth
        Shape (N,).
    share
        Shape (D,): each gene's share of the counts in the reference.

    Returns
    -------
    ndarray of shape (N,)
        NaN where fewer than 20 genes have 5 expected counts.
    """
    order = np.argsort(-share, kind="stable")[:_MOST_GENES]
    falling, used = share[order], np.asarray(counts[:, order], dtype=np.float64)
    factors = np.full(len(used), np.nan)
    for well, (row, size) in enumerate(zip(used, depth.tolist(), strict=True)):
        n = int(np.searchsorted(-falling * size, -LEAST_EXPECTED, side="right"))
        if n >= FEWEST_GENES:
            expected = falling[:n] * size
            m = np.log((row[:n] + _PSEUDO_COUNT) / expected)
            factors[well] = np.exp(_biweight(m, 1 / (1 / expected + _DISPERSION)))
    return factors


def _biweight(values: Floats, precision: Floats) -> float:
    """Tukey's biweight location of values with known precisions."""
    at = float(np.median(values))
    root = np.sqrt(precision)
    root /= _TUNING * max(1.0, _MAD_SCALE * float(np.median(np.abs(values - at) * root)))
    for _ in range(_MOST_STEPS):
        weights = np.maximum(1 - ((values - at) * root) ** 2, 0) ** 2 * precision
        before, at = at, float((weights @ values) / weights.sum())
        if abs(at - before) < _TOLERANCE:
            break
    return at
