"""What is no count is refused; what is doubtful is said, with the evidence."""

from __future__ import annotations

import numpy as np
import pytest

from dpf.errors import DataError
from dpf.tables.preparing.counts import check_counts, looks_like_counts, scale_of

_RNG = np.random.default_rng(1)
_COUNTS = np.random.default_rng(0).negative_binomial(0.5, 0.01, size=(12, 80)).astype(np.float32)
_CPM = _COUNTS / _COUNTS.sum(axis=1, keepdims=True, dtype=np.float64) * 1e6


def _texts(values: np.ndarray) -> list[str]:
    return [note.text for note in check_counts(values, "a.csv")]


def test_counts_pass_without_a_word() -> None:
    assert check_counts(_COUNTS, "a.csv", whole=True) == ()
    assert check_counts(np.zeros((3, 0), dtype=np.float32), "a.csv") == ()


@pytest.mark.parametrize(
    ("value", "what"), [(-1, "negative"), (np.nan, "missing or infinite"), (np.inf, "missing or infinite")]
)
def test_no_counts_are_refused_with_the_place(value: float, what: str) -> None:
    values = _COUNTS.copy()
    values[2, 7] = value
    with pytest.raises(DataError, match=what) as caught:
        check_counts(values, "a.csv")
    assert f"1 values, the first {value:.6g} in well 3, gene 8" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "evidence"),
    [
        (np.log2(_CPM + 1), "2^x - 1 of the values add up to 1,000,000 in every well"),
        (np.log1p(_CPM / 100), "e^x - 1 of the values add up to 10,000 in every well"),
        (_CPM, "the values add up to 1,000,000 in every well"),
        (np.log2(_COUNTS + 0.3) + 2, "as after a logarithm"),
        (np.log2(_COUNTS + 1), "2^x - 1 of the values are whole numbers"),
        (np.log1p(_COUNTS[:, :40]), "e^x - 1 of the values are whole numbers"),
        (np.log2(np.minimum(_COUNTS, 2) + 1), "2^x - 1 of the values are whole numbers"),
        (np.log2(_CPM + 1)[:, :30], "as after a logarithm"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_normalised_values_are_refused(values: np.ndarray, evidence: str, whole: bool) -> None:
    with pytest.raises(DataError, match="normalised already") as caught:
        check_counts(values.astype(np.float32), "a.csv", whole)
    assert evidence in str(caught.value.found)
    assert "--normalize none" in str(caught.value.hint)


@pytest.mark.parametrize(
    "values",
    [
        _COUNTS + np.float32(0.25) * (_COUNTS > 100),  # reads shared among the genes that have many
        np.maximum(_COUNTS + _RNG.normal(0, 0.3, _COUNTS.shape), 0),  # corrected for bias: nothing is whole
        np.where(_RNG.random(_COUNTS.shape) < 0.2, 0.5, 0) + np.minimum(_COUNTS, 12),  # a shallow plate
    ],
)
def test_expected_counts_pass_with_a_warning_where_fractions_are_allowed(values: np.ndarray) -> None:
    values = values.astype(np.float32)
    (text,) = _texts(values)
    n = int((values != np.rint(values)).sum())
    assert text.startswith(f"a.csv: {n:,} of 960 values given as counts have a fraction: taken as expected counts")
    with pytest.raises(DataError, match="round them"):
        check_counts(values, "a.csv", whole=True)


def test_counts_said_to_be_normalised_are_seen() -> None:
    (note,) = looks_like_counts(_COUNTS, "a.csv")
    assert f"whole numbers from 0 to {_COUNTS.max():,.0f}" in note.text
    for values in (np.log2(_CPM + 1), _COUNTS - 1, np.minimum(_COUNTS, 30), _COUNTS * np.nan):
        assert looks_like_counts(values, "a.csv") == ()


@pytest.mark.parametrize(
    ("values", "kind", "evidence"),
    [
        (_COUNTS, "counts", "all values are whole numbers from 0 to"),
        (np.minimum(_COUNTS, 30), "unclear", "all values are whole numbers from 0 to 30"),
        (np.zeros((2, 3)), "unclear", "all values are whole numbers from 0 to 0"),
        (np.log2(_CPM + 1), "normalised", "values have fractions and go up to"),
        (_COUNTS - 1, "normalised", "values go down to -1"),
        (_CPM, "unclear", "values have fractions and go up to"),
        (_COUNTS + 0.5, "unclear", "values have fractions and go up to"),
        (np.zeros((0, 3)), "unclear", "there are no values"),
    ],
)
def test_values_tell_what_they_are_or_that_they_do_not(values: np.ndarray, kind: str, evidence: str) -> None:
    for order in "CF":
        scale = scale_of(np.array(values, dtype=np.float32, order=order))  # type: ignore[call-overload]
        assert scale.kind == kind
        assert scale.evidence.startswith(evidence)


def test_the_first_wrong_count_is_named() -> None:
    values = _COUNTS.copy()
    values[2, 7] = -1
    wells, genes = [f"w{i}" for i in range(12)], [f"g{i}" for i in range(80)]
    with pytest.raises(DataError, match="the first -1 in well w2, gene g7"):
        check_counts(values, "a.csv", wells=wells, genes=genes)
