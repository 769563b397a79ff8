"""Which wells choose a regression's settings, which targets are fitted together, and the settings they choose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product

import numpy as np

from dpf.regression.learners import Learner
from dpf.regression.linear_models import Floats
from dpf.splits.grouping import Index

#: Settings are chosen on no more wells than this (whole compounds at random); the fit itself takes all.
SELECTION_WELLS = 1500


def choosing_wells(groups: Index, rng: np.random.Generator) -> Index:
    """Wells of whole groups at random, in order: at most `SELECTION_WELLS` of them, but two groups at least."""
    _, place, size = np.unique(groups, return_inverse=True, return_counts=True)
    order = rng.permutation(size.size)
    used = np.zeros(size.size, dtype=bool)
    used[order] = np.cumsum(size[order]) <= max(SELECTION_WELLS, size[order[:2]].sum())
    return np.flatnonzero(used[place])


def patterns(targets: Floats) -> Iterator[tuple[Index, Index]]:
    """The wells and the columns of every set of targets, shape (N, T), that are measured on the same wells."""
    masks, place = np.unique(~np.isnan(targets), axis=1, return_inverse=True)
    for pattern in range(masks.shape[1]):
        if masks[:, pattern].any():
            yield np.flatnonzero(masks[:, pattern]), np.flatnonzero(place == pattern)


def choose(
    learners: Sequence[Learner],
    F: Floats,
    wells: Index,
    targets: Floats,
    folds: Index,
    run: Callable[..., Iterable[Floats]] = map,
) -> Index:
    """The best setting of every learner for every target, by cross-validation; shape (learners, T).

    Parameters
    ----------
    F
        Coordinates of N wells, shape (N, r).
    wells
        The rows of F that choose.
    targets, folds
        Shapes (N, T) and (N,), of at least two folds among `wells`.
    run
        Runs the fits: `map`, or that of a pool.
    """
    fold_of = folds[wells]

    def loss(learner: Learner, fold: int) -> Floats:
        fit, out = wells[fold_of != fold], wells[fold_of == fold]
        return np.asarray(learner.loss(targets[out], learner.path(F, fit, out, targets[fit])).sum(axis=1))

    tasks = list(product(learners, np.unique(fold_of)))
    losses = list(run(loss, *zip(*tasks, strict=True)))
    folds_of = [[loss for (one, _), loss in zip(tasks, losses, strict=True) if one is learner] for learner in learners]
    return np.array([np.sum(of_learner, axis=0).argmin(axis=0) for of_learner in folds_of])
