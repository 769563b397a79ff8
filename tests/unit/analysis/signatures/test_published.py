"""Signatures beside a published limma-voom table: 15 compounds against DMSO on one MAC-seq plate (macpie, MIT)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from dpf.workflows.progress import Silent
from dpf.workflows.project.inputs import Inputs
from dpf.workflows.rank.rows import compound_rows
from dpf.workflows.rank.signatures.compute import compute_signatures


class Compared(NamedTuple):
    """Arrays of (15 compounds, 500 genes) in the same order; `counts` of the wells compared."""

    effect: np.ndarray
    t: np.ndarray
    published_effect: np.ndarray
    published_t: np.ndarray
    published_q: np.ndarray
    counts: np.ndarray


def compare(folder: Path, scale) -> Compared:
    counts = pl.read_parquet(folder / "mini_mac_object_counts_308x500.parquet")
    wells = pl.read_parquet(folder / "mini_mac_object_metadata_308wells.parquet")
    published = pl.read_parquet(folder / "published_de_15_compounds_vs_DMSO.parquet")
    names = sorted(published.get_column("comparison").unique())
    wells = counts.select("barcode").join(wells, on="barcode", maintain_order="left")
    wells = wells.select(pl.col("barcode").alias("well_id"), pl.col("combined_id").alias("compound"))
    wells = wells.with_columns(is_control=pl.col("compound") == "DMSO_0")
    used = (wells.get_column("is_control") | wells.get_column("compound").is_in(names)).to_numpy()
    genes = counts.columns[1:]
    raw = counts.select(genes).to_numpy().astype(float)[used]
    wells = wells.filter(used)
    expression = scale(raw, raw.sum(axis=1, keepdims=True)).astype(np.float32)
    control = wells.get_column("is_control").to_numpy()
    inputs = Inputs(wells, genes, lambda: expression, control, "e" * 64, "i" * 64)
    found = compute_signatures(inputs, compound_rows(inputs, by_dose=False), False, "none", Silent())
    rows = [found.names.index(name) for name in names]

    def table(column):
        return np.stack(
            [
                published.filter(pl.col("comparison") == name)
                .select(pl.col("gene", column))
                .join(pl.DataFrame({"gene": genes}), on="gene", how="right", maintain_order="right")
                .get_column(column)
                .to_numpy()
                for name in names
            ]
        )

    compounds = wells.get_column("compound").to_numpy().astype(str)
    total = np.stack([raw[control | (compounds == name)].sum(axis=0) for name in names])
    return Compared(
        found.effect[rows], found.t[rows], table("log2FC"), table("metric"), table("p_value_adj"), total
    )  # fmt: skip


@pytest.fixture(scope="module")
def macpie(real_data):
    folder = real_data / "macpie-macseq"
    if not folder.is_dir():
        pytest.skip("no macpie-macseq among the real screens")
    return folder


def test_on_vooms_scale_fold_changes_are_the_published_ones(macpie):
    """voom's own log-CPM; what is left is its precision weights."""
    found = compare(macpie, lambda raw, depth: np.log2((raw + 0.5) / (depth + 1) * 1e6))
    for row in range(15):
        assert np.corrcoef(found.effect[row], found.published_effect[row])[0, 1] > 0.98
        seen = found.counts[row] >= 10
        assert spearmanr(found.t[row, seen], found.published_t[row, seen]).statistic > 0.9


def test_on_dpfs_log_cpm_genes_that_were_counted_stand_in_the_published_order(macpie):
    found = compare(macpie, lambda raw, depth: np.log2(raw / depth * 1e6 + 1))
    for row in range(15):
        seen = found.counts[row] >= 10
        assert 80 < seen.sum() < 110
        assert spearmanr(found.t[row, seen], found.published_t[row, seen]).statistic > 0.85


def test_what_nobody_counted_is_significant_in_the_published_table_and_not_in_ours(macpie):
    """A gene without a single count differs on voom's scale by the wells' depths alone."""
    found = compare(macpie, lambda raw, depth: np.log2(raw / depth * 1e6 + 1))
    unseen = found.counts == 0
    assert (unseen & (found.published_q <= 0.05)).sum() > 1000
    np.testing.assert_allclose(found.t[unseen], 0, atol=1e-6)
