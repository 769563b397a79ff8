"""Do replicates find each other among the controls: mean cosine, average precision, and their p-values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.latent.distances import unit_rows
from dpf.analysis.ranking.exchange import ExchangeTest, exchange_test
from dpf.analysis.ranking.subsets import Codes, Comparison, Mask, Subsets, draw_subsets, set_sums

Floats = NDArray[np.float64]

#: With this many controls for each replicate, sets of controls alone will do, and compounds can share them.
_CONTROLS_ALONE_FROM = 10
#: Similarities that are ranked at once.
_BLOCK = 4_000_000


class Retrieval(NamedTuple):
    """What `replicate_retrieval` returns.

    Attributes
    ----------
    ap
        (N,) average precision of each compound well; NaN for controls and for compounds of one well.
    mean_ap
        Its mean over the wells of a compound (mAP), in (0, 1], 1 is best, with its p.
    """

    ap: Floats
    mean_ap: ExchangeTest


def cosine_test(
    profiles: Floats, group: Codes, n_groups: int, is_control: Mask, strata: Codes | None, rng: np.random.Generator
) -> ExchangeTest:
    """Mean cosine over the pairs of a compound's wells, (‖Σu‖² − n)/(n(n−1)), and p by exchange with the controls.

    Of two replicates it has more power than their average precision, which is 1 for every two wells that happen to be
    each other's nearest: among ten wells of pure noise about three pairs are.

    Parameters
    ----------
    profiles
        As in `replicate_retrieval`; one of length 0 has cosine 0 with every other.
    group, n_groups, is_control, strata, rng
        As in `exchange_test`.
    """
    unit = unit_rows(profiles)

    def compare(case: Comparison) -> tuple[Floats, Floats]:
        sets, mixed = case.subsets.split()
        observed, among = _mean_cosine(unit, case.own), _mean_cosine(unit[case.controls], sets)
        reached = np.zeros(len(observed), dtype=np.int64)
        for b, own in enumerate(case.own):
            with_own = _mean_cosine(unit[np.concatenate([case.controls, own])], mixed)
            reached[b] = (among >= observed[b] - 1e-12).sum() + (with_own >= observed[b] - 1e-12).sum()
        return observed, case.subsets.share(reached)

    return exchange_test(compare, group, n_groups, is_control, strata, rng)


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
    profiles: Floats, group: Codes, n_groups: int, is_control: Mask, strata: Codes | None, rng: np.random.Generator
) -> Retrieval:
    """AP of each well and mAP of each compound: positives are its other replicates, negatives the controls.

    Similarity is the cosine. p: sets of the compound's wells and the controls of its strata take the compound's place,
    the rest serving as negatives, and p is the share with an mAP at least as large. Where there are 10,000 sets or
    more, and at least 10 controls a replicate, the sets are of control wells alone, for the sake of time. copairs' own
    null averages one and the same random ranking over the replicates of a compound: the null of one well, whatever
    their number.

    Parameters
    ----------
    profiles
        (N, L) deviations from a control centre. Centre all on the same controls, not among these (out of fold: the
        member's training controls): profiles centred on their own mean repel each other, and compounds then agree
        more than controls do for no other reason. A profile of length 0 is as similar (0) to every other.
    group, n_groups, is_control, strata, rng
        As in `exchange_test`.
    """
    unit, ap = unit_rows(profiles), np.full(len(profiles), np.nan)

    def compare(case: Comparison) -> tuple[Floats, Floats]:
        ap[case.own] = _own_precision(unit, case)
        observed = ap[case.own].mean(axis=1)
        if case.subsets.exact or len(case.controls) < _CONTROLS_ALONE_FROM * case.own.shape[1]:
            return observed, _exchange_p(unit, case)
        return observed, _controls_p(unit[case.controls], observed, draw_subsets(case.counts, rng, controls_only=True))

    return Retrieval(ap, exchange_test(compare, group, n_groups, is_control, strata, rng))


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
    n, k = case.own.shape[1], len(case.controls)
    itself = np.arange(k, k + n)[None, :]
    reached = np.zeros(len(case.own), dtype=np.int64)
    for b, rows in enumerate(case.own):
        ranks = _ranks(unit[np.concatenate([case.controls, rows])])
        reached[b] = (_set_precision(ranks, case.subsets.index) >= _set_precision(ranks, itself)[0] - 1e-12).sum()
    return case.subsets.share(reached)


def _controls_p(controls: Floats, observed: Floats, sets: Subsets) -> Floats:
    """(B,) p: control wells in the compound's place, the same for every compound, so that they are ranked once."""
    null = np.sort(_set_precision(_ranks(controls), sets.index))
    beyond = len(null) - np.searchsorted(null, observed - 1e-12)
    return np.asarray((beyond + 1) / (len(null) + 1), dtype=np.float64)


def _ranks(unit: Floats) -> NDArray[np.float32]:
    """(P, P) whole numbers: row q, column j holds how many others are at least as similar to q as j is (j counts)."""
    from scipy.stats import rankdata  # imported here: it costs more than the rest of this module

    ranks = np.empty((len(unit), len(unit)), np.float32)
    step = max(1, _BLOCK // len(unit))
    for first in range(0, len(unit), step):
        similarity = unit[first : first + step] @ unit.T
        np.fill_diagonal(similarity[:, first:], -np.inf)
        ranks[first : first + step] = rankdata(-similarity, method="max", axis=1)
    return ranks


def _set_precision(ranks: NDArray[np.float32], sets: Codes) -> Floats:
    """(D,) mAP of D sets of wells (D, n), each the positives of its own members and all other wells the negatives."""
    n = sets.shape[1]
    order = np.arange(1, n)
    total = np.zeros(len(sets))
    for i in range(n):
        others = np.delete(sets, i, axis=1)
        found = np.sort(ranks[sets[:, i][:, None], others], axis=1).astype(np.float64)
        total += (order / found).mean(axis=1)
    return np.asarray(total / n, dtype=np.float64)
