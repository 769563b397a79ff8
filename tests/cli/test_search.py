"""`dpf train --pretrain` and `--tune`: what they say, what they keep, and that an interrupted search goes on."""

from __future__ import annotations

import polars as pl
import pytest
from safetensors.numpy import load_file

from dpf.config.settings import PRESETS
from dpf.files import sha256_file
from dpf.project.model_header import read_model_header
from dpf.training.member import MemberTraining
from dpf.workflows.train import tuning as workflow


def model(project, name="default"):
    return project / "models" / name / "model.safetensors"


def test_each_member_chooses_for_itself(demo, copy, ok):
    project = copy(demo)
    ran = ok("train", project, "--tune", 4, "--folds", 2, "--epochs", 3, "--preset", "linear-start")
    assert ran.err.count(" chooses trial ") == 2
    table = pl.read_parquet(project / "models" / "default" / "tuning.parquet")
    assert table.group_by("member", "rung").len().sort("member", "rung")["len"].to_list() == [4, 2, 4, 2]
    assert table.filter(number=0)["learning_rate"].unique().to_list() == [3e-4]  # the settings as they are
    tuned = read_model_header(model(project))["tuned"]
    assert len(tuned) == 2
    for member, chosen in enumerate(tuned):
        last = table.filter(member=member, rung=1).sort("validation_total", "number").row(0, named=True)
        assert {name: last[name] for name in chosen} == chosen
    ok("predict", project)


def test_an_interrupted_search_that_is_not_gone_on_with_is_told_of(demo, copy, ok):
    project = copy(demo)
    left = project / "models" / "default" / "tuning.running.parquet"
    left.parent.mkdir(parents=True)
    left.touch()
    info = ok("info", project).out
    assert "default: interrupted before its first epoch had ended; --resume goes on" in info
    assert "none yet" not in info
    assert "an interrupted run of this model is discarded" in ok("train", project, "--epochs", 1).err
    assert not left.exists()


def test_an_interrupted_search_goes_on_and_ends_the_same(demo, copy, ok, dpf, monkeypatch):
    words = ("--tune", 4, "--epochs", 2, "--pretrain", 1)
    whole, broken = copy(demo, "whole"), copy(demo, "broken")
    ok("train", whole, *words)
    measure, done = workflow._loss, []

    def until_the_third(prepared, trial, epochs):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(trial)
        return measure(prepared, trial, epochs)

    with monkeypatch.context() as patch:
        patch.setattr(workflow, "_loss", until_the_third)
        assert dpf("train", broken, *words).code == 130
    calls = []
    monkeypatch.setattr(workflow, "_loss", lambda *args: calls.append(args[1]) or measure(*args))
    ok("train", broken, *words, "--resume")
    assert len(calls) == 4 + 2 - 2  # two trials were not trained again
    assert sha256_file(model(whole)) == sha256_file(model(broken))


def test_a_finished_training_is_not_resumed_by_what_its_search_left(demo, copy, ok, dpf):
    project = copy(demo)
    ok("train", project, "--tune", 2, "--epochs", 1)
    before = sha256_file(model(project))
    ran = dpf("train", project, "--tune", 2, "--epochs", 1, "--resume")
    assert (ran.code, "there is no interrupted run" in ran.err) == (5, True)
    assert sha256_file(model(project)) == before


def test_a_search_of_one_trial_is_none(demo, copy, ok):
    project, plain = copy(demo, "one"), copy(demo, "plain")
    ok("train", project, "--tune", 1)
    ok("train", plain)
    assert not list((project / "models" / "default").glob("tuning*"))
    weights = [load_file(model(path)) for path in (project, plain)]
    assert all((weights[0][name] == value).all() for name, value in weights[1].items())


