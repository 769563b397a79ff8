"""The direction that wells move in with activation, and what is made of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cosine
from sklearn.linear_model import LinearRegression

from dpf.analysis.latent.activation_pattern import NoPatternError, activation_pattern, pattern_cosine
from dpf.analysis.latent.distances import activation_position
from dpf.errors import DataError
from dpf.workflows.predict.latent import latent_project
from tests.support.listening import Listener
from tests.support.ranked_screens import Planted, make_screen, pretend_model, stored_project


def unit(vector):
    return vector / np.linalg.norm(vector)


def test_it_is_the_slope_of_the_latent_on_activation():
    rng = np.random.default_rng(0)
    z, w = rng.normal(size=(80, 5)) @ rng.normal(size=(5, 5)) + 3.0, rng.normal(size=5)
    place = (z @ w / np.linalg.norm(w))[:, None]
    pattern = activation_pattern(z, w)
    assert pattern == pytest.approx(LinearRegression().fit(place, z).coef_[:, 0])
    assert unit(pattern) == pytest.approx(unit(np.cov(z.T) @ w))
    assert pattern @ w == pytest.approx(np.linalg.norm(w))


def test_the_example_of_the_paper():
    """Haufe et al., figure 1: channel 2 holds only noise, yet the filter must weigh it to take it off channel 1."""
    rng = np.random.default_rng(1)
    signal, noise = np.where(rng.random(4000) < 0.5, -1.0, 1.0), rng.normal(size=4000)
    z = np.column_stack([signal + noise, noise])
    pattern = unit(activation_pattern(z, [1.0, -1.0]))
    assert pattern == pytest.approx([1.0, 0.0], abs=0.05)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_it_moves_with_the_latent_where_the_filter_undoes_the_change(seed):
    rng = np.random.default_rng(seed)
    z, w, change = rng.normal(size=(40, 4)), rng.normal(size=4), rng.normal(size=(4, 4)) + 3 * np.eye(4)
    moved = activation_pattern(z @ change.T + rng.normal(size=4), np.linalg.solve(change.T, w))
    assert unit(moved) == pytest.approx(unit(change @ activation_pattern(z, w)), abs=1e-6)
    assert activation_position(moved, np.linalg.solve(change.T, w)) == pytest.approx(1.0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_cosine_knows_no_basis_and_no_scale(seed):
    rng = np.random.default_rng(seed)
    deviation, w = rng.normal(size=(2, 30, 4)), rng.normal(size=(2, 4))
    used, codes = rng.random((2, 30)) < 0.7, np.arange(30) % 5 - 1
    patterns = np.stack([activation_pattern(z, axis) for z, axis in zip(deviation, w, strict=True)])
    turns = np.stack([np.linalg.qr(rng.normal(size=(4, 4)))[0] * size for size in (0.1, 7.0)])
    turned = np.einsum("mnl,mlk->mnk", deviation, turns)
    axes = np.einsum("ml,mlk->mk", w, turns)
    others = np.stack([activation_pattern(z, axis) for z, axis in zip(turned, axes, strict=True)])
    found = pattern_cosine(deviation, patterns, used, codes, 4)
    assert pattern_cosine(turned, others, used, codes, 4) == pytest.approx(found, nan_ok=True)
    assert pattern_cosine(-deviation, patterns, used, codes, 4) == pytest.approx(-found, nan_ok=True)


def test_the_cosine_is_of_the_mean_displacement_member_by_member():
    rng = np.random.default_rng(2)
    deviation, pattern = rng.normal(size=(3, 9, 4)), rng.normal(size=(3, 4))
    used = np.array([[1, 1, 1, 0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 0, 1, 0, 1], [0, 0, 0, 0, 0, 1, 1, 0, 1]], dtype=bool)
    codes = np.array([0, 0, 0, 0, 1, 1, -1, -1, -1])
    expected = []
    for code in (0, 1):
        there = [(m, np.flatnonzero(used[m] & (codes == code))) for m in range(3)]
        cosines = [1 - cosine(deviation[m, rows].mean(0), pattern[m]) for m, rows in there if len(rows)]
        expected.append(np.average(cosines, weights=[len(rows) for _, rows in there if len(rows)]))
    assert pattern_cosine(deviation, pattern, used, codes, 2) == pytest.approx(expected)


def test_a_compound_that_did_not_move_has_no_cosine():
    deviation = np.array([[[0.3, 0.1], [-0.3, -0.1], [0.0, 0.0], [2.0, 0.0]]])
    found = pattern_cosine(deviation, [[1.0, 1.0]], np.ones((1, 4), bool), [0, 0, 1, 2], 3)
    assert np.isnan(found[:2]).all()
    assert found[2] == pytest.approx(np.sqrt(0.5))
    with pytest.raises(ValueError, match="do not fit"):
        pattern_cosine(deviation, [1.0, 1.0], np.ones((1, 4), bool), [0, 0, 1, 2], 3)


@pytest.mark.parametrize(
    "latent",
    [np.full((6, 2), 3.3), [[1.0, 2.0]], np.empty((0, 2)), np.c_[np.arange(6.0), np.full(6, 0.1)]],
    ids=["constant", "one well", "no well", "constant activation"],
)
def test_no_pattern_where_activation_does_not_vary(latent):
    with pytest.raises(NoPatternError, match=r"activation does not vary[\s\S]*found: \d wells? [\s\S]*evaluate"):
        activation_pattern(latent, [0.0, 1.0])


def test_no_pattern_of_an_axis_without_direction():
    with pytest.raises(DataError, match="the activation axis has no direction"):
        activation_pattern(np.eye(3), [0.0, 0.0, 0.0])


def arrow_of(tmp_path, monkeypatch, outputs, inputs):
    """The arrow that `dpf latent` draws of these outputs, and what it warned of."""
    drawn, listener = {}, Listener()
    pretend_model(monkeypatch, outputs, "latent")
    monkeypatch.setattr("dpf.workflows.predict.latent._draw", lambda *given: drawn.update(arrow=given[-1]) or ())
    latent_project(stored_project(tmp_path / "p", inputs), progress=listener)
    return drawn["arrow"], listener.lines


def test_the_arrow_of_the_map_points_where_wells_go(tmp_path, monkeypatch):
    """Two dimensions that move together, of which the filter reads the smaller: the arrow goes along both."""
    inputs, outputs = make_screen(Planted(width=2, members=1))
    rng = np.random.default_rng(0)
    common = rng.normal(size=outputs.latent.shape[1])
    latent = np.column_stack([3 * common, common]) + 0.01 * rng.normal(size=outputs.latent.shape[1:])
    outputs = replace(outputs, latent=latent[None], axis=np.array([[0.0, 1.0]]))
    arrow, _ = arrow_of(tmp_path, monkeypatch, outputs, inputs)
    assert abs(unit(arrow)) == pytest.approx([1.0, 0.0], abs=0.01)


def test_no_arrow_where_activation_does_not_vary(tmp_path, monkeypatch):
    inputs, outputs = make_screen(Planted(width=2, members=1))
    latent = outputs.latent * [1.0, 0.0]
    outputs = replace(outputs, latent=latent, axis=np.array([[0.0, 1.0]]))
    arrow, lines = arrow_of(tmp_path, monkeypatch, outputs, inputs)
    assert arrow is None
    assert "member 0 predicts the same activation for every well: the map has no arrow" in lines
