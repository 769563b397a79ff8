"""The latent map is scikit-learn's PCA with the controls at the origin and signs that are fixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from dpf.analysis.latent.pca import latent_pca, principal_components


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


def test_principal_components_are_fitted_on_the_chosen_wells():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 9)) @ rng.normal(size=(9, 30)) + 4
    train = np.arange(40) < 25
    got = principal_components(x, 5, train)
    oracle = PCA(5, svd_solver="full").fit(x[train])
    np.testing.assert_allclose(np.abs(got.places), np.abs(oracle.transform(x)), atol=1e-9)
    np.testing.assert_allclose(got.explained, oracle.explained_variance_ratio_)
    assert principal_components(x, 100, train).places.shape == (40, 9)


@pytest.mark.parametrize("shape", [(60, 200), (200, 60)])
def test_randomised_components_are_nearly_the_exact_ones(shape):
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(shape[0], 6)) @ (
        rng.normal(size=(6, shape[1])) * np.array([[9], [7], [5], [4], [3], [2]])
    )
    x = (20 + signal + rng.normal(size=shape)).astype(np.float32)
    found = principal_components(x, 5, rng=np.random.default_rng(0))
    exact = principal_components(x.astype(np.float64), 5)
    np.testing.assert_allclose(found.places, exact.places, rtol=1e-3, atol=1e-2)
    assert found.explained.sum() == pytest.approx(exact.explained.sum(), rel=1e-4)
    assert principal_components(x[:, :3], 20, rng=rng).explained.sum() == pytest.approx(1.0)


def test_what_does_not_vary_has_no_components():
    for rows in (np.full((30, 3), 7.1, dtype=np.float32), np.ones((1, 3))):
        assert principal_components(rows, 5).places.shape == (len(rows), 0)
