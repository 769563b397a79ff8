"""log-CPM and VST: right against their definitions and PyDESeq2, and the same for every later plate."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dpf.errors import DataError, UsageError
from dpf.tables.preparing import normalise as module
from dpf.tables.preparing.normalise import (
    Normalisation,
    composition_factors,
    fit_log_cpm,
    normalise,
    size_factors,
)
from dpf.tables.preparing.vst import fit_vst


def _counts(seed: int = 0, wells: int = 24, genes: int = 150, shallow: bool = False) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    means = np.exp(rng.normal(0 if shallow else 4, 1.5, size=genes)) * rng.uniform(0.3, 3, size=(wells, 1))
    return _negative_binomial(rng, means)


def _negative_binomial(rng: np.random.Generator, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Dispersion 0.05 + 2/μ, as the trend has it, scattered about it from gene to gene."""
    size = 1 / ((0.05 + 2 / means) * np.exp(rng.normal(0, 0.3, size=means.shape[-1])))
    return rng.negative_binomial(size, size / (size + means)).astype(np.float64)


def _names(n: int, letter: str) -> list[str]:
    return [f"{letter}{i}" for i in range(n)]


_GENES, _WELLS = _names(150, "g"), _names(24, "w")
_ALL = np.ones(150, dtype=bool)
_REFERENCE = np.arange(24) < 10


def _vst(counts: NDArray[np.float64], trend_genes: int | None = None) -> Normalisation:
    return fit_vst(counts, _GENES, _ALL, _REFERENCE, trend_genes)[0]


def test_log_cpm_is_its_definition() -> None:
    counts = _counts()
    counted = np.arange(150) % 10 != 0
    fitted = fit_log_cpm(counts, _GENES, counted, _REFERENCE)
    got, notes = normalise(fitted, counts, _GENES, _WELLS)
    factors = composition_factors(fitted, counts, _GENES)
    assert factors is not None
    assert factors.min() < 0.99
    assert np.log(factors).mean() == pytest.approx(0, abs=1e-12)
    want = np.log2(1e6 * counts / (counts[:, counted].sum(axis=1) * factors)[:, None] + 1)
    np.testing.assert_allclose(got, want, rtol=1e-7)
    assert notes == ()
    assert got.dtype == np.float32


def test_a_normalisation_of_before_there_were_composition_factors_is_plain_log_cpm() -> None:
    counts = _counts()
    values, arrays = fit_log_cpm(counts, _GENES, _ALL, _REFERENCE).to_parts()
    assert values.pop("composition") > 0
    stored = Normalisation.from_parts(values, arrays)
    assert composition_factors(stored, counts, _GENES) is None
    got, _ = normalise(stored, counts, _GENES, _WELLS)
    np.testing.assert_allclose(got, np.log2(1e6 * counts / counts.sum(axis=1, keepdims=True) + 1), rtol=1e-7)


def test_genes_that_new_counts_lack_do_not_move_the_factors() -> None:
    """The reference share of what is there is left as it is: the factor makes up for what the library size lost."""
    counts = _counts(6)
    fitted = fit_log_cpm(counts, _GENES, _ALL, _REFERENCE)
    lost = int(np.argsort(fitted.depth_share)[-30])
    keep = [i for i in range(150) if i != lost]
    whole, _ = normalise(fitted, counts, _GENES, _WELLS, _GENES[:1])
    less, _ = normalise(fitted, counts[:, keep], [_GENES[i] for i in keep], _WELLS, _GENES[:1])
    np.testing.assert_allclose(less, whole, atol=0.02)


def test_none_takes_values_as_they_are() -> None:
    counts = _counts()
    got, _ = normalise(Normalisation("none"), counts, _GENES, _WELLS, ["g3", "g1"])
    np.testing.assert_array_equal(got, counts[:, [3, 1]].astype(np.float32))


