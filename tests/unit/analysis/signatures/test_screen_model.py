"""Signatures with positions as covariates: the explicit linear model of limma, and what it can and cannot part."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from dpf.analysis.latent.position_adjustment import one_hot
from dpf.analysis.signatures.moderated_t import fit_variance_prior, moderated_t, squeeze, summarise_wells, two_sided_p
from dpf.analysis.signatures.screen_model import fit_screen
from dpf.errors import DataError


def screen(seed=0, compounds=12, genes=60, controls=10, slope=0.0):
    """Two wells a compound and controls, anywhere on a plate of 4 x 6; a gene follows the column by `slope`."""
    rng = np.random.default_rng(seed)
    group = np.r_[np.repeat(np.arange(compounds), 2), np.full(controls, -1)]
    row, column = rng.integers(0, 4, len(group)), rng.integers(0, 6, len(group))
    y = rng.normal(8, 1, (len(group), genes)) * np.sqrt(4 / rng.chisquare(4, genes))
    y += slope * column[:, None] * np.sign(rng.normal(size=genes)) + 0.3 * row[:, None]
    return y.astype(np.float32), group, [row.astype(np.int64), column.astype(np.int64)]


def by_hand(y, group, factors, compound, trend):
    """lmFit(~ 0 + group + row + column), the contrast with the controls, eBayes; reference levels dropped."""
    y = y.astype(np.float64)
    dummies = [(codes == level).astype(float) for codes in factors for level in np.unique(codes)[1:]]
    design = np.column_stack([*((group == code).astype(float) for code in np.unique(group)), *dummies])
    beta, rss, rank, _ = np.linalg.lstsq(design, y, rcond=None)
    assert rank == design.shape[1]
    freedom = len(y) - rank
    contrast = np.zeros(design.shape[1])
    contrast[[0, 1 + compound]] = -1, 1
    v = contrast @ np.linalg.inv(design.T @ design) @ contrast
    prior = fit_variance_prior(rss / freedom, freedom, y.mean(axis=0) if trend else None)
    t = contrast @ beta / np.sqrt(squeeze(rss / freedom, freedom, prior) * v)
    return contrast @ beta, t, two_sided_p(t, min(freedom + prior.freedom, freedom * y.shape[1]))


@pytest.mark.parametrize("trend", [False, True])
def test_it_is_the_linear_model_by_hand(trend):
    y, group, factors = screen(slope=0.5)
    fit = fit_screen(y, group, group < 0, one_hot(factors), trend=trend)
    for compound in (0, 7):
        found = fit.compare(y, np.flatnonzero(group == compound))
        effect, t, p = by_hand(y, group, factors, compound, trend)
        np.testing.assert_allclose(found.effect, effect, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(found.t, t, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(found.p, p, rtol=1e-5)


def test_without_anything_to_adjust_for_and_one_compound_it_is_the_unadjusted_one():
    y, group, _ = screen(compounds=1)
    found = fit_screen(y, group, group < 0, np.zeros((len(y), 0))).compare(y, np.flatnonzero(group == 0))
    expected = moderated_t(y[group == 0], summarise_wells(y[group < 0]))
    np.testing.assert_allclose(found.t, expected.t, rtol=1e-9)
    np.testing.assert_allclose(found.q, expected.q, rtol=1e-9)


def test_a_shift_of_a_column_does_not_change_it():
    y, group, factors = screen()
    shifted = y + np.float32(3) * (factors[1] == 2)[:, None] + np.float32(2) * (factors[0] == 1)[:, None]
    levels = one_hot(factors)
    wells = np.flatnonzero(group == 3)
    plain, moved = (fit_screen(x, group, group < 0, levels).compare(x, wells) for x in (y, shifted))
    np.testing.assert_allclose(plain.t, moved.t, rtol=1e-3, atol=1e-4)


def test_inert_compounds_in_a_graded_plate_have_uniform_p_only_when_adjusted():
    """Controls fill columns 0 and 1, and the column moves every gene; other compounds tie the columns together."""
    adjusted, plain = [], []
    for seed in range(30):
        y, group, factors = screen(seed)
        column = np.where(group < 0, factors[1] % 2, factors[1]).astype(np.int64)
        column[:2] = 4, 5
        y = y + column[:, None].astype(np.float32)
        wells = np.flatnonzero(group == 0)
        fit = fit_screen(y, group, group < 0, one_hot([column]))
        assert fit.estimable(wells)
        adjusted.append(fit.compare(y, wells).p[0])
        plain.append(moderated_t(y[wells], summarise_wells(y[group < 0])).p)
    assert kstest(adjusted, "uniform").pvalue > 0.01
    assert np.mean(np.array(plain) <= 0.01) > 0.3


def test_a_compound_that_fills_a_column_is_not_estimable():
    """Column 5 holds compound 0 alone, so its effect and the column's are one; compound 1 is tied by its other well."""
    y, group, _ = screen(compounds=4, controls=8)
    column = np.r_[5, 5, 4, 1, 2, 1, 3, 2, 1, 1, 2, 2, 3, 3, 1, 2].astype(np.int64)
    fit = fit_screen(y, group, group < 0, one_hot([column]))
    assert not fit.estimable(np.flatnonzero(group == 0))
    assert fit.estimable(np.flatnonzero(group == 1))
    with pytest.raises(DataError, match="the effect of a compound cannot be separated from its position"):
        fit.compare(y, np.flatnonzero(group == 0))


def test_a_position_that_is_not_known_is_a_level_of_its_own():
    y, group, factors = screen(controls=12)
    rows = factors[0].copy()
    rows[:4] = -1
    known = np.where(rows < 0, 9, rows)
    wells = np.flatnonzero(group == 5)
    one, other = (fit_screen(y, group, group < 0, one_hot([codes])).compare(y, wells) for codes in (rows, known))
    np.testing.assert_allclose(one.t, other.t, rtol=1e-6)


def test_failures():
    y, group, factors = screen(compounds=3, controls=2)
    with pytest.raises(DataError, match="signatures need control wells"):
        fit_screen(y, group, group < -5, one_hot(factors))
    alone = np.arange(len(group), dtype=np.int64)
    with pytest.raises(DataError, match=r"no well is left to estimate the variance(.|\n)*8 wells for 4 groups"):
        fit_screen(y, group, group < 0, one_hot([alone]))
