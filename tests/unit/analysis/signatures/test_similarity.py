"""Cosine similarity and its clustering, against scipy."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist, squareform

from dpf.analysis.signatures.similarity import average_linkage, cosine_similarity


def test_golden_against_scipy():
    x = np.random.default_rng(0).normal(size=(9, 5))
    np.testing.assert_allclose(cosine_similarity(x), 1 - squareform(pdist(x, "cosine")), atol=1e-12)
    np.testing.assert_allclose(
        average_linkage(cosine_similarity(x)), linkage(pdist(x, "cosine"), "average"), atol=1e-12
    )


def test_a_profile_of_zeros_is_like_nothing():
    similarity = cosine_similarity([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    assert np.isnan(similarity[0]).all()
    assert similarity[1, 2] == 1.0
    assert average_linkage(similarity)[-1, 2] == 1.0
