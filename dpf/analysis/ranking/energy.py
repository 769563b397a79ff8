"""Energy distance between a compound's wells and the controls, with a permutation p-value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.ranking.exchange import ExchangeTest, exchange_test
from dpf.analysis.ranking.subsets import Codes, Comparison, Mask, set_sums

Floats = NDArray[np.float64]

#: Values held at once while sets are compared.
_BLOCK = 4_000_000


def energy_test(
    latent: Floats, group: Codes, n_groups: int, is_control: Mask, strata: Codes | None, rng: np.random.Generator,
    *, of_single_wells: bool = False,
) -> ExchangeTest:  # fmt: skip
    """E-distance of every compound from the controls of its strata, and its permutation p-value.

    E = 2δ − σ_x − σ_y in squared Euclidean distances: δ the mean between compound x and controls y, σ the mean within,
    over n(n − 1) pairs. This is the E-distance of scPerturb (Peidli et al. 2024, `sample_correct=True`), whose name and
    idea come from Székely & Rizzo; other packages use unsquared distances, or divide by n². With squared distances it
    equals 2‖Δμ‖² − 2s²_x/(n−1) − 2s²_y/(m−1), s² the population variances summed over dimensions, which is how it is
    computed: no pair is formed, time and memory are linear in the wells. It sees means only, not shapes.

    The value is in squared latent units; about 0 for an inert compound (it can be below), larger is farther.

    Parameters
    ----------
    latent
        (N, L). Rows are only compared within strata, so strata may hold latents of different members.
    group, n_groups, is_control, strata, rng, of_single_wells
        As in `exchange_test`. Of a single well σ_x is not known, and taken as 0.
    """

    def compare(case: Comparison) -> tuple[Floats, Floats]:
        if len(case.controls) < 2:
            unknown = np.full(len(case.own), np.nan)
            return unknown, unknown
        # About the controls' mean: sums of squares of large offsets would lose the differences.
        centre = latent[case.controls].mean(axis=0)
        return _compare(latent[case.controls] - centre, latent[case.own] - centre, case)

    return exchange_test(compare, group, n_groups, is_control, strata, rng, of_single_wells=of_single_wells)


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
    sets, mixed = case.subsets.split()
    sums, set_squares = set_sums(controls, sets), set_sums((controls**2).sum(axis=1), sets)
    count = np.zeros(compounds, dtype=np.int64)
    step = max(1, _BLOCK // max(len(sets), 1))
    for start in range(0, compounds, step):
        row = slice(start, start + step)
        count[row] = (energy(sums, set_squares, row) >= bound[row]).sum(axis=0)
    for b in range(compounds):
        pool = np.concatenate([controls, own[b]])
        row = slice(b, b + 1)
        found = energy(set_sums(pool, mixed), set_sums((pool**2).sum(axis=1), mixed), row)
        count[b] += (found >= bound[row]).sum()
    return observed, case.subsets.share(count)


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
    return np.asarray(2 * shift - 2 * inside / max(n - 1, 1) - 2 * outside / (k - 1), dtype=np.float64)