@pytest.mark.parametrize("shallow", [False, True])
def test_vst_agrees_with_pydeseq2(shallow: bool) -> None:
    from pydeseq2.dds import DeseqDataSet

    counts = _counts(1)
    if shallow:  # a zero in every gene of some reference well, so that no gene is counted everywhere
        counts[np.arange(150) % 10, np.arange(150)] = 0
    reference = counts[_REFERENCE]
    dds = DeseqDataSet(
        counts=pd.DataFrame(reference.astype(int), index=_WELLS[:10], columns=_GENES),
        metadata=pd.DataFrame({"condition": _WELLS[:10]}, index=_WELLS[:10]),
        design="~1",
        quiet=True,
        n_cpus=1,
        size_factors_fit_type="poscounts" if shallow else "ratio",
    )
    dds.vst_fit_type = "parametric"
    dds.fit_size_factors()
    dds.fit_dispersion_trend(vst=True)
    fitted, notes = fit_vst(counts, _GENES, _ALL, _REFERENCE, None)
    assert fitted.vst is not None
    assert (fitted.vst.size_factors, len(notes)) == (("poscounts", 1) if shallow else ("ratio", 0))
    factors = size_factors(reference, fitted.vst.log_reference) / fitted.vst.scale
    np.testing.assert_allclose(factors, dds.obs["size_factors"], rtol=1e-10)
    np.testing.assert_allclose(fitted.vst.dispersion, dds.uns["vst_trend_coeffs"], rtol=1e-6)
    got, _ = normalise(fitted, reference, _GENES, _WELLS[:10])
    np.testing.assert_allclose(got, dds.vst_transform(), rtol=1e-5)
    if not shallow:
        new = counts[10:]
        new = new[(new[:, ~np.isnan(fitted.vst.log_reference)] > 0).all(axis=1)]
        np.testing.assert_allclose(
            normalise(fitted, new, _GENES, _WELLS[: len(new)])[0], dds.vst_transform(new), rtol=1e-5
        )


def test_vst_is_log2_for_large_counts_and_stabilises() -> None:
    rng = np.random.default_rng(3)
    means = np.exp(rng.normal(5, 1.5, size=150))
    counts = _negative_binomial(rng, np.tile(means, (24, 1)))
    values, _ = normalise(_vst(counts), counts, _GENES, _WELLS)
    level = np.log(means)
    assert abs(np.corrcoef(values.std(axis=0), level)[0, 1]) < 0.3
    assert np.corrcoef(np.log2(counts + 1).std(axis=0), level)[0, 1] < -0.6
    large = values[:, means > 1000]
    np.testing.assert_allclose(large, np.log2(counts[:, means > 1000]), atol=0.6)


def test_trend_on_some_genes_is_the_trend() -> None:
    counts = _counts(4, wells=12, genes=600)
    genes, all_genes, reference = _names(600, "g"), np.ones(600, dtype=bool), np.ones(12, dtype=bool)
    some, every = (fit_vst(counts, genes, all_genes, reference, n)[0].vst for n in (200, None))
    assert some is not None
    assert every is not None
    np.testing.assert_array_equal(some.log_reference, every.log_reference)
    np.testing.assert_allclose(some.dispersion, every.dispersion, rtol=0.35)


def test_constant_dispersion_falls_back_with_a_word() -> None:
    counts = np.random.default_rng(0).poisson(np.geomspace(50, 5000, 150), size=(24, 150)).astype(np.float64)
    fitted, notes = fit_vst(counts, _GENES, _ALL, _REFERENCE)
    assert fitted.vst is not None
    assert fitted.vst.trend == "mean"
    assert "mean-based dispersion trend" in notes[0].text
    values, _ = normalise(fitted, counts, _GENES, _WELLS)
    np.testing.assert_allclose(values[:, -1], np.log2(counts[:, -1]), atol=0.1)


