"""`dpf rank` as a user meets it: what stands above the table, what is refused, what is written beside it."""

from __future__ import annotations

import polars as pl


def test_the_power_line_and_the_design_stand_above_the_table(folded, copy, ok):
    project = copy(folded)
    ran = ok("rank", project, "--format", "json")
    lines = ran.err.splitlines()
    assert lines[0].startswith("design not checked: dpf check")
    assert any(line.startswith("power: smallest attainable p") for line in lines)
    data = ran.envelope["data"]
    assert data["design"] is None
    assert data["power"] in lines
    assert all(text in lines for text in data["statements"])
    assert {"p", "q", "verdict", "replicates_agree"} <= data["rows"][0].keys()
    ok("check", project, "--permutations", 199)
    checked = ok("rank", project, "--format", "json")
    assert checked.err.splitlines()[0].startswith("design: ")
    assert checked.envelope["data"]["design"]["verdict"] in ("good", "warn", "fail")


def test_one_run_has_no_p_values_of_the_model_unless_asked_for(trained, copy, ok):
    project = copy(trained)
    ran = ok("rank", project)
    assert ran.rows.get_column("t_p").null_count() == ran.rows.height
    assert ran.rows.get_column("q").null_count() == 0  # of expression and measured scores
    assert set(ran.rows.get_column("verdict")) <= {"hit", "not distinguishable"}
    assert "t_p and activation_p: no p-values: no compound was held out by any member" in ran.err
    assert ok("rank", project, "--in-sample").rows.get_column("t_p").null_count() == 0


def test_signatures_classes_and_their_files(folded, copy, ok, tmp_path):
    project = copy(folded)
    genes = pl.read_parquet(project / "inputs/genes.parquet").get_column("gene").to_list()
    gmt = tmp_path / "sets.gmt"
    gmt.write_text("\t".join(["some", "", *genes[:6], "NOBODY"]) + "\n", encoding="utf-8")
    ran = ok("rank", project, "--gene-sets", gmt, "--query", gmt, "--group-column", "pathway", "--no-trend")
    folder = project / "results/default"
    for name in ("signatures", "enrichment", "connectivity", "classes", "signature_similarity", "ranking_wells"):
        assert (folder / f"{name}.parquet").is_file()
        assert f"{name}.parquet" in ran.err
    assert (folder / "signatures.gmt").is_file()
    assert "one prior variance for all genes" in ran.err
    assert "sets.gmt: 1 gene set; 1 of their genes were not measured" in ran.err
    assert "PROBLEM" not in ok("info", project).out


def test_what_is_refused(folded, dpf):
    for words, code, text in (
        (["--fdr", "0"], 2, "wrong value for --fdr found: 0.0 expected: more than 0"),
        (["--null", "bootstrap"], 2, "is not one of 'exchange', 'none'"),
        (["--null", "pseudo"], 2, "is not one of 'exchange', 'none'"),
        (["--tail", "gpd"], 2, "No such option"),
        (["--group-column", "nothing"], 2, "no such column of the wells table"),
        (["--gene-sets", "absent.gmt"], 4, "absent.gmt"),
    ):
        ran = dpf("rank", folded, *words)
        assert (ran.code, ran.out) == (code, ""), ran.err
        assert text in " ".join(ran.err.replace("│", " ").split())
