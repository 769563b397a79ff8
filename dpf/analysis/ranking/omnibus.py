"""Several statistics of a compound under the same exchanges of wells, and one p-value of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.ranking.subsets import Codes, Comparison, Mask, Subsets, comparisons, set_sums, smallest_p

Floats = NDArray[np.float64]

#: Digits that statistics are compared to: sets of the same wells in another order differ by rounding.
_DIGITS = 9


class Line(NamedTuple):
    """A line of evidence: where each well lies, (N, K), and how a set of wells is compared with the others.

    With `energy` by the E-distance, 2δ − σ_x − σ_y in squared Euclidean distances: δ the mean between the sets, σ the
    mean within one over n(n − 1) pairs, 0 of a single well (scPerturb's, Peidli et al. 2024, `sample_correct=True`;
    others take unsquared distances, or divide by n²). It equals 2‖Δμ‖² − 2s²_x/(n−1) − 2s²_y/(m−1), s² the population
    variances summed over dimensions, so that no pair is formed; it sees means only, not shapes. Else by the squared
    length of the difference of the two means. A compound whose wells are all NaN is not compared in the line; other NaN
    are not allowed.
    """

    values: Floats
    energy: bool = False


class Omnibus(NamedTuple):
    """Of C compounds, NaN where not compared: `p` and the smallest p of the design; of each line the value and its p.

    The value of a line without `energy` is a length, in the units of its columns.
    """

    p: Floats
    floor: Floats
    values: dict[str, Floats]
    line_p: dict[str, Floats]


def omnibus_test(
    lines: Mapping[str, Line], group: Codes, n_groups: int, is_control: Mask, strata: Codes | None,
    rng: np.random.Generator,
) -> Omnibus:  # fmt: skip
    """Compare every compound with the controls of its strata in every line, and in all of them together.

    All sets of as many wells, out of the compound's and the controls of its strata, take the compound's place where
    they are fewer than 10,000, 10,000 random ones and the compound's own otherwise. In each line a set's p is the share
    of sets that lie at least as far. A set's lines are combined by the sum of 1/p, the harmonic mean of p-values
    (Wilson 2019), whose tail is that of the Cauchy combination (Liu & Xie 2020) and which no single line near 1 can
    pull down; the compound's p is the share of sets whose sum is at least as large. As every set is treated as the
    compound is, this p is exact whatever the lines have in common (`p_values.compound_p_values` for one line).

    Parameters
    ----------
    lines
        By name; of one line alone, `p` is that line's.
    group, n_groups, is_control, strata, rng
        As in `dpf.analysis.ranking.p_values.compound_p_values`.

    Raises
    ------
    DataError
        A compound without controls in one of its strata.
    """
    unknown = np.full(n_groups, np.nan)
    found = Omnibus(unknown, unknown.copy(), *({name: unknown.copy() for name in lines} for _ in range(2)))
    for case in comparisons(group, n_groups, is_control, strata, rng, largest_floor=1.0):
        alone = np.asarray((case.subsets.index < case.subsets.n_controls).all(axis=1))
        sets = _Sets(case, alone, case.subsets.index[alone], case.subsets.index[~alone])
        shared = {name: _alone(line, sets) for name, line in lines.items()}
        for compound, own in zip(case.compounds.tolist(), case.own, strict=True):
            reached = np.zeros(len(alone) + 1)
            for name, line in lines.items():
                if np.isnan(line.values[own]).any():
                    continue
                values = _statistics(line, shared[name], sets, own)
                found.values[name][compound] = values[-1] if line.energy else np.sqrt(max(values[-1], 0.0))
                p = _shares(values, exact=case.subsets.exact)
                found.line_p[name][compound] = p[-1]
                reached += 1 / p
            if reached.any():
                found.p[compound] = _shares(reached, exact=case.subsets.exact)[-1]
                found.floor[compound] = smallest_p(case.subsets)
    return found


def distances(lines: Mapping[str, Line], group: Codes, n_groups: int, is_control: Mask) -> dict[str, Floats]:
    """How far every compound lies from all controls in every line, (C,) each: the values of `omnibus_test`, no p."""
    controls = np.flatnonzero(is_control)
    found = {name: np.full(n_groups, np.nan) for name in lines}
    for name, line in lines.items():
        for compound in range(n_groups if len(controls) else 0):
            own = np.flatnonzero((group == compound) & ~is_control)
            nothing = np.zeros((0, max(len(own), 1)), dtype=np.int64)
            subsets = Subsets(nothing, len(controls), exact=True)
            case = Comparison(np.array([compound]), controls, own[None], (), subsets)
            sets = _Sets(case, np.zeros(0, dtype=bool), nothing, nothing)
            if len(own) and not np.isnan(line.values[own]).any():
                value = _statistics(line, _alone(line, sets), sets, own)[-1]
                found[name][compound] = value if line.energy else np.sqrt(max(value, 0.0))
    return found


class _Sets(NamedTuple):
    """The sets of a comparison: which are of controls alone, (D,), these and the mixed ones as indices."""

    case: Comparison
    alone: Mask
    controls: Codes
    mixed: Codes


class _Alone(NamedTuple):
    """Of a line: the controls about their mean (k, K), the mean, and the sums of the sets of controls alone."""

    controls: Floats
    centre: Floats
    sums: Floats
    squares: Floats


def _alone(line: Line, sets: _Sets) -> _Alone:
    controls = line.values[sets.case.controls]
    centre = controls.mean(axis=0)
    controls = controls - centre
    return _Alone(
        controls, centre, set_sums(controls, sets.controls), set_sums((controls**2).sum(axis=1), sets.controls)
    )


def _statistics(line: Line, shared: _Alone, sets: _Sets, own: Codes) -> Floats:
    """The statistic of every set, and last of the compound's own wells: (D + 1,)."""
    mine = line.values[own] - shared.centre
    pool = np.concatenate([shared.controls, mine])
    n, k = len(mine), len(shared.controls)
    sums = np.empty((len(sets.alone) + 1, pool.shape[1]))
    sums[:-1][sets.alone], sums[:-1][~sets.alone], sums[-1] = shared.sums, set_sums(pool, sets.mixed), mine.sum(axis=0)
    total = pool.sum(axis=0)
    values: Floats = ((sums * (1 / n + 1 / k) - total / k) ** 2).sum(axis=1)
    if line.energy:
        squares = np.empty(len(sums))
        of_wells = (pool**2).sum(axis=1)
        squares[:-1][sets.alone], squares[:-1][~sets.alone] = shared.squares, set_sums(of_wells, sets.mixed)
        squares[-1] = of_wells[k:].sum()
        inside = squares / n - (sums**2).sum(axis=1) / n**2
        outside = (of_wells.sum() - squares) / k - ((total - sums) ** 2).sum(axis=1) / k**2
        values = 2 * values - 2 * inside / max(n - 1, 1) - 2 * outside / max(k - 1, 1)
    return values


def _shares(values: Floats, *, exact: bool) -> Floats:
    """For each of D + 1 values the share that is at least as large: of the first D where these are all sets."""
    scale = np.abs(values).max()
    rounded = np.round(values / scale if scale > 0 else values, _DIGITS)
    among = np.sort(rounded[:-1] if exact else rounded)
    reached = np.maximum(len(among) - np.searchsorted(among, rounded, side="left"), 1)  # its own set reaches each
    return np.asarray(reached / len(among), dtype=np.float64)
