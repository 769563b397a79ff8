"""A screen that lies in a file gives the numbers that it would give in memory, and parts of a table make it up."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from dpf.tables import storage
from dpf.tables.storage import read_about, read_expression
from tests.cli.conftest import TINY

pytestmark = pytest.mark.usefixtures("sketches")


def in_files(monkeypatch: pytest.MonkeyPatch, cells: int) -> list[tuple[int, int]]:
    """Every matrix lies in a file, and so many of its cells are looked at at a time; what is returned lists them."""
    made = []
    new_matrix = storage.new_matrix

    def noted(wells, genes, order="C"):
        made.append((wells, genes))
        return new_matrix(wells, genes, order)

    monkeypatch.setattr(storage, "CELLS_IN_MEMORY", 0)
    monkeypatch.setattr(storage, "_CELLS_A_BLOCK", cells)
    monkeypatch.setattr(storage, "_WELLS_A_GROUP", 5)
    monkeypatch.setattr(storage, "new_matrix", noted)
    return made


@pytest.fixture
def parquet(demo: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The simulated screen as a user's two files, one well a row, two wells out of order."""
    found = read_expression(demo / "inputs/expression.parquet")
    table = pl.DataFrame({"well": found.well_ids} | dict(zip(found.genes, found.values.T, strict=True)))
    table = pl.concat([table[[1, 0]], table[2:]])
    table.write_parquet(tmp_path / "expression.parquet")
    wells = pl.read_parquet(demo / "inputs/wells.parquet").rename({"well_id": "well"}).drop("is_control")
    wells.write_csv(tmp_path / "wells.csv")
    return tmp_path / "expression.parquet", tmp_path / "wells.csv"


def everything(ok, parquet: tuple[Path, Path], project: Path, *preset: str) -> Path:
    expression, wells = parquet
    scores = "Tscore,CytoTRACE,Pseudotime"
    ok("init", project, "--from", expression, "--wells", wells, "--scores", scores, *TINY, *preset)
    ok("train", project, "--set", "train.epochs=2", "--folds", 2)
    ok("check", project, "--permutations", 199)
    ok("predict", project, "--input", expression, "--output", project / "new.parquet")
    ok("rank", project, "--signatures")
    ok("latent", project)
    ok("export", project, "--output", project / "export", "--format", "csv")
    return project


@pytest.mark.parametrize(("cells", "preset"), [(24, "model.start=none"), (170, "model.start=stacked")])
def test_in_files_every_command_gives_the_same_numbers(ok, parquet, tmp_path, monkeypatch, cells, preset):
    usual = everything(ok, parquet, tmp_path / "usual", "--set", preset)
    with monkeypatch.context() as patched:
        in_files(patched, cells)
        large = everything(ok, parquet, tmp_path / "large", "--set", preset)
    assert (large / "inputs/expression.parquet").is_file()
    for path in sorted([*usual.rglob("*.parquet"), *usual.rglob("*.csv")]):
        name = path.relative_to(usual)
        read = pl.read_parquet if path.suffix == ".parquet" else pl.read_csv
        found, expected = (read(project / name).drop("seconds", "table", strict=False) for project in (large, usual))
        assert_frame_equal(found, expected, rel_tol=1e-4, abs_tol=1e-5)
    models = [(project / "models/default/model.safetensors").read_bytes() for project in (usual, large)]
    assert len(models[0]) == len(models[1])


def test_the_same_seed_gives_the_same_model_file_in_a_file_as_in_memory(ok, demo, copy, monkeypatch):
    usual, large = copy(demo, "usual"), copy(demo, "large")
    ok("train", usual)
    with monkeypatch.context() as patched:
        made = in_files(patched, 100)
        ok("train", large)
        assert made
    one, other = ((path / "models/default/model.safetensors").read_bytes() for path in (usual, large))
    assert one == other


def test_parts_of_new_wells_make_up_the_whole(folded, copy, ok, tmp_path):
    project = copy(folded)
    found = read_expression(project / "inputs/expression.parquet")
    columns = {"well": [f"new{n}" for n in range(len(found.well_ids))]}
    pl.DataFrame(columns | dict(zip(found.genes, found.values.T, strict=True))).write_parquet(
        tmp_path / "plate.parquet"
    )
    words = ["predict", project, "--input", tmp_path / "plate.parquet"]
    whole = ok(*words, "--output", tmp_path / "whole.parquet").rows
    folder = project / "results/default/predictions_plate_in_5"
    for part in (2, 4, 1, 5):
        ok(*words, "--shard", f"{part}/5")
    stale = {one["path"]: one["stale"] for one in ok("info", project, "--format", "json").envelope["data"]["results"]}
    assert stale["results/default/predictions_plate_in_5"] == "4 of 5 parts are there"
    ok(*words, "--shard", "3/5")
    assert sorted(path.name for path in folder.iterdir()) == [f"part-{part}.parquet" for part in range(1, 6)]
    together = pl.read_parquet(folder / "*.parquet")
    assert together["well_id"].to_list() == whole["well_id"].to_list()
    assert_frame_equal(together, pl.read_parquet(tmp_path / "whole.parquet"), rel_tol=1e-5, abs_tol=1e-6)
    assert pl.read_parquet(folder / "part-1.parquet").height in (9, 10)
    about = read_about(folder / "part-2.parquet", "predictions")
    assert about["shard"] == "2/5"
    assert about["input"] == "plate.parquet"
    stale = {one["path"]: one["stale"] for one in ok("info", project, "--format", "json").envelope["data"]["results"]}
    assert stale["results/default/predictions_plate_in_5"] is None
    (folder / "part-2.parquet").write_bytes(b"PAR1 and nothing else")
    problems = json.loads(ok("info", project, "--format", "json").out)["data"]["problems"]
    assert any("part-2.parquet" in text for text in problems)


@pytest.mark.parametrize("shard", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4"])
def test_a_part_that_is_none_is_refused(folded, dpf, shard):
    ran = dpf("predict", folded, "--input", "x.csv", "--shard", shard)
    assert ran.code == 2
    assert "1/8 to 8/8" in ran.err


def test_parts_are_of_new_wells_and_hold_a_well(folded, dpf, tmp_path):
    ran = dpf("predict", folded, "--shard", "1/2")
    assert ran.code == 2
    assert "--input TABLE" in ran.err
    found = read_expression(folded / "inputs/expression.parquet")
    two = pl.DataFrame({"well": ["a", "b"]} | dict(zip(found.genes, found.values[:2].T, strict=True)))
    two.write_parquet(tmp_path / "two.parquet")
    ran = dpf("predict", folded, "--input", tmp_path / "two.parquet", "--shard", "1/3")
    assert ran.code == 2
    assert "fewer wells than parts" in ran.err
