"""Energy distance between a compound's wells and the controls, with a permutation p-value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.ranking.subsets import LARGEST_FLOOR, Comparison, comparisons, set_sums, smallest_p

Floats = NDArray[np.float64]

#: Values held at once while sets are compared.
_BLOCK = 4_000_000


@dataclass(frozen=True)
class EnergyTest:
    """E-distance of each compound from the controls, (C,) each; NaN for compounds of one well.

    Attributes
    ----------
    distance
        E, in squared latent units; about 0 for an inert compound (it can be below), larger is farther.
    p
        Share of the exchanged sets that lie at least as far.
    floor
        The smallest p the design allows.
    """

    distance: Floats
    p: Floats
    floor: Floats


def energy_test(
    latent: ArrayLike,
    group: ArrayLike,
    n_groups: int,
    is_control: ArrayLike,
    strata: ArrayLike | None = None,
    *,
    rng: np.random.Generator,
    strata_names: Sequence[str] | None = None,
    largest_floor: float = LARGEST_FLOOR,
) -> EnergyTest:
    """E-distance of every compound from the controls of its strata, and its permutation p-value.

    E = 2δ − σ_x − σ_y in squared Euclidean distances: δ the mean between compound x and controls y, σ the mean within,
    over n(n − 1) pairs. This is the E-distance of scPerturb (Peidli et al. 2024, `sample_correct=True`), whose name and
    idea come from Székely & Rizzo; other packages use unsquared distances, or divide by n². With squared distances it
    equals 2‖Δμ‖² − 2s²_x/(n−1) − 2s²_y/(m−1), s² the population variances summed over dimensions, which is how it is
    computed: no pair is formed, time and memory are linear in the wells. It sees means only, not shapes.

    The compound's wells and those controls exchange places, stratum by stratum: all sets where they are fewer than
    10,000 (the test is exact), 10,000 random ones otherwise, p = (b+1)/(m+1).

    Parameters
    ----------
    latent
        (N, L). Rows are only compared within strata, so strata may hold latents of different members.
    group, n_groups, is_control, strata, strata_names, rng
        As in `p_values.compound_p_values`.

    largest_floor
        A design in which no compound can reach this p is an error; 1 allows any.

    Raises
    ------
    DataError
        Too few controls, see `p_values.compound_p_values`.
    """
    z, codes = np.asarray(latent, dtype=np.float64), np.asarray(group, dtype=np.int64)
    control = np.asarray(is_control, dtype=bool)
    stratum = None if strata is None else np.asarray(strata, dtype=np.int64)
    distance, p, floor = (np.full(n_groups, np.nan) for _ in range(3))
    for case in comparisons(codes, n_groups, control, stratum, rng, strata_names, largest_floor):
        if min(case.own.shape[1], len(case.controls)) < 2:
            continue
        # About the controls' mean: sums of squares of large offsets would lose the differences.
        centre = z[case.controls].mean(axis=0)
        found, share = _compare(z[case.controls] - centre, z[case.own] - centre, case)
        distance[case.compounds], p[case.compounds] = found, share
        floor[case.compounds] = smallest_p(case.subsets)
    return EnergyTest(distance, p, floor)


def _compare(controls: Floats, own: Floats, case: Comparison) -> tuple[Floats, Floats]:
    """(B,) distances and p-values of compounds `own` (B, n, L) against `controls` (k, L)."""
    (compounds, n, _), k = own.shape, len(controls)
    total = controls.sum(axis=0) + own.sum(axis=1)  # (B, L)
    squares = (controls**2).sum() + (own**2).sum(axis=(1, 2))  # (B,)

    def energy(sums: Floats, own_squares: Floats, row: slice) -> Floats:
        """(D, B) distances of D sets, given their sums (D, L) and sums of squares (D,)."""
        parts = _SetSums((sums**2).sum(axis=1)[:, None], sums @ total[row].T, own_squares[:, None])
        return _energy(parts, (total[row] ** 2).sum(axis=1), squares[row], n, k)

    observed = np.concatenate(
        [energy(own[b].sum(axis=0)[None], (own[b] ** 2).sum()[None], slice(b, b + 1))[0] for b in range(compounds)]
    )
    bound = observed - 1e-10 * (np.abs(observed) + squares / (n + k))  # ties up to rounding count
    pure = (case.subsets.index < case.subsets.n_controls).all(axis=1)
    sets, mixed = case.subsets.index[pure], case.subsets.index[~pure]
    sums, set_squares = set_sums(controls, sets), set_sums((controls**2).sum(axis=1), sets)
    count = np.zeros(compounds)
    step = max(1, _BLOCK // max(len(sets), 1))
    for start in range(0, compounds, step):
        row = slice(start, start + step)
        count[row] = (energy(sums, set_squares, row) >= bound[row]).sum(axis=0)
    for b in range(compounds):
        pool = np.concatenate([controls, own[b]])
        row = slice(b, b + 1)
        found = energy(set_sums(pool, mixed), set_sums((pool**2).sum(axis=1), mixed), row)
        count[b] += (found >= bound[row]).sum()
    if case.subsets.exact:
        return observed, count / len(case.subsets.index)
    return observed, (count + 1) / (len(case.subsets.index) + 1)


@dataclass(frozen=True)
class _SetSums:
    """Of sets of wells: ‖Σx‖² (D, 1), Σx·S with S the sum over the pool (D, B), Σ‖x‖² (D, 1)."""

    norm: Floats
    cross: Floats
    squares: Floats


def _energy(sets: _SetSums, pool_norm: Floats, pool_squares: Floats, n: int, k: int) -> Floats:
    """E for a set of n and the k others of the pool, from sums alone: (D, B)."""
    rest_norm = pool_norm - 2 * sets.cross + sets.norm  # ‖S − Σx‖²
    shift = sets.norm / n**2 - 2 * (sets.cross - sets.norm) / (n * k) + rest_norm / k**2
    inside = sets.squares / n - sets.norm / n**2
    outside = (pool_squares - sets.squares) / k - rest_norm / k**2
    return np.asarray(2 * shift - 2 * inside / (n - 1) - 2 * outside / (k - 1), dtype=np.float64)
