"""`dpf evaluate`: the scoreboard on stdout, what to know before believing it on stderr, and what it leaves behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dpf.files import sha256_file
from dpf.tables.storage import read_about, read_table, write_table

BASELINES = {"mean", "position", "depth", "ridge", "kernel ridge", "pls", "other replicate"}
TARGETS = ["Tscore", "CytoTRACE", "Pseudotime", "activation", "activated"]


@pytest.fixture(scope="module")
def evaluated(folded, tmp_path_factory, ok):
    """The project in three folds, evaluated; and what the command said."""
    project = Path(shutil.copytree(folded, tmp_path_factory.mktemp("evaluated") / "demo"))
    return project, ok("evaluate", project, "--format", "json", "--in-sample")


def test_every_method_on_every_target(evaluated):
    data = evaluated[1].envelope["data"]
    rows = pl.DataFrame(data["rows"], infer_schema_length=None)
    assert rows["target"].unique(maintain_order=True).to_list() == TARGETS
    for target in TARGETS:
        methods = set(rows.filter(target=target)["method"])
        assert methods == BASELINES | {"model", "model, IN SAMPLE"} | (
            {"model, uncalibrated"} if target == "activated" else set()
        )
    assert rows.columns[:7] == ["target", "method", "metric", "value", "verdict", "lower", "upper"]
    assert [line.split(":")[0] for line in data["verdicts"]] == TARGETS
    for line in data["verdicts"]:
        assert line in evaluated[1].err
    assert {row["representation"] for row in data["latent_quality"]} >= {"latent", "expression", "predicted scores"}


def test_what_the_figures_rest_on_is_said_first(evaluated):
    told = evaluated[1].err
    first = told.index("measured on held-out wells (in 3 folds): 48 of 48 wells, 20 compounds and 8 control wells")
    assert first < told.index("IN SAMPLE: ") < told.index("Tscore: ")


def test_tables_are_long_and_complete(evaluated):
    results = evaluated[0] / "results/default"
    board = pl.read_parquet(results / "scoreboard.parquet")
    assert set(board["member"]) == {"ensemble", "0", "1", "2"}
    assert set(board["scope"]) == {"overall", "within_position", "plate:plate1", "plate:plate2"}
    assert set(board.filter(pl.col("target") == "Tscore")["metric"]) == {"r2", "pearson", "spearman", "rmse"}
    assert set(board.filter(pl.col("target") == "activated")["metric"]) == {
        "auroc",
        "auprc",
        "brier",
        "ece",
        "log_loss",
    }
    assert set(board["basis"]) == {"held_out", "train"}
    assert set(board.filter(basis="train")["method"]) == {"model, IN SAMPLE"}
    comparisons = pl.read_parquet(results / "comparisons.parquet")
    assert set(comparisons["reference"]) == {"model"}
    assert set(comparisons["verdict"]) <= {"better", "equal", "worse", "unknown"}
    assert pl.read_parquet(results / "latent_quality.parquet").height > 0
    for name in ("scoreboard", "scoreboard_within_position", "reliability"):
        for ending in ("png", "svg"):
            assert (results / f"figures/{name}.{ending}").stat().st_size > 1000


def test_the_card_says_it_all_and_names_no_place(evaluated):
    project = evaluated[0]
    card = (project / "models/default/card.md").read_text(encoding="utf-8")
    for heading in ("Verdict", "Model", "Data", "Splits", "Compared with baselines, on the same wells", "Calibration",
                    "Latent space", "Design of the screen", "Limits", "Provenance"):  # fmt: skip
        assert f"## {heading}\n" in card
    assert sha256_file(project / "models/default/model.safetensors") in card
    assert "| model, IN SAMPLE |" in card
    assert "design not checked: dpf check PROJECT" in card
    assert str(project) not in card
    assert str(project.parent) not in card


def test_a_second_run_writes_the_same(evaluated, copy, ok, drawn):
    project = copy(evaluated[0])
    ok("evaluate", project, "--in-sample")
    for name in ("models/default/card.md", "models/default/calibration.json", "results/default/scoreboard.parquet",
                 "results/default/figures/scoreboard.svg"):  # fmt: skip
        assert (project / name).read_bytes() == (evaluated[0] / name).read_bytes(), name


def test_a_model_with_a_start_is_measured_without_its_transformer_too(demo, copy, ok):
    project = copy(demo)
    # At such a rate the Transformer adds nothing that could be seen.
    ran = ok("train", project, "--preset", "recommended", "--folds", 3, "--epochs", 1, "--learning-rate", 1e-9)
    assert "initial regression  Tscore: " in ran.err
    assert ran.err.count("  epoch   0/1  train ") == 3
    ran = ok("evaluate", project)
    rows = ran.rows.filter(pl.col("method").is_in(["model", "initial regression alone"])).select(
        "target", "method", "value"
    )
    targets = rows.pivot("method", index="target", values="value")
    assert targets.height == 5
    assert targets.filter(pl.col("initial regression alone").is_null()).is_empty()
    assert "without its Transformer it reaches" in ran.err
    card = (project / "models/default/card.md").read_text(encoding="utf-8")
    assert "begins as a regression of each target (stacked)" in card
    # Nothing is computed anew, and what was kept says the same.
    assert ok("evaluate", project).rows.equals(ran.rows)
    scores = targets.filter(pl.col("target") != "activated")
    np.testing.assert_allclose(scores["model"], scores["initial regression alone"], rtol=1e-4)


def test_predict_uses_the_calibration_from_then_on(evaluated, folded, copy, ok):
    project = copy(evaluated[0])
    before, after = ok("predict", folded).rows, ok("predict", project).rows
    assert "Tscore_lower" not in before.columns
    kept = json.loads((project / "models/default/calibration.json").read_text())
    width = kept["scores"]["Tscore"]["half_width"]
    np.testing.assert_allclose(after["Tscore_upper"] - after["Tscore_predicted"], width, rtol=1e-6)
    np.testing.assert_allclose(after["Tscore_predicted"] - after["Tscore_lower"], width, rtol=1e-6)
    temperature = kept["label"]["temperature"]
    if temperature is not None:
        expected = 1 / (1 + np.exp(-after["activated_logit"].to_numpy() / temperature))
        np.testing.assert_allclose(after["activated_probability"], expected, rtol=1e-6)
    shutil.copy(project / "inputs/expression.parquet", project / "new.parquet")
    new = ok("predict", project, "--input", project / "new.parquet", "--output", project / "out.parquet").rows
    assert {"Tscore_lower", "Tscore_upper", "activation_lower"} <= set(new.columns)
    # Other weights: the calibration is not theirs.
    ok("train", project, "--folds", 2, "--epochs", 1, "--overwrite")
    ran = ok("predict", project)
    assert "Tscore_lower" not in ran.rows.columns
    assert "trained again since it was calibrated" in ran.err


def test_baselines_need_no_model(demo, copy, ok):
    project = copy(demo)
    ran = ok("evaluate", project, "--baselines-only", "--folds", 3)
    assert set(ran.rows["method"]) == BASELINES
    assert "Tscore: the best baseline is " in ran.err
    assert not (project / "models").exists()
    assert not (project / "results").exists()
    assert set(pl.read_parquet(project / "baselines/comparisons.parquet")["reference"]) == {"ridge"}


def test_a_single_run_is_marked(trained, copy, ok):
    project = copy(trained)
    ran = ok("evaluate", project)
    assert "SELECTED ON THESE WELLS" in ran.err
    assert set(ran.rows["basis"]) == {"validation"}
    card = (project / "models/default/card.md").read_text()
    assert card.split("\n")[2].startswith("- SELECTED ON THESE WELLS")


def test_wells_that_the_model_has_trained_on_are_refused(trained, copy, demo, dpf, ok):
    project, other = copy(trained), copy(demo, "other")
    model = project / "models/default/model.safetensors"
    splits = pl.read_parquet(project / "models/default/splits.parquet")
    train = splits.filter(part="train")["well_id"]
    from dpf.tables.storage import read_expression, read_table, write_expression, write_table

    wells, expression = (
        read_table(other / "inputs/wells.parquet", "wells"),
        read_expression(other / "inputs/expression.parquet"),
    )
    kept = wells["well_id"].is_in(train.to_list())
    write_table(other / "inputs/wells.parquet", wells.filter(kept), "wells")
    write_expression(
        other / "inputs/expression.parquet", wells.filter(kept)["well_id"].to_list(), expression.genes,
        expression.values[kept.to_numpy()],
    )  # fmt: skip
    ran = dpf("evaluate", other, "--model", model)
    assert (ran.code, ran.out) == (2, "")
    assert "trained on every well" in ran.err
    assert "--in-sample" in ran.err
    ran = ok("evaluate", other, "--model", model, "--in-sample")
    assert set(ran.rows["basis"]) == {"train"}
    assert set(ran.rows["method"]) == {"model, IN SAMPLE"}
    assert "IN SAMPLE ONLY" in ran.err
    assert not (model.parent / "calibration.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--folds", 3], 2, "a trained model brings its own split"),
        (["--baselines-only", "--in-sample"], 2, "never measured on wells they were fitted on"),
        (["--baselines-only", "--folds", 30], 4, "too little for 30 folds"),
        (["--baselines-only", "--classes", "mode"], 2, "no such column of classes"),
        ([], 3, "no trained model named 'default'"),
        (["--baselines-only", "--set", "targets.scores=[\"nope\"]"], 3, "targets that the wells table does not have"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(demo, dpf, words, code, text):
    ran = dpf("evaluate", demo, *words)
    assert (ran.code, ran.out) == (code, ""), ran.err
    assert text in ran.err


def test_a_target_measured_in_two_wells(demo, copy, ok):
    project = copy(demo)
    path = project / "inputs/wells.parquet"
    wells, about = read_table(path, "wells"), read_about(path, "wells")
    first = wells.filter(~pl.col("is_control")).item(0, "compound")
    few = pl.when(pl.col("compound") == first).then(pl.col("Tscore")).otherwise(None)
    write_table(path, wells.with_columns(Tscore=few), "wells", about)
    trained = ok("train", project, "--folds", 3, "--epochs", 1)
    assert "R² - /" in trained.err
    ran = ok("evaluate", project)  # and no warning of numpy's: they are errors here
    assert "Tscore was measured in 2 of these wells (1 compound and 0 control wells): its figures are rough" in ran.err
