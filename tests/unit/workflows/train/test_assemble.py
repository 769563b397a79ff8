"""Members that are trained one by one become the model that one run writes, byte for byte; others are refused."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from dpf.errors import DpfError, ModelError, ProjectError, UsageError
from dpf.project.directory import open_project
from dpf.project.lock import writing
from dpf.project.model_header import read_model_header
from dpf.simulate.screen import SimulationDesign, simulate
from dpf.tables.storage import read_about, read_table, write_table
from dpf.training.divergence import DivergedError
from dpf.training.member import MemberTraining
from dpf.training.parallel.team import Team
from dpf.workflows.info import project_info
from dpf.workflows.predict.predict import predict_project
from dpf.workflows.project.initialise import create_demo
from dpf.workflows.train import assemble, train, tuning
from dpf.workflows.train.assemble import assemble_project
from dpf.workflows.train.train import train_project
from tests.support.listening import Listener

TINY = [
    "model.width=8", "model.heads=2", "model.feed_forward=8", "model.layers=1", "model.latent=6", "train.folds=3",
    "train.epochs=3", "train.batch_size=12", "compute.threads=1", "compute.precision=fp32", "compute.device=cpu",
    "model.dropout=0.2", "compute.attention_kernel=torch", "model.start=none",
]  # fmt: skip
MODEL = ("model.safetensors", "last.safetensors", "splits.parquet", "metrics.json", "loss_curve.png")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Save after every epoch; and draw nothing but what is drawn, which is most of a tiny run's time."""
    monkeypatch.setattr(train, "_SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(train, "_PATIENCE_TO_BEGIN", 1.0)
    monkeypatch.setattr(
        "dpf.workflows.train.run.draw_loss_curve",
        lambda history, best, path: path.write_text(f"{best} {history.drop('seconds').to_dicts()}"),
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "demo"
    create_demo(path, simulate(SimulationDesign(wells=40, genes=20, controls=10)), tuple(TINY))
    return path


@pytest.fixture
def project(demo, tmp_path):
    return Path(shutil.copytree(demo, tmp_path / "p"))


@pytest.fixture
def whole(demo, tmp_path):
    """What one run trains."""

    def run(settings=(), **options):
        path = Path(shutil.copytree(demo, tmp_path / "whole"))
        train_project(open_project(path, settings), **options)
        return path

    return run


def one(project, member, settings=(), **options):
    return train_project(open_project(project, settings), member=member, **options)


def files(project):
    return sorted(path.relative_to(project).as_posix() for path in (project / "models/default").glob("**/*"))


def require_same(project, other):
    for name in MODEL:
        here, there = (path / "models/default" / name for path in (project, other))
        assert here.read_bytes() == there.read_bytes(), name
    histories = [pl.read_parquet(path / "models/default/history.parquet").drop("seconds") for path in (project, other)]
    assert histories[0].equals(histories[1])
    assert files(project) == files(other)


@pytest.mark.parametrize(
    ("settings", "order"),
    [
        ([], [2, 0, 1]),
        (["train.folds=2", "train.repeats=2"], [3, 1, 2, 0]),
        (["train.tune=3", "train.pretrain=1", "model.start=ridge", "train.patience=1", "train.epochs=9"], [1, 2, 0]),
        (["train.folds=1"], [0]),
    ],
    ids=["folds", "repeats", "tune-pretrain", "one-member"],
)
def test_members_in_any_order_are_the_model_of_one_run(project, whole, settings, order):
    listener = Listener()
    expected = whole(settings, progress=listener)
    for place, member in enumerate(order):
        alone = Listener()
        result = one(project, member, settings, progress=alone)
        assert alone.done == alone.total
        assert result.missing == sorted(order[place + 1 :])
        assert [row["member"] for row in result.metrics["members"]] == (
            sorted(order) if not result.missing else [member]
        )
        own = [line[:20] for line in listener.lines if line.startswith(f"member {member} ") and " epoch " in line]
        assert [line[:20] for line in alone.lines if " epoch " in line][-len(own) :] == own or len(order) == 1
    require_same(project, expected)
    if "train.tune=3" in settings:
        tables = [(path / "models/default/tuning.parquet").read_bytes() for path in (project, expected)]
        assert tables[0] == tables[1]


def stopping(monkeypatch, epoch):
    """Stop the process at the beginning of an epoch, as Ctrl-C does."""
    real = MemberTraining.run_epoch

    def run_epoch(self, progress=None):
        if self.epoch == epoch:
            raise KeyboardInterrupt
        return real(self, progress)

    monkeypatch.setattr(MemberTraining, "run_epoch", run_epoch)


def stopped(project, monkeypatch, member, epoch=2, **options):
    with monkeypatch.context() as patch:
        stopping(patch, epoch)
        with pytest.raises(KeyboardInterrupt):
            one(project, member, **options)
    return project / "models/default/members" / str(member)


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_stopped_member_goes_on_where_it_stood(project, whole, monkeypatch, epoch):
    one(project, 0)
    assert (stopped(project, monkeypatch, 1, epoch) / "resume.safetensors").is_file()
    told = Listener()
    for member in range(3):  # the one line that serves every start: done, interrupted, not begun
        one(project, member, resume=True, progress=told)
    assert [line for line in told.lines if "resuming" in line] == [f"resuming after epoch {epoch} of 3, member 1"]
    assert sum(line.startswith("member 0  epoch") for line in told.lines) == 0
    require_same(project, whole())
    before = files(project)
    assert one(project, 1, resume=True, progress=told).metrics["members"][2]["member"] == 2
    assert told.lines[-1] == "the model has all its members: there is nothing to resume"
    assert files(project) == before


def test_a_stopped_search_goes_on(project, whole, monkeypatch):
    settings = ["train.tune=3", "train.folds=2"]
    real, trials = tuning._loss, []

    def loss(prepared, trial, epochs):
        trials.append(trial.number)
        if len(trials) == 2:
            raise KeyboardInterrupt
        return real(prepared, trial, epochs)

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_loss", loss)
        with pytest.raises(KeyboardInterrupt):
            one(project, 1, settings)
    assert project_info(open_project(project)).waiting == ["default, member 1"]
    with pytest.raises(ModelError, match=r"train\.tune was 3, is 4"):
        one(project, 0, ["train.tune=4", "train.folds=2"])
    trials.clear()
    monkeypatch.setattr(tuning, "_loss", lambda *words: trials.append(words[1].number) or real(*words))
    one(project, 1, settings, resume=True)
    assert 0 not in trials  # it had been kept
    one(project, 0, settings)
    require_same(project, whole(settings))


def test_a_member_begins_anew_without_resume_and_says_what_is_discarded(project, whole, monkeypatch):
    folder = stopped(project, monkeypatch, 1)
    told = Listener()
    one(project, 1, progress=told)
    assert [text for text in told.warnings if f"is discarded: {folder}/resume.safetensors" in text]
    told = Listener()
    stamp = (folder / "model.safetensors").stat().st_mtime_ns
    one(project, 1, progress=told)
    assert [text for text in told.warnings if text.startswith("member 1, trained before, is discarded")]
    assert (folder / "model.safetensors").stat().st_mtime_ns != stamp
    for member in (0, 2):
        one(project, member)
    require_same(project, whole())


def test_who_finishes_at_the_same_moment_assembles_once(project, whole, monkeypatch):
    """Both have written their member before either looks whether all are there."""
    one(project, 2)
    meeting, calls = threading.Barrier(2, timeout=60), []
    finish, write = train.finish_member, assemble.write_model

    def together(run, model):
        meeting.wait()
        return finish(run, model)

    monkeypatch.setattr(train, "finish_member", together)
    monkeypatch.setattr(assemble, "write_model", lambda *words: calls.append(words) or write(*words))
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda member: one(project, member), (0, 1)))
    assert len(calls) == 1
    assert results[0].metrics == results[1].metrics
    assert results[0].folder == results[1].folder == open_project(project).model()
    require_same(project, whole())


