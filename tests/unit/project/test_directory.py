"""Every path of a project, and how one is opened or refused."""

from __future__ import annotations

import pytest

from dpf.config.settings import Settings
from dpf.errors import ProjectError, UsageError
from dpf.project.directory import Project, open_project, settings_path, write_settings
from dpf.project.new_project import require_new


@pytest.fixture
def folder(tmp_path):
    """A project with inputs that are there but empty."""
    path = tmp_path / "myproj"
    write_settings(path, Settings())
    (path / "inputs").mkdir()
    for name in ("expression", "wells", "genes"):
        (path / "inputs" / f"{name}.parquet").touch()
    return path


def test_paths_are_those_of_format_1(folder):
    project = open_project(folder)
    paths = [project.expression, project.wells, project.genes, project.normalisation, settings_path(folder)]
    model, results = project.model("m-1.a"), project.results()
    paths += [model.best, model.last, model.resume, model.history, model.splits, model.metrics, model.loss_curve]
    paths += [model.member(12).best, model.member(12).resume]
    paths += [results.table("ranking"), results.figure("latent"), project.check.table("plates")]
    assert [str(path.relative_to(folder).as_posix()) for path in paths] == [
        "inputs/expression.parquet",
        "inputs/wells.parquet",
        "inputs/genes.parquet",
        "inputs/normalisation.parquet",
        "dpf.toml",
        "models/m-1.a/model.safetensors",
        "models/m-1.a/last.safetensors",
        "models/m-1.a/resume.safetensors",
        "models/m-1.a/history.parquet",
        "models/m-1.a/splits.parquet",
        "models/m-1.a/metrics.json",
        "models/m-1.a/loss_curve.png",
        "models/m-1.a/members/12/model.safetensors",
        "models/m-1.a/members/12/resume.safetensors",
        "results/default/ranking.parquet",
        "results/default/figures/latent",
        "check/plates.parquet",
    ]


def test_overrides_reach_the_settings_of_this_run_and_not_the_file(folder):
    before = settings_path(folder).read_bytes()
    assert open_project(folder, ["train.epochs=3"]).settings.train.epochs == 3
    assert settings_path(folder).read_bytes() == before
    assert open_project(folder).settings == Settings()


def test_what_is_not_a_project_is_refused(tmp_path, folder):
    with pytest.raises(ProjectError, match="no such project"):
        open_project(tmp_path / "nowhere")
    with pytest.raises(ProjectError, match="no such project"):
        open_project(settings_path(folder))
    with pytest.raises(ProjectError, match="no dpf project here"):
        open_project(tmp_path)


def test_missing_inputs_are_named(folder):
    (folder / "inputs" / "wells.parquet").unlink()
    (folder / "inputs" / "genes.parquet").unlink()
    with pytest.raises(ProjectError) as caught:
        open_project(folder)
    assert caught.value.found.replace("\\", "/") == "missing: inputs/wells.parquet, inputs/genes.parquet"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "-x", "_x", "a b", "é", "a\n", "../a"])
def test_a_name_that_is_no_plain_folder_is_refused(tmp_path, name):
    project = Project(tmp_path, Settings())
    for method in (project.model, project.results, project.trained_model):
        with pytest.raises(UsageError, match="a model's name is a folder's name") as caught:
            method(name)
        assert caught.value.found == repr(name)


def test_a_model_that_was_not_trained_names_those_that_were(folder):
    project = open_project(folder)
    with pytest.raises(ProjectError) as caught:
        project.trained_model()
    assert caught.value.found == "no trained model at all"
    assert caught.value.hint == f"dpf train {folder}"
    for name in ("zoe", "ann"):
        project.model(name).path.mkdir(parents=True)
        project.model(name).best.touch()
    project.model("begun").path.mkdir()  # a folder without a finished training
    assert project.model_names() == ["ann", "zoe"]
    assert project.trained_model("zoe") == project.model("zoe")
    with pytest.raises(ProjectError) as caught:
        project.trained_model("begun")
    assert caught.value.found == "trained models: ann, zoe"
    assert caught.value.hint == f"dpf train {folder} --model begun"


def test_init_never_overwrites(tmp_path, folder):
    require_new(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    require_new(tmp_path / "empty")
    with pytest.raises(ProjectError, match="a project already is there"):
        require_new(folder)
    with pytest.raises(ProjectError, match="that folder is not empty"):
        require_new(tmp_path)
    with pytest.raises(ProjectError, match="there is a file of that name"):
        require_new(settings_path(folder))


def test_folders_of_trainings_are_those_of_models_and_of_their_begun_members(folder):
    project = open_project(folder)
    model = project.model("b")
    for number in (0, 2, 10):
        model.member(number).path.mkdir(parents=True)
        (model.member(number).path / ".lock").touch()
    for number in (10, 2):
        model.member(number).resume.touch()
    (model.members / "notes").mkdir()
    project.model("a").path.mkdir()
    assert model.begun_members() == [2, 10]
    assert [one.path.relative_to(folder / "models").as_posix() for one in project.training_folders()] == [
        "a", "b", "b/members/2", "b/members/10",
    ]  # fmt: skip
    assert [one.number for one in project.training_folders()] == [None, None, 2, 10]
