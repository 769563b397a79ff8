"""`dpf check` as a user meets it, and its verdict where `rank` and `info` show it again."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import polars as pl
import pytest

from dpf.analysis.design.item import CheckItem
from dpf.cli.display.verdicts import print_items
from dpf.simulate.design import SimulationDesign
from dpf.simulate.screen import simulate
from dpf.tables.storage import read_about, read_table, write_table
from dpf.workflows.project.initialise import create_demo
from tests.support.commands import Ran, dpf

TINY = ("model.width=8", "model.heads=2", "model.feed_forward=8", "model.layers=1", "model.latent=6", "train.epochs=1")
COLUMNS = ["name", "group", "verdict", "value", "text", "advice", "rule"]


def demo(path: Path, **changes: object) -> Path:
    design = SimulationDesign(**{"wells": 96, "genes": 30, "controls": 16, "plate_effect": 0.0, **changes})
    create_demo(path, simulate(design), TINY)
    return path


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of the time, and are looked at elsewhere."""
    monkeypatch.setattr("dpf.workflows.check.check.draw_plates", lambda *_: ())
    monkeypatch.setattr("dpf.workflows.rank.rank.draw_ranking", lambda *_: ())
    monkeypatch.setattr("dpf.figures.drawing.style.save", lambda _, path, **__: (path,))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo(tmp_path_factory.mktemp("good") / "good")


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo(tmp_path_factory.mktemp("bad") / "bad", wells=192, controls=24, column_effect=1.9, layout="columns")


def check(*words: object) -> Ran:
    return dpf("check", *words, "--permutations", 199)


def test_a_pipe_gets_csv_and_the_reader_the_counts(good):
    ran = check(good)
    assert ran.code == 0, ran.err
    table = pl.read_csv(io.StringIO(ran.out))
    assert table.columns == COLUMNS
    assert table.get_column("group").unique(maintain_order=True).to_list() == [
        *("integrity", "positions", "controls", "replicates", "targets", "power", "plates")
    ]
    assert "check: 0 fail" in ran.err
    assert "check.parquet" in ran.err
    assert "library size: column n_counts" in ran.err


def test_json_has_the_details_and_the_verdict(bad):
    data = check(bad, "--format", "json").data
    assert data["verdict"] == "fail"
    assert data["counts"]["fail"] == sum(row["verdict"] == "fail" for row in data["rows"]) > 5
    by_name = {row["name"]: row for row in data["rows"]}
    assert set(COLUMNS) < set(data["rows"][0])
    assert "column" in by_name["position effect: Tscore"]["table"]["factor"]
    assert Path(data["path"]).is_file()


def test_a_table_names_every_item_and_what_to_do(bad, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    ran = check(bad, "--format", "table")
    assert ran.code == 0
    assert "\npositions" in ran.out
    assert "fail        controls: exchangeable with compounds" in ran.out
    assert "next: a difference from the controls can be one of position" in ran.out
    assert "next: as above" in ran.out


def test_brackets_in_names_are_no_markup(capsys):
    print_items([CheckItem("position effect: [bold]x[/y]", "positions", "warn", 0.1, "[red]", "do [it]")])
    out = capsys.readouterr().out
    for text in ("[bold]x[/y]", "[red]", "do [it]"):
        assert text in out


def test_strict_turns_a_failure_into_an_exit_code(good, bad):
    assert check(good, "--strict").code == 0
    assert check(bad).code == 0
    ran = check(bad, "--strict", "--format", "json")
    assert ran.code == 4
    assert ran.data["verdict"] == "fail"
    assert "--strict: " in ran.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "check needs a project"),
        (["no-such"], 3, "no such project"),
        (["no-such", "--plates", 2, "--edge-free"], 2, "--plates, --edge-free"),
        (["no-such", "--controls-per-plate", 2], 2, "--controls-per-plate"),
        (["--suggest-layout", "x.csv"], 2, "a layout needs compounds"),
        (["--suggest-layout", "x.csv", "--compound-list", "no-such.txt"], 4, "not there"),
        (["--suggest-layout", "x.csv", "--plate-format", "100"], 2, "100"),
    ],
)
def test_what_cannot_be_done_is_said(words, code, said):
    ran = dpf("check", *words)
    assert ran.code == code
    assert said in ran.err
    assert ran.out == ""


