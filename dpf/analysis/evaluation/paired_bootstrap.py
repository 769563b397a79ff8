"""Is one method better than another on these compounds, or could the choice of compounds have made it so?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.evaluation.metrics import Metric

Verdict = Literal["better", "equal", "worse", "unknown"]

DRAWS = 2000
LEVEL = 0.95
#: A share of draws that a metric may leave undefined (one class only, say) before the interval means nothing.
_UNDEFINED = 0.1


@dataclass(frozen=True)
class Difference:
    """A metric of the first method less that of the second, on the same wells.

    Attributes
    ----------
    first, second
        The metric of each method over all wells that are compared.
    difference
        `first − second`, in the metric's units.
    low, high
        Ends of the percentile interval of the difference.
    verdict
        Of the *first* method. "better" or "worse": the interval leaves out 0, on that side. "equal": it holds 0, so
        these compounds show no difference (which does not prove that there is none). "unknown": fewer than 2
        compounds, or a metric that is not defined on them.
    wells, compounds
        How many were compared.
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    verdict: Verdict
    wells: int
    compounds: int


def paired_bootstrap(
    measured: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    groups: NDArray[np.intp],
    metric: Metric,
    *,
    rng: np.random.Generator,
    lower_is_better: bool = False,
    draws: int = DRAWS,
    level: float = LEVEL,
) -> Difference:
    """Bootstrap the difference of a metric over compounds, both methods on the same draw.

    A draw takes as many compounds as there are, with replacement, each with all its wells: wells of one compound
    are not independent, compounds are. The interval is that of the percentiles (Efron & Tibshirani 1993, ch. 13)
    for one comparison: a table of many holds some "better" by chance.

    Parameters
    ----------
    measured
        Shape (N,): a score, or the label as 0 and 1; nan where missing.
    first, second
        Shape (N,): the two methods' predictions; a well that either leaves out (nan) is not compared.
    groups
        Shape (N,): the compound of each well, each control one of its own.
    metric
        From `dpf.analysis.evaluation.metrics`.
    lower_is_better
        Whether a smaller metric is the better one (`metrics.LOWER_IS_BETTER`).
    draws, level
        Number of draws, and coverage of the interval.
    """
    y, a, b = (np.asarray(values, dtype=np.float64) for values in (measured, first, second))
    wells = np.flatnonzero(~(np.isnan(y) | np.isnan(a) | np.isnan(b)))
    members = _members(groups[wells], wells)
    value_a, value_b = metric(y[wells], a[wells]), metric(y[wells], b[wells])
    differences = np.full(draws, np.nan)
    if len(members) > 1 and np.isfinite(value_a - value_b):
        for draw in range(draws):
            drawn = np.concatenate([members[c] for c in rng.integers(0, len(members), len(members))])
            differences[draw] = metric(y[drawn], a[drawn]) - metric(y[drawn], b[drawn])
    low, high = _interval(differences, level)
    verdict = _verdict(low, high, lower_is_better)
    return Difference(value_a, value_b, value_a - value_b, low, high, verdict, wells.size, len(members))


def _members(groups: NDArray[np.intp], wells: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The wells of each group."""
    order = np.argsort(groups, kind="stable")
    _, first = np.unique(groups[order], return_index=True)
    return np.split(wells[order], first[1:]) if wells.size else []


def _interval(differences: NDArray[np.float64], level: float) -> tuple[float, float]:
    defined = differences[np.isfinite(differences)]
    if defined.size < (1 - _UNDEFINED) * differences.size:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _verdict(low: float, high: float, lower_is_better: bool) -> Verdict:
    if np.isnan(low):
        return "unknown"
    if low <= 0 <= high:
        return "equal"
    return "worse" if (low > 0) == lower_is_better else "better"
