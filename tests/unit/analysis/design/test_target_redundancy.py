"""Targets that repeat each other."""

from __future__ import annotations

import numpy as np
import pytest

from dpf.analysis.design.target_redundancy import combinations, correlations, is_function_of, thresholded

RNG = np.random.default_rng(0)
A, B, C = RNG.normal(size=(3, 200))


def test_an_exact_sum_is_told_once_and_plainly() -> None:
    (found,) = combinations({"a": A, "sum": A + B + C, "b": B, "c": C})
    assert found.exact
    assert found.equation == "sum = a + b + c"
    assert found.weights == pytest.approx((1, 1, 1))


def test_weights_intercept_and_rounding() -> None:
    (found,) = combinations({"a": A, "b": B, "mix": np.round(2 * A - 0.5 * B + 3, 3), "c": C})
    assert found.exact
    assert found.target in ("a", "b", "mix")
    assert set(found.parts) == {"a", "b", "mix"} - {found.target}
    (told,) = combinations({"b": B, "mix": B + 3})
    assert told.equation in ("mix = b + 3", "b = mix - 3")


def test_near_is_not_exact_and_far_is_nothing() -> None:
    (near,) = combinations({"a": A, "b": B, "sum": A + B + 0.05 * C})
    assert not near.exact
    assert near.equation == "sum ≈ a + b"
    assert combinations({"a": A, "b": B, "sum": A + B + 0.3 * C}) == []


def test_copies_and_two_equations() -> None:
    found = combinations({"a": A, "copy": A, "b": B, "sum": A + B})
    assert len(found) == 2
    assert all(equation.exact for equation in found)


def test_constant_missing_or_few_values_are_no_equation() -> None:
    assert combinations({"a": A, "constant": np.ones(200)}) == []
    assert combinations({"a": A[:4], "b": B[:4], "c": A[:4] + B[:4]}) == []
    missing = np.where(np.arange(200) < 100, np.nan, A + B)
    assert [e.equation for e in combinations({"a": A, "b": B, "sum": missing})] == ["sum = a + b"]
    assert combinations({}) == []


def test_correlations_over_shared_wells() -> None:
    b = B.copy()
    b[:50] = np.nan
    pairs = correlations({"a": A, "b": b, "constant": np.ones(200)})
    assert pairs["a", "b"] == pytest.approx(np.corrcoef(A[50:], B[50:])[0, 1])
    assert np.isnan(pairs["a", "constant"])


def test_a_label_that_is_a_threshold() -> None:
    label = (A > 0.3).astype(float)
    label[0] = np.nan
    found = thresholded(label, A)
    assert found is not None
    assert found[0] == ">"
    assert ((found[1] < A) == (A > 0.3)).all()
    assert thresholded(1 - label, A) == ("<", found[1])
    assert thresholded(label, B) is None
    assert thresholded(np.ones(200), A) is None


def test_a_label_that_the_cluster_decides() -> None:
    clusters = RNG.integers(0, 6, size=200)
    label = np.isin(clusters, (1, 4)).astype(float)
    assert is_function_of(label, clusters)
    assert not is_function_of(np.where(np.arange(200) == 7, 1 - label, label), clusters)
    assert not is_function_of(label, np.arange(200))  # every well a cluster: says nothing
    assert not is_function_of(np.zeros(200), clusters)
    assert not is_function_of(np.full(200, np.nan), clusters)
