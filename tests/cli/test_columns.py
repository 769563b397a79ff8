"""Every table that a screen goes through is as it is declared, and everything declared is written somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from dpf.simulate.design import SimulationDesign
from dpf.simulate.screen import simulate
from dpf.tables.schemas.registry import SCHEMAS
from dpf.workflows.project.initialise import create_demo
from tests.cli.conftest import TINY
from tests.support.stored import spoil

pytestmark = pytest.mark.usefixtures("sketches")

TYPES = {
    "text": {pl.String},
    "whole number": {pl.Int64, pl.UInt32},
    "number": {pl.Float64, pl.Float32},
    "yes/no": {pl.Boolean},
}
PARAMETER = re.compile(r"<[^>]+>")


@pytest.fixture(scope="module")
def screen_of_counts(tmp_path_factory) -> list[str]:
    """Counts and wells as two files."""
    folder = tmp_path_factory.mktemp("counts")
    rng = np.random.default_rng(0)
    ids = [f"P1_{row}{column:02d}" for row in "AB" for column in range(1, 9)]
    genes = [*(f"GENE{g}" for g in range(20)), "MT-ND1", "ERCC-00002"]
    counts = pl.DataFrame(rng.poisson(20, (len(ids), len(genes))), schema=genes)
    counts.insert_column(0, pl.Series("well_id", ids)).write_csv(folder / "counts.csv")
    wells = {"well_id": ids, "compound": ["DMSO"] * 8 + ["a"] * 8, "size": rng.normal(size=16), "batch": ["1"] * 16}
    pl.DataFrame(wells).with_columns(cluster=pl.lit("c"), plate=pl.lit("P1")).write_csv(folder / "wells.csv")
    return ["--from", str(folder / "counts.csv"), "--wells", str(folder / "wells.csv"), "--scores", "size"]


@pytest.fixture(scope="module")
def chain(tmp_path_factory, ok, screen_of_counts) -> tuple[Path, list[Path]]:
    """A screen of doses that every command has been at, and every Parquet file that was written on the way."""
    folder = tmp_path_factory.mktemp("chain")
    project = folder / "doses"
    overrides = (*(word for word in TINY if "=" in word), "train.epochs=1", "model.start=ridge")
    create_demo(project, simulate(SimulationDesign(wells=96, genes=24, controls=16, dose=True)), overrides)
    genes = pl.read_parquet(project / "inputs/genes.parquet").get_column("gene").to_list()
    sets = {"some": genes[:9], "few": genes[:2], "one_UP": genes[:6], "one_DN": genes[10:16]}
    (folder / "sets.gmt").write_text("".join("\t".join([name, "", *own]) + "\n" for name, own in sets.items()))
    pl.read_parquet(project / "inputs/expression.parquet").head(5).write_csv(folder / "new.csv")
    further = ["--challenge", "--reference", "library"]
    ok("check", project, "--permutations", 199)
    ok("train", project, "--folds", 3, "--tune", 2)
    ok("evaluate", project, "--in-sample", "--classes", "pathway")
    for words in (
        ["predict"], ["predict", "--input", folder / "new.csv"], ["latent"], ["explain"],
        ["rank", "--gene-sets", folder / "sets.gmt", "--query", folder / "sets.gmt", "--group-column", "pathway",
         *further],
        ["rank", "--by-dose", "--adjust", "position", *further],
    ):  # fmt: skip
        ok(words[0], project, *words[1:])
    ok("init", folder / "counts", *screen_of_counts, "--normalize", "log-cpm")
    ok("rank", folder / "counts")
    return project, sorted(folder.rglob("*.parquet"))


def kind_of(path: Path) -> str:
    return json.loads(pq.read_schema(path).metadata[b"dpf"])["kind"]


def alike(declared: str, name: str) -> bool:
    """Whether a column may be meant by a declaration; by other means than the program's."""
    texts = PARAMETER.split(declared)
    return name == declared or (len(texts) > 1 and name.startswith(texts[0]) and name.endswith(texts[-1]))


def test_every_column_that_is_written_is_declared(chain):
    """With its type, and with a value wherever one is promised."""
    for path in chain[1]:
        table, columns = pl.read_parquet(path), SCHEMAS[kind_of(path)].columns
        for series in table:
            own = [column for column in columns if column.name == series.name]
            own = own or [column for column in columns if alike(column.name, series.name)]
            assert own, f"{path.name}: {series.name}"
            typed = [column for column in own if column.type == "any" or series.dtype in TYPES[column.type]]
            assert typed, f"{path.name}: {series.name} is of type {series.dtype}"
            if not any(column.empty for column in typed):
                assert series.null_count() == 0, f"{path.name}: {series.name}"
        for column in columns:
            if not column.when and not PARAMETER.search(column.name):
                assert column.name in table.columns, f"{path.name}: {column.name}"


#: What this chain does not come by.
NOT_HERE = {
    *(("latent", "umap_1"), ("latent", "umap_2"), ("normalisation", "log_reference")),
    *(("ranking", "p_library"), ("ranking", "q_library")),  # of 20 compounds or more; `ranking_by_dose` has them
    ("wells", "donor"),
    ("genes", "most_perturbed"),
    *(("ranking_by_dose", "depth_median"), ("ranking_by_dose", "wells_set_aside")),  # of counts; `ranking` has them
}


