"""Processes that train whole members each end with the model that one process trains, byte for byte, come what may.

The processes are threads here, which makes them quick to start; `tests/cli/test_share_members.py` has real ones.
"""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import polars as pl
import pytest
import torch.distributed as dist

from dpf.errors import DeviceError, ModelError, ProjectError, UsageError
from dpf.project.directory import open_project
from dpf.project.lock import writing
from dpf.project.model_header import read_model_header
from dpf.simulate.screen import SimulationDesign, simulate
from dpf.training.divergence import DivergedError
from dpf.training.member import MemberTraining
from dpf.training.parallel import beside
from dpf.training.parallel import team as distributed
from dpf.training.parallel.beside import Beside
from dpf.training.parallel.ranks import Ranks
from dpf.training.parallel.team import Team
from dpf.workflows.project.initialise import create_demo
from dpf.workflows.train import tuning
from dpf.workflows.train.train import train_project
from tests.support.listening import Listener

TINY = [
    "model.width=8", "model.heads=2", "model.feed_forward=8", "model.layers=1", "model.latent=6", "train.folds=3",
    "train.epochs=3", "train.batch_size=12", "compute.threads=1", "compute.precision=fp32", "compute.device=cpu",
    "model.dropout=0.2", "compute.attention_kernel=torch", "model.start=none",
]  # fmt: skip
FILES = [".lock", "history.parquet", "last.safetensors", "loss_curve.png", "metrics.json", "model.safetensors"]
FILES += ["splits.parquet"]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Look often, wait briefly, save after every epoch; and draw nothing, which is most of a tiny run's time."""
    monkeypatch.setattr(beside, "_SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(beside, "_SECONDS_BETWEEN_QUESTIONS", 0.01)
    monkeypatch.setattr(beside, "_SECONDS_TO_SPEAK", 0.05)
    monkeypatch.setattr(distributed, "_HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr("dpf.workflows.train.train._SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr("dpf.workflows.train.side_by_side.log._SECONDS_BETWEEN_MESSAGES", 0.0)
    monkeypatch.setattr(
        "dpf.workflows.train.train.draw_loss_curve", lambda _history, _best, path: path.write_bytes(b"drawn")
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "demo"
    create_demo(path, simulate(SimulationDesign(wells=40, genes=20, controls=10)), tuple(TINY))
    return path


@pytest.fixture(scope="module")
def whole(demo, tmp_path_factory):
    """What one process trains."""
    path = Path(shutil.copytree(demo, tmp_path_factory.mktemp("whole") / "demo"))
    train_project(open_project(path))
    return path


@pytest.fixture
def project(demo, tmp_path):
    return Path(shutil.copytree(demo, tmp_path / "p"))


class Ended(NamedTuple):
    """What each process returned or raised, and what the first one told."""

    results: list
    told: Listener

    def errors(self, kind):
        return [one for one in self.results if isinstance(one, kind)]


def together(project, world, settings=(), **options):
    """Train in so many processes of one team."""
    store, told = dist.HashStore(), Listener()

    def one(rank):
        team = Team(Ranks(rank, world, rank, world), store)
        try:
            with team.together():
                return train_project(
                    open_project(project, ["compute.share=members", *settings]), team=team, progress=told, **options
                )
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  the test asks for them
            return error

    with ThreadPoolExecutor(world) as pool:
        return Ended(list(pool.map(one, range(world))), told)


def finished(ended):
    for result in ended.results:
        if isinstance(result, BaseException):
            raise result
    return ended


def files(project):
    return sorted(path.name for path in (project / "models/default").iterdir())


def require_same(project, whole, names=("model.safetensors", "last.safetensors", "splits.parquet", "metrics.json")):
    for name in names:
        one, other = (path / "models/default" / name for path in (project, whole))
        assert one.read_bytes() == other.read_bytes(), name
    histories = [pl.read_parquet(path / "models/default/history.parquet").drop("seconds") for path in (project, whole)]
    assert histories[0].equals(histories[1])


@pytest.mark.parametrize("world", [2, 3])
def test_they_write_the_model_that_one_process_writes(project, whole, world):
    ended = finished(together(project, world))
    require_same(project, whole)
    assert files(project) == files(whole) == FILES
    assert all(result.metrics == ended.results[0].metrics for result in ended.results)
    told = ended.told
    (plan,) = [line for line in told.lines if line.startswith("3 members x 3 epochs")]
    assert f"on {world} processes, each its own members, on cpu, 1 thread" in plan
    assert plan.endswith("GiB a process")
    epochs = [line[:19] for line in told.lines if " epoch " in line]
    assert sorted(epochs) == [f"member {member}  epoch   {epoch}" for member in range(3) for epoch in (1, 2, 3)]
    wells = [int((row == "train").sum()) for row in _parts(project)]
    assert told.done == told.total == 3 * sum(wells)


def _parts(project):
    splits = pl.read_parquet(project / "models/default/splits.parquet")
    return [part["part"] for part in splits.partition_by("member", maintain_order=True)]


def test_searches_and_pretraining_are_those_of_one_process(demo, project, tmp_path):
    settings = ["train.tune=3", "train.pretrain=1", "model.start=ridge", "train.patience=1", "train.epochs=9"]
    one = Path(shutil.copytree(demo, tmp_path / "one"))
    train_project(open_project(one, settings))
    ended = finished(together(project, 2, settings))
    require_same(project, one)
    tables = [pl.read_parquet(path / "models/default/tuning.parquet") for path in (one, project)]
    assert tables[0].height > 3
    assert tables[0].equals(tables[1])
    assert files(project) == files(one)
    assert ended.told.done == ended.told.total
    for member in range(3):
        for text in (f"member {member} chooses trial", f"member {member} starts as", f"member {member}  pretraining"):
            assert sum(line.startswith(text) for line in ended.told.lines) == 1


def test_an_interrupted_search_goes_on(demo, project, tmp_path, monkeypatch):
    """Stopped before there is a state of any member."""
    settings = ["train.tune=3", "train.folds=2"]  # one rung: every trial is one training
    one = Path(shutil.copytree(demo, tmp_path / "one"))
    train_project(open_project(one, settings))
    real, trials = tuning._loss, []

    def loss(prepared, trial, epochs):
        trials.append((prepared.member, trial.number))
        if trials[-1] == (1, 1):
            raise KeyboardInterrupt
        return real(prepared, trial, epochs)

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_loss", loss)
        assert together(project, 2, settings).errors(KeyboardInterrupt)
    for path in (project / "models/default").glob("resume*"):  # had the other got so far
        path.unlink()
    trials.clear()
    monkeypatch.setattr(
        tuning, "_loss", lambda *words: trials.append((words[0].member, words[1].number)) or real(*words)
    )
    finished(together(project, 2, settings, resume=True))
    require_same(project, one)
    assert (1, 0) not in trials  # it had been kept; the other process was stopped anywhere
    assert {(1, 1), (1, 2)} <= set(trials)
    tables = [pl.read_parquet(path / "models/default/tuning.parquet") for path in (one, project)]
    assert tables[0].equals(tables[1])


def test_a_search_of_one_trial_is_none(project):
    finished(together(project, 2, ["train.tune=1"]))
    assert files(project) == FILES


def stopping(monkeypatch, stops):
    """Let the process of a member be stopped at the beginning of one of its epochs, as by Ctrl-C."""
    real = MemberTraining.run_epoch

    def run_epoch(self, progress=None):
        if (self.key[1], self.epoch) in stops:
            raise KeyboardInterrupt
        return real(self, progress)

    monkeypatch.setattr(MemberTraining, "run_epoch", run_epoch)


@pytest.mark.parametrize(
    "stops",
    [
        {(0, 1), (1, 2)},
        {(2, 1), (1, 1)},  # the first process in its second member
        {(1, 2)},  # one alone: the others end with it
        {(2, 0)},  # the other process has finished
    ],
    ids=str,
)
def test_stopped_anywhere_they_go_on_bit_for_bit(project, whole, monkeypatch, stops):
    with monkeypatch.context() as patch:
        stopping(patch, stops)
        ended = together(project, 2)
    assert ended.errors(KeyboardInterrupt)
    assert len(ended.errors((KeyboardInterrupt, DeviceError))) == 2
    assert not (project / "models/default/model.safetensors").exists()
    assert {"history.running.parquet", "resume.rank-1.safetensors"} <= set(files(project))
    assert open_project(project).model().resumable
    seen = pl.read_parquet(project / "models/default/history.running.parquet")
    assert seen.equals(seen.sort("member", "epoch"))
    ended = finished(together(project, 2, resume=True))
    require_same(project, whole)
    assert files(project) == FILES
    assert ended.told.done == ended.told.total


def interrupted(project, monkeypatch, world=2, stops=((0, 2), (1, 2), (2, 2))):
    with monkeypatch.context() as patch:
        stopping(patch, set(stops))
        assert together(project, world).errors(KeyboardInterrupt)
    return project / "models/default"


def test_a_process_that_had_saved_nothing_begins_anew(project, whole, monkeypatch):
    folder = interrupted(project, monkeypatch)
    for path in folder.glob("resume.rank-1*"):
        path.unlink()
    told = finished(together(project, 2, resume=True)).told
    assert [line[-8:] for line in told.lines if line.startswith("resuming after epoch")] == ["member 0"]
    require_same(project, whole)


def test_a_damaged_state_is_told_of_and_the_one_before_taken(project, whole, monkeypatch):
    path = interrupted(project, monkeypatch) / "resume.rank-1.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    told = finished(together(project, 2, resume=True)).told
    assert [text.count("going on from the one before, in resume.rank-1.previous") for text in told.warnings] == [1]
    require_same(project, whole)


def test_states_of_other_processes_are_refused(project, whole, monkeypatch):
    folder = interrupted(project, monkeypatch)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.name.startswith("resume")}
    for world in (3, 4):
        kind = ModelError if world == 3 else UsageError  # four have not even a member each
        assert together(project, world, resume=True).errors(kind)
    (error,) = together(project, 3, resume=True).errors(ModelError)
    assert "processes was 2, is 3" in str(error)
    assert "rank was" not in str(error)
    with pytest.raises(ModelError, match=r'processes was 2, is 1, share was "members", is null'):
        train_project(open_project(project), resume=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in before} == before
    # A run that is not resumed discards them all, whoever runs it.
    told = Listener()
    train_project(open_project(project), progress=told)
    assert [text.startswith("an interrupted run of this model is discarded") for text in told.warnings] == [True]
    require_same(project, whole)
    assert files(project) == FILES


def test_the_state_of_one_process_is_no_state_of_several(project, whole, monkeypatch):
    with monkeypatch.context() as patch:
        stopping(patch, {(1, 2)})
        with pytest.raises(KeyboardInterrupt):
            train_project(open_project(project))
    (error,) = together(project, 2, resume=True).errors(ModelError)
    assert 'processes was 1, is 2, share was null, is "members"' in str(error)
    assert "resume.safetensors" in files(project)
    told = finished(together(project, 2)).told
    assert sum("is discarded" in text for text in told.warnings) == 1
    require_same(project, whole)
    assert files(project) == FILES
    (error,) = together(project, 2, resume=True).errors(ModelError)
    assert error.what == "there is no interrupted run to resume"


def test_nobody_else_may_write(project):
    with writing(project / "models/default"):
        ended = together(project, 2)
    assert [error.what for error in ended.errors(ProjectError)] == ["another dpf process is writing there"]
    assert len(ended.errors(DeviceError)) == 1


def test_what_differs_at_the_start_is_told(project):
    store = dist.HashStore()

    def ask(rank):
        with pytest.raises(ProjectError) as caught:
            Beside(Team(Ranks(rank, 3), store)).agree("start", {"train": {"seed": 1 + (rank == 2)}})
        return caught.value.found

    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(ask, range(3))) == {"train.seed: 1 in rank 0, 2 in rank 2"}


def test_more_processes_than_members(project):
    ended = together(project, 4)
    errors = ended.errors(UsageError)
    assert len(errors) == 4
    assert errors[0].found == "4 processes, 3 members, --share members"
    assert "torchrun --nproc-per-node 3" in errors[0].hint
    (error, _) = together(project, 2, ["train.folds=1"]).errors(UsageError)
    assert error.hint.startswith("use --folds, or --share wells")
    assert not (project / "models").exists()


def diverging(monkeypatch, members, epoch):
    real = MemberTraining.run_epoch

    def run_epoch(self, progress=None):
        if self.key[1] in members and self.epoch == epoch:
            self.data.expression[self.data.train[0]] = float("nan")
        return real(self, progress)

    monkeypatch.setattr(MemberTraining, "run_epoch", run_epoch)


@pytest.mark.parametrize("members", [{1}, {2}, {0, 1}, {1, 2}], ids=str)
def test_a_member_that_diverges_is_named_and_kept(project, monkeypatch, members):
    diverging(monkeypatch, members, epoch=2)
    ended = together(project, 2)
    (error,) = ended.errors(DivergedError)  # one tells of it, though two may have diverged
    member = int(error.where.removeprefix("epoch 3 of 3, member "))
    assert member in members
    kept = [0, 2] if member == 2 else [member]
    whose = " and ".join(map(str, kept))
    assert f"(member {whose}, epoch " in error.hint.replace(", 2, epoch", " and 2, epoch")
    assert files(project) == [".lock", "diverged.safetensors", "history.running.parquet"]
    header = read_model_header(project / "models/default/diverged.safetensors")
    assert header["diverged"] == error.where
    finished(together(project, 2, ["train.epochs=1"]))
    splits = pl.read_parquet(project / "models/default/splits.parquet")
    code = {"train": "0", "validation": "1", "held_out": "2"}
    parts = ["".join(code[part] for part in splits.filter(member=one)["part"]) for one in kept]
    assert header["parts"] == parts
    assert "diverged.safetensors" not in files(project)


def test_a_process_that_is_silent_is_lost(monkeypatch):
    monkeypatch.setattr(beside, "_SILENT_SECONDS", 0.1)
    store = dist.HashStore()
    store.add("heartbeat/1", 7)
    one = Beside(Team(Ranks(0, 2), store))
    with pytest.raises(DeviceError, match="rank 1 of 2 was lost") as caught:
        one.wait_for("done/1")
    assert caught.value.found.startswith("no sign of life for 0 s")


def test_who_has_not_begun_yet_is_waited_for(monkeypatch):
    monkeypatch.setattr(beside, "_SILENT_SECONDS", 0.0)
    monkeypatch.setattr(beside, "_BEGINNING_SECONDS", 0.3)
    one = Beside(Team(Ranks(0, 2), dist.HashStore()))
    for _ in range(3):
        one.look()
    with pytest.raises(DeviceError, match="rank 1 of 2 was lost"):
        one.wait_for("done/1")


def test_every_process_has_its_share_of_the_time(project, monkeypatch):
    """The time is shared out over the members of a process: of two the first has half of it, of one all."""
    from dpf.workflows.train import train

    now = train.time.monotonic()
    settings = open_project(project, ["train.max_minutes=10"]).settings

    def is_up(members, member, minutes):
        run = SimpleNamespace(settings=settings, members=members, started=now - 60 * minutes, team=Team())
        return train._time_is_up(run, member)

    assert [is_up(range(0, 3, 2), 0, minutes) for minutes in (4.9, 5.1)] == [False, True]
    assert [is_up(range(0, 3, 2), 2, minutes) for minutes in (9.9, 10.1)] == [False, True]
    assert [is_up(range(1, 3, 2), 1, minutes) for minutes in (9.9, 10.1)] == [False, True]
    lines = finished(together(project, 2, ["train.max_minutes=0.00001"])).told.lines
    assert sum("stops after epoch 1: its share of train.max_minutes is used" in line for line in lines) == 3


def test_one_process_says_what_would_be_quicker(project, whole):
    told = Listener()
    train_project(open_project(project, ["compute.share=members"]), progress=told)
    assert [line for line in told.lines if "torchrun --nproc-per-node 3 -m dpf train" in line]
    require_same(project, whole)