@pytest.mark.parametrize("fit", [lambda counts: fit_log_cpm(counts, _GENES, _ALL, _REFERENCE), _vst])
def test_later_plates_are_normalised_the_same_way(fit: object, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = _counts(2)
    fitted: Normalisation = fit(counts)  # type: ignore[operator]
    want, _ = normalise(fitted, counts, _GENES, _WELLS)
    values, arrays = fitted.to_parts()
    stored = Normalisation.from_parts(json.loads(json.dumps(values)), arrays)
    order = np.random.default_rng(0).permutation(150)
    monkeypatch.setattr(module, "_BLOCK_CELLS", 1)
    got, _ = normalise(stored, counts[5:, order], [_GENES[i] for i in order], _WELLS[5:], _GENES[20:40])
    np.testing.assert_allclose(got, want[5:, 20:40], rtol=1e-6)
    doubled, _ = normalise(stored, counts * 2, _GENES, _WELLS)
    # Twice the counts weigh more in a composition factor; a median of ratios is the same.
    np.testing.assert_allclose(doubled, want, rtol=1e-5, atol=0.02 if fitted.vst is None else 0)


def test_library_size_needs_the_genes_that_made_it_up() -> None:
    counts = _counts()
    fitted = fit_log_cpm(counts, _GENES, _ALL, _REFERENCE)
    rare = int(counts.sum(axis=0).argmin())
    without = [i for i in range(150) if i != rare]
    _, notes = normalise(fitted, counts[:, without], [_GENES[i] for i in without], _WELLS, _GENES[:1])
    assert notes[0].text.startswith("1 of the 150 genes of the library size are missing; they held 0.0")
    with pytest.raises(DataError, match="not complete") as caught:
        normalise(fitted, counts[:, :20], _GENES[:20], _WELLS, _GENES[:10])
    assert "130 of the 150 genes" in str(caught.value.found)


def test_missing_genes_are_listed() -> None:
    with pytest.raises(DataError, match="1 of 2 missing: other"):
        normalise(Normalisation("none"), _counts(), _GENES, _WELLS, ["g1", "other"])


@pytest.mark.parametrize("fit", [lambda counts: fit_log_cpm(counts, _GENES, _ALL, _REFERENCE), _vst])
def test_an_empty_well_is_named(fit: object) -> None:
    counts = _counts()
    counts[20] = 0
    counts[:, 0] = 0
    values, notes = normalise(fit(counts), counts, _GENES, _WELLS)  # type: ignore[operator]
    assert "1 wells hold no counts" in notes[0].text
    assert "w20" in notes[0].text
    np.testing.assert_array_equal(values[20], np.full(150, values[0, 0]))


def test_shallow_wells_have_a_size_factor() -> None:
    counts = _counts(shallow=True)
    factors = size_factors(counts, np.where((counts > 0).mean(axis=0) > 0.3, 0.0, np.nan))
    assert (factors > 0).all()


def test_vst_refuses_too_little() -> None:
    with pytest.raises(DataError, match="three reference wells") as caught:
        fit_vst(_counts(), _GENES, _ALL, np.arange(24) < 2)
    assert "2 reference wells" in str(caught.value)


def test_vst_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pydeseq2" else real(name))
    with pytest.raises(UsageError, match=r"drugseq-perturbformer\[counts\]"):
        _vst(_counts())


def test_damaged_parameters_are_refused() -> None:
    values, arrays = fit_log_cpm(_counts(), _GENES, _ALL, _REFERENCE).to_parts()
    with pytest.raises(DataError, match="damaged"):
        Normalisation.from_parts(values, {"depth_share": arrays["depth_share"][:3]})
    with pytest.raises(DataError, match="unknown normalisation"):
        Normalisation.from_parts({**values, "method": "tmm"}, arrays)
    with pytest.raises(DataError, match=r"damaged(.|\n)*composition -1.0"):
        Normalisation.from_parts({**values, "composition": -1.0}, arrays)
    with pytest.raises(DataError, match="reference_share of another length"):
        Normalisation.from_parts(values, {**arrays, "reference_share": arrays["depth_share"][:3]})


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "fit", [lambda counts: fit_log_cpm(counts, _GENES, _ALL, _REFERENCE), _vst, lambda _: Normalisation("none")]
)
def test_over_the_counts_or_beside_them(fit: object, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.array(_counts(5), dtype=np.float32, order=order)  # type: ignore[call-overload]
    fitted: Normalisation = fit(counts)  # type: ignore[operator]
    monkeypatch.setattr(module, "_BLOCK_CELLS", 700)
    keep = [_GENES[i] for i in np.random.default_rng(0).permutation(150)[:90]]
    beside, _ = normalise(fitted, counts, _GENES, _WELLS, keep)
    assert not np.shares_memory(beside, counts)
    over, _ = normalise(fitted, counts, _GENES, _WELLS, keep, in_place=True)
    assert np.shares_memory(over, counts)
    np.testing.assert_array_equal(over, beside)
