"""Folds dealt several times: every well is held out by as many members, and their predictions are averaged."""

from __future__ import annotations

import shutil

import numpy as np
import polars as pl
import pytest

pytestmark = pytest.mark.usefixtures("sketches")


@pytest.fixture(scope="module")
def repeated(tmp_path_factory, demo, ok):
    """The project in two folds, dealt three times."""
    path = tmp_path_factory.mktemp("repeated") / "demo"
    shutil.copytree(demo, path)
    ok("train", path, "--folds", 2, "--repeats", 3, "--epochs", 1)
    return path


def test_every_prediction_is_the_mean_over_the_members_that_held_the_well_out(repeated, ok):
    said = ok("predict", repeated).rows
    members = said["members"].to_list()
    assert all(len(names.split(",")) == 3 for names in members)
    for deal, pair in enumerate(((0, 1), (2, 3), (4, 5))):
        assert {int(names.split(",")[deal]) for names in members} == set(pair)
    assert said["part"].unique().to_list() == ["held_out"]
    outputs = pl.read_parquet(repeated / "results/default/outputs.parquet").filter(pl.col("part") == "held_out")
    means = outputs.group_by("well_id").agg(pl.col("score:Tscore").mean(), pl.len())
    assert means["len"].unique().to_list() == [3]
    both = said.join(means, on="well_id")
    assert both.height == said.height
    np.testing.assert_allclose(both["Tscore_predicted"], both["score:Tscore"], rtol=1e-5)


def test_the_scoreboard_compares_with_baselines_on_the_same_folds(repeated, ok):
    ran = ok("evaluate", repeated)
    assert "held-out wells (by 6 members, each well by 3 of them)" in ran.err
    assert "(2 folds, dealt 3 times)" in (repeated / "models/default/card.md").read_text(encoding="utf-8")
    board = pl.read_parquet(repeated / "results/default/scoreboard.parquet")
    whole = pl.col("scope") == "overall"
    rows = board.filter(whole & (pl.col("target") == "Tscore") & (pl.col("metric") == "r2"))
    wells = dict(rows.filter(pl.col("member") == "ensemble").select("method", "wells").iter_rows())
    assert {wells[name] for name in ("model", "mean", "ridge", "kernel ridge", "pls")} == {48}
    assert rows.filter(pl.col("member") != "ensemble")["wells"].to_list() == [24] * 6


def test_a_ranking_rests_on_all_of_them(repeated, ok):
    ran = ok("rank", repeated)
    assert "no p-value may rest" not in ran.err
    assert ran.rows["p"].is_not_null().all()
    wells = pl.read_parquet(repeated / "results/default/ranking_wells.parquet")
    assert wells["members"].str.split(",").list.len().unique().to_list() == [3]
    # T is the mean of what three members say, each in units of its training controls, on one common scale.
    outputs = pl.read_parquet(repeated / "results/default/outputs.parquet").sort("member", "well_id")
    latents = outputs.select(pl.col("^latent_.*$")).to_numpy().astype(float).reshape(6, 48, -1)
    parts = outputs["part"].to_numpy().reshape(6, 48)
    control = pl.read_parquet(repeated / "inputs/wells.parquet").sort("well_id")["is_control"].to_numpy()
    said = np.zeros(48)
    for z, part in zip(latents, parts, strict=True):
        known = control & (part == "train")
        far = np.linalg.norm(z - z[known].mean(0), axis=1)
        scale = np.median(far[known]) * known.sum() / (known.sum() - 1)
        said += np.where(part == "held_out", far / scale, 0) / 3
    t = wells.sort("well_id")["t"].to_numpy()
    np.testing.assert_allclose(np.polyval(np.polyfit(said, t, 1), said), t, atol=1e-4)


def test_repeats_of_what_has_no_folds_are_refused(copy, demo, dpf, tmp_path):
    project = copy(demo)
    ran = dpf("train", project, "--repeats", 2)
    assert ran.code == 4
    assert "no folds to repeat" in ran.err
    ran = dpf("evaluate", project, "--baselines-only", "--set", "train.repeats=2")
    assert ran.code == 4
    assert "no folds to repeat" in ran.err
    table = pl.read_parquet(project / "inputs/wells.parquet").select("well_id", member=0, part=pl.lit("train"))
    table.write_csv(project / "mine.csv")
    ran = dpf("train", project, "--split", "file", "--set", "train.split_file=mine.csv", "--repeats", 2)
    assert ran.code == 2
    assert "cannot be repeated" in ran.err
