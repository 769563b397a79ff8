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

from dpf.errors import ModelError, ProjectError
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
    """Save after every epoch; and draw nothing, which is most of a tiny run's time, but keep what would be drawn."""
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


def run(project, settings=(), **options):
    return train_project(open_project(project, settings), **options)


@pytest.fixture
def require_same(demo, project, tmp_path):
    """Make sure that the project has what one run trains, and nothing else."""

    def check(settings=(), **options):
        whole = Path(shutil.copytree(demo, tmp_path / "whole"))
        run(whole, settings, **options)
        for name in MODEL:
            here, there = (path / "models/default" / name for path in (project, whole))
            assert here.read_bytes() == there.read_bytes(), name
        history, expected = (pl.read_parquet(one / "models/default/history.parquet") for one in (project, whole))
        assert history.drop("seconds").equals(expected.drop("seconds"))
        assert files(project) == files(whole)
        return whole

    return check


def files(project):
    return sorted(path.relative_to(project / "models/default").as_posix() for path in (project / "models").rglob("*.*"))


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
def test_members_in_any_order_are_the_model_of_one_run(project, require_same, settings, order):
    lines = set()
    for place, member in enumerate(order):
        told = Listener()
        result = run(project, settings, member=member, progress=told)
        assert result.missing == sorted(order[place + 1 :])
        assert [row["member"] for row in result.metrics["members"]] == ([member] if result.missing else sorted(order))
        assert told.done == told.total
        lines |= {line.partition("R²")[0] for line in told.lines if "R²" in line}
    together = Listener()
    whole = require_same(settings, progress=together)
    assert lines == {line.partition("R²")[0] for line in together.lines if "R²" in line}
    if "train.tune=3" in settings:
        tables = [(path / "models/default/tuning.parquet").read_bytes() for path in (project, whole)]
        assert tables[0] == tables[1]


def test_events_of_members_stand_apart(project):
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    for member in range(3):
        run(project, member=member, tensorboard=True)
    events = (project / "models/default/tensorboard").glob("*/*/events*")
    assert sorted(path.parent.name for path in events) == ["member-0", "member-1", "member-2"]


def stopped(project, monkeypatch, epoch=2, **options):
    """Train, and be stopped at the beginning of an epoch as by Ctrl-C."""
    real = MemberTraining.run_epoch

    def run_epoch(self, progress=None):
        if self.epoch == epoch:
            raise KeyboardInterrupt
        return real(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr(MemberTraining, "run_epoch", run_epoch)
        with pytest.raises(KeyboardInterrupt):
            run(project, **options)


@pytest.mark.parametrize("epoch", [0, 2])
def test_one_command_serves_every_start(project, require_same, monkeypatch, epoch):
    """Done, interrupted or not begun yet; and again, when the model has long been assembled."""
    run(project, member=0)
    stopped(project, monkeypatch, epoch, member=1)
    told = Listener()
    for member in range(3):
        run(project, member=member, resume=True, progress=told)
    assert [line for line in told.lines if "resuming" in line] == [f"resuming after epoch {epoch} of 3, member 1"]
    assert not [line for line in told.lines if line.startswith("member 0  epoch")]
    before = files(project)
    assert len(run(project, member=1, resume=True, progress=told).metrics["members"]) == 3
    assert told.lines[-1] == "the model has all its members: there is nothing to resume"
    assert files(project) == before
    require_same()


def test_a_stopped_search_goes_on(project, require_same, monkeypatch):
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
            run(project, settings, member=1)
    assert project_info(open_project(project)).waiting == ["default, member 1"]
    trials.clear()
    monkeypatch.setattr(tuning, "_loss", lambda *words: trials.append(words[1].number) or real(*words))
    run(project, settings, member=1, resume=True)
    assert 0 not in trials  # it had been kept
    run(project, settings, member=0)
    require_same(settings)


def test_what_is_trained_anew_is_discarded_with_a_warning(project, require_same, monkeypatch):
    stopped(project, monkeypatch, member=1)
    told = Listener()
    for _ in range(2):
        run(project, member=1, progress=told)
    folder = project / "models/default/members/1"
    assert told.warnings == [
        f"an interrupted run of this model is discarded: {folder}/resume.safetensors (--resume continues one)",
        f"member 1 is trained anew: {folder}/finished.safetensors is discarded (--resume keeps it)",
    ]
    for member in (0, 2):
        run(project, member=member)
    require_same()


def test_who_finishes_at_the_same_moment_assembles_once(project, require_same, monkeypatch):
    """Both have kept their member before either looks whether all are there."""
    run(project, member=2)
    meeting, calls = threading.Barrier(2, timeout=60), []
    finish, write = train.assemble_if_complete, assemble.write_model
    with monkeypatch.context() as patch:
        patch.setattr(train, "assemble_if_complete", lambda *words: meeting.wait() + 1 and finish(*words))
        patch.setattr(assemble, "write_model", lambda *words: calls.append(words) or write(*words))
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda member: run(project, member=member), (0, 1)))
    assert len(calls) == 1
    assert results[0] == results[1]
    assert results[0].table.columns == results[1].table.columns  # one of them comes from the file
    assert results[0].folder == open_project(project).model()
    require_same()


