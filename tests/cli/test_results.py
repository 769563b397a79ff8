"""Results are computed once per (model, inputs), found again by hash, and told apart when they are stale."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dpf.files import sha256_file
from dpf.tables.storage import read_about, read_table, write_table

pytestmark = pytest.mark.usefixtures("sketches")

OUTPUTS = "results/default/outputs.parquet"


def stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_ino


def test_the_forward_pass_is_kept_and_found_again(trained, copy, ok, monkeypatch):
    project = copy(trained)
    ok("predict", project)
    before = stamp(project / OUTPUTS)

    def never(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("dpf.workflows.predict.outputs.run_members", never)
    for command in ("predict", "latent", "rank"):
        ok(command, project)
    ok("rank", project, "--by-dose")
    assert stamp(project / OUTPUTS) == before
    about = read_about(project / OUTPUTS, "outputs")
    assert about["model_sha256"] == sha256_file(project / "models/default/model.safetensors")
    assert about["expression_sha256"] == sha256_file(project / "inputs/expression.parquet")


def test_kept_outputs_give_what_fresh_ones_gave(trained, copy, ok):
    project = copy(trained)
    first = ok("rank", project).out
    again = ok("rank", project).out
    assert again == first
    (project / OUTPUTS).unlink()
    assert ok("rank", project).out == first


def test_outputs_whose_axis_is_of_another_kind_are_computed_again(demo, copy, ok):
    """Before, an axis had random weights in the dimensions that no well moves along: shares on it were too small."""
    project = copy(demo)
    ok("train", project, "--set", "model.start=ridge", "--epochs", 1)
    first = ok("rank", project).out
    about = read_about(project / OUTPUTS, "outputs")
    assert about.pop("axis_in") == "moving dimensions"
    about["axis"], axis = np.ones_like(about["axis"]).tolist(), about["axis"]
    write_table(project / OUTPUTS, read_table(project / OUTPUTS, "outputs"), "outputs", about)
    assert ok("rank", project).out == first
    assert read_about(project / OUTPUTS, "outputs")["axis"] == axis


def test_a_new_training_makes_results_stale_and_rank_computes_again(trained, copy, ok, dpf):
    project = copy(trained)
    old = ok("rank", project).rows
    assert "STALE" not in ok("info", project).out
    ok("train", project, "--seed", 2, "--overwrite")
    stale = dpf("info", project, "--format", "json").envelope["data"]["results"]
    assert {row["path"] for row in stale} >= {OUTPUTS, "results/default/ranking.parquet"}
    assert all(row["stale"] == "the model has been trained again since" for row in stale)
    assert "ranking.parquet  STALE: the model has been trained again since" in ok("info", project).out
    before = stamp(project / OUTPUTS)
    new = ok("rank", project).rows
    assert stamp(project / OUTPUTS) != before
    assert new["t"].to_list() != old["t"].to_list()
    assert "STALE" not in ok("info", project).out


def test_changed_inputs_make_model_and_results_stale(trained, copy, ok, dpf, demo):
    project = copy(trained)
    ok("rank", project)
    ok("init", project.parent / "other", "--demo", "--wells", 48, "--genes", 24, "--seed", 8)
    shutil.copy(project.parent / "other/inputs/expression.parquet", project / "inputs/expression.parquet")
    data = dpf("info", project, "--format", "json").envelope["data"]
    assert data["models"][0]["stale"] is True
    assert {row["stale"] for row in data["results"]} == {"the inputs have changed since"}
    assert "STALE: the inputs have changed since" in ok("info", project).out
    ran = dpf("rank", project)
    assert ran.code in (0, 4, 5)
    if ran.code == 0:
        assert "in another expression table" in ran.err


def test_a_damaged_model_or_result_is_a_problem_and_not_the_end_of_info(folded, told, copy, dpf):
    told("rank")
    project = copy(folded)
    model = project / "models/default/model.safetensors"
    whole = model.read_bytes()
    for content, text in (
        (whole[: len(whole) // 2], "truncated"),
        (b"PK\x03\x04 no weights", "not a safetensors file"),
        (b"", "not a safetensors file"),
    ):
        model.write_bytes(content)
        for command in ("predict", "rank", "explain"):
            ran = dpf(command, project)
            assert (ran.code, ran.out) == (5, "")
            assert text in ran.err
            assert str(model) in ran.err
        assert text in dpf("info", project).out
    model.write_bytes(whole)
    ranking = project / "results/default/ranking.parquet"
    ranking.write_bytes(ranking.read_bytes()[:100])
    ran = dpf("info", project)
    assert ran.code == 0
    assert "PROBLEM" in ran.out
    assert dpf("rank", project).code == 0


def test_damaged_kept_outputs_are_named(folded, told, copy, dpf):
    told("rank")
    project = copy(folded)
    (project / OUTPUTS).write_bytes(b"PAR1 cut short")
    ran = dpf("rank", project)
    assert ran.code in (0, 4)
    if ran.code:
        assert "outputs.parquet" in ran.err


def test_a_foreign_or_later_model_file(folded, dpf, tmp_path):
    import torch
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    ran = dpf("predict", folded, "--model", tmp_path / "foreign.safetensors")
    assert ran.code == 5
    assert "was not written by dpf" in ran.err
    later = {"dpf": json.dumps({"format": 3, "dpf": "9.0", "kind": "model"})}
    save_file({"weight": torch.zeros(3)}, tmp_path / "later.safetensors", later)
    ran = dpf("predict", folded, "--model", tmp_path / "later.safetensors")
    assert ran.code == 5
    assert "later format" in ran.err
    assert "format 3, written by dpf 9.0" in ran.err


def test_a_later_table_is_refused(folded, copy, dpf):
    from dpf.tables import storage

    project = copy(folded)
    path = project / "inputs/wells.parquet"
    table = storage.read_table(path, "wells")
    storage.write_table(path, table, "wells", {"format": 3})
    ran = dpf("rank", project)
    assert ran.code == 3
    assert "later format" in ran.err


def test_predict_columns(folded, told):
    rows = told("predict").rows
    expected = ["well_id", "compound", "is_control", "plate", "concentration", "members", "part", "held_out"]
    assert rows.columns[:8] == expected
    for name in ("Tscore", "CytoTRACE", "Pseudotime", "activation"):
        assert {f"{name}_predicted", f"{name}_measured"} <= set(rows.columns)
    probability = rows["activated_probability"].to_numpy()
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-rows["activated_logit"].to_numpy())), rtol=1e-6)
    assert (rows["activated_class"].to_numpy() == (probability > 0.5)).all()
    assert {f"latent_{k}" for k in range(6)} <= set(rows.columns)
    wells = pl.read_parquet(folded / "inputs/wells.parquet")
    assert rows["well_id"].to_list() == wells["well_id"].to_list()
    np.testing.assert_allclose(rows["Tscore_measured"], wells["Tscore"])


def test_rank_columns_and_order(told):
    rows = told("rank").rows
    for name in ("compound", "rank", "n", "norm_mean", "norm_std", "t", "direction", "replicate_cosine", "held_out"):
        assert name in rows.columns
    assert rows["t"].is_sorted(descending=True)
    assert rows["rank"].to_list() == list(range(1, 21))
    assert set(rows["direction"]) <= {"activation", "suppression"}
    assert rows["held_out"].all()
    assert "DMSO" not in rows["compound"]
    by_name = told("rank", "--sort", "compound").rows
    assert by_name["compound"].to_list() == sorted(rows["compound"].to_list())
    by_norm = told("rank", "--sort", "norm_mean").rows
    assert by_norm["norm_mean"].is_sorted(descending=True)


def test_rank_by_dose(folded, copy, ok, dpf):
    project = copy(folded)
    rows = ok("rank", project, "--by-dose").rows
    assert rows.columns[:2] == ["compound", "concentration"]
    assert (project / "results/default/ranking_by_dose.parquet").is_file()


def test_rank_by_dose_needs_doses(screen, ok, dpf, tmp_path):
    ok("init", tmp_path / "p", *screen().words, "--scores", "size")
    small = ["--set", "model.width=8", "--set", "model.heads=1", "--set", "model.layers=1", "--threads", 1]
    ok("train", tmp_path / "p", *small, "--epochs", 1)
    ran = dpf("rank", tmp_path / "p", "--by-dose")
    assert ran.code == 2
    assert "no concentration column" in ran.err


def test_latent_per_plate_and_by_cluster(folded, copy, ok, dpf):
    project = copy(folded)
    together = ok("latent", project).rows
    by_plate = ok("latent", project, "--center", "plate").rows
    assert together["distance_euclidean"].to_list() != by_plate["distance_euclidean"].to_list()
    ran = dpf("latent", project, "--control-cluster", "3")
    assert ran.code == 4
    assert "`cluster` column" in ran.err
    ran = dpf("latent", project, "--center", "row")
    assert ran.code == 3
    assert "expected one of all, plate" in ran.err


def test_the_centre_can_be_the_controls_of_some_clusters(screen, ok, dpf, tmp_path):
    def change(expression: pl.DataFrame, wells: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        return expression, wells.with_columns(cluster=(pl.int_range(pl.len()) % 2).cast(pl.String))

    project = tmp_path / "p"
    ok("init", project, *screen(change).words, "--scores", "size")
    small = ["--set", "model.width=8", "--set", "model.heads=1", "--set", "model.layers=1", "--threads", 1]
    ok("train", project, *small, "--epochs", 2)
    every = ok("latent", project).rows
    some = ok("latent", project, "--control-cluster", "1").rows
    assert every["distance_euclidean"].to_list() != some["distance_euclidean"].to_list()
    latent = np.array([some[f"latent_{k}"].to_numpy() for k in range(32)]).T
    controls = (some["is_control"] & (pl.Series(np.arange(28)) % 2 == 1)).to_numpy()
    expected = np.linalg.norm(latent - latent[controls].mean(0), axis=1)
    outside = ~controls
    np.testing.assert_allclose(some["distance_euclidean"].to_numpy()[outside], expected[outside], rtol=1e-6)
    both = ok("latent", project, "--control-cluster", "0", "--control-cluster", "1").rows
    np.testing.assert_allclose(both["distance_euclidean"], every["distance_euclidean"])
    ran = dpf("latent", project, "--control-cluster", "7")
    assert ran.code == 4
    assert "clusters of controls: 0, 1" in ran.err


@pytest.mark.parametrize("words", [["--colour", "pathway"], ["--colour", "concentration"], ["--member", "2"]])
def test_the_map_is_drawn(drawn, folded, copy, ok, words):
    project = copy(folded)
    shutil.rmtree(project / "results/default/figures", ignore_errors=True)
    ok("latent", project, *words)
    assert (project / "results/default/figures/latent_pca.png").stat().st_size > 1000


def test_latent_tells_correlations(told):
    ran = told("latent", "--format", "json")
    correlations = ran.envelope["data"]["correlations"]
    assert [row["measured"] for row in correlations] == [
        "Tscore", "CytoTRACE", "Pseudotime", "activated", "activation",
    ]  # fmt: skip
    assert all(-1 <= row["spearman_activation_axis"] <= 1 for row in correlations)
    assert ran.err.count("Spearman with") == 5


def test_umap_says_how_to_get_it(folded, dpf, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)  # as where it is not installed
    ran = dpf("latent", folded, "--umap")
    assert ran.code == 2
    assert "umap-learn" in ran.err


@pytest.mark.parametrize("target", ["Tscore", "activated", "activation", "latent_0"])
def test_any_target_can_be_explained(folded, copy, ok, target):
    project = copy(folded)
    rows = ok("explain", project, "--target", target, "--genes", 5).rows
    assert rows.height == 24
    assert rows["importance"].is_sorted(descending=True)
    assert (rows["importance"] >= rows["signed"].abs() - 1e-12).all()
    assert rows["rank"].to_list() == list(range(1, 25))
    assert (project / f"results/default/importance_{target}.parquet").is_file()
    assert (project / f"results/default/figures/importance_{target}.png").is_file()


def test_a_model_may_come_from_anywhere(folded, demo, copy, ok, told):
    """The file is all that prediction needs: another copy of the project, never trained, says the same."""
    model = copy(folded, "moved") / "models/default/model.safetensors"
    other = copy(demo, "never-trained")
    here, there = told("predict").rows, ok("predict", other, "--model", model).rows
    assert there.equals(here)
    (name,) = [path.name for path in (other / "results").iterdir()]
    assert name.startswith("from-")
    assert ok("rank", other, "--model", model).rows.equals(told("rank").rows)
    ok("evaluate", other, "--model", model)
    listed = ok("info", other, "--format", "json").envelope["data"]["results"]
    assert {"path": f"results/{name}/card.md", "stale": None} in listed
    path = other / "inputs/wells.parquet"
    write_table(path, read_table(path, "wells").with_columns(pl.col("Tscore") + 1), "wells", {})
    listed = ok("info", other, "--format", "json").envelope["data"]["results"]
    assert {"path": f"results/{name}/card.md", "stale": "the inputs have changed since"} in listed


def test_a_model_of_other_genes_is_refused(folded, screen, ok, dpf, tmp_path):
    ok("init", tmp_path / "p", *screen().words, "--scores", "size")
    ran = dpf("predict", tmp_path / "p", "--model", folded / "models/default/model.safetensors")
    assert ran.code == 5
    assert "24 of the model's 24 genes are not in the data" in ran.err


def beside_the_model(project: Path, dpf) -> dict[str, str | None]:
    listed = dpf("info", project, "--format", "json").envelope["data"]["results"]
    return {row["path"]: row["stale"] for row in listed if row["path"].startswith("models/")}


def test_a_card_goes_with_the_model_it_is_of(folded, copy, ok, dpf):
    project = copy(folded)
    ok("evaluate", project)
    card, calibration = (project / f"models/default/{name}" for name in ("card.md", "calibration.json"))
    named = ["models/default/card.md", "models/default/calibration.json"]
    assert beside_the_model(project, dpf) == dict.fromkeys(named)
    ran = ok(
        "train", project, "--folds", 3, "--overwrite"
    )  # the same weights byte for byte: card and calibration still hold
    assert "removed" not in ran.err
    assert card.is_file()
    kept = card.read_bytes()
    ran = ok("train", project, "--seed", 2, "--overwrite")
    assert "removed card.md of the model that this one replaces; dpf evaluate writes a new one" in ran.err
    assert not card.exists()
    assert beside_the_model(project, dpf) == {named[1]: "the model has been trained again since"}
    assert "trained again since it was calibrated" in ok("predict", project).err
    card.write_bytes(kept)  # as a killed training, or a dpf that did not remove it, would leave it
    assert beside_the_model(project, dpf) == dict.fromkeys(named, "the model has been trained again since")
    assert "models/default/card.md  STALE: the model has been trained again since" in ok("info", project).out
    calibration.write_text("{")
    ran = dpf("info", project)
    assert (ran.code, "PROBLEM  the model's calibration cannot be read" in ran.out) == (0, True)
    assert "removed card.md" in ok("train", project, "--seed", 3, "--overwrite").err


def test_a_card_of_other_inputs_is_stale(folded, copy, ok, dpf):
    project = copy(folded)
    ok("evaluate", project)
    wells = project / "inputs/wells.parquet"
    table, about = read_table(wells, "wells"), read_about(wells, "wells")
    write_table(wells, table.with_columns(note=pl.lit("new")), "wells", about)
    assert beside_the_model(project, dpf)["models/default/card.md"] == "the inputs have changed since"


def test_info_lists_baselines(demo, copy, ok, dpf):
    project = copy(demo)
    ok("evaluate", project, "--baselines-only")
    listed = dpf("info", project, "--format", "json").envelope["data"]["results"]
    assert listed == [{"path": f"baselines/{name}.parquet", "stale": None} for name in ("comparisons", "scoreboard")]
    wells = project / "inputs/wells.parquet"
    about = read_about(wells, "wells")
    write_table(wells, read_table(wells, "wells").with_columns(note=pl.lit("new")), "wells", about)
    assert "baselines/scoreboard.parquet  STALE: the inputs have changed since" in ok("info", project).out
    (project / "baselines/scoreboard.parquet").write_bytes(b"PAR1")
    assert "PROBLEM  a table cannot be read" in ok("info", project).out


def test_a_member_that_says_the_same_activation_of_every_well_leaves_the_rest(folded, copy, ok):
    """A start's regression of a target that cannot be learnt is its mean: distances are none the worse for it."""
    project = copy(folded)
    path = project / OUTPUTS
    table, about = read_table(path, "outputs"), read_about(path, "outputs")
    about["axis"][1] = [0.0] * len(about["axis"][1])
    write_table(path, table, "outputs", about)
    for command in ("predict", "latent", "rank"):
        ran = ok(command, project)
        assert "there is no activation axis" in ran.err
        assert f"a member predicts the same {about['axis_name']} for every well" in ran.err
        assert not {"activation_axis", "activation_p", "pattern_cosine"} & set(ran.rows.columns)
        assert ran.rows.height > 1
