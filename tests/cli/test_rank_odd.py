"""`dpf rank` on odd screens: told and not dropped, or refused with what to do; never a wrong number in silence."""

from __future__ import annotations

import json

import polars as pl
import pytest
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.cli.conftest import TINY

pytestmark = pytest.mark.usefixtures("sketches")


def odd(wells: pl.DataFrame) -> pl.DataFrame:
    """Controls named in two ways, one named like one, a compound of one well, one on a plate of its own, doses."""
    names = wells.get_column("compound").to_list()
    controls = [row for row, name in enumerate(names) if name == "DMSO"]
    names[controls[0]], names[0] = "dmso ", "Vehicle 2"
    alone = pl.when(pl.col("compound") == "drug 4").then(pl.lit("P9")).otherwise(pl.col("plate"))
    doses = [None if name == "DMSO" else [0.0, 0.1, 1.0, 10.0][row % 4] for row, name in enumerate(names)]
    return wells.with_columns(compound=pl.Series(names), plate=alone, dose=pl.Series(doses, dtype=pl.Float64))


@pytest.fixture(scope="module")
def project(tmp_path_factory, screen_tables, ok):
    """The odd screen, trained in three folds: every compound has four wells but `Vehicle 2` and what it came from."""
    folder = tmp_path_factory.mktemp("odd")
    expression, wells = screen_tables(compounds=9, replicates=4, controls=12)
    expression.write_csv(folder / "expression.csv")
    odd(wells).write_csv(folder / "wells.csv")
    ran = ok(
        "init", folder / "p", "--from", folder / "expression.csv", "--wells", folder / "wells.csv",
        "--scores", "viability,size", "--concentration-column", "dose", "--set", "train.epochs=2", *TINY,
    )  # fmt: skip
    (folder / "init.txt").write_text(ran.out + ran.err, encoding="utf-8")
    ok("train", folder / "p", "--folds", 3)
    return folder / "p"


def test_a_control_named_in_two_ways_is_told_by_init_check_and_rank(project, ok):
    init = (project.parent / "init.txt").read_text(encoding="utf-8")
    assert "controls 12 wells: DMSO 11, dmso 1" in init
    taken = "spelled in several ways, all taken as controls: DMSO (11) / dmso (1)"
    alike = "not taken as controls, though they look like it: Vehicle 2 (1)"
    assert taken in init
    assert alike in init
    checked = json.loads(ok("check", project, "--permutations", 199, "--format", "json").out)
    names = next(item for item in checked["data"]["rows"] if "names" in item.values())
    assert names["verdict"] == "warn"
    assert f"S{taken[1:]}. Ranked as compounds, {alike}; if they are controls, run dpf init again" in names["text"]
    ranked = ok("rank", project).err
    assert taken in ranked
    assert f"ranked as compounds, {alike}" in ranked


def test_a_compound_of_one_well_is_ranked_and_what_cannot_be_said_is_said(project, ok):
    ran = ok("rank", project)
    assert "1 of 10 rows have one well: their p is its rank among the controls" in ran.err
    one = ran.rows.filter(pl.col("compound") == "Vehicle 2").row(0, named=True)
    assert one["n"] == 1
    assert one["smallest_p"] == pytest.approx(1 / 7)  # six controls on its plate
    assert one["p"] >= one["smallest_p"]
    for name in ("replicate_cosine", "replicate_map", "replicates_agree"):
        assert one[name] is None


def test_a_compound_on_a_plate_without_controls(project, ok):
    ran = ok("rank", project, "--match", "plate")
    assert "1 compound stands on a plate without (enough) controls: no p-value for them" in ran.err
    alone = ran.rows.filter(pl.col("compound") == "drug 4").row(0, named=True)
    assert (alone["p"], alone["verdict"]) == (None, None)
    assert alone["t"] is not None
    everywhere = ok("rank", project, "--match", "screen", "--signatures")
    assert everywhere.rows.get_column("p").null_count() == 0
    assert "1 compound shares no plate with enough controls, compared with all 12 controls" in everywhere.err
    adjusted = ok("rank", project, "--match", "screen", "--signatures", "--adjust", "plate")
    assert "signatures: none of 1 compound that cannot be told from position" in adjusted.err
    assert "drug 4" in adjusted.err