def test_an_assembly_that_was_cut_short_is_done_again(project, require_same, monkeypatch):
    settings = ["train.tune=3"]
    for member in (0, 1):
        run(project, settings, member=member)

    def stop(*_words):
        raise KeyboardInterrupt

    # The model is written, or a part of it; its members are still there.
    for place in ("run.draw_loss_curve", "run.discard_run", "assemble.join_searches"):
        with monkeypatch.context() as patch:
            patch.setattr(f"dpf.workflows.train.{place}", stop)
            with pytest.raises(KeyboardInterrupt):
                run(project, settings, member=2, resume=True)
    told = Listener()
    run(project, settings, assemble=True, progress=told)
    assert told.lines == ["the 3 members are there: the model is assembled"]
    require_same(settings)


def test_missing_members_are_named(project):
    with pytest.raises(ModelError, match="no member of this model has been trained alone"):
        run(project, assemble=True, model="other")
    assert not (project / "models").exists()
    run(project, member=1)
    with pytest.raises(ModelError) as caught:
        run(project, assemble=True)
    assert (caught.value.found, caught.value.expected) == ("1 of 3 members have finished", "member 0, 2 as well")
    with pytest.raises(ProjectError, match="members trained one by one"):
        predict_project(open_project(project))


def other_inputs(path):
    wells = path / "inputs/wells.parquet"
    write_table(wells, read_table(wells, "wells").with_columns(note=pl.lit("new")), "wells", read_about(wells, "wells"))


def other_torch(path):
    finished = path / "models/default/members/1/finished.safetensors"
    header = read_model_header(finished)
    header["identity"]["torch"] = "2.0.0"
    save_file(load_file(finished), finished, {"dpf": json.dumps(header)})


@pytest.mark.parametrize(
    ("settings", "before", "after", "text"),
    [
        (["train.epochs=2"], None, None, "train.epochs was 2, is 3"),
        (["train.seed=1"], None, None, 'split was "'),
        (["compute.tokens_at_once=40"], None, None, "tokens_at_once was 40, is 20480"),
        ([], other_inputs, None, 'inputs was "'),
        ([], None, other_torch, 'torch was "2.0.0"'),
    ],
    ids=["settings", "split", "numerics", "inputs", "versions"],
)
def test_members_that_are_not_alike_are_refused(demo, project, tmp_path, settings, before, after, text):
    other = Path(shutil.copytree(demo, tmp_path / "other"))
    if before:
        before(other)
    run(other, settings, member=1)
    if after:
        after(other)
    odd = project / "models/default/members/1"
    for member in (0, 2):  # begun at the same time: nothing is to be seen of the others yet
        run(project, member=member)
    shutil.copytree(other / "models/default/members/1", odd)
    kept = {path: path.read_bytes() for path in (project / "models").rglob("*.*")}
    for options in ({"assemble": True}, {"member": 0}, {"member": 2, "resume": True}, {"member": 1, "resume": True}):
        with pytest.raises(ModelError) as caught:
            run(project, **options)
        assert caught.value.what == "member 1 of this model was begun differently"
        assert text in caught.value.found
    assert {path: path.read_bytes() for path in kept} == kept
    assert run(project, member=1).missing == []  # begun anew


