"""The scoreboard finds what was planted: nothing beyond ridge where the truth is linear, more where it is not."""

from __future__ import annotations

import polars as pl
import pytest

from dpf.simulate.screen import SimulationDesign, simulate
from dpf.workflows.project.initialise import create_demo

pytestmark = pytest.mark.long


def verdicts(path, ok, interaction: float) -> pl.DataFrame:
    """`recommended` on a simulated screen in three folds against every baseline, by score."""
    design = SimulationDesign(wells=480, genes=120, compounds=224, controls=32, interaction=interaction, seed=3)
    network = ("model.width=32", "model.feed_forward=64", "compute.device='cpu'", "compute.precision='fp32'")
    create_demo(path, simulate(design), (*network, 'targets.label=""'))
    ok("train", path, "--preset", "recommended", "--folds", 3, "--epochs", 5)
    return ok("evaluate", path).rows.filter(pl.col("target").is_in(["Tscore", "Pseudotime"]))


def test_where_the_truth_is_linear_ridge_is_equalled(tmp_path, ok):
    rows = verdicts(tmp_path / "linear", ok, 0.0)
    assert set(rows.filter(method="ridge")["verdict"]) <= {"equal", "better"}
    assert set(rows.filter(method="mean")["verdict"]) == {"better"}
    assert rows.filter(method="ridge")["value"].min() > 0.6


def test_where_programs_interact_the_model_is_better_than_every_linear_method(tmp_path, ok):
    rows = verdicts(tmp_path / "interacting", ok, 1.5)
    for method in ("ridge", "pls", "kernel ridge", "mean"):
        assert set(rows.filter(method=method)["verdict"]) == {"better"}, method