def test_an_assembly_that_was_cut_short_is_done_again(project, whole, monkeypatch):
    for member in (0, 1):
        one(project, member)

    def stop(*_words):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(assemble, "join_searches", stop)  # the model is written, its members are still there
        with pytest.raises(KeyboardInterrupt):
            one(project, 2)
    assert len(list((project / "models/default/members").iterdir())) == 3
    told = Listener()
    assemble_project(open_project(project), progress=told)
    assert told.lines == ["the 3 members are there: the model is assembled"]
    require_same(project, whole())
    with pytest.raises(ModelError, match="no member of this model has been trained alone"):
        assemble_project(open_project(project))


def test_missing_members_are_named(project):
    with pytest.raises(ModelError, match=r"no member .*has been trained alone[\s\S]*--folds 5 --member 0"):
        assemble_project(open_project(project), "other")
    assert not (project / "models").exists()
    one(project, 1)
    with pytest.raises(ModelError) as caught:
        assemble_project(open_project(project))
    assert (caught.value.found, caught.value.expected) == ("trained: member 1 of 0-2", "member 0, 2 as well")
    assert f"dpf train {project} --member 0" in caught.value.hint
    with pytest.raises(ProjectError, match="members trained one by one"):
        predict_project(open_project(project))


@pytest.mark.parametrize("member", [3, 9, -1])
def test_a_member_that_is_not_there_names_the_range(project, member):
    with pytest.raises(UsageError) as caught:
        one(project, member)
    assert (caught.value.found, caught.value.expected) == (f"--member {member}", "0 to 2")
    assert not (project / "models").exists()


