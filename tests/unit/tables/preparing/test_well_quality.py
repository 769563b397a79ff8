"""Each well is measured as defined, and those that stand out on their plate are flagged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dpf.tables.formats.mtx import read_mtx
from dpf.tables.genes.table import describe_genes
from dpf.tables.preparing.well_quality import deviations, well_quality

_GENES, _ = describe_genes([*(f"G{i}" for i in range(200)), "MT-CO1", "MT-ND1", "ERCC-00002"])


def _screen(seed: int = 0) -> tuple[np.ndarray, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    depth = np.repeat([20.0, 60.0], 48)[:, None]
    counts = rng.poisson(depth * rng.gamma(2, 0.5, size=203)).astype(np.float32)
    wells = pl.DataFrame({"well_id": [f"w{i}" for i in range(96)], "plate": ["p1"] * 48 + ["p2"] * 48})
    return counts, wells


def test_measures_are_their_definitions() -> None:
    counts, wells = _screen()
    quality, _ = well_quality(counts, _GENES, wells)
    assert quality.columns == [
        *("well_id", "plate", "library_size", "detected", "mitochondrial_share", "spike_in_share", "qc_flags")
    ]
    np.testing.assert_array_equal(quality["library_size"], counts[:, :202].sum(axis=1))
    np.testing.assert_array_equal(quality["detected"], (counts[:, :202] > 0).sum(axis=1))
    np.testing.assert_allclose(
        quality["mitochondrial_share"], counts[:, 200:202].sum(axis=1) / counts[:, :202].sum(axis=1)
    )
    np.testing.assert_allclose(quality["spike_in_share"], counts[:, 202] / counts.sum(axis=1))


def test_each_flag_is_raised_by_its_cause_only() -> None:
    counts, wells = _screen()
    counts[3] = np.floor(counts[3] / 6)
    counts[10, 200:202] += 3000
    counts[50, 202] += 3000
    counts[60] = 0
    counts[70] *= 5
    quality, (note,) = well_quality(counts, _GENES, wells)
    flagged = {well: text for well, text in quality.select("well_id", "qc_flags").iter_rows() if text}
    assert flagged == {
        "w3": "low depth, few genes",
        "w10": "high depth, high mitochondrial share",
        "w50": "high spike-in share",
        "w60": "no counts",
        "w70": "high depth",
    }
    assert note.text.startswith("5 wells stand out on their plate by more than 5 MAD: no counts 1; low depth 1;")
    assert quality["mitochondrial_share"][60] is None


def test_a_plate_is_judged_by_itself() -> None:
    counts, wells = _screen()
    assert (well_quality(counts, _GENES, wells)[0]["qc_flags"] == "").all()
    mixed = counts.copy()
    mixed[0] = counts[50]
    assert "high depth" in well_quality(mixed, _GENES, wells)[0]["qc_flags"][0]
    assert well_quality(mixed, _GENES, wells.drop("plate"))[0]["qc_flags"][0] == ""


def test_kinds_that_are_not_measured_have_no_share_and_small_plates_no_flags() -> None:
    counts, wells = _screen()
    quality, notes = well_quality(counts[:5, :200], _GENES[:200], wells[:5])
    assert quality["mitochondrial_share"].null_count() == 5
    assert quality["spike_in_share"].null_count() == 5
    assert notes[0].text == "plates with fewer than 8 wells with counts were not judged: p1"


def test_deviations() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, size=20_000)
    assert deviations(values).std() == pytest.approx(1, rel=0.03)
    assert (deviations(np.array([1.0, 1, 1, 9])) == 0).all()


def test_macpie(real_data: Path) -> None:
    matrix = read_mtx(real_data / "macpie-macseq" / "filtered_matrix")
    genes, _ = describe_genes(matrix.row_names or [], matrix.row_table)
    wells = pl.DataFrame({"well_id": matrix.column_names})
    quality, _ = well_quality(matrix.values.T, genes, wells)
    assert quality["library_size"].sum() == 31_670_644
    assert quality["mitochondrial_share"].is_between(0.001, 0.5).all()
    assert quality["spike_in_share"].null_count() == 95