def test_every_declared_column_is_written(chain):
    """A declaration that nothing answers to is left over from something that is gone."""
    written: dict[str, set[str]] = {}
    for path in chain[1]:
        written.setdefault(kind_of(path), set()).update(pl.read_parquet_schema(path))
    stored = {kind for kind, schema in SCHEMAS.items() if schema.is_stored}
    assert set(written) == stored
    for kind in stored:
        for column in SCHEMAS[kind].columns:
            if (kind, column.name) not in NOT_HERE:
                assert any(alike(column.name, name) for name in written[kind]), f"{kind}: {column.name}"


@pytest.mark.parametrize(
    ("kind", "words"),
    [("training", ["train", "--model", "again"]), ("evaluation", ["evaluate", "--in-sample"]), ("check", ["check"]),
     ("ranking", ["rank"]), ("predictions", ["predict"]), ("latent", ["latent"]), ("importance", ["explain"])],
)  # fmt: skip
def test_what_is_shown_on_stdout_is_declared(folded, copy, ok, kind, words):
    rows = ok(words[0], copy(folded), *words[1:], "--format", "csv").rows
    for name in rows.columns:
        assert SCHEMAS[kind].column(name), name


def test_a_layout_is_declared(chain, ok, tmp_path):
    ok("check", chain[0], "--suggest-layout", tmp_path / "next.csv")
    declared = [column.name for column in SCHEMAS["layout"].columns]
    assert pl.read_csv(tmp_path / "next.csv").columns == declared


def test_every_column_of_the_ranking_can_be_asked_for(folded, told, ok):
    rows = ok("info", folded, "--columns", "ranking").rows
    assert rows.columns == ["name", "type", "unit", "better", "meaning", "empty", "there"]
    explained = rows.get_column("name").to_list()
    for name in told("rank").rows.columns:
        assert any(alike(declared, name) for declared in explained), name
    data = ok("info", folded, "--columns", "ranking", "--format", "json").envelope["data"]
    assert data["file"] == "results/NAME/ranking.parquet"
    assert data["rows"][explained.index("q")]["better"] == "lower"
    text = ok("info", folded, "--columns", "ranking", "--format", "table").out
    assert "\nq  (number; probability, 0 to 1; lower is better)\n" in text


def test_columns_of_no_table_are_a_wrong_usage(folded, dpf):
    ran = dpf("info", folded, "--columns", "rankng")
    assert (ran.code, ran.out) == (2, "")
    assert "dpf has no such table" in ran.err
    assert "did you mean ranking?" in ran.err
    assert "connectivity, signature_similarity" in ran.err
    ran = dpf("info", folded, "--format", "csv")
    assert (ran.code, ran.out) == (2, "")
    assert "this result is no table" in ran.err


CLASSIC = ["export", "--layout", "classic"]
INIT = "restore it from a copy, or run dpf init again from the source files"
RESULTS = "results/default"


@pytest.mark.parametrize(
    ("file", "column", "words", "next_step"),
    [
        ("inputs/wells.parquet", "is_control", ["info"], INIT),
        ("inputs/wells.parquet", "well_id", ["rank"], INIT),
        ("inputs/genes.parquet", "gene", ["info"], INIT),
        ("models/default/history.parquet", "train_mse", ["export"], "restore it from a copy, or run dpf train again"),
    ],
)
def test_a_renamed_column_is_named_and_what_to_do(folded, told, copy, dpf, file, column, words, next_step):
    for command in ("predict", "rank"):
        told(command)
    project = copy(folded)
    spoil(project / file, lambda table: table.rename({column: "renamed"}))
    ran = dpf(words[0], project, *words[1:])
    assert (ran.code, ran.out) == (4, ""), ran.err
    assert f"error: {Path(file).name} is not as dpf writes it" in ran.err
    assert f"where: {project / file}" in ran.err
    assert f"found: no column {column}" in ran.err
    assert f"next: {next_step}" in ran.err


@pytest.mark.parametrize(
    ("file", "column", "words"),
    [
        ("outputs", "member", ["rank"]),
        ("outputs", "score:Tscore", ["predict"]),
        ("outputs", "latent_0", ["latent"]),
        ("predictions", "latent_norm", CLASSIC),
        ("predictions", "activation_predicted", CLASSIC),
        ("ranking", "q", ["export"]),
    ],
)
def test_a_renamed_column_of_what_can_be_made_again_is_a_warning(folded, told, copy, ok, file, column, words):
    for command in ("predict", "rank"):
        told(command)
    project = copy(folded)
    path = project / RESULTS / f"{file}.parquet"
    whole = pl.read_parquet(path)
    spoil(path, lambda table: table.rename({column: "renamed"}))
    ran = ok(words[0], project, *words[1:])
    assert f"{file}.parquet is not as dpf writes it (no column {column}" in ran.err
    assert pl.read_parquet(path).equals(whole)


def test_a_damaged_check_does_not_stop_info(folded, copy, ok):
    project = copy(folded)
    ok("check", project, "--permutations", 199)
    spoil(project / "check/check.parquet", lambda table: table.rename({"verdict": "renamed"}))
    text = " ".join(ok("info", project).out.split())
    assert "PROBLEM check.parquet is not as dpf writes it" in text
    assert "no column verdict" in text
    assert "run dpf check again" in text


def test_a_table_on_a_terminal_says_how_many_columns_it_leaves_out(folded, dpf, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = dpf("rank", folded, "--format", "table", "--top", 3).out.splitlines()
    assert "q" in lines[1].split()
    assert re.fullmatch(r"\d+ more columns: in the Parquet file; see dpf info PROJECT --columns ranking", lines[-1])
    for command in ("predict", "latent", "explain"):
        out = dpf(command, folded, "--format", "table", "--top", 3).out
        assert out.count("latent_") <= 3
        assert "dpf info PROJECT --columns" in " ".join(out.split())
