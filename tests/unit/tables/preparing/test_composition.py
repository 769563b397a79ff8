"""Composition factors: right by their definition and beside TMM, the same at every depth, robust against one side."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from dpf.tables.preparing.composition import robust_factors
from dpf.tables.preparing.normalise import composition_factors, fit_log_cpm, normalise

Floats = NDArray[np.float64]


def profile(genes: int, seed: int = 0) -> Floats:
    share = np.exp(np.random.default_rng(seed).normal(0, 1.5, genes))
    return np.asarray(share / share.sum())


def draw(rng: np.random.Generator, share: Floats, depth: Floats, dispersion: float = 0.02) -> Floats:
    """Negative binomial counts (gamma-Poisson), wells × genes."""
    noise = rng.gamma(1 / dispersion, dispersion, (len(depth), share.shape[-1]))
    return rng.poisson(share * depth[:, None] * noise).astype(np.float64)


def factors_of(counts: Floats, share: Floats) -> Floats:
    return robust_factors(counts, counts.sum(axis=1), share)


def tmm(counts: Floats, reference: Floats) -> float:
    """Trimmed mean of M values as edgeR computes it: 30% of M and 5% of A off either side, precision weights."""
    n, r = counts.sum(), reference.sum()
    seen = (counts > 0) & (reference > 0)
    p, q = counts[seen] / n, reference[seen] / r
    m, a = np.log2(p / q), (np.log2(p) + np.log2(q)) / 2
    weight = 1 / ((1 - p) / counts[seen] + (1 - q) / reference[seen])
    rank_m, rank_a = m.argsort().argsort(), a.argsort().argsort()
    kept = (rank_m >= 0.3 * m.size) & (rank_m < 0.7 * m.size) & (rank_a >= 0.05 * m.size) & (rank_a < 0.95 * m.size)
    return float(2 ** ((weight * m)[kept].sum() / weight[kept].sum()))


def test_it_minimises_tukeys_loss() -> None:
    """By its definition, with a minimiser in the place of reweighting."""
    rng = np.random.default_rng(1)
    share = profile(300)
    counts = draw(rng, share, np.full(6, 4_000.0))
    counts[:, :20] *= 6
    for row, got in zip(counts, factors_of(counts, share), strict=True):
        expected = share * row.sum()
        m, v = np.log((row + 1 / 3) / expected)[expected >= 5], (1 / expected + 0.05)[expected >= 5]
        scale = max(1.0, 1.4826 * np.median(np.abs(m - np.median(m)) / np.sqrt(v)))

        def loss(at: float, m: Floats = m, width: Floats = 3 * scale * np.sqrt(v)) -> float:
            return float((1 - np.clip(1 - ((m - at) / width) ** 2, 0, None) ** 3).sum())

        found = minimize_scalar(loss, bounds=(np.median(m) - 0.3, np.median(m) + 0.3), method="bounded",
                                options={"xatol": 1e-9})  # fmt: skip
        assert np.log(got) == pytest.approx(found.x, abs=1e-5)


def test_on_deep_wells_it_is_tmm() -> None:
    rng = np.random.default_rng(2)
    share = profile(2_000)
    moved = np.where(np.arange(2_000) % 20 == 0, 8.0, 1.0) * share
    counts = draw(rng, np.stack([share, moved / moved.sum()] * 5), np.full(10, 500_000.0), 0.005)
    got = factors_of(counts, share)
    want = np.array([tmm(row, np.round(share * 500_000)) for row in counts])
    np.testing.assert_allclose(np.log2(got), np.log2(want), atol=0.05)
    assert abs(np.log2(got[1::2] / got[::2]).mean() - np.log2(1 / moved.sum())) < 0.01


@pytest.mark.parametrize("dispersion", [1e-6, 0.1])
def test_the_factor_does_not_follow_depth(dispersion: float) -> None:
    """One deep library, thinned: a factor of the counted genes, zeros left out, is off by far more."""
    rng = np.random.default_rng(3)
    share = profile(3_000)
    deep = draw(rng, share, np.full(40, 200_000.0), dispersion)
    whole = factors_of(deep, share)
    for depth in (1_500, 5_000, 20_000):
        thinned = rng.binomial(deep.astype(np.int64), depth / 200_000).astype(np.float64)
        bias = np.log2(factors_of(thinned, share) / whole).mean()
        assert abs(bias) < 0.05
        if depth == 1_500:
            assert abs(np.mean([np.log2(tmm(row, np.round(share * 200_000))) for row in thinned[:10]])) > 0.15


def test_a_tenth_of_the_genes_up_leaves_the_others_where_they_are() -> None:
    """Two conditions, a tenth of the genes fourfold up: plain CPM calls all other genes down."""
    rng = np.random.default_rng(4)
    share = profile(4_000)
    up = np.arange(4_000) % 10 == 0
    moved = np.where(up, 4.0, 1.0) * share
    moved /= moved.sum()
    treated = np.arange(96) < 24
    depth = rng.uniform(20_000, 80_000, 96)
    counts = draw(rng, np.where(treated[:, None], moved, share), depth)
    genes, wells = [f"g{i}" for i in range(4_000)], [f"w{i}" for i in range(96)]
    fitted = fit_log_cpm(counts, genes, np.ones(4_000, dtype=bool), ~treated)
    plain = np.log2(1e6 * counts / counts.sum(axis=1, keepdims=True) + 1)
    seen = share * 20_000 > 10

    def changes(values: NDArray[np.floating]) -> Floats:
        return np.asarray(values[treated].mean(axis=0) - values[~treated].mean(axis=0))[seen]

    got, offset = changes(normalise(fitted, counts, genes, wells)[0]), changes(plain)
    assert abs(np.median(offset[~up[seen]])) > 0.25
    assert abs(np.median(got[~up[seen]])) < 0.03
    assert np.median(got[up[seen]]) == pytest.approx(2, abs=0.05)
    factors = composition_factors(fitted, counts, genes)
    assert factors is not None
    assert np.median(np.log2(factors[treated])) - np.median(np.log2(factors[~treated])) == pytest.approx(
        np.median(offset[~up[seen]]), abs=0.03
    )


def test_wells_with_few_genes_have_none_and_scale_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    share = profile(500)
    counts = draw(rng, share, np.array([0.0, 50.0, 40_000.0]))
    got = factors_of(counts, share)
    np.testing.assert_array_equal(np.isnan(got), [True, True, False])
    order = rng.permutation(500)
    np.testing.assert_allclose(factors_of(counts[:, order], share[order]), got, rtol=1e-6)


def test_a_well_of_one_kind_of_count_has_a_factor_that_is_a_number() -> None:
    """All counts in one gene: every other gene is as far off as the next, and that is where most genes are."""
    share = np.full(100, 0.01)
    counts = np.zeros((1, 100))
    counts[0, 0] = 5_000
    got = factors_of(counts, share)
    assert np.isfinite(got).all()
    assert 0 < got[0] < 0.05


def test_on_real_counts_thinned_it_does_not_follow_depth(real_data) -> None:
    """3' DGE (DRIAD, MIT): wells of 100,000 counts and more, thinned to the depth of shallow ones."""
    table = pl.read_csv(real_data / "driad-dge" / "as-found" / "DGE1-counts.csv.gz")
    counts = table.select(pl.selectors.numeric()).to_numpy().T.astype(np.int64)
    depth = counts.sum(axis=1)
    share = counts[depth > 30_000].sum(axis=0) / counts[depth > 30_000].sum()
    deep = counts[depth > 100_000][:40]
    whole = factors_of(deep, share)
    rng = np.random.default_rng(0)
    for target in (3_000, 10_000, 50_000):
        thinned = rng.binomial(deep, (target / deep.sum(axis=1))[:, None])
        assert abs(np.log2(factors_of(thinned, share) / whole).mean()) < 0.1
