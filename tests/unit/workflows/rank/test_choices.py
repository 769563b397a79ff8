"""Doses and signatures beside a ranking: what was planted comes out, and odd files and doses are counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from dpf.analysis.signatures.moderated_t import moderated_t, summarise_wells
from dpf.errors import DataError
from dpf.tables.genes.set_scores import read_gmt
from dpf.tables.storage import read_table
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.dose import evidence, strongest
from dpf.workflows.rank.rank import rank_project
from tests.support.ranked_screens import GENES, Planted, make_screen, pretend_model, stored_project

DOSED = Planted(compounds=12, wells=8, controls=24, members=3, on={0: 14.0}, doses=(0.1, 0.5, 2.0, 10.0))
PLATED = Planted(compounds=20, plates=2, on={0: 6.0, 1: 6.0, 2: -6.0})


@pytest.fixture
def rank(tmp_path, monkeypatch):
    def run(planted, change=None, **choices):
        inputs, outputs = make_screen(planted)
        if change is not None:
            inputs = change(inputs)
        pretend_model(monkeypatch, outputs)
        monkeypatch.setattr("dpf.workflows.rank.rank.draw_ranking", lambda *given: ())
        return rank_project(stored_project(tmp_path / "p", inputs), choices=RankChoices(**choices))

    return run


def table(result, name):
    return read_table(result.path.with_name(f"{name}.parquet"), name)


def said(result):
    return "\n".join(result.statements)


def concentrations(change):
    return lambda inputs: replace(inputs, wells=inputs.wells.with_columns(concentration=change))


def test_dose_response_of_t_and_activation(rank):
    result = rank(replace(DOSED, wells=12, doses=(0.03, 0.1, 0.5, 2.0, 10.0, 30.0)))
    doses = table(result, "dose")
    assert doses.height == 24
    assert set(doses.get_column("response")) == {"t", "activation"}
    found = doses.row(by_predicate=(pl.col("compound") == "drug 0") & (pl.col("response") == "activation"), named=True)
    assert found["no_ec50_because"] is None
    assert found["ec50_low"] < 1.0 < found["ec50_high"]
    assert found["trend_p"] < 0.01
    assert found["trend_tau"] > 0.7
    idle = doses.filter((pl.col("compound") != "drug 0") & (pl.col("response") == "activation"))
    assert idle.get_column("no_ec50_because").count() >= 9
    assert "does not depend on the dose" in idle.get_column("no_ec50_because").drop_nulls()[0]
    assert {path.name for path in result.figures} == {
        f"dose{kind}.{end}" for kind in ("", "_activation") for end in ("png", "svg")
    }


def test_a_strong_compound_whose_dose_does_not_matter_is_flat(rank):
    result = rank(DOSED, lambda inputs: spread_doses(inputs))
    doses = table(result, "dose").filter(pl.col("response") == "t")
    shapes = dict(doses.select("compound", "shape").iter_rows())
    assert shapes["drug 0"] == "flat"
    assert set(shapes.values()) <= {"flat", "unclear", "rising", "falling", "curve"}
    assert list(shapes.values()).count("flat") == 1


def spread_doses(inputs):
    """Concentrations that have nothing to do with the response: each dose has one well of each true dose."""
    order = (pl.int_range(pl.len()).over("compound") * 5) % 4
    label = order.replace_strict({0: 0.1, 1: 0.5, 2: 2.0, 3: 10.0})
    label = pl.when(pl.int_range(pl.len()).over("compound") < 4).then(label).otherwise(10.0 / label * 0.1)
    return replace(inputs, wells=inputs.wells.with_columns(concentration=label))


def test_the_figure_shows_hits_first_and_then_trends():
    names = ["weak", "hit", "trend", "best"]
    ranked = pl.DataFrame({"compound": names, "t": [0.1, 4.0, 1.0, 9.0], "q": [0.9, 0.01, None, 0.04]})
    found = evidence(ranked, 0.05)
    doses = pl.DataFrame({"compound": names, "trend_p": [0.8, 1.0, 0.001, None]})
    assert [names[row] for row in strongest(doses, found)] == ["best", "hit", "trend", "weak"]
    by_dose = evidence(pl.concat([ranked, ranked.with_columns(t=pl.col("t") * 2, q=pl.lit(0.5))]), 0.05)
    assert by_dose.t["best"] == 18.0
    assert by_dose.called["t"] == found.called["t"]
    unranked = evidence(ranked.with_columns(q=pl.lit(None, dtype=pl.Float64)), 0.05)
    assert [names[row] for row in strongest(doses, unranked)] == ["trend", "weak", "best", "hit"]


def test_by_dose_ranks_compound_and_dose(rank):
    result = rank(DOSED, by_dose=True)
    assert result.table.height == 48
    assert result.table.columns[:2] == ["compound", "concentration"]
    best = result.table.row(0, named=True)
    assert (best["compound"], best["concentration"]) == ("drug 0", 10.0)


def test_two_levels_are_no_dose_series(rank):
    result = rank(replace(DOSED, doses=(1.0, 10.0)))
    assert not result.path.with_name("dose.parquet").exists()


def test_wells_at_zero_are_left_out_and_counted(rank):
    zero = pl.when(pl.col("concentration") == 0.1).then(0.0).otherwise(pl.col("concentration"))
    result = rank(DOSED, concentrations(zero))
    assert "dose curves: 24 compound wells at 0 or without a concentration are left out" in said(result)
    assert table(result, "dose").item(0, "doses") == 3
    assert "at least 4" in table(result, "dose").item(0, "no_ec50_because")


def test_negative_concentrations_are_no_concentrations(rank):
    result = rank(DOSED, concentrations(pl.col("concentration").log10()))
    assert "no dose curves: 48 wells have a negative concentration (logarithms?)" in said(result)
    assert not result.path.with_name("dose.parquet").exists()


def test_signatures_are_the_plate_matched_moderated_t(rank):
    result = rank(PLATED, signatures=True, trend=False)
    found = table(result, "signatures").filter(pl.col("compound") == "drug 3")
    inputs, _ = make_screen(PLATED)
    plate = (inputs.wells.get_column("plate") == "P2").to_numpy().astype(int)
    own = (inputs.wells.get_column("compound") == "drug 3").to_numpy()
    controls = summarise_wells(inputs.expression[inputs.is_control], plate[inputs.is_control])
    expected = moderated_t(inputs.expression[own], controls, plate[own])
    np.testing.assert_allclose(found.get_column("t"), expected.t, rtol=1e-5)
    np.testing.assert_allclose(found.get_column("q"), expected.q, rtol=1e-5)
    assert "against the controls of their own plates" in said(result)
    lists = {one.name: one.genes for one in read_gmt(result.path.with_name("signatures.gmt"))[0]}
    assert set(lists["drug 0_UP"]) == set(GENES[:5])
    assert set(lists["drug 2_DN"]) == set(GENES[:5])
    assert "compounds move no gene at q ≤ 0.05" in said(result)


def test_adjusted_signatures_are_those_of_one_linear_model_of_all_wells(rank):
    result = rank(PLATED, signatures=True, trend=False, adjust="position")
    found = table(result, "signatures").filter(pl.col("compound") == "drug 3")
    inputs, _ = make_screen(PLATED)
    wells, y = inputs.wells, inputs.expression
    compounds = wells.get_column("compound")
    others = sorted(set(compounds) - {"DMSO", "drug 3"})
    design = [(compounds == "drug 3").to_numpy(), np.ones(len(y)), *((compounds == name).to_numpy() for name in others)]
    for name in ("plate", "row", "column"):
        design += [(wells.get_column(name) == level).to_numpy() for level in sorted(set(wells.get_column(name)))[1:]]
    beta = np.linalg.lstsq(np.column_stack(design).astype(float), y, rcond=None)[0]
    np.testing.assert_allclose(found.get_column("effect"), beta[0], rtol=1e-4, atol=1e-5)
    assert "against all 40 controls at equal plate, row, column: one linear model of all wells" in said(result)
    assert "have none" not in said(result)


def test_a_compound_that_cannot_be_told_from_its_position_has_no_signature_and_is_named(rank, tmp_path):
    alone = pl.when(pl.col("compound") == "drug 2").then(pl.lit("Z")).otherwise(pl.col("row"))
    query = write_gmt(tmp_path / "query.gmt", ("mine", "", *GENES[:4]))
    result = rank(
        PLATED, lambda inputs: replace(inputs, wells=inputs.wells.with_columns(row=alone)),
        signatures=True, adjust="position", query=query, gene_sets=query,
    )  # fmt: skip
    assert "signatures: none of 1 compound that cannot be told from position" in said(result)
    assert said(result).count("drug 2") == 1
    found = table(result, "signatures")
    assert found.filter(pl.col("t").is_null()).get_column("compound").unique().to_list() == ["drug 2"]
    for name in ("enrichment", "connectivity"):
        assert table(result, name).get_column("compound").n_unique() == 19
    pairs = table(result, "signature_similarity")
    assert set(pairs.row(0)[:2]) == {"drug 0", "drug 1"}
    assert not pairs.get_column("cosine").has_nulls()
    with pytest.raises(DataError, match="no compound can be told from its position"):
        rank(
            PLATED,
            lambda inputs: replace(
                inputs, wells=inputs.wells.with_columns(row="compound", plate=pl.lit("P1"), column=pl.lit(1))
            ),
            signatures=True, adjust="position",
        )  # fmt: skip


def test_alike_compounds_have_alike_signatures(rank):
    result = rank(PLATED, signatures=True)
    pairs = table(result, "signature_similarity")
    first = set(pairs.row(0)[:2])
    assert first == {"drug 0", "drug 1"}
    assert any(path.name == "signature_similarity.svg" for path in result.figures)


def write_gmt(path, *lines):
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    return path


def test_gene_sets_and_genes_nobody_measured(rank, tmp_path):
    path = write_gmt(
        tmp_path / "sets.gmt",
        ("moved", "", "G0", "g1", "g2", "g3", "g4"),  # G0 is the symbol of g0
        ("still", "", *GENES[10:16]),
        ("elsewhere", "", "ABC", "DEF", "g7"),
    )
    result = rank(PLATED, gene_sets=path)
    found = table(result, "enrichment")
    best = found.filter((pl.col("compound") == "drug 0") & (pl.col("gene_set") == "moved"))
    up = best.row(by_predicate=pl.col("test") == "up", named=True)
    assert (up["overlap"], up["measured"]) == (5, 5)
    assert up["score"] == pytest.approx(6.0)
    assert up["q"] < 0.01
    assert best.row(by_predicate=pl.col("test") == "ulm", named=True)["score"] > 5
    assert "sets.gmt: 3 gene sets; 2 of their genes were not measured; background 30 measured genes" in said(result)
    assert "sets.gmt: 1 set has fewer than 3 measured genes: not tested" in said(result)


def test_a_gmt_of_another_species_is_refused(rank, tmp_path):
    with pytest.raises(DataError, match="no gene of the gene sets was measured"):
        rank(PLATED, gene_sets=write_gmt(tmp_path / "mouse.gmt", ("a", "", "Actb", "Gapdh")))
    with pytest.raises(DataError, match="no gene of the query was measured"):
        rank(PLATED, query=write_gmt(tmp_path / "mouse.gmt", ("a", "", "Actb", "Gapdh")))


def test_a_query_finds_what_does_the_same_and_the_opposite(rank, tmp_path):
    path = write_gmt(
        tmp_path / "query.gmt", ("mine_UP", "", *GENES[:4], "XX"), ("mine_DN", "", *GENES[20:23]), ("none", "", "YY")
    )
    result = rank(PLATED, query=path)
    found = table(result, "connectivity").filter(pl.col("query") == "mine")
    scores = dict(found.select("compound", "connectivity").iter_rows())
    assert scores["drug 2"] <= 0.0 <= scores["drug 0"]
    assert "1 query; 2 of their genes were not measured" in said(result)
    assert "no gene of none was measured" in said(result)
