"""Every command can be called from Python, on a project in a temporary folder, without a word on the screen."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dpf.errors import ProjectError
from dpf.project.directory import Project, open_project
from dpf.simulate.screen import SimulationDesign, simulate
from dpf.workflows.explain import explain_project
from dpf.workflows.export import export_project
from dpf.workflows.info import project_info
from dpf.workflows.options import ExplainOptions
from dpf.workflows.predict.latent import latent_project
from dpf.workflows.predict.predict import predict_project
from dpf.workflows.project import initialise
from dpf.workflows.project.initialise import create_demo, create_project
from dpf.workflows.rank.rank import rank_project
from dpf.workflows.train.train import train_project
from tests.support.listening import Listener

SMALL = (
    *("model.width=8", "model.heads=1", "model.layers=1", "model.feed_forward=8", "model.latent=3", "model.start=none"),
    *("train.epochs=1", "train.folds=2", "compute.threads=1", "compute.precision=fp32", "compute.device=cpu"),
)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    path = tmp_path_factory.mktemp("python") / "demo"
    create_demo(path, simulate(SimulationDesign(wells=32, genes=20, controls=8)), SMALL)
    opened = open_project(path)
    listener = Listener()
    train_project(opened, progress=listener)
    assert listener.done == listener.total > 0
    return opened


def test_results_are_tables_and_silent(project, capsys):
    assert predict_project(project).table.height == 32
    assert latent_project(project).correlations.height == 5
    ranked = rank_project(project)
    assert ranked.table.height == pl.read_parquet(ranked.path).height
    assert explain_project(project, options=ExplainOptions("Tscore", genes=3)).target == "Tscore"
    assert [model.name for model in project_info(project).models] == ["default"]
    files = export_project(project, project.path / "out", file_format="parquet").files
    assert all(path.is_file() for path in files)
    assert capsys.readouterr() == ("", "")


def test_progress_reaches_its_total(project):
    listener = Listener()
    explain_project(project, progress=listener)
    assert listener.done == listener.total == 64


def test_predictions_do_not_depend_on_how_wells_are_cut(project):
    whole = predict_project(project).table
    (project.results("default").table("outputs")).unlink()
    cut = predict_project(open_project(project.path, ["compute.tokens_at_once=45"])).table
    for name in ("Tscore_predicted", "activated_logit", "distance_euclidean"):
        np.testing.assert_allclose(cut[name], whole[name], rtol=1e-4, atol=1e-6)


def test_a_failed_init_takes_away_what_it_wrote_and_nothing_else(tmp_path, monkeypatch):
    screen = simulate(SimulationDesign(wells=24, genes=20, controls=8)).screen

    def fail(*_args: object) -> None:
        raise ProjectError("planted")

    monkeypatch.setattr(initialise, "write_settings", fail)
    with pytest.raises(ProjectError, match="planted"):
        create_project(tmp_path / "new", screen)
    assert not (tmp_path / "new").exists()
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ProjectError, match="planted"):
        create_project(empty, screen)
    assert list(empty.iterdir()) == []

    def fail_beside_another(*_args: object) -> None:
        (tmp_path / "shared/theirs.txt").write_text("mine", encoding="utf-8")
        raise ProjectError("planted")

    monkeypatch.setattr(initialise, "write_settings", fail_beside_another)
    with pytest.raises(ProjectError, match="planted"):
        create_project(tmp_path / "shared", screen)
    assert [path.name for path in (tmp_path / "shared").rglob("*")] == ["theirs.txt"]


def test_targets_that_settings_name_are_looked_for_before_anything_is_written(tmp_path):
    screen = simulate(SimulationDesign(wells=24, genes=20, controls=8)).screen
    with pytest.raises(ProjectError, match=r"Tscor \(nearest: Tscore\)"):
        create_project(tmp_path / "p", screen, ('targets.scores=["Tscor"]',))
    assert not (tmp_path / "p").exists()