def elsewhere(demo, project, tmp_path, member, settings=(), change=lambda path: None):
    """A member trained in another copy of the project, brought here."""
    other = Path(shutil.copytree(demo, tmp_path / "elsewhere"))
    change(other)
    one(other, member, settings)
    shutil.copytree(other / f"models/default/members/{member}", project / f"models/default/members/{member}")


def other_inputs(path):
    wells = path / "inputs/wells.parquet"
    write_table(wells, read_table(wells, "wells").with_columns(note=pl.lit("new")), "wells", read_about(wells, "wells"))


@pytest.mark.parametrize(
    ("settings", "change", "text"),
    [
        (["train.epochs=2"], lambda path: None, "train.epochs: 3 in member 0, 2 in member 1"),
        (["model.width=16", "train.seed=1"], lambda path: None, "model.width: 8 in member 0, 16 in member 1"),
        (["train.seed=1"], lambda path: None, "split: "),
        (["compute.tokens_at_once=40"], lambda path: None, "tokens_at_once: 20480 in member 0, 40 in member 1"),
        ([], other_inputs, "inputs: "),
    ],
    ids=["epochs", "width", "split", "numerics", "inputs"],
)
def test_members_that_are_not_alike_are_refused(demo, project, tmp_path, settings, change, text):
    one(project, 0)
    elsewhere(demo, project, tmp_path, 1, settings, change)
    with pytest.raises(ModelError) as caught:  # at the beginning of the next
        one(project, 2)
    assert caught.value.what == "another member of this model was trained differently"
    assert text.split(":")[0] in caught.value.found
    shutil.rmtree(project / "models/default/members/1")
    one(project, 2)
    shutil.copytree(
        tmp_path / "elsewhere/models/default/members/1", project / "models/default/members/1"
    )  # and at the latest before the assembly
    before = files(project)
    with pytest.raises(ModelError) as caught:
        assemble_project(open_project(project))
    assert caught.value.what == "the members of this model were not trained alike"
    assert text in caught.value.found
    assert files(project) == before


@pytest.fixture
def complete(project, monkeypatch):
    """All members are there, not assembled yet."""
    with monkeypatch.context() as patch:
        patch.setattr(train, "finish_member", lambda run, model: None)
        for member in range(3):
            one(project, member)
    return project


def test_what_they_were_trained_with_must_be_here_still(complete, whole):
    told = Listener()
    with pytest.raises(ModelError, match=r"train\.epochs: 3 in member 0, 4 here and now"):
        assemble_project(open_project(complete), overrides=["train.epochs=4"])
    other_inputs(complete)
    with pytest.raises(ModelError, match=r"inputs: .* here and now"):
        assemble_project(open_project(complete))
    shutil.copy(whole() / "inputs/wells.parquet", complete / "inputs/wells.parquet")
    about = "model.safetensors"
    path = complete / "models/default/members/2" / about
    header = read_model_header(path)
    header["member"]["identity"]["torch"] = "2.0.0"
    save_file(load_file(path), path, {"dpf": json.dumps(header)})
    with pytest.raises(ModelError, match=r'torch: ".*" in member 0, "2\.0\.0" in member 2'):
        assemble_project(open_project(complete), progress=told)
    assert told.lines == []


def test_their_settings_count_and_not_those_of_the_file(complete, whole):
    settings = complete / "dpf.toml"
    settings.write_text(settings.read_text(encoding="utf-8").replace("epochs = 3", "epochs = 50"), encoding="utf-8")
    assemble_project(open_project(complete), overrides=["train.folds=3"])
    require_same(complete, whole())


