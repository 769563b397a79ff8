"""How far a compound's T and its rank could have come out otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.ranking.compounds import descending_rank, group_mean

Floats = NDArray[np.float64]

#: Residuals of compounds of similar T that a compound's own are drawn from.
WINDOW = 100
DRAWS = 1000
#: Numbers that are ranked, or whose quantiles are taken, at once.
_BLOCK = 4_000_000
#: The coverage aimed at.
LEVEL = 0.95


@dataclass(frozen=True)
class Intervals:
    """Percentile intervals of each compound, (C,) each; all NaN where no compound has two wells.

    `t_low`, `t_high` of the mean standardised distance; `rank_low`, `rank_high` of its rank (1 is the farthest out).
    """

    t_low: Floats
    t_high: Floats
    rank_low: Floats
    rank_high: Floats


def bootstrap_intervals(
    t: ArrayLike,
    group: ArrayLike,
    n_groups: int,
    *,
    rng: np.random.Generator,
) -> Intervals:
    """Residual bootstrap of T and of the ranks.

    With two wells there are only three ways to resample a compound, and the interval would never reach beyond its
    own two values. So wells lend each other their residuals: r = (t − T_c)·√(n/(n−1)), and a draw is T_c plus the
    mean of n_c residuals from the 100 of compounds nearest in T (the spread grows with the distance). In each draw
    all compounds are ranked anew. Compounds of one well have an interval too, on the residuals of the others.

    The intervals are of how the ranking would vary over other wells of these compounds on these plates, and leave
    out plate, batch and training. The rank of a compound that is nearly tied with many is drawn towards the
    middle (Hall & Miller 2009): read an interval as the set of ranks that cannot be told apart.

    Parameters
    ----------
    t
        (N,) standardised distances, finite.
    group, n_groups
        (N,) compound codes 0 ... n_groups − 1, each of at least one well, −1 for other wells; C.
    rng
        Draws residuals.

    References
    ----------
    Hall & Miller, Using the bootstrap to quantify the authority of an empirical ranking, Ann Stat 2009.
    """
    values, codes = np.asarray(t, dtype=np.float64), np.asarray(group, dtype=np.int64)
    keep = codes >= 0
    values, codes = values[keep], codes[keep]
    n = np.bincount(codes, minlength=n_groups)
    mean = group_mean(values, codes, n_groups)
    replicated = n[codes] > 1
    if not replicated.any():
        return Intervals(*(np.full(n_groups, np.nan) for _ in range(4)))
    scale = np.sqrt(n[codes] / np.maximum(n[codes] - 1, 1))
    order = np.argsort(mean[codes][replicated], kind="stable")
    residuals = ((values - mean[codes]) * scale)[replicated][order]
    window = min(WINDOW, len(residuals))
    position = np.searchsorted(mean[codes][replicated][order], mean)
    start = np.clip(position - window // 2, 0, len(residuals) - window)
    drawn = np.empty((DRAWS, n_groups))
    well_start = np.repeat(start, n)
    edges = np.concatenate([[0], np.cumsum(n)[:-1]])
    for draw in range(DRAWS):
        picked = residuals[well_start + rng.integers(window, size=len(well_start))]
        drawn[draw] = mean + np.add.reduceat(picked, edges) / n
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    ranks = np.empty(drawn.shape, np.float32)  # whole or half numbers: exact
    step = max(1, _BLOCK // n_groups)
    for first in range(0, DRAWS, step):
        ranks[first : first + step] = descending_rank(drawn[first : first + step])
    ends = np.empty((4, n_groups))
    step = max(1, _BLOCK // DRAWS)
    for first in range(0, n_groups, step):
        some = slice(first, first + step)
        ends[:2, some] = np.quantile(drawn[:, some], tails, axis=0)
        ends[2:, some] = np.quantile(ranks[:, some].astype(np.float64), tails, axis=0)
    return Intervals(*ends)
