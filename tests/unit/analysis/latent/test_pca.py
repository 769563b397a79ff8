"""The latent map is scikit-learn's PCA with the controls at the origin and signs that are fixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from dpf.analysis.latent.pca import latent_pca


def draw(wells=60, width=6, seed=0):
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(wells, width)) * np.arange(width, 0, -1) + rng.normal(size=width)
    return latent, rng.random(wells) < 0.3


@given(st.integers(3, 40), st.integers(2, 8), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_it_is_scikit_learns_pca_moved_to_the_controls(wells, width, seed):
    latent, controls = draw(wells, width, seed)
    oracle = PCA(2, svd_solver="full").fit(latent)
    got = latent_pca(latent, controls)
    signs = np.sign((got.axes * oracle.components_).sum(1))
    np.testing.assert_allclose(got.axes, oracle.components_ * signs[:, None], atol=1e-8)
    np.testing.assert_allclose(got.explained, oracle.explained_variance_ratio_, atol=1e-10)
    places = oracle.transform(latent) * signs
    origin = places[controls].mean(0) if controls.any() else 0.0
    np.testing.assert_allclose(got.places, places - origin, atol=1e-8)


def test_the_controls_are_at_the_origin():
    latent, controls = draw()
    np.testing.assert_allclose(latent_pca(latent, controls).places[controls].mean(0), 0, atol=1e-12)


def test_without_controls_the_mean_is():
    latent, controls = draw()
    np.testing.assert_allclose(latent_pca(latent, np.zeros_like(controls)).places.mean(0), 0, atol=1e-12)


def test_the_largest_coefficient_of_each_axis_is_positive():
    latent, controls = draw()
    one, mirrored = latent_pca(latent, controls), latent_pca(-latent, controls)
    for got in (one, mirrored):
        assert (got.axes[[0, 1], np.abs(got.axes).argmax(1)] > 0).all()
    np.testing.assert_allclose(one.axes, mirrored.axes, atol=1e-10)
    np.testing.assert_allclose(one.places, -mirrored.places, atol=1e-10)


def test_of_two_dimensions_distances_stay():
    latent, controls = draw(width=2)
    places = latent_pca(latent, controls).places
    for i, j in ((0, 1), (5, 9), (20, 3)):
        assert np.linalg.norm(places[i] - places[j]) == pytest.approx(np.linalg.norm(latent[i] - latent[j]))
    assert latent_pca(latent, controls).explained.sum() == pytest.approx(1)


@pytest.mark.parametrize(("wells", "width"), [(10, 1), (1, 5), (1, 1)])
def test_where_there_is_no_second_component_it_is_zero(wells, width):
    latent, controls = draw(wells, width)
    got = latent_pca(latent, controls)
    assert got.places.shape == (wells, 2)
    assert got.axes.shape == (2, width)
    assert not got.places[:, 1].any()
    assert got.explained[1] == 0
    assert np.isfinite(got.places).all()


def test_latents_that_do_not_vary_have_nothing_to_explain():
    got = latent_pca(np.ones((8, 3)), np.arange(8) < 2)
    assert not got.explained.any()
    np.testing.assert_allclose(got.places, 0, atol=1e-12)
