"""Gene sets and query signatures."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact, hypergeom, kstest, linregress

from dpf.analysis.ranking.p_values import benjamini_hochberg
from dpf.analysis.signatures.enrichment import (
    connectivity,
    enrichment_score,
    measure_sets,
    over_representation,
    univariate_linear_model,
)
from dpf.errors import DataError

# decoupler 2.2.0, mt.ulm on `fixed_statistics()` and `fixed_weights()`.
DECOUPLER_T = [[0.1222665, -0.79462444], [-0.4525396, 0.005128249], [-1.4974093, 0.26078171]]
DECOUPLER_P = [[0.90404266, 0.87436873], [0.99596471, 0.99596471], [0.30323505, 0.79722095]]


def fixed_statistics():
    i, j = np.arange(3)[:, None], np.arange(20)[None, :]
    return np.sin(1.3 * i + 0.7 * j * (i + 1)) + 0.1 * j


def fixed_weights():
    weights = np.zeros((2, 20))
    weights[0, [1, 4, 7, 11, 18]] = 1
    weights[1, [0, 2, 3, 9, 12, 15]] = [1, -1, 2, 1, -0.5, 1]
    return weights


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(614)


def test_sets_are_matched_by_name_and_the_unknown_counted():
    sets = measure_sets({"a": ["G1", "G2", "G2", "X"], "b": ["X", "Y"]}, ["G1", "G2", "G3"])
    assert sets.member.toarray().tolist() == [[1, 1, 0], [0, 0, 0]]
    assert sets.size.tolist() == [2, 0]
    assert sets.unknown == 2


def test_foreign_names_are_refused():
    with pytest.raises(DataError, match=r"no gene of the gene sets was measured(.|\n)*ENSG1(.|\n)*e.g. TP53, MYC"):
        measure_sets({"a": ["ENSG1"]}, ["TP53", "MYC"])


def test_over_representation_is_fishers_one_sided_test(rng):
    genes = [f"g{i}" for i in range(60)]
    sets = measure_sets({"a": genes[:10], "b": genes[5:30], "c": genes[:2]}, genes)
    lists = rng.random((4, 60)) < 0.3
    found = over_representation(lists, sets)
    for c in range(4):
        for s in range(2):
            member = sets.member.toarray()[s] == 1
            table = [
                [(lists[c] & member).sum(), (lists[c] & ~member).sum()],
                [(~lists[c] & member).sum(), (~lists[c] & ~member).sum()],
            ]
            assert found.p[c, s] == pytest.approx(fisher_exact(table, alternative="greater").pvalue)
            assert found.score[c, s] == pytest.approx(table[0][0] / (lists[c].sum() * member.sum() / 60))
    assert np.isnan(found.p[:, 2]).all()
    assert np.allclose(found.q[:, :2], benjamini_hochberg(found.p[:, :2]))


def test_the_measured_genes_are_the_background():
    """20 of 40 measured genes in the set, 10 of 20 listed: no enrichment, whatever the genome."""
    genes = [f"g{i}" for i in range(40)]
    sets = measure_sets({"a": genes[:20]}, genes)
    found = over_representation(np.r_[np.ones(10), np.zeros(20), np.ones(10)].astype(bool)[None], sets)
    assert found.score[0, 0] == 1
    assert found.p[0, 0] > 0.5


def test_an_empty_list_is_not_tested():
    sets = measure_sets({"a": ["a", "b", "c"]}, list("abcdef"))
    assert np.isnan(over_representation(np.zeros((1, 6), dtype=bool), sets).p).all()


def test_ulm_is_decouplers():
    found = univariate_linear_model(fixed_statistics(), fixed_weights())
    assert np.allclose(found.score, DECOUPLER_T, rtol=1e-6)
    # decoupler adjusts over the sets of one row; ours is adjusted over all
    assert np.allclose([benjamini_hochberg(row) for row in found.p], DECOUPLER_P, rtol=1e-5)


def test_ulm_is_the_slope_of_a_regression(rng):
    y, w = rng.normal(size=(2, 50)), (rng.random((3, 50)) < 0.3).astype(float)
    found = univariate_linear_model(y, w)
    for c in range(2):
        for s in range(3):
            line = linregress(w[s], y[c])
            assert found.score[c, s] == pytest.approx(line.slope / line.stderr)
            assert found.p[c, s] == pytest.approx(line.pvalue)


def test_sets_take_the_memory_of_their_genes(rng):
    """A dense table of 3,000 sets and 20,000 genes alone would have 480 MB."""
    genes = [f"g{i}" for i in range(20_000)]
    chosen = {f"s{i}": [genes[g] for g in rng.integers(0, 20_000, 50)] for i in range(3_000)}
    tracemalloc.start()
    sets = measure_sets(chosen, genes)
    over_representation(rng.random((4, 20_000)) < 0.01, sets)
    univariate_linear_model(rng.normal(size=(4, 20_000)), sets.member)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


def test_both_tests_are_their_formulas_on_dense_tables(rng):
    genes = [f"g{i}" for i in range(300)]
    sets = measure_sets({f"s{i}": genes[7 * i : 7 * i + i] for i in range(20)} | {"all": genes}, genes)
    member, y = sets.member.toarray(), rng.normal(size=(6, 300)).astype(np.float32)
    lists = (y > 1) & (np.arange(6) > 0)[:, None]
    found = over_representation(lists, sets)
    overlap, drawn, size = lists @ member.T, lists.sum(axis=1)[:, None], member.sum(axis=1)[None]
    tested = (drawn > 0) & (size >= 3) & (size < 300)
    with np.errstate(divide="ignore", invalid="ignore"):
        fold = np.where(tested, overlap / (drawn * size / 300), np.nan)
    p = np.where(tested, hypergeom.sf(overlap - 1, 300, np.where(tested, size, 1), np.maximum(drawn, 1)), np.nan)
    np.testing.assert_allclose(found.score, fold, rtol=1e-12)
    np.testing.assert_allclose(found.p, p, rtol=1e-12)
    np.testing.assert_array_equal(found.overlap, overlap)
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (y.astype(np.float64), member))
    length = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)
    r = np.divide(a @ b.T, length, out=np.full(length.shape, np.nan), where=(length > 0) & (size >= 3))
    slopes = univariate_linear_model(y, sets.member)
    np.testing.assert_allclose(slopes.score, r * np.sqrt(298 / (1 - r**2)), rtol=1e-12, atol=1e-12)


def test_ulm_under_the_null_is_uniform(rng):
    found = univariate_linear_model(rng.normal(size=(300, 100)), (rng.random((5, 100)) < 0.2).astype(float))
    assert kstest(found.p.ravel(), "uniform").pvalue > 0.01


def test_ulm_of_constants_and_of_perfect_fits():
    weights = np.array([[1.0, 1, 1, 0, 0, 0, 0, 0]])
    found = univariate_linear_model([np.ones(8), weights[0], -weights[0]], weights)
    assert np.isnan(found.p[0, 0])
    assert found.p[1:, 0] == pytest.approx([0, 0], abs=1e-12)
    assert found.score[1, 0] > 1e6 > -1e6 > found.score[2, 0]


def test_enrichment_score_by_hand():
    # order 3 2 1 -1 -2; members 3 and 1: +3/4, −1/3, +1/4, −1/3, −1/3
    assert enrichment_score([1.0, 3, -2, 2, -1], [True, True, False, False, False]) == pytest.approx(0.75)
    assert enrichment_score([1.0, 3, -2, 2, -1], [False, False, True, False, True]) == pytest.approx(-1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_order_and_scale_of_genes_do_not_matter(seed, scale):
    rng = np.random.default_rng(seed)
    values, member, order = rng.normal(size=30), np.arange(30) < 6, rng.permutation(30)
    assert enrichment_score(values, member) == pytest.approx(enrichment_score(scale * values[order], member[order]))


def test_connectivity_of_the_query_with_itself_and_its_opposite(rng):
    signature = rng.normal(size=100)
    up, down = signature > 1.2, signature < -1.2
    found = connectivity(np.stack([signature, -signature, rng.normal(size=100)]), up, down)
    assert found[:2] == pytest.approx([1, -1])
    assert abs(found[2]) < 0.9


def test_both_sides_at_the_same_end_connect_to_nothing():
    signature = np.arange(10.0)[::-1]
    up, down = np.arange(10) < 2, (np.arange(10) >= 2) & (np.arange(10) < 4)
    assert connectivity(signature[None], up, down).tolist() == [0]


def test_a_query_of_one_side():
    signature = np.arange(10.0)[::-1] - 4.5
    nothing = np.zeros(10, dtype=bool)
    assert connectivity(signature[None], np.arange(10) < 2, nothing) == pytest.approx([1])
    assert connectivity(signature[None], nothing, np.arange(10) < 2) == pytest.approx([-1])


def test_a_query_without_measured_genes_is_refused():
    with pytest.raises(DataError, match=r"query signature cannot be used(.|\n)*0 up, 0 down"):
        connectivity(np.ones((1, 5)), np.zeros(5), np.zeros(5))
