"""Which wells choose a regression's settings, and which targets are fitted together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

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


def patterns(targets: NDArray[np.float64]) -> Iterator[tuple[Index, Index]]:
    """The wells and the columns of every set of targets, shape (N, T), that are measured on the same wells."""
    masks, place = np.unique(~np.isnan(targets), axis=1, return_inverse=True)
    for pattern in range(masks.shape[1]):
        if masks[:, pattern].any():
            yield np.flatnonzero(masks[:, pattern]), np.flatnonzero(place == pattern)
