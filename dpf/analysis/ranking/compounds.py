"""Wells to compounds: one row a compound, in columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

#: Profiles shorter than this share of the longest differ from 0 by rounding only.
_ROUNDING = 1e-12
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Agreement:
    """How alike the replicates of a compound are: four values a group, (C,) each, in [−1, 1], higher is better.

    `cosine` and `pearson` are means over the pairs of wells within a compound, `cosine_between` and
    `pearson_between` over its pairs with the wells of every other compound. NaN where there is no pair.
    """

    cosine: Floats
    cosine_between: Floats
    pearson: Floats
    pearson_between: Floats


def replicate_agreement(
    profiles: ArrayLike, group: ArrayLike, n_groups: int, used: ArrayLike | None = None
) -> Agreement:
    """Mean cosine and Pearson of control-centred profiles, within compounds and between them.

    The sum over all pairs of unit vectors is ‖Σu‖² − n, so no pair is ever formed: time and memory are linear in
    the wells. With members, a pair counts in each member that both wells are used in (latent bases differ between
    members, so profiles of different members are never compared), and all such pairs have the same weight.

    Parameters
    ----------
    profiles
        (N, L) or (M, N, L) deviations z − μ from the control centre.
    group
        (N,) compound codes 0 ... n_groups − 1; −1 leaves a well out (controls).
    n_groups
        C.
    used
        (M, N) bool: the members a well is measured in (`Standardised.used`); None takes all.

    Notes
    -----
    A profile of length 0 has no direction, a constant one no Pearson correlation: such wells form no pair. Profiles
    share the error of the control centre, which makes even inert compounds agree a little; compare `cosine` with
    `cosine_between`, never with 0.
    """
    x = np.asarray(profiles, dtype=np.float64)
    x = x[None] if x.ndim == 2 else x
    codes = _checked_group(group, n_groups, x.shape[1])
    mask = np.ones(x.shape[:2], dtype=bool) if used is None else np.asarray(used, dtype=bool)
    mask = mask & (codes >= 0)
    cosine, cosine_between = _mean_pairs(x, codes, n_groups, mask)
    pearson, pearson_between = _mean_pairs(x - x.mean(axis=2, keepdims=True), codes, n_groups, mask)
    return Agreement(cosine, cosine_between, pearson, pearson_between)


def _mean_pairs(x: Floats, codes: Codes, n_groups: int, mask: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Mean dot product of unit profiles over pairs within a group, and between a group and the rest: (C,) each."""
    sums = np.zeros((4, n_groups))  # within: sum, pairs; between: sum, pairs
    for member, chosen in zip(x, mask, strict=True):
        length = np.linalg.norm(member, axis=1)
        # Subtracting the mean of a constant profile leaves rounding errors, which have no direction either.
        rows = np.flatnonzero(chosen & (length > _ROUNDING * max(float(length.max(initial=0.0)), _TINY)))
        unit = member[rows] / length[rows, None]
        total = np.zeros((n_groups, x.shape[2]))
        np.add.at(total, codes[rows], unit)
        n = np.bincount(codes[rows], minlength=n_groups).astype(np.float64)
        sums[0] += (total**2).sum(axis=1) - n
        sums[1] += n * (n - 1)
        sums[2] += total @ total.sum(axis=0) - (total**2).sum(axis=1)
        sums[3] += n * (len(rows) - n)
    means = np.full((2, n_groups), np.nan)
    np.divide(sums[::2], sums[1::2], out=means, where=sums[1::2] > 0)
    means = np.clip(means, -1.0, 1.0)
    return means[0], means[1]