def test_a_run_can_be_resumed_before_its_first_epoch_has_ended(demo, copy, ok, dpf, monkeypatch):
    words = ("--preset", "recommended", "--pretrain", 1, "--epochs", 2)
    whole, cut = copy(demo, "whole"), copy(demo, "cut")
    ok("train", whole, *words)
    with monkeypatch.context() as patch:
        patch.setattr(MemberTraining, "run_epoch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert dpf("train", cut, *words).code == 130
    ran = ok("train", cut, *words, "--resume")
    assert "error of hidden genes" not in ran.err  # what was pretrained was kept
    assert sha256_file(model(whole)) == sha256_file(model(cut))
    assert pl.read_parquet(cut / "models/default/history.parquet")["epoch"].to_list() == [0, 1, 2]


@pytest.mark.parametrize("target", [("--scores", "viability"), ("--label", "active"), ("--scores", "viability,size")])
def test_compounds_are_ranked_by_one_target_or_two(screen, ok, tmp_path, target):
    """Latents on one line: no angle between them, no spread in it; distances there are."""
    project = tmp_path / "p"
    ok("init", project, *screen().words, *target)
    ok("train", project, "--folds", 2, "--epochs", 1, "--set", "model.width=8", "--set", "model.layers=1")
    ranked = ok("rank", project).rows
    assert ranked["t"].is_finite().all()
    assert ranked["p"].is_finite().all()


def test_a_search_of_other_settings_is_not_gone_on_with(demo, copy, ok, dpf, monkeypatch):
    project = copy(demo)
    with monkeypatch.context() as patch:
        patch.setattr(workflow, "_loss", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        dpf("train", project, "--tune", 3)
    assert dpf("train", project, "--tune", 4, "--resume").code == 5
    ok("train", project, "--epochs", 1)
    assert not list((project / "models" / "default").glob("tuning*"))


def test_a_recommended_training_is_resumed_bit_for_bit(demo, copy, ok, dpf, monkeypatch):
    """Stopped in its second member's second epoch: its start is fitted again, its choice is not made again."""
    words = ("--preset", "recommended", "--folds", 2, "--epochs", 3, "--tune", 2)
    whole, cut = copy(demo, "whole"), copy(demo, "cut")
    ok("train", whole, *words)
    real, calls = MemberTraining.run_epoch, []

    def run_epoch(self, progress=None):
        if progress is not None:  # not a trial's
            calls.append(self.key)
            if len(calls) == 5:
                raise KeyboardInterrupt
        return real(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr("dpf.workflows.train.train._SECONDS_BETWEEN_SAVES", 0.0)
        patch.setattr(MemberTraining, "run_epoch", run_epoch)
        assert dpf("train", cut, *words).code == 130
    assert calls[-1][1] == 1
    ran = ok("train", cut, *words, "--resume")
    assert " chooses trial " not in ran.err
    assert sha256_file(model(whole)) == sha256_file(model(cut))
    first, second = (pl.read_parquet(path / "models/default/history.parquet") for path in (whole, cut))
    assert first.drop("seconds").equals(second.drop("seconds"))
    assert first["epoch"].to_list() == [0, 1, 2, 3, 0, 1, 2, 3]


def test_a_new_project_trains_as_recommended(tmp_path, ok):
    project = tmp_path / "p"
    ok("init", project, "--demo", "--wells", 48, "--genes", 24)
    assert 'start = "stacked"' in (project / "dpf.toml").read_text(encoding="utf-8")
    ok("train", project, "--epochs", 1, "--set", "model.width=8", "--set", "model.layers=1")
    settings = read_model_header(model(project))["settings"]
    for name, value in PRESETS["recommended"].items():
        section, _, key = name.partition(".")
        assert settings[section][key] == value, name


def test_pretraining_is_told_and_changes_the_model(demo, copy, ok):
    project = copy(demo)
    ran = ok("train", project, "--pretrain", 2, "--epochs", 1)
    assert ran.err.count("error of hidden genes") == 2
    ok("train", project, "--epochs", 1, "--model", "plain")
    assert sha256_file(model(project)) != sha256_file(model(project, "plain"))


@pytest.mark.parametrize("change", ["train.gene_embedding=loadings", "train.gene_center=controls"])
def test_other_beginnings_train(demo, copy, ok, change):
    project = copy(demo)
    ok("train", project, "--epochs", 1, "--set", change)
    ok("predict", project)
