"""`dpf export`: the classic files under true names, and every table as CSV, Parquet or one h5ad file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dpf.tables.storage import read_about, read_expression, read_table, write_table

pytestmark = pytest.mark.usefixtures("sketches")

TABLES = {
    "wells", "expression", "genes", "splits", "history", "predictions", "latent", "ranking", "importance",
    "latent_correlations",
}  # fmt: skip
CLASSIC = {
    "well_activation_scores.csv", "metabolite_activation_scores.csv", "well_predictions_results.csv",
    "gene_importance_gradinput.csv", "latent_scores.csv", "history_loss_detailed.csv", "gene_scaler.csv",
    "loss_curve.png",
}  # fmt: skip


def test_stdout_lists_the_files(folded, ok, tmp_path):
    ran = ok("export", folded, "--output", tmp_path / "out")
    listed = [Path(line) for line in ran.out.splitlines()]
    assert {path.stem for path in listed} == TABLES
    assert all(path.suffix == ".csv" for path in listed)
    assert sorted((tmp_path / "out").iterdir()) == sorted(listed)


def test_the_default_folder_is_in_the_project(folded, copy, ok):
    project = copy(folded)
    ok("export", project)
    assert {path.stem for path in (project / "export").iterdir()} == TABLES


def test_classic(folded, ok, told, tmp_path):
    out = tmp_path / "classic"
    ok("export", folded, "--output", out, "--layout", "classic")
    assert {path.name for path in out.iterdir()} == CLASSIC
    tables = {path.stem: pl.read_csv(path) for path in out.glob("*.csv")}
    predictions = told("predict").rows
    wells = tables["well_activation_scores"]
    assert wells.columns == ["well_id", "compound", "activation_predicted"]
    np.testing.assert_allclose(wells["activation_predicted"], predictions["activation_predicted"])
    compounds = tables["metabolite_activation_scores"]
    assert compounds.columns == ["compound", "activation_mean", "activation_std", "n"]
    assert compounds["n"].sum() == 48
    assert compounds["activation_mean"].is_sorted(descending=True)
    expected = predictions.group_by("compound").agg(pl.col("activation_predicted").mean())
    merged = compounds.join(expected, on="compound")
    np.testing.assert_allclose(merged["activation_mean"], merged["activation_predicted"])
    assert not [name for name in tables["well_predictions_results"].columns if name.startswith("latent_") and
                name[7:].isdigit()]  # fmt: skip
    assert tables["gene_importance_gradinput"].columns == ["gene", "importance", "signed"]
    assert tables["gene_importance_gradinput"].height == 24
    assert tables["history_loss_detailed"].height == 9
    assert (out / "loss_curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_gene_scaler_is_that_of_each_members_training_wells(folded, ok, tmp_path):
    ok("export", folded, "--output", tmp_path, "--layout", "classic")
    scaler = pl.read_csv(tmp_path / "gene_scaler.csv")
    assert scaler.columns == ["member", "gene", "mean", "std"]
    assert scaler.height == 3 * 24
    expression = read_expression(folded / "inputs/expression.parquet")
    splits = pl.read_parquet(folded / "models/default/splits.parquet")
    for member in range(3):
        train = splits.filter((pl.col("member") == member) & (pl.col("part") == "train"))["well_id"].to_list()
        rows = [expression.well_ids.index(well) for well in train]
        own = scaler.filter(pl.col("member") == member)
        assert own["gene"].to_list() == expression.genes
        np.testing.assert_allclose(own["mean"], expression.values[rows].mean(0), rtol=1e-5)
        np.testing.assert_allclose(own["std"], expression.values[rows].std(0), rtol=1e-4)


def test_parquet_holds_what_csv_holds(folded, ok, tmp_path):
    ok("export", folded, "--output", tmp_path / "c")
    ok("export", folded, "--output", tmp_path / "p", "--format", "parquet")
    for name in TABLES:
        csv = pl.read_csv(tmp_path / "c" / f"{name}.csv", infer_schema_length=None)
        parquet = pl.read_parquet(tmp_path / "p" / f"{name}.parquet")
        assert csv.columns == parquet.columns
        assert csv.height == parquet.height
        for column in (name for name, dtype in parquet.schema.items() if dtype.is_float()):
            np.testing.assert_allclose(csv[column].cast(pl.Float64), parquet[column].cast(pl.Float64), rtol=1e-6)


def test_h5ad(folded, ok, told, tmp_path):
    anndata = pytest.importorskip("anndata")
    ran = ok("export", folded, "--output", tmp_path / "out", "--format", "h5ad")
    assert ran.out == f"{tmp_path / 'out' / 'project.h5ad'}\n"
    data = anndata.read_h5ad(tmp_path / "out/project.h5ad")
    expression = read_expression(folded / "inputs/expression.parquet")
    np.testing.assert_array_equal(data.X, expression.values)
    assert list(data.obs_names) == expression.well_ids
    assert list(data.var_names) == expression.genes
    predictions = told("predict").rows
    np.testing.assert_allclose(data.obs["Tscore_predicted"], predictions["Tscore_predicted"])
    assert data.obsm["X_dpf_latent"].shape == (48, 6)
    assert "importance" in data.var.columns
    assert len(data.uns["dpf_ranking"]) == 20
    named = tmp_path / "mine.h5ad"
    assert ok("export", folded, "--output", named, "--format", "h5ad").out == f"{named}\n"
    assert named.is_file()


def test_h5ad_holds_what_users_have(screen, ok, tmp_path):
    """Columns with gaps, without any value, of truth values, and a name with a slash."""
    anndata = pytest.importorskip("anndata")

    def change(expression: pl.DataFrame, wells: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        row = pl.int_range(pl.len())
        return expression, wells.rename({"size": "IFN/size"}).with_columns(
            seen=pl.when(row % 3 != 0).then(row % 2 == 0), note=pl.when(row == 1).then(pl.lit("λ")), none=pl.lit("")
        )

    project = tmp_path / "p"
    ok("init", project, *screen(change).words, "--scores", "viability,IFN/size")
    small = ["--set", "model.width=8", "--set", "model.heads=1", "--set", "model.layers=1", "--threads", 1]
    ok("train", project, *small, "--epochs", 1)
    ran = ok("export", project, "--output", tmp_path / "h.h5ad", "--format", "h5ad")
    data = anndata.read_h5ad(tmp_path / "h.h5ad")
    assert {"viability_predicted", "IFN_size_predicted", "seen", "note"} <= set(data.obs.columns)
    assert "IFN/size is called IFN_size in the h5ad file" in ran.err


def test_what_is_missing_or_stale_is_computed_first(trained, copy, ok):
    project = copy(trained)
    ok("export", project)
    first = pl.read_csv(project / "export/predictions.csv")
    ok("train", project, "--seed", 4, "--overwrite")
    ok("export", project)
    assert not pl.read_csv(project / "export/predictions.csv").equals(first)
    assert "STALE" not in ok("info", project).out


def test_a_ranking_by_an_earlier_rule_is_made_again(folded, copy, ok):
    project = copy(folded)
    ok("rank", project)
    path = project / "results/default/ranking.parquet"
    table, about = read_table(path, "ranking"), read_about(path, "ranking")
    del about["verdict_rule"]
    write_table(path, table.with_columns(verdict=pl.lit("of old")).drop("pattern_cosine"), "ranking", about)
    assert "ranking.parquet  STALE: its verdicts are by the rule of an earlier dpf" in ok("info", project).out
    ok("export", project)
    again = pl.read_csv(project / "export/ranking.csv")
    assert again["verdict"].to_list() == table["verdict"].to_list()
    assert "pattern_cosine" in again.columns
    assert "STALE" not in ok("info", project).out


def test_a_result_is_exported_as_it_was_last_asked_for_with_the_projects_settings(folded, copy, ok, tmp_path):
    """How to sort is its user's choice; a centre per plate, for one run, is not what the project's settings say."""
    project = copy(folded)
    ok("export", project, "--output", tmp_path / "a")
    ok("latent", project, "--center", "plate")
    ok("rank", project, "--sort", "compound")
    ran = ok("export", project, "--output", tmp_path / "b")
    why = 'made with latent.center = "plate" (now "all")'
    assert ran.err == f"latent.parquet is made again, with default options: {why}\n"
    assert pl.read_csv(tmp_path / "b/ranking.csv")["compound"].is_sorted()
    for name in ("latent.csv", "latent_correlations.csv", "predictions.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_tables_that_one_command_makes_are_exported_together(folded, copy, ok):
    project = copy(folded)
    ok("export", project)
    (project / "results/default/latent_correlations.parquet").unlink()
    ok("export", project)
    assert (project / "results/default/latent_correlations.parquet").is_file()


def test_a_calibration_reaches_the_exported_predictions(folded, copy, ok, tmp_path):
    project = copy(folded)
    ok("evaluate", project)
    ok("export", project, "--output", tmp_path)
    assert "Tscore_lower" in pl.read_csv(tmp_path / "predictions.csv").columns


def test_export_needs_a_model_of_the_project(folded, demo, dpf, tmp_path):
    assert dpf("export", demo, "--output", tmp_path / "x").code == 3
    ran = dpf("export", folded, "--output", tmp_path / "x", "--model", folded / "models/default/model.safetensors")
    assert ran.code == 2
    assert "its name in models/" in ran.err
    assert not (tmp_path / "x").exists()


def test_a_disk_that_is_full(folded, dpf, tmp_path, monkeypatch):
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    ran = dpf("export", folded, "--output", tmp_path / "x", "--format", "h5ad")
    assert ran.code == 3
    assert "free some space" in ran.err
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_users_own_files_are_left_alone(folded, copy, dpf, ok, tmp_path):
    project, out = copy(folded), tmp_path / "out"
    out.mkdir()
    (out / "wells.csv").write_text("my own notes")
    ran = dpf("export", project, "--output", out)
    assert ran.code == 2
    assert "found: wells.csv" in ran.err
    assert "--overwrite" in ran.err
    assert [path.name for path in out.iterdir()] == ["wells.csv"]
    assert (out / "wells.csv").read_text() == "my own notes"
    ok("export", project, "--output", out, "--overwrite")
    assert (out / "wells.csv").read_text() != "my own notes"


@pytest.mark.parametrize("words", [[], ["--layout", "classic"], ["--format", "h5ad"]])
def test_what_an_export_wrote_the_next_one_replaces_unless_it_was_changed(folded, copy, dpf, ok, tmp_path, words):
    if "h5ad" in words:
        pytest.importorskip("anndata")
    project, out = copy(folded), tmp_path / "out"
    files = [Path(line) for line in ok("export", project, "--output", out, *words).out.splitlines()]
    ok("export", project, "--output", out, *words)
    moved = project.rename(tmp_path / "moved")
    ok("export", moved, "--output", out, *words)
    with files[0].open("ab") as stream:
        stream.write(b"a remark")
    changed = files[0].read_bytes()
    ran = dpf("export", moved, "--output", out, *words)
    assert ran.code == 2
    assert f"found: {files[0].name}" in ran.err
    assert files[0].read_bytes() == changed


def test_two_projects_do_not_replace_each_others_exports(folded, copy, dpf, ok, tmp_path):
    other = copy(folded, "other")
    ok("export", copy(folded), "--output", tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert dpf("export", other, "--output", tmp_path / "out").code == 2
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize("place", ["inputs", "models/default", "results/default", "check", "baselines", "models/new"])
@pytest.mark.parametrize("through", ["path", "link", "other project"])
def test_nothing_is_exported_into_what_a_project_consists_of(folded, copy, dpf, tmp_path, place, through):
    project = copy(folded)
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    output = project / place
    if through == "link":
        (tmp_path / "link").symlink_to(project)
        output = tmp_path / "link" / place
    ran = dpf("export", folded if through == "other project" else project, "--output", output,
              "--format", "parquet", "--overwrite")  # fmt: skip
    assert ran.code == 2
    assert "keeps its own files" in ran.err
    assert before == {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}


def test_a_folder_of_the_project_that_lies_elsewhere_is_the_projects_too(folded, copy, dpf, tmp_path):
    project = copy(folded)
    (project / "models").rename(tmp_path / "big disk")
    (project / "models").symlink_to(tmp_path / "big disk")
    ran = dpf("export", project, "--output", tmp_path / "big disk/default", "--overwrite")
    assert ran.code == 2
    assert "keeps its own files" in ran.err


def test_a_damaged_record_of_exports_protects(folded, copy, dpf, ok, tmp_path):
    project = copy(folded)
    ok("export", project, "--output", tmp_path / "out")
    (project / "exports.json").write_text('{"files": 3}')
    assert dpf("export", project, "--output", tmp_path / "out").code == 2
    ok("export", project, "--output", tmp_path / "out", "--overwrite")
    ok("export", project, "--output", tmp_path / "out")


def test_what_the_design_does_not_allow_is_left_out_and_said(screen, screen_tables, dpf, ok, tmp_path):
    """Six control wells, one well a compound: no small p-value is possible, which a ranking has by default."""
    project = tmp_path / "p"
    ok("init", project, *screen(lambda *_: screen_tables(replicates=1, controls=6)).words, "--scores", "viability")
    small = ["--set", "model.width=8", "--set", "model.heads=1", "--set", "model.layers=1", "--threads", 1]
    ok("train", project, *small, "--epochs", 1, "--folds", 2)
    assert dpf("rank", project).code == 4
    for words in ([], ["--format", "h5ad"]):
        assert "no ranking is exported: " in ok("export", project, *words, "--overwrite").err
    assert {path.stem for path in (project / "export").glob("*.csv")} == TABLES - {"ranking"}
    assert "--null none" in ok("export", project, "--overwrite").err
    ok("rank", project, "--null", "none")
    ok("export", project, "--overwrite")
    assert (project / "export" / "ranking.csv").is_file()
