"""Counters, other assays' features and columns about wells are no genes."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dpf.errors import DataError
from dpf.tables.genes.names import name_genes
from dpf.tables.genes.not_genes import refuse_columns_about_wells, refuse_targets_among_genes
from dpf.tables.matrix import Matrix
from dpf.tables.screen import SourceFile


def matrix(names, values=None, table=None, wells=10):
    rng = np.random.default_rng(0)
    values = rng.poisson(20, (wells, len(names))) if values is None else values
    ids = [f"w{at}" for at in range(len(values))]
    return Matrix(np.asarray(values, dtype=np.float32), ids, list(names), SourceFile("e.csv", ""), column_table=table)


@pytest.mark.parametrize(
    "counters",
    [
        ["__no_feature", "__ambiguous", "__too_low_aQual", "__not_aligned", "__alignment_not_unique"],
        ["N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous"],
        ["Unassigned_Unmapped", "Unassigned_NoFeatures", "Unassigned_Ambiguity", "Unassigned"],
        ["no_feature", "ambiguous", "too_low_aQual", "not_aligned", "alignment_not_unique"],
        ["*"],
    ],
)
def test_counters_of_reads_are_left_out_and_named(counters):
    read = matrix(["CD3", *counters, "IL2", "NOTCH1", "AMBIG"])
    expected = read.values[:, [0, *range(-3, 0)]].copy()
    named = name_genes(read)
    assert named.genes["gene"].to_list() == ["CD3", "IL2", "NOTCH1", "AMBIG"]
    np.testing.assert_array_equal(named.values, expected)
    assert f"left out: {', '.join(counters)}" in named.notes[0].text
    assert named.notes[0].severity == "warning"


def test_features_of_other_assays_are_left_out_and_named():
    types = pl.DataFrame({"feature_types": ["Gene Expression", "Antibody Capture", "Gene Expression", "CRISPR"]})
    named = name_genes(matrix(["CD3", "CD3_TotalSeqB", "IL2", "guide1"], table=types))
    assert named.genes["gene"].to_list() == ["CD3", "IL2"]
    assert "1 Antibody Capture" in named.notes[0].text
    assert "1 CRISPR" in named.notes[0].text
    peaks = pl.DataFrame({"feature_types": ["Peaks", "Peaks"]})
    assert name_genes(matrix(["a", "b"], table=peaks)).genes.height == 2


@pytest.mark.parametrize("heading", ["plate", "Well_ID", "concentration_uM", "Viability", "index", "X", "nCount_RNA"])
def test_columns_headed_as_columns_about_wells_are_refused(heading):
    with pytest.raises(DataError, match="no genes") as error:
        refuse_columns_about_wells(matrix(["CD3", heading, "IL2"]))
    assert error.value.found == f"headed as columns about wells: {heading}"


@pytest.mark.parametrize("start", [0, 1])
def test_a_gene_that_counts_the_wells_is_refused(start):
    values = np.random.default_rng(0).poisson(20, (10, 3))
    values[:, 1] = np.arange(10) + start
    with pytest.raises(DataError, match="no genes") as error:
        refuse_columns_about_wells(matrix(["CD3", "V7", "IL2"], values))
    assert error.value.found == "counts the wells: V7"
    values[4, 1] += 1
    refuse_columns_about_wells(matrix(["CD3", "V7", "IL2"], values))


def test_a_target_among_the_genes_is_refused_under_any_name_and_with_gaps():
    rng = np.random.default_rng(1)
    expression = rng.normal(5, 1, (20, 4)).astype(np.float32)
    score = expression[:, 2].astype(float)
    score[[3, 8]] = np.nan
    targets = pl.DataFrame({"viability": score, "other": rng.normal(size=20)}, nan_to_null=True)
    with pytest.raises(DataError, match="targets stand among the genes") as error:
        refuse_targets_among_genes(targets, ["A", "B", "ctg_readout", "D"], expression, "e.csv")
    assert error.value.found == "ctg_readout is viability"
    refuse_targets_among_genes(targets.select("other"), ["A", "B", "C", "D"], expression, "e.csv")


def test_a_label_is_looked_for_only_where_chance_cannot_make_it():
    rare = np.zeros((20, 1), dtype=np.float32)
    rare[4] = 1
    refuse_targets_among_genes(pl.DataFrame({"hit": rare[:, 0].astype(int)}), ["RARE"], rare, "e.csv")
    often = (np.arange(20) % 3 == 0).astype(np.float32)[:, None]
    with pytest.raises(DataError, match="L2 is hit"):
        refuse_targets_among_genes(pl.DataFrame({"hit": often[:, 0].astype(int)}), ["L2"], often, "e.csv")


@pytest.mark.parametrize("at", [0, 5])
def test_a_row_that_is_the_sum_of_all_others_is_left_out(at):
    genes = matrix([f"G{n}" for n in range(9)])
    values = np.insert(genes.values, at, genes.values.sum(axis=1), axis=1)
    named = name_genes(matrix([*[f"G{n}" for n in range(at)], "Total", *[f"G{n}" for n in range(at, 9)]], values))
    np.testing.assert_array_equal(named.values, genes.values)
    assert "a row is the sum of all others, left out: Total" in named.notes[0].text
    values[3, at] += 1
    assert name_genes(matrix([f"G{n}" for n in range(10)], values)).genes.height == 10
    assert name_genes(matrix([f"G{n}" for n in range(10)], np.zeros((10, 10)))).genes.height == 10