def test_a_model_is_trained_as_a_whole_or_member_by_member(project, monkeypatch):
    run(project, member=1)
    before = files(project)
    for resume in (False, True):
        with pytest.raises(ProjectError, match=r"members of this model are trained one by one[\s\S]*found: member 1,"):
            run(project, resume=resume)
    assert files(project) == before
    shutil.rmtree(project / "models")
    stopped(project, monkeypatch)
    with pytest.raises(ModelError, match=r"one of the whole model[\s\S]*--resume without --member"):
        run(project, member=1, resume=True)
    told = Listener()
    run(project, member=1, progress=told)
    assert [text.count("an interrupted run of this model is discarded") for text in told.warnings] == [1]
    assert {path.partition("/")[0] for path in files(project)} == {".lock", "members"}


def test_one_writer_a_member(project):
    with writing(project / "models/default/members/1"):
        with pytest.raises(ProjectError, match=r"another dpf process is writing there[\s\S]*members/1"):
            run(project, member=1)
        assert run(project, member=0).missing == [1, 2]
    with writing(project / "models/default"), pytest.raises(ProjectError, match="another dpf process is writing"):
        run(project, member=1)


def test_info_lists_members_that_are_done_at_work_and_interrupted(project, monkeypatch):
    run(project, member=0)
    for member in (1, 2):
        stopped(project, monkeypatch, member=member)

    def runs():
        found = project_info(open_project(project)).runs
        return [(one.model, one.member, one.members, one.epoch, one.epochs, one.resumable, one.state) for one in found]

    with writing(project / "models/default/members/2"):
        assert runs() == [
            ("default", 0, 3, 3, 3, False, "done"),
            ("default", 1, 3, 2, 3, True, "interrupted"),
            ("default", 2, 3, 2, 3, True, "at work"),
        ]
    monkeypatch.setattr("dpf.workflows.info.is_held", lambda folder: None)
    assert [one[-1] for one in runs()] == ["done", "not finished", "not finished"]


def test_a_member_that_diverges_leaves_the_others_alone(project, require_same, monkeypatch):
    run(project, member=0)
    real = MemberTraining.run_epoch

    def run_epoch(self, progress=None):
        if self.epoch == 2:
            self.data.expression[self.data.train[0]] = float("nan")
        return real(self, progress)

    with monkeypatch.context() as patch:
        patch.setattr(MemberTraining, "run_epoch", run_epoch)
        with pytest.raises(DivergedError) as caught:
            run(project, member=2)
    kept = project / "models/default/members/2/diverged.safetensors"
    assert caught.value.where == "epoch 3 of 3, member 2"
    assert str(kept) in caught.value.hint
    (info,) = project_info(open_project(project)).diverged
    assert (info.path, info.where) == ("models/default/members/2/diverged.safetensors", "epoch 3 of 3, member 2")
    parts = read_model_header(kept)["parts"]
    for member in (2, 1):
        run(project, member=member, resume=True)
    assert parts == read_model_header(project / "models/default/model.safetensors")["parts"][2:]
    require_same()


def test_a_member_alone_has_all_the_time(project):
    """Members of one run share `train.max_minutes`; a process that trains one has all of it for that one."""
    now = train.time.monotonic()
    settings = open_project(project, ["train.max_minutes=10"]).settings

    def is_up(members, member, minutes):
        one = SimpleNamespace(settings=settings, members=members, started=now - 60 * minutes, team=Team())
        return train._time_is_up(one, member)

    assert [is_up([2], 2, minutes) for minutes in (9.9, 10.1)] == [False, True]
    assert [is_up(range(2), 0, minutes) for minutes in (4.9, 5.1)] == [False, True]
