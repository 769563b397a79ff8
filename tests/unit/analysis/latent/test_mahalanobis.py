"""Ledoit-Wolf against scikit-learn, and Mahalanobis distances with each control left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf

from dpf.analysis.latent.centers import centered, control_centers
from dpf.analysis.latent.mahalanobis import ledoit_wolf, mahalanobis_distance
from dpf.errors import DataError


def distances(z, mask, plate=None):
    centers = control_centers(z, mask, plate)
    return mahalanobis_distance(z, centered(z, mask, centers), mask, centers)


@pytest.mark.parametrize(("n", "width"), [(5, 32), (40, 32), (400, 8), (2, 3)])
def test_ledoit_wolf_is_scikit_learns(n, width):
    x = np.random.default_rng(n).normal(size=(n, width)) * np.linspace(0.1, 3, width)
    x -= x.mean(axis=0)
    theirs = LedoitWolf().fit(x)
    covariance, shrinkage = ledoit_wolf(x)
    assert np.allclose(covariance, theirs.covariance_, rtol=1e-10)
    assert shrinkage == pytest.approx(theirs.shrinkage_, rel=1e-8)


def test_compounds_agree_with_scikit_learn():
    rng = np.random.default_rng(3)
    z, mask = rng.normal(size=(60, 6)), np.arange(60) < 40
    theirs = LedoitWolf().fit(z[mask])
    assert np.allclose(distances(z, mask)[~mask], np.sqrt(theirs.mahalanobis(z[~mask])))


@pytest.mark.parametrize("plates", [1, 3])
def test_a_control_has_the_distance_of_a_stranger_to_the_other_controls(plates):
    rng = np.random.default_rng(4)
    z, mask = rng.normal(size=(45, 5)), np.arange(45) < 24
    plate = np.arange(45) % plates
    ours = distances(z, mask, plate if plates > 1 else None)
    for i in (0, 7, 23):
        without = mask.copy()
        without[i] = False
        assert ours[i] == pytest.approx(distances(z, without, plate if plates > 1 else None)[i], rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_rotation_shift_and_scale_change_nothing(seed, scale):
    rng = np.random.default_rng(seed)
    z, mask = rng.normal(size=(20, 4)), np.arange(20) < 10
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    assert np.allclose(distances(z, mask), distances(scale * (z @ rotation) + 5, mask), rtol=1e-6)


def test_inert_compounds_and_controls_are_alike_on_average():
    rng = np.random.default_rng(5)
    gaps = []
    for _ in range(100):
        z, mask = rng.normal(size=(120, 8)), np.arange(120) < 40
        d = distances(z, mask)
        gaps.append(d[mask].mean() - d[~mask].mean())
    # In sample the gap is -0.13; with only the centre left out, -0.06.
    assert abs(np.mean(gaps)) < 0.035


def test_with_two_controls_they_themselves_have_no_distance_but_compounds_do():
    z = np.random.default_rng(6).normal(size=(5, 3))
    d = distances(z, np.array([True, True, False, False, False]))
    assert np.isnan(d[:2]).all()
    assert np.isfinite(d[2:]).all()


def test_two_controls_alike_beside_others_are_no_obstacle():
    z = np.random.default_rng(7).normal(size=(8, 3))
    z[1] = z[0]
    assert np.isfinite(distances(z, np.arange(8) < 5)).all()


def test_constant_control_latents_are_refused():
    z = np.ones((6, 3))
    z[4:] = 2
    with pytest.raises(DataError, match=r"all have the same latent(.|\n)*collapsed"):
        distances(z, np.arange(6) < 4)
