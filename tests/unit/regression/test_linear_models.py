"""The Gram-matrix solvers are scikit-learn's models, for every penalty at once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit
from sklearn.cross_decomposition import PLSRegression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import KernelCenterer

from dpf.regression import linear_models as lm


def draw(n=40, t=15, genes=90, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n + t, genes)) + 5
    y = X[:, :3] @ rng.normal(size=(3, 2)) + rng.normal(size=(n + t, 2)) + 3
    return X[:n], X[n:], y[:n]


def linear(train, test):
    return lm.centre_kernel(train @ train.T, test @ train.T)


@pytest.mark.parametrize("genes", [10, 90])
def test_ridge_path_is_ridge(genes):
    train, test, y = draw(genes=genes)
    kernel, cross = linear(train, test)
    penalties = np.array([100.0, 1.0, 0.01])
    path = lm.ridge_path(lm.Spectrum.of(kernel), cross, y, penalties)
    for penalty, predicted in zip(penalties, path, strict=True):
        expected = Ridge(alpha=penalty).fit(train, y).predict(test)
        np.testing.assert_allclose(predicted, expected, rtol=1e-7)


def test_kernel_ridge_is_kernel_ridge_on_centred_kernels():
    train, test, y = draw()
    among, across = (np.exp(-0.01 * lm.squared_distances(wells, train)) for wells in (train, test))
    np.testing.assert_allclose(among, rbf_kernel(train, gamma=0.01), rtol=1e-9)
    np.testing.assert_allclose(across, rbf_kernel(test, train, gamma=0.01), rtol=1e-9)
    kernel, cross = lm.centre_kernel(among, across)
    centre = KernelCenterer().fit(among)
    np.testing.assert_allclose(kernel, centre.transform(among.copy()), atol=1e-12)
    oracle = KernelRidge(alpha=0.3, kernel="precomputed").fit(centre.transform(among.copy()), y - y.mean(axis=0))
    expected = oracle.predict(centre.transform(across.copy())) + y.mean(axis=0)
    got = lm.ridge_path(lm.Spectrum.of(kernel), cross, y, np.array([0.3]))[0]
    np.testing.assert_allclose(got, expected, rtol=1e-8)


@pytest.mark.parametrize("genes", [10, 90])
def test_pls_path_is_pls_and_does_not_change_under_rotation(genes):
    train, test, y = draw(genes=genes)
    centre = train.mean(axis=0)
    path = lm.pls_path(train - centre, test - centre, y[:, 0], 5)
    for k in range(5):
        expected = PLSRegression(k + 1, scale=False).fit(train, y[:, 0]).predict(test)
        np.testing.assert_allclose(path[k], expected, rtol=1e-7)
    kernel, cross = linear(train, test)
    spectrum = lm.Spectrum.of(kernel)
    rotated = lm.pls_path(spectrum.coordinates(kernel), spectrum.coordinates(cross), y[:, 0], 5)
    np.testing.assert_allclose(rotated, path, rtol=1e-7)


def test_pls_of_a_constant_or_an_exhausted_target_stays_where_it_is():
    train, test, _ = draw(genes=3)
    centre = train.mean(axis=0)
    constant = lm.pls_path(train - centre, test - centre, np.full(40, 0.1), 4)
    np.testing.assert_allclose(constant, 0.1, rtol=1e-12)
    exact = lm.pls_path(train - centre, test - centre, train @ [1.0, -2.0, 0.5], 6)
    for k in range(2, 6):
        np.testing.assert_allclose(exact[k], test @ [1.0, -2.0, 0.5], rtol=1e-9)


def test_platt_finds_the_logistic_that_made_the_labels():
    rng = np.random.default_rng(0)
    decision = rng.normal(size=50_000)
    slope, intercept = lm.platt(decision, (rng.random(50_000) < expit(2.5 * decision - 1)).astype(float))
    assert slope == pytest.approx(2.5, abs=0.1)
    assert intercept == pytest.approx(-1, abs=0.1)


def test_platt_of_separable_uninformative_and_contrary_decisions():
    label = np.array([0.0] * 10 + [1.0] * 10)
    slope, intercept = lm.platt(np.arange(20.0), label)
    assert 0 < slope < 100
    assert np.isfinite(intercept)
    for decision in (np.zeros(20), -np.arange(20.0)):
        assert lm.platt(decision, label) == (0.0, pytest.approx(0.0))
