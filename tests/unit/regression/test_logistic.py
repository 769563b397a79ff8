"""The logistic ridge: the minimum of its objective at every penalty, on labels that can and cannot be parted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from dpf.regression import learners
from dpf.regression.learners import LOGISTIC_PENALTIES, Logistic


def screen(n=60, genes=8, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    F = rng.normal(size=(n, genes)) + 3
    return F, (F[:, 0] + noise * rng.normal(size=n) > 3.2).astype(float)


def minimum(F, y, penalty):
    """The same objective by a general optimiser, from zero."""

    def objective(w):
        f = F @ w[1:] + w[0]
        gradient = expit(f) - y
        value = np.logaddexp(0, np.where(y == 1, -f, f)).sum() + penalty / 2 * w[1:] @ w[1:]
        return value, np.r_[gradient.sum(), F.T @ gradient + penalty * w[1:]]

    return minimize(objective, np.zeros(F.shape[1] + 1), jac=True, method="BFGS", options={"gtol": 1e-9}).x


@pytest.mark.parametrize("noise", [1.0, 0.0])
@pytest.mark.parametrize("solver", ["newton-cholesky", "lbfgs"])
def test_every_setting_is_the_minimum_of_the_objective(noise, solver, monkeypatch):
    """Without noise a plane parts the classes: nothing may warn, and only the penalty keeps the weights finite."""
    monkeypatch.setattr(learners, "_NEWTON_COORDINATES", 100 if solver == "newton-cholesky" else 0)
    F, y = screen(noise=noise)
    fit, rest = np.arange(45), np.arange(45, 60)
    level = np.square(F[fit] - F[fit].mean(0)).sum() / 45
    path = Logistic().path(F, fit, rest, y[fit][:, None])
    for setting, penalty in enumerate(LOGISTIC_PENALTIES * level):
        w = minimum(F[fit] - F[fit].mean(0), y[fit], penalty)
        expected = w[0] + (F[rest] - F[fit].mean(0)) @ w[1:]
        np.testing.assert_allclose(path[setting, :, 0], expected, rtol=1e-4, atol=1e-4)
        found = Logistic().solve(F, fit, y[fit], setting).predict(F, rest)
        np.testing.assert_allclose(found, path[setting, :, 0], rtol=1e-4, atol=1e-5)


def test_more_coordinates_than_wells():
    F, y = screen(n=40, genes=120, noise=0.0)
    wells = np.arange(40)
    logits = Logistic().solve(F, wells, y, len(LOGISTIC_PENALTIES) - 1).predict(F, wells)
    assert ((logits > 0) == (y == 1)).all()


def test_a_label_that_does_not_vary_has_the_odds_of_one_more_well_of_each_class():
    F, _ = screen()
    for value, odds in ((0.0, 1 / 31), (1.0, 31.0)):
        path = Logistic().path(F, np.arange(30), np.arange(30, 60), np.full((30, 1), value))
        np.testing.assert_allclose(path, np.log(odds))
