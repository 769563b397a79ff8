"""Position effects are taken off, and what compounds do is not."""

from __future__ import annotations

import numpy as np

from dpf.analysis.latent.position_adjustment import adjust_latent, one_hot


def screen(rng, wells=600, controls=100):
    column, row = rng.integers(12, size=wells), rng.integers(8, size=wells)
    group = np.where(np.arange(wells) < controls, -1, (np.arange(wells) - controls) // 5)
    clean = 0.3 * rng.normal(size=(wells, 3))
    shift = np.zeros((wells, 3))
    shift[:, 0] = (column - 5.5) / 3
    return column, row, group, clean, shift


def test_the_columns_shift_is_gone():
    column, row, group, clean, shift = screen(np.random.default_rng(0))
    fit = np.arange(600) % 3 > 0
    found = adjust_latent(clean + shift, one_hot([row, column]), group, group < 0, fit)
    left = found - clean - (found - clean).mean(axis=0)
    assert np.abs(left).mean() < 0.15 * np.abs(shift[:, 0]).mean()


def test_a_strong_compound_has_no_say():
    """A fifth of the compounds acts, all of it in two columns: fitted on everything, half of the effect would go."""
    rng = np.random.default_rng(1)
    column, row, group, clean, _ = screen(rng)
    acting = (group >= 0) & (group % 5 == 0)
    column[acting] = rng.integers(2, size=acting.sum())
    effect = np.where(acting, 6.0, 0.0)[:, None] * np.array([0.0, 1.0, 0.0])
    design = one_hot([row, column])
    found = adjust_latent(clean + effect, design, group, group < 0, np.ones(600, dtype=bool))
    kept = found[acting, 1].mean() - found[group < 0, 1].mean()
    assert kept > 5.4


def test_held_out_wells_have_no_say_in_their_own_adjustment():
    column, row, group, clean, shift = screen(np.random.default_rng(2))
    design, fit = one_hot([row, column]), np.arange(600) % 3 > 0
    one = adjust_latent(clean + shift, design, group, group < 0, fit)
    moved = clean + shift + np.where(fit, 0.0, 9.0)[:, None]
    np.testing.assert_allclose(adjust_latent(moved, design, group, group < 0, fit)[~fit], one[~fit] + 9.0)


def test_a_code_that_is_not_known_has_no_column():
    assert one_hot([np.array([0, 1, -1]), np.array([2, 2, 3])]).tolist() == [[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