def test_a_model_is_trained_as_a_whole_or_member_by_member(project, whole, monkeypatch):
    one(project, 1)
    before = files(project)
    for resume in (False, True):
        with pytest.raises(
            ProjectError, match=r"members of this model are trained one by one[\s\S]*member 1, finished"
        ):
            train_project(open_project(project), resume=resume)
    assert files(project) == before
    shutil.rmtree(project / "models")
    with monkeypatch.context() as patch:
        stopping(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train_project(open_project(project))
    with pytest.raises(ModelError, match=r"one of the whole model[\s\S]*--resume without --member"):
        one(project, 1, resume=True)
    told = Listener()
    one(project, 1, progress=told)
    assert [text.count("an interrupted run of this model is discarded") for text in told.warnings] == [1]
    assert files(project)[:3] == ["models/default/.lock", "models/default/members", "models/default/members/1"]


def test_one_writer_a_member(project):
    with writing(project / "models/default/members/1"):
        with pytest.raises(ProjectError, match=r"another dpf process is writing there[\s\S]*members/1"):
            one(project, 1)
        assert one(project, 0).missing == [1, 2]
    with writing(project / "models/default"), pytest.raises(ProjectError, match="another dpf process is writing"):
        one(project, 1)


def test_info_lists_members_that_are_done_at_work_and_interrupted(project, monkeypatch):
    one(project, 0)
    stopped(project, monkeypatch, 1)
    stopped(project, monkeypatch, 2)

    def runs():
        found = project_info(open_project(project)).runs
        return [(run.model, run.member, run.members, run.epoch, run.epochs, run.resumable, run.state) for run in found]

    with writing(project / "models/default/members/2"):
        assert runs() == [
            ("default", 0, 3, 3, 3, False, "done"),
            ("default", 1, 3, 2, 3, True, "interrupted"),
            ("default", 2, 3, 2, 3, True, "at work"),
        ]
    monkeypatch.setattr("dpf.workflows.info.is_held", lambda folder: None)
    assert [run[-1] for run in runs()] == ["done", "not finished", "not finished"]


def test_a_member_that_diverges_leaves_the_others_alone(project, whole, monkeypatch):
    one(project, 0)
    with monkeypatch.context() as patch:
        real = MemberTraining.run_epoch

        def run_epoch(self, progress=None):
            if self.epoch == 2:
                self.data.expression[self.data.train[0]] = float("nan")
            return real(self, progress)

        patch.setattr(MemberTraining, "run_epoch", run_epoch)
        with pytest.raises(DivergedError) as caught:
            one(project, 2)
    kept = project / "models/default/members/2/diverged.safetensors"
    assert caught.value.where == "epoch 3 of 3, member 2"
    assert str(kept) in caught.value.hint
    splits = read_model_header(kept)["parts"]
    (info,) = project_info(open_project(project)).diverged
    assert (info.path, info.where) == ("models/default/members/2/diverged.safetensors", "epoch 3 of 3, member 2")
    for member in (2, 1):
        one(project, member, resume=True)
    require_same(project, whole())
    assert splits == read_model_header(project / "models/default/model.safetensors")["parts"][2:]


def test_a_trained_member_predicts_as_the_model_does(project, whole):
    """It is a model of one member: its wells are predicted as by the whole model's member."""
    one(project, 1)
    alone = predict_project(open_project(project), str(project / "models/default/members/1/model.safetensors")).table
    whole_model = predict_project(open_project(whole())).table
    held_out = pl.col("part") == "held_out"
    columns = ["well_id", "Tscore_predicted", "activated_logit"]
    theirs = whole_model.filter(held_out & (pl.col("members").cast(pl.String) == "1")).select(columns)
    assert theirs.height > 5
    assert alone.filter(held_out).select(columns).equals(theirs)


def test_a_damaged_member_is_named(complete):
    path = complete / "models/default/members/1/model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DpfError, match=str(path)):
        assemble_project(open_project(complete))
    assert len(files(complete)) > 12


def test_a_member_alone_has_all_the_time(project):
    """Members of one run share `train.max_minutes`; a process that trains one has all of it for that one."""
    now = train.time.monotonic()
    settings = open_project(project, ["train.max_minutes=10"]).settings

    def is_up(members, member, minutes):
        run = SimpleNamespace(settings=settings, members=members, started=now - 60 * minutes, team=Team())
        return train._time_is_up(run, member)

    assert [is_up([2], 2, minutes) for minutes in (9.9, 10.1)] == [False, True]
    assert [is_up(range(2), 0, minutes) for minutes in (4.9, 5.1)] == [False, True]
