"""`dpf train --attention induced`: another model, which every command takes as it takes the exact one."""

from __future__ import annotations

import numpy as np
import pytest

from dpf.project.model_header import read_model_header

pytestmark = pytest.mark.usefixtures("sketches")

POINTS = ["--set", "model.induced_points=5"]


def test_every_command_takes_the_model_it_trains(demo, copy, ok):
    project = copy(demo)
    ran = ok("train", project, "--attention", "induced", *POINTS, "--folds", 2)
    assert ran.rows.height == 2
    settings = read_model_header(project / "models/default/model.safetensors")["settings"]["model"]
    assert (settings["attention"], settings["induced_points"]) == ("induced", 5)
    # The project's own settings still say exact: what the model is stands in its file.
    assert 'attention = "exact"' in (project / "dpf.toml").read_text(encoding="utf-8")
    predicted = ok("predict", project).rows
    assert predicted.height == 48
    assert np.isfinite(predicted["Tscore_predicted"].to_numpy()).all()
    assert ok("latent", project).rows.height
    assert ok("rank", project).rows.height
    assert ok("explain", project).rows["importance"].max() > 0
    assert ok("info", project).out


def test_it_is_another_model_than_the_exact_one(demo, copy, ok):
    project = copy(demo)
    ok("train", project, "--model", "exact")
    ok("train", project, "--model", "induced", "--attention", "induced")
    latents = [
        ok("predict", project, "--model", name).rows["Tscore_predicted"].to_numpy() for name in ("exact", "induced")
    ]
    assert not np.allclose(*latents)


def test_the_same_seed_gives_the_same_file_and_the_points_count(demo, copy, ok):
    project = copy(demo)
    for name in ("a", "b"):
        ok("train", project, "--model", name, "--attention", "induced", *POINTS)
    ok("train", project, "--model", "c", "--attention", "induced")
    files = [(project / f"models/{name}/model.safetensors").read_bytes() for name in "abc"]
    assert files[0] == files[1]
    assert files[0] != files[2]


@pytest.mark.parametrize("kernel", ["torch", "native"])
def test_the_kernel_asked_for_is_the_one_that_computes_it(demo, copy, ok, dpf, kernel):
    project = copy(demo)
    words = ["train", project, "--attention", "induced", "--epochs", 1, "--set", f"compute.attention_kernel={kernel}"]
    ran = dpf(*words)
    if ran.code == 6:
        pytest.skip("no native kernel here")
    assert ran.code == 0, ran.err
    assert f"{kernel} attention" in ran.err


def test_a_name_that_is_none_is_refused(demo, dpf):
    ran = dpf("train", demo, "--attention", "induce")
    assert ran.code == 3
    assert "expected one of exact, induced; did you mean induced?" in ran.err


def test_a_run_of_the_exact_model_is_not_resumed_as_induced(demo, copy, ok, dpf, monkeypatch):
    project = copy(demo)

    def interrupted(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dpf.workflows.train.train._SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr("dpf.workflows.train.train.write_model", interrupted)
    assert dpf("train", project).code == 130
    monkeypatch.undo()
    ran = dpf("train", project, "--resume", "--attention", "induced")
    assert ran.code == 5
    assert 'model.attention was "exact", is "induced"' in ran.err
