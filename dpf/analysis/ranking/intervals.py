"""How far a compound's T and its rank could have come out otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.ranking.compounds import descending_rank, group_mean

Floats = NDArray[np.float64]

#: Compounds of similar T whose wells give a compound's spread.
WINDOW = 24
#: What an interval holds of the estimated distribution: more than the 95% aimed at, as that is an estimate too.
LEVEL = 0.975
DRAWS = 1000
#: Numbers that are ranked at once.
_BLOCK = 4_000_000
#: Steps of the grid of true values in a standard error, how many errors it reaches beyond each compound, its length.
_STEPS, _REACH, _MOST_STEPS = 4, 8.0, 2_000
_ROUNDS = 100


@dataclass(frozen=True)
class Intervals:
    """Intervals that hold the true value in at least 95% of the compounds, (C,) each.

    `t_low`, `t_high` of the mean standardised distance; `rank_low`, `rank_high` of its rank (1 is the farthest out).
    All NaN where no compound has two wells.
    """

    t_low: Floats
    t_high: Floats
    rank_low: Floats
    rank_high: Floats


def likely_intervals(t: ArrayLike, group: ArrayLike, n_groups: int, *, rng: np.random.Generator) -> Intervals:
    """Empirical Bayes intervals of T and of the ranks: where the true values lie, given those of all compounds.

    Compounds are on top by their effect and by luck: an interval about a compound's own mean misses the truth more
    often there. So the distribution of the true values is estimated from all compounds (on a grid, by EM), and an
    interval is where that and a compound's own wells put it: drawn towards where most compounds lie, the more the fewer
    wells there are, so that a mean may lie outside its interval. This holds on top as among all (Efron 2011).

    For T, the estimate leaves the compound itself out and is smoothed by a standard error, so that a compound far from
    all others keeps the t interval of its own wells. For ranks, which such smoothing would part where compounds are
    tied, it is neither; they are those of 1,000 joint draws (Laird & Louis 1989).

    The spread of a well is taken over the 24 compounds nearest in T (it grows with the distance). Compounds of one well
    have an interval too. All are of other wells of these compounds on these plates, and leave out plate, batch and
    training.

    Parameters
    ----------
    t
        (N,) standardised distances, finite.
    group, n_groups
        (N,) compound codes 0 ... n_groups − 1, each of at least one well, −1 for other wells; C.
    rng
        Draws true values.

    References
    ----------
    Efron, Tweedie's formula and selection bias, JASA 2011. Laird & Louis, Empirical Bayes ranking methods, J Educ Stat
    1989.
    """
    values, codes = np.asarray(t, dtype=np.float64), np.asarray(group, dtype=np.int64)
    values, codes = values[codes >= 0], codes[codes >= 0]
    n = np.bincount(codes, minlength=n_groups)
    mean = group_mean(values, codes, n_groups)
    squares = np.bincount(codes, weights=(values - mean[codes]) ** 2, minlength=n_groups)
    if not squares.any():
        same = mean if (n > 1).any() else np.full(n_groups, np.nan)
        rank = descending_rank(mean) if (n > 1).any() else same
        return Intervals(same, same, rank, rank)
    spread, freedom = _spread(mean, squares.astype(np.float64), (n - 1).astype(np.float64))
    error = spread / np.sqrt(n)
    grid = _grid(mean, error)
    alone, jointly = (np.cumsum(chance, axis=1) for chance in _chances(grid, mean, error, freedom))
    tails = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    ends = np.stack([np.interp(tails, row, grid) for row in alone], axis=1)
    drawn = np.stack([np.interp(rng.random(DRAWS), row, grid) for row in jointly], axis=1)
    ranks = np.empty(drawn.shape, np.float32)  # whole or half numbers: exact
    step = max(1, _BLOCK // n_groups)
    for first in range(0, DRAWS, step):
        ranks[first : first + step] = descending_rank(drawn[first : first + step])
    low, high = np.quantile(ranks, tails, axis=0).astype(np.float64)
    return Intervals(ends[0], ends[1], low, high)


def _spread(mean: Floats, squares: Floats, freedom: Floats) -> tuple[Floats, Floats]:
    """Standard deviation of a well of each compound and its degrees of freedom, of the compounds nearest in mean."""
    several = np.flatnonzero(freedom > 0)
    several = several[np.argsort(mean[several], kind="stable")]
    window = min(WINDOW, len(several))
    start = np.clip(np.searchsorted(mean[several], mean) - window // 2, 0, len(several) - window)
    sums = [np.concatenate([[0.0], np.cumsum(values[several])]) for values in (squares, freedom)]
    within, free = (total[start + window] - total[start] for total in sums)
    overall = float(np.sqrt(sums[0][-1] / sums[1][-1]))
    return np.maximum(np.sqrt(np.maximum(within, 0.0) / free), 1e-3 * overall), free


def _grid(mean: Floats, error: Floats) -> Floats:
    """Places that true values may have: closer than the error of the compounds about them, few where there are none."""
    order = np.argsort(mean, kind="stable")
    knots = np.sort(np.concatenate([mean - _REACH * error, mean, mean + _REACH * error]))
    step = np.interp(knots, mean[order], error[order])
    gaps = np.minimum(np.diff(knots) / ((step[1:] + step[:-1]) / 2), _REACH)
    scaled = np.concatenate([[0.0], np.cumsum(gaps)])
    count = min(_MOST_STEPS, int(_STEPS * scaled[-1]) + 1)
    found: Floats = np.interp(np.linspace(0.0, scaled[-1], count), scaled, knots)
    return found


def _chances(grid: Floats, mean: Floats, error: Floats, freedom: Floats) -> tuple[Floats, Floats]:
    """Of each compound the chance that its true value lies at each place, (C, G): for its T, and for the ranks."""
    from scipy.ndimage import gaussian_filter1d  # imported here: they cost more than the rest of this module
    from scipy.stats import t as student

    likely: Floats = student.pdf((grid - mean[:, None]) / error[:, None], freedom[:, None])
    flat = np.full(len(grid), 1 / len(grid))  # as much as one more compound: no place is impossible
    prior = flat
    for _ in range(_ROUNDS):
        prior = (prior * ((1 / (likely @ prior)) @ likely) + flat) / (len(mean) + 1)
    jointly = likely * prior
    jointly /= jointly.sum(axis=1, keepdims=True)
    smooth = gaussian_filter1d(jointly, _STEPS, axis=1)
    likely *= np.maximum(smooth.sum(axis=0) - smooth, 0.0) + flat
    likely /= likely.sum(axis=1, keepdims=True)
    return likely, jointly