def test_levels_that_cannot_be(good):
    assert dpf("check", good, "--fdr", "2").code == 2
    ran = dpf("check", good, "--permutations", "50")
    assert ran.code == 2
    assert "159 or more" in ran.err


def test_a_layout_needs_no_project(tmp_path):
    names, target = tmp_path / "names.txt", tmp_path / "next.csv"
    names.write_text("\n".join(["4,5-Dihydroxy", "β-Alanine", *(f"c{n}" for n in range(30))]), encoding="utf-8")
    words = ("--suggest-layout", target, "--compound-list", names, "--plate-format", "96", "--seed", 3)
    ran = dpf("check", *words, "--controls-per-plate", 10, "--strict", "--format", "json")
    assert ran.code == 0, ran.err
    table = pl.read_csv(target)
    assert table.columns == ["well_id", "plate", "row", "column", "compound", "is_control"]
    assert ran.data["wells"] == table.to_dicts()
    assert {row["verdict"] for row in ran.data["rows"]} <= {"good", "warn"}
    assert table.filter(pl.col("compound") == "β-Alanine").height == 2
    assert "32 compounds x 2 + 10 DMSO a plate, on 1 plate of 96 wells" in ran.err


def test_a_layout_of_a_project_and_of_its_own_list(tmp_path, bad):
    ran = dpf("check", bad, "--suggest-layout", tmp_path / "a.csv")
    assert ran.code == 0, ran.err
    assert "84 compounds x 2 + 12 DMSO a plate, on 2 plates of 96 wells" in ran.err
    names = tmp_path / "names.csv"
    names.write_text("compound\nA\nB\n")
    ran = dpf("check", bad, "--suggest-layout", tmp_path / "b.csv", "--compound-list", names, "--replicates", 4)
    assert "2 compounds x 4 + 12 DMSO a plate, on 2 plates of 96 wells" in ran.err


def test_rank_and_info_show_the_verdict_again(tmp_path, bad):
    path = shutil.copytree(bad, tmp_path / "trained", ignore=lambda *_: {"check"})
    ran = dpf("train", path, "--set", "compute.threads=1", "--set", "compute.precision=fp32", "--device", "cpu")
    assert ran.code == 0, ran.err
    ran = dpf("rank", path, "--format", "json")
    assert ran.data["design"] is None
    lines = ran.err.splitlines()
    assert lines.index(f"design not checked: dpf check {path}") < next(
        n for n, x in enumerate(lines) if "ranking.parquet" in x
    )
    assert f"design not checked: dpf check {path}" in dpf("info", path).out
    check(path)
    ran = dpf("rank", path, "--format", "json")
    design = ran.data["design"]
    assert design["verdict"] == "fail"
    assert design["stale"] is None
    assert f"design: {design['counts']['fail']} fail" in ran.err
    assert "Controls and compounds do not stand in the same places" in ran.err
    assert f"design: {design['counts']['fail']} fail" in dpf("info", path).out
    assert dpf("info", path, "--format", "json").data["design"] == design
    ran = dpf("rank", path, "--set", "targets.activation=''")
    assert 'design not checked as it is now (made with targets.activation = "activation" (now ""))' in ran.err


def test_a_screen_in_which_no_gene_varies_is_told_so(tmp_path):
    project = demo(tmp_path / "p")
    path = project / "inputs/expression.parquet"
    whole, about = read_table(path, "expression"), read_about(path, "expression")
    write_table(path, whole.with_columns(pl.lit(5.0, pl.Float32).alias(name) for name in whole.columns[1:]),
                "expression", about)  # fmt: skip
    ran = check(project, "--format", "json")
    assert ran.code == 0, ran.err
    items = {row["name"]: row for row in ran.data["rows"]}
    assert "position effect: expression" not in items
    assert items["constant genes"]["verdict"] == "fail"
    assert "nothing to learn from" in items["constant genes"]["advice"]
