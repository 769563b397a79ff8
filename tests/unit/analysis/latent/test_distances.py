"""Distances, norm and the activation axis of every well."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cosine

from dpf.analysis.latent.distances import latent_distances
from dpf.errors import DataError


def test_golden_by_hand():
    z = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 2.0], [4.0, -2.0]])
    g = latent_distances(z, [0.0, 5.0], [True, True, False, False])
    # centre (2, 0); each control from the other one
    assert g.d_euc == pytest.approx([2, 2, 2, np.sqrt(8)])
    assert g.norm == pytest.approx([1, 3, np.sqrt(8), np.sqrt(20)])
    assert g.activation == pytest.approx([0, 0, 2, -2])
    assert g.on_axis == pytest.approx([0, 0, 1, 0.5])
    assert g.d_cos == pytest.approx([0, 0, 1 - 1 / np.sqrt(2), 1 - 4 / np.sqrt(20)])


def test_cosine_agrees_with_scipy_well_by_well():
    rng = np.random.default_rng(1)
    z, mask = rng.normal(size=(12, 5)), np.arange(12) < 4
    g = latent_distances(z, None, mask)
    for i in range(12):
        mu = z[mask & (np.arange(12) != i)].mean(axis=0)
        assert g.d_cos[i] == pytest.approx(cosine(z[i], mu))
    assert g.activation is None
    assert g.on_axis is None


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_rotating_the_latent_space_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    z, axis, mask = rng.normal(size=(15, 4)), rng.normal(size=4), np.arange(15) < 6
    plate = np.arange(15) % 2
    rotation, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    a, b = latent_distances(z, axis, mask, plate), latent_distances(z @ rotation, axis @ rotation, mask, plate)
    for name in ("d_euc", "d_cos", "d_maha", "norm", "activation", "on_axis"):
        assert np.allclose(getattr(a, name), getattr(b, name), rtol=1e-7), name


def test_permuting_the_wells_permutes_the_rows():
    rng = np.random.default_rng(2)
    z, mask, order = rng.normal(size=(15, 4)), np.arange(15) < 6, rng.permutation(15)
    a, b = latent_distances(z, z[0], mask), latent_distances(z[order], z[0], mask[order])
    assert np.allclose(a.d_maha[order], b.d_maha)
    assert np.allclose(a.d_euc[order], b.d_euc)


def test_the_length_of_the_axis_does_not_matter():
    z, mask = np.random.default_rng(3).normal(size=(8, 3)), np.arange(8) < 4
    assert np.allclose(latent_distances(z, z[0], mask).activation, latent_distances(z, 1e6 * z[0], mask).activation)


def test_a_latent_of_length_zero_has_no_direction():
    z = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 0.5], [0.0, 0.0]])
    g = latent_distances(z, None, [True, True, True, False])
    assert np.isnan(g.d_cos[3])
    assert np.isfinite(g.d_cos[:3]).all()


def test_a_well_at_the_centre_has_no_on_axis_share():
    z = np.array([[1.0, 0.0], [3.0, 1.0], [2.0, 0.5]])
    g = latent_distances(z, [1.0, 0.0], [True, True, False])
    assert g.d_euc[2] == 0
    assert np.isnan(g.on_axis[2])


@pytest.mark.parametrize("axis", [[0.0, 0.0], [np.nan, 1.0]])
def test_an_axis_without_direction_is_refused(axis):
    z = np.random.default_rng(4).normal(size=(4, 2))
    with pytest.raises(DataError, match="activation axis has no direction"):
        latent_distances(z, axis, [True, True, True, False])


def test_one_control_and_constant_latents_are_refused():
    z = np.random.default_rng(5).normal(size=(4, 2))
    with pytest.raises(DataError, match="one control well is too few"):
        latent_distances(z, None, [True, False, False, False])
    with pytest.raises(DataError, match="all have the same latent"):
        latent_distances(np.full((4, 2), 0.3, dtype=np.float32), None, [True, True, True, False])


def test_a_plate_with_one_control_is_named():
    z = np.random.default_rng(6).normal(size=(5, 2))
    with pytest.raises(DataError, match=r"where: plate right(.|\n)*found: 1 control"):
        latent_distances(z, None, [True, True, True, False, False], [0, 0, 1, 1, 0], ["left", "right"])
