"""Moderated t against limma's own published numbers, an independent port, and an explicit linear model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import polygamma
from scipy.stats import kstest, ttest_ind

from dpf.analysis.signatures.moderated_t import (
    fit_variance_prior,
    moderated_t,
    squeeze,
    summarise_wells,
    trigamma_inverse,
    two_sided_p,
)
from dpf.errors import DataError

# limma's reference output (tests/limma-Tests.Rout.save, the example "Similar to Mette Langaas 19 May 2004").
SIGMA = np.array([1.3425032, 0.4647155, 1.1993444, 0.9428569, 0.9421509])
FREEDOM = np.array([6.0, 6, 6, 6, 4])
LIMMA_POSTERIOR = [1.2677996, 0.6459499, 1.1251558, 0.9097727, 0.9124980]
LIMMA_EFFECT = np.array([3.537333, 4.355578, 3.197645, 2.697734])
LIMMA_T = np.array([3.847656, 6.637308, 3.692066, 3.464003])
LIMMA_P = [1.529450e-03, 7.144893e-06, 2.109270e-03, 3.381970e-03]

# inmoose 0.9.1 (a port of limma), lmFit + eBayes on `fixed_matrix()`, the first six genes.
PORT = {
    False: (
        0.8894878928,
        [3.939281658, 9.484030806, 7.677096722, 6.117510246, 9.317432985, 3.860907591],
        [0.007919487591, 8.73689425e-05, 0.0002794975504, 0.0009336430978, 9.642929456e-05, 0.008658836162],
    ),
    True: (
        1.228195072,
        [4.03575381, 9.767926007, 7.95553565, 6.327160506, 9.708815705, 4.911382504],
        [0.00632506836, 5.263257305e-05, 0.0001737551027, 0.0006294227018, 5.454847083e-05, 0.002412859721],
    ),
}


def fixed_matrix():
    """(7 wells, 60 genes): wells 0-2 treated, genes 0-4 shifted, spread following the mean."""
    g, j = np.arange(60)[:, None], np.arange(7)[None, :]
    noise = np.sin(12.9898 * (g + 1) * (j + 1) + 78.233 * j) * (1 + 0.5 * np.sin(5 * g))
    x = 8 + 3 * np.sin(0.37 * g) + (0.2 + 0.15 * np.cos(0.37 * g + 1)) * noise
    x[:5, :3] += 0.6
    return x.T


def test_prior_and_posterior_are_limmas():
    prior = fit_variance_prior(SIGMA**2, FREEDOM)
    assert prior.freedom == pytest.approx(9.306153, abs=1e-6)
    assert prior.variance == pytest.approx(np.full(5, 0.923179), abs=1e-6)
    assert squeeze(SIGMA**2, FREEDOM, prior) == pytest.approx(LIMMA_POSTERIOR, abs=1e-6)


def test_t_and_p_are_limmas():
    prior = fit_variance_prior(SIGMA**2, FREEDOM)
    posterior = squeeze(SIGMA**2, FREEDOM, prior)[:4]
    t = LIMMA_EFFECT / (np.sqrt(posterior) * 0.8164966)
    assert t == pytest.approx(LIMMA_T, abs=2e-6)
    assert two_sided_p(t, 6 + prior.freedom) == pytest.approx(LIMMA_P, rel=1e-5)


def test_degrees_of_freedom_are_at_most_those_of_all_genes_together():
    # limma's other example: prior infinite, 10 genes with 4 each; it prints t = 1.7901232, p = 0.08100587
    assert two_sided_p(1.7901232, 40) == pytest.approx(0.08100587, rel=1e-6)
    rng = np.random.default_rng(1)
    found = moderated_t(rng.normal(size=(3, 10)), summarise_wells(rng.normal(size=(3, 10))))
    if np.isinf(found.prior_freedom):
        assert found.freedom == 40
    found = moderated_t(np.tile([[1.0], [2], [3]], 10), summarise_wells(np.tile([[1.0], [2], [3]], 10)))
    assert found.prior_freedom == np.inf
    assert found.freedom == 40


@pytest.mark.parametrize("trend", [False, True])
def test_it_is_the_ports(trend):
    x = fixed_matrix()
    found = moderated_t(x[:3], summarise_wells(x[3:]), trend=trend)
    freedom, t, p = PORT[trend]
    assert found.prior_freedom == pytest.approx(freedom, rel=1e-7)
    assert found.t[:6] == pytest.approx(t, rel=1e-8)
    assert found.p[:6] == pytest.approx(p, rel=1e-7)


def test_plates_are_blocks_of_a_linear_model():
    rng = np.random.default_rng(2)
    plate = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3])
    treated = np.array([1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 1], dtype=bool)  # plate 3 has no control
    y = rng.normal(size=(11, 40)) + 5 * plate[:, None]
    controls = summarise_wells(np.vstack([y[~treated], rng.normal(size=(2, 40))]), [*plate[~treated], 9, 9])
    found = moderated_t(y[treated], controls, plate[treated])
    design = np.column_stack([treated.astype(float), *(plate == s for s in range(4))])
    beta, rss, _, _ = np.linalg.lstsq(design, y, rcond=None)
    freedom = 11 - 5
    prior = fit_variance_prior(rss / freedom, freedom)
    v = np.linalg.inv(design.T @ design)[0, 0]
    assert np.allclose(found.effect, beta[0])
    assert np.allclose(found.t, beta[0] / np.sqrt(squeeze(rss / freedom, freedom, prior) * v))
    assert np.allclose(found.mean_expression, y.mean(axis=0))


def test_without_moderation_it_is_students_t():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(4, 30)), rng.normal(size=(6, 30))
    found = moderated_t(a, summarise_wells(b))
    expected = ttest_ind(a, b).statistic
    # t̃ = t·s/s̃; s from the definition
    s2 = (a.var(axis=0, ddof=1) * 3 + b.var(axis=0, ddof=1) * 5) / 8
    assert np.allclose(found.t * np.sqrt(found.variance / s2), expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(-50, 50))
def test_scale_shift_and_order_of_wells_do_not_matter(seed, scale, shift):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(3, 20)), rng.normal(size=(5, 20))
    first = moderated_t(a, summarise_wells(b), trend=True)
    second = moderated_t(a[::-1] * scale + shift, summarise_wells(b[[3, 1, 0, 2, 4]] * scale + shift), trend=True)
    assert np.allclose(first.t, second.t, rtol=1e-6)


def test_p_values_are_uniform_under_the_null():
    p = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        spread = np.sqrt(4 / rng.chisquare(4, size=200))
        y = rng.normal(size=(10, 200)) * spread
        p.append(moderated_t(y[:2], summarise_wells(y[2:])).p)
    assert kstest(np.concatenate(p), "uniform").pvalue > 0.01


@pytest.mark.parametrize("x", [1e-8, 1e-6, 0.01, 0.5, 5.0, 1e6])
def test_trigamma_inverse(x):
    assert polygamma(1, trigamma_inverse(x)) == pytest.approx(x, rel=1e-5)


def test_trigamma_inverse_is_limmas():
    assert [trigamma_inverse(x) for x in (1e-6, 5, 1e6)] == pytest.approx([1e6, 0.4961687, 0.001000001], rel=1e-6)


def test_a_constant_gene_beside_others_is_no_finding():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(3, 20)), rng.normal(size=(5, 20))
    a[:, 7] = b[:, 7] = 3.0
    found = moderated_t(a, summarise_wells(b))
    assert found.effect[7] == pytest.approx(0, abs=1e-12)
    assert found.p[7] == pytest.approx(1, abs=1e-6)


def test_failures():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(3, 10))
    with pytest.raises(DataError, match=r"no plate holds both(.|\n)*3 wells of the compound, 0 control"):
        moderated_t(x, summarise_wells(x, [1, 1, 1]), [0, 0, 0])
    with pytest.raises(DataError, match="no well is left to estimate the variance"):
        moderated_t(x[:1], summarise_wells(x[1:2]))
    with pytest.raises(DataError, match=r"no variance between wells(.|\n)*0 of 10 genes vary"):
        moderated_t(np.ones((2, 10)), summarise_wells(np.ones((2, 10))))