def test_concentrations_of_zero_are_left_out_and_negative_ones_are_no_concentrations(project, ok, copy):
    zero = pl.read_parquet(project / "inputs/wells.parquet").filter(
        ~pl.col("is_control") & (pl.col("concentration") == 0)
    )
    assert f"dose curves: {zero.height} compound wells at 0 or without a concentration" in ok("rank", project).err
    by_dose = ok("rank", project, "--by-dose", "--null", "none").rows
    assert 0.0 in by_dose.get_column("concentration")


def test_negative_concentrations_are_refused_where_named_and_else_told_and_get_no_curve(project, tmp_path, dpf, ok):
    wells = pl.read_csv(project.parent / "wells.csv").with_columns(dose=pl.col("dose") - 5)
    wells.write_csv(tmp_path / "wells.csv")
    target = tmp_path / "p"
    words = (
        "init", target, "--from", project.parent / "expression.csv", "--wells", tmp_path / "wells.csv",
        "--scores", "viability", *TINY,
    )  # fmt: skip
    ran = dpf(*words, "--concentration-column", "dose")
    assert ran.code == 4
    assert "a concentration is below 0" in ran.err
    assert "28 wells: P1_A01 (-5)" in ran.err
    assert not target.exists()
    assert "column dose is below 0 in 28 wells" in ok(*words).out
    ok("train", target, "--folds", 3, "--epochs", 1)
    assert "dose curves" not in ok("rank", target).err
    assert not (target / "results/default/dose.parquet").exists()


def test_constant_latents_are_refused(project, copy, dpf):
    """A collapsed model: nothing that an input changes reaches the latent."""
    collapsed = copy(project)
    path = collapsed / "models/default/model.safetensors"
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["dpf"])
    del about["sha256"]  # as an earlier dpf wrote it: the weights that follow are not those that were trained
    tensors = load_file(path)
    chosen = [name for name in tensors if "latent" in name or "projection" in name]
    assert chosen, sorted(tensors)
    for name in chosen:
        tensors[name] = tensors[name] * 0
    save_file(tensors, path, {"dpf": json.dumps(about)})
    ran = dpf("rank", collapsed)
    assert (ran.code, ran.out) == (4, "")
    assert "the control wells all have the same latent" in ran.err
    assert "the model has collapsed" in ran.err


def test_where_no_gene_varies_it_is_not_the_model_that_is_blamed_first(tmp_path, screen_tables, ok, dpf):
    expression, wells = screen_tables(compounds=9, replicates=4, controls=12)
    expression.with_columns(pl.exclude("well_id").first()).write_csv(tmp_path / "expression.csv")
    wells.write_csv(tmp_path / "wells.csv")
    ok("init", tmp_path / "p", "--from", tmp_path / "expression.csv", "--wells", tmp_path / "wells.csv",
       "--scores", "viability,size", *TINY)  # fmt: skip
    ok("train", tmp_path / "p", "--folds", 3, "--epochs", 1)
    ran = dpf("rank", tmp_path / "p")
    assert ran.code == 4
    assert "next: if dpf check finds genes that do not vary, look at the table the project was made from" in ran.err


def test_genes_of_a_gmt_that_nobody_measured_are_counted(project, ok, dpf, tmp_path):
    gmt = tmp_path / "sets.gmt"
    gmt.write_text("a\t\tGENE1\tGENE2\tGENE3\tABC\tDEF\nb\t\tABC\tGHI\n", encoding="utf-8")
    ran = ok("rank", project, "--gene-sets", gmt)
    assert "sets.gmt: 2 gene sets; 3 of their genes were not measured; background 20 measured genes" in ran.err
    assert "1 set has fewer than 3 measured genes: not tested" in ran.err
    q = pl.read_parquet(project / "results/default/enrichment.parquet").get_column("q").drop_nulls()
    assert q.is_between(0, 1).all()
    gmt.write_text("a\t\tABC\tDEF\n", encoding="utf-8")
    refused = dpf("rank", project, "--gene-sets", gmt)
    assert (refused.code, refused.out) == (4, "")
    assert "no gene of the gene sets was measured" in refused.err
