"""Is one method better than another on these compounds, or could the choice of compounds have made it so?

Both methods are measured on the same draws: as many compounds as there are, with replacement, each with all its wells,
since wells of one compound are not independent and compounds are.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from dpf.analysis.evaluation.metrics import Draws, Floats, Index, Metric

Verdict = Literal["better", "equal", "worse", "unknown"]

DRAWS = 2000
LEVEL = 0.95
#: A share of draws that a metric may leave undefined (one class only, say) before the interval means nothing.
_UNDEFINED = 0.1


def draw_compounds(groups: Index, rng: np.random.Generator, draws: int = DRAWS) -> Draws:
    """Draw as many compounds as there are, with replacement, `draws` times.

    `groups` has shape (N,): the compound of each well, each control one of its own.
    """
    _, code = np.unique(groups, return_inverse=True)
    size = int(code.max(initial=-1)) + 1
    drawn = rng.integers(0, size, (draws, size)) if size else np.empty((draws, 0), dtype=np.int64)
    flat = np.bincount((drawn + size * np.arange(draws)[:, None]).ravel(), minlength=draws * size)
    return Draws(flat.reshape(draws, size).astype(np.float64), code)


def resampled(
    metric: Metric, draws: Draws, measured: Floats, predicted: Floats, stratum: Index | None = None
) -> Floats:
    """A metric of N finite values on every draw, shape (D,); nan where a draw, or one compound alone, has none."""
    if draws.compounds < 2:
        return np.full(len(draws.counts), np.nan)
    return metric.of_draws(draws, measured, predicted, stratum)


def interval(values: Floats) -> tuple[float, float]:
    """95% percentile interval (Efron & Tibshirani 1993, ch. 13); nan where over a tenth of the draws is undefined."""
    defined = values[np.isfinite(values)]
    if not defined.size or defined.size < (1 - _UNDEFINED) * values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def verdict(low: float, high: float, lower_is_better: bool) -> Verdict:
    """On the first method, from the interval of its metric less the second's.

    "better" or "worse": the interval leaves out 0, on that side. "equal": it holds 0, so these compounds show no
    difference (which does not prove that there is none). "unknown": fewer than 2 compounds, or a metric that is not
    defined on them. One comparison: a table of many holds some "better" by chance.
    """
    if np.isnan(low):
        return "unknown"
    if low <= 0 <= high:
        return "equal"
    return "worse" if (low > 0) == lower_is_better else "better"