def rank_compounds(
    group: ArrayLike,
    n_groups: int,
    norm: Floats,
    t: Floats,
    activation: Floats | None = None,
    on_axis: Floats | None = None,
    agreement: Agreement | None = None,
) -> dict[str, NDArray[np.generic]]:
    """One row a compound, in columns of length C; the row of a compound is its code.

    Columns: `n` wells; `norm_mean`, `norm_std` of ‖z‖ (sample standard deviation; NaN for one well); `t`, the mean
    standardised distance; `rank`, 1 for the largest t, equal t share the mean rank; with an activation head
    `activation` (mean standardised position), `direction` ("activation" or "suppression": the sign of that mean;
    "none" where it is exactly 0) and `on_axis` (mean share of the wells where it is defined); with `agreement`
    `replicate_cosine`, `replicate_cosine_between`, `replicate_pearson`, `replicate_pearson_between`.

    Parameters
    ----------
    group
        (N,) compound codes 0 ... n_groups − 1; −1 leaves a well out.
    n_groups
        C.
    norm, t, activation, on_axis
        The wells' values, (N,): ‖z‖, T, the standardised position on the activation axis, the share of the shift that
        lies on it (NaN where undefined); None without an activation head.
    agreement
        Of `replicate_agreement`.
    """
    codes = _checked_group(group, n_groups, len(t))
    n = np.bincount(codes[codes >= 0], minlength=n_groups)
    mean_t = group_mean(t, codes, n_groups)
    table: dict[str, NDArray[np.generic]] = {
        "n": n.astype(np.int64),
        "norm_mean": group_mean(norm, codes, n_groups),
        "norm_std": group_std(norm, codes, n_groups),
        "t": mean_t,
        "rank": descending_rank(mean_t),
    }
    if activation is not None:
        mean = group_mean(activation, codes, n_groups)
        table["activation"] = mean
        table["direction"] = np.select([mean > 0, mean < 0], ["activation", "suppression"], "none")
    if on_axis is not None:
        table["on_axis"] = group_mean(on_axis, codes, n_groups)
    if agreement is not None:
        for name in ("cosine", "cosine_between", "pearson", "pearson_between"):
            table[f"replicate_{name}"] = getattr(agreement, name)
    return table


def group_mean(values: ArrayLike, group: ArrayLike, n_groups: int) -> Floats:
    """Mean of each group's finite values, (C,); NaN where a group has none. Wells of group −1 are left out."""
    v, codes = np.asarray(values, dtype=np.float64), np.asarray(group, dtype=np.int64)
    keep = (codes >= 0) & np.isfinite(v)
    n = np.bincount(codes[keep], minlength=n_groups)
    mean = np.full(n_groups, np.nan)
    np.divide(np.bincount(codes[keep], weights=v[keep], minlength=n_groups), n, out=mean, where=n > 0)
    return mean


def group_std(values: ArrayLike, group: ArrayLike, n_groups: int) -> Floats:
    """Sample standard deviation (n − 1) of each group's finite values, (C,); NaN for fewer than two."""
    v, codes = np.asarray(values, dtype=np.float64), np.asarray(group, dtype=np.int64)
    keep = (codes >= 0) & np.isfinite(v)
    codes, v = codes[keep], v[keep]
    n = np.bincount(codes, minlength=n_groups)
    # About the mean, not by the difference of squares: that loses every digit when the mean is large.
    squares = np.bincount(codes, weights=(v - group_mean(v, codes, n_groups)[codes]) ** 2, minlength=n_groups)
    variance = np.full(n_groups, np.nan)
    np.divide(squares, n - 1, out=variance, where=n > 1)
    result: Floats = np.sqrt(variance)
    return result


def descending_rank(values: ArrayLike) -> Floats:
    """Ranks 1 (largest) ... C along the last axis; equal values share the mean of their ranks."""
    from scipy.stats import rankdata  # imported here: it costs more than the rest of this module

    ranks: Floats = np.asarray(rankdata(-np.asarray(values, dtype=np.float64), axis=-1), dtype=np.float64)
    return ranks


def _checked_group(group: ArrayLike, n_groups: int, n_wells: int) -> Codes:
    codes = np.asarray(group, dtype=np.int64)
    if codes.shape != (n_wells,):
        raise ValueError(f"group has shape {codes.shape}, expected ({n_wells},)")
    if len(codes) and not (codes.min() >= -1 and codes.max() < n_groups):
        raise ValueError(f"group codes run from {codes.min()} to {codes.max()}, expected -1 to {n_groups - 1}")
    return codes
