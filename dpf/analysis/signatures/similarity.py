"""Cosine similarity of profiles, and its clustering."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.latent.distances import unit_rows

Floats = NDArray[np.float64]


def cosine_similarity(profiles: ArrayLike) -> Floats:
    """x·y/(‖x‖‖y‖) of every pair of rows, (C, C) in [−1, 1], 1 is alike; NaN for a row that is all 0."""
    unit = unit_rows(np.asarray(profiles, dtype=np.float64), np.nan)
    return np.asarray(np.clip(unit @ unit.T, -1.0, 1.0), dtype=np.float64)


def average_linkage(similarity: ArrayLike) -> Floats:
    """Average-linkage clustering of the distances 1 − similarity: (C − 1, 4), as `scipy.cluster.hierarchy.linkage`.

    NaN counts as no similarity (distance 1).
    """
    from scipy.cluster.hierarchy import linkage  # imported here: it costs more than the rest of this module

    distance = np.nan_to_num(1 - np.asarray(similarity, dtype=np.float64), nan=1.0)
    return np.asarray(linkage(distance[np.triu_indices(len(distance), 1)], method="average"), dtype=np.float64)
