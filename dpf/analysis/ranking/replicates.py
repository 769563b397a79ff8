"""Do replicates find each other among the controls: average precision, its mean over a compound, and a p-value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.ranking.subsets import (
    LARGEST_FLOOR,
    Comparison,
    Subsets,
    comparisons,
    draw_subsets,
    set_sums,
    smallest_p,
)

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

#: With this many controls for each replicate, a compound's own wells hardly change the null, and it can be shared.
_PSEUDO_FROM = 10


@dataclass(frozen=True)
class Retrieval:
    """What `replicate_retrieval` returns.

    Attributes
    ----------
    ap
        (N,) average precision of each compound well; NaN for controls and for compounds of one well.
    mean_ap
        (C,) its mean over the wells of a compound (mAP), in (0, 1], 1 is best; NaN for compounds of one well.
    p
        (C,) by our own null; NaN where `mean_ap` is.
    floor
        (C,) the smallest p the design allows.
    exact
        (C,) bool: all exchanges enumerated.
    """

    ap: Floats
    mean_ap: Floats
    p: Floats
    floor: Floats
    exact: NDArray[np.bool_]


@dataclass(frozen=True)
class CosineTest:
    """What `cosine_test` returns, (C,) each, NaN for compounds of one well: mean cosine within, its p, its floor."""

    cosine: Floats
    p: Floats
    floor: Floats


def cosine_test(
    profiles: ArrayLike,
    group: ArrayLike,
    n_groups: int,
    is_control: ArrayLike,
    strata: ArrayLike | None = None,
    *,
    rng: np.random.Generator,
    strata_names: Sequence[str] | None = None,
    largest_floor: float = LARGEST_FLOOR,
) -> CosineTest:
    """Mean cosine over the pairs of a compound's wells, (‖Σu‖² − n)/(n(n−1)), and p by exchange with the controls.

    p is the share of the sets of as many wells, out of the compound's and the controls of its strata, whose mean cosine
    is at least as large: exact where all are enumerated, (b+1)/(m+1) where 10,000 are drawn. Of two replicates it tells
    more than their average precision does, which is 1 for every two wells that happen to be each other's nearest: among
    ten wells of pure noise about three pairs are.

    Parameters, errors
        As `replicate_retrieval`; a profile of length 0 has cosine 0 with every other.
    """
    x, codes = np.asarray(profiles, dtype=np.float64), np.asarray(group, dtype=np.int64)
    control = np.asarray(is_control, dtype=bool)
    stratum = None if strata is None else np.asarray(strata, dtype=np.int64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit = np.divide(x, length, out=np.zeros_like(x), where=length > 0)
    cosine, p, floor = (np.full(n_groups, np.nan) for _ in range(3))
    for case in comparisons(codes, n_groups, control, stratum, rng, strata_names, largest_floor):
        n = case.own.shape[1]
        if n < 2:
            continue
        pure = (case.subsets.index < case.subsets.n_controls).all(axis=1)
        among = _mean_cosine(unit[case.controls], case.subsets.index[pure])
        mixed = case.subsets.index[~pure]
        for compound, own in zip(case.compounds, case.own, strict=True):
            observed = float(_mean_cosine(unit[own], np.arange(n)[None])[0])
            pool = np.concatenate([unit[case.controls], unit[own]])
            reached = int((among >= observed - 1e-12).sum() + (_mean_cosine(pool, mixed) >= observed - 1e-12).sum())
            cosine[compound] = observed
            own_set = 0 if case.subsets.exact else 1
            p[compound] = (reached + own_set) / (len(case.subsets.index) + own_set)
        floor[case.compounds] = smallest_p(case.subsets)
    return CosineTest(cosine, p, floor)


def _mean_cosine(unit: Floats, sets: Codes) -> Floats:
    """(D,) of sets (D, n) of unit profiles (P, L)."""
    n = sets.shape[1]
    return np.asarray(((set_sums(unit, sets) ** 2).sum(axis=1) - n) / (n * (n - 1)), dtype=np.float64)


def average_precision(positive: ArrayLike, negative: ArrayLike) -> float:
    """AP = mean over positives i of i/r_(i), r_(i) the rank of the i-th most similar positive among all candidates.

    As copairs defines it (Kalinin et al. 2025). Ties are counted against the positives (copairs puts positives first,
    which gives AP = 1 to a well that is equally similar to everything).

    Parameters
    ----------
    positive, negative
        Similarities of the query to its replicates (at least one) and to the controls.
    """
    near, far = np.sort(np.asarray(positive, dtype=np.float64))[::-1], np.asarray(negative, dtype=np.float64)
    closer = (far[None, :] >= near[:, None]).sum(axis=1) + (near[None, :] >= near[:, None]).sum(axis=1)
    return float((np.arange(1, len(near) + 1) / closer).mean())


def replicate_retrieval(
    profiles: ArrayLike,
    group: ArrayLike,
    n_groups: int,
    is_control: ArrayLike,
    strata: ArrayLike | None = None,
    *,
    rng: np.random.Generator,
    strata_names: Sequence[str] | None = None,
    largest_floor: float = LARGEST_FLOOR,
) -> Retrieval:
    """AP of each well and mAP of each compound: positives are its other replicates, negatives the controls.

    Similarity is the cosine. p: where fewer than 10,000 sets can be formed of the compound's wells and the controls,
    all of them take the compound's place in turn, the rest serving as negatives, and p is the share with an mAP at
    least as large (exact). Otherwise 10,000 random sets and p = (b+1)/(m+1); with at least 10 controls a replicate
    these are pseudo-compounds of control wells, the other controls serving as negatives, for the sake of time.
    copairs' own null averages one and the same random ranking over the replicates of a compound: the null of one
    well, whatever their number.

    Parameters
    ----------
    profiles
        (N, L) deviations from a control centre. Centre all on the same controls, not among these (out of fold: the
        member's training controls): profiles centred on their own mean repel each other, and compounds then agree
        more than controls do for no other reason. A profile of length 0 is as similar (0) to every other.
    group, n_groups, is_control, strata, strata_names, rng
        As in `p_values.compound_p_values`; negatives are the controls of a compound's strata.

    largest_floor
        A design in which no compound can reach this p is an error; 1 allows any.

    Raises
    ------
    DataError
        Too few controls, see `p_values.compound_p_values`.
    """
    x, codes = np.asarray(profiles, dtype=np.float64), np.asarray(group, dtype=np.int64)
    control = np.asarray(is_control, dtype=bool)
    stratum = None if strata is None else np.asarray(strata, dtype=np.int64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit = np.divide(x, length, out=np.zeros_like(x), where=length > 0)
    ap, (mean_ap, p, floor) = np.full(len(x), np.nan), (np.full(n_groups, np.nan) for _ in range(3))
    exact = np.zeros(n_groups, dtype=bool)
    for case in comparisons(codes, n_groups, control, stratum, rng, strata_names, largest_floor):
        if case.own.shape[1] < 2:
            continue
        ap[case.own] = _own_precision(unit, case)
        mean_ap[case.compounds] = ap[case.own].mean(axis=1)
        exact[case.compounds] = case.subsets.exact
        if case.subsets.exact or len(case.controls) < _PSEUDO_FROM * case.own.shape[1]:
            p[case.compounds] = _exchange_p(unit, case)
            floor[case.compounds] = smallest_p(case.subsets)
        else:
            pseudo = draw_subsets(case.counts, rng, controls_only=True)
            p[case.compounds] = _pseudo_p(unit[case.controls], mean_ap[case.compounds], pseudo)
            floor[case.compounds] = 1 / (len(pseudo.index) + 1)
    return Retrieval(ap, mean_ap, p, floor, exact)


def _own_precision(unit: Floats, case: Comparison) -> Floats:
    """(B, n) AP of each compound well."""
    n, controls = case.own.shape[1], unit[case.controls]
    found = np.empty(case.own.shape)
    identity = ~np.eye(n, dtype=bool)
    for b, rows in enumerate(case.own):
        own = unit[rows]
        positive = (own @ own.T)[identity].reshape(n, n - 1)
        negative = own @ controls.T
        found[b] = [average_precision(positive[i], negative[i]) for i in range(n)]
    return found


def _exchange_p(unit: Floats, case: Comparison) -> Floats:
    """(B,) p: sets of the pool in the compound's place."""
    p = np.empty(len(case.own))
    n, k = case.own.shape[1], len(case.controls)
    itself = np.arange(k, k + n)[None, :]
    for b, rows in enumerate(case.own):
        ranks = _ranks(unit[np.concatenate([case.controls, rows])])
        reached = _set_precision(ranks, case.subsets.index) >= _set_precision(ranks, itself)[0] - 1e-12
        p[b] = reached.mean() if case.subsets.exact else (reached.sum() + 1) / (len(reached) + 1)
    return p


def _pseudo_p(controls: Floats, observed: Floats, pseudo: Subsets) -> Floats:
    """(B,) p: control wells in the compound's place, the same for every compound, so that they are ranked once."""
    null = np.sort(_set_precision(_ranks(controls), pseudo.index))
    beyond = len(null) - np.searchsorted(null, observed - 1e-12)
    return np.asarray((beyond + 1) / (len(null) + 1), dtype=np.float64)


def _ranks(unit: Floats) -> Floats:
    """(P, P): row q, column j holds how many others are at least as similar to q as j is (j counts: ranks from 1)."""
    from scipy.stats import rankdata  # imported here: it costs more than the rest of this module

    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    return np.asarray(rankdata(-similarity, method="max", axis=1), dtype=np.float64)


def _set_precision(ranks: Floats, sets: Codes) -> Floats:
    """(D,) mAP of D sets of wells (D, n), each the positives of its own members and all other wells the negatives."""
    n = sets.shape[1]
    order = np.arange(1, n)
    total = np.zeros(len(sets))
    for i in range(n):
        others = np.delete(sets, i, axis=1)
        found = np.sort(ranks[sets[:, i][:, None], others], axis=1)
        total += (order / found).mean(axis=1)
    return np.asarray(total / n, dtype=np.float64)
