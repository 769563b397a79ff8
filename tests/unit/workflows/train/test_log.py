"""The log of a run: the table to watch, the bar that keeps count of members that stop early, the time left."""

from __future__ import annotations

import polars as pl
import pytest

from dpf.config.settings import TrainSettings
from dpf.errors import ProjectError
from dpf.project.directory import ModelFolder
from dpf.project.lock import writing
from dpf.tables.storage import read_about
from dpf.workflows.train import log as run_log
from dpf.workflows.train import time_left
from dpf.workflows.train.log import RunLog
from tests.support.listening import Listener
from tests.unit.workflows.train.test_history import LAYOUT, row

WELLS = [30, 20]


@pytest.fixture(autouse=True)
def locked(tmp_path):
    """A folder that is being written to."""
    with writing(tmp_path):
        yield


def begun(tmp_path, rows, member=0, **train):
    settings = TrainSettings(**{"epochs": 4, **train})
    log = RunLog(ModelFolder(tmp_path), LAYOUT, settings, WELLS, rows, Listener(), 0.0)
    log.begin(member)
    return log


def run(log, rows, member, epoch):
    log._progress.advance(WELLS[member])
    rows.append(row(member, epoch))
    log.epoch(rows[-1])


def two_epochs_and(log, rows, error, before=lambda: None):
    with log:
        run(log, rows, 0, 1)
        run(log, rows, 0, 2)
        before()
        raise error


def test_the_table_follows_the_run_and_is_whole_when_it_ends(tmp_path, monkeypatch):
    rows = []
    path = tmp_path / "history.running.parquet"
    heights = []
    with begun(tmp_path, rows) as log:
        for epoch in (1, 2, 3):
            run(log, rows, 0, epoch)
            heights.append(pl.read_parquet(path).height)
        monkeypatch.setattr(run_log, "_SECONDS_BETWEEN_WRITES", 0.0)
        run(log, rows, 0, 4)
        heights.append(pl.read_parquet(path).height)
        monkeypatch.setattr(run_log, "_SECONDS_BETWEEN_WRITES", 60.0)
        run(log, rows, 1, 1)
    assert heights == [1, 1, 1, 4]  # at once, then not more often than every few seconds
    assert pl.read_parquet(path)["member"].to_list() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ProjectError("the disk is full")])
def test_an_interrupted_run_leaves_its_last_epoch(tmp_path, error):
    rows = []
    with pytest.raises((KeyboardInterrupt, ProjectError)):
        two_epochs_and(begun(tmp_path, rows), rows, error)
    assert pl.read_parquet(tmp_path / "history.running.parquet").height == 2


def test_what_ended_the_run_is_what_is_seen(tmp_path, monkeypatch):
    def full(*_):
        raise ProjectError("the disk is full")

    rows = []
    with pytest.raises(KeyboardInterrupt):
        two_epochs_and(
            begun(tmp_path, rows), rows, KeyboardInterrupt, lambda: monkeypatch.setattr(run_log, "write_table", full)
        )
    with pytest.raises(ProjectError, match="the disk is full"), begun(tmp_path, rows) as log:
        run(log, rows, 0, 3)


def test_the_bar_ends_where_the_run_ends(tmp_path):
    """A member that runs out of patience brings the end nearer; so does one that did before the run was resumed."""
    rows = []
    with begun(tmp_path, rows, patience=2) as log:
        for epoch in (1, 2, 3):
            run(log, rows, 0, epoch)
        log.member_ended(0)
        for epoch in (1, 2):
            run(log, rows, 1, epoch)
        seen = log._progress
    assert (seen.done, seen.total) == (3 * 30 + 2 * 20, 3 * 30 + 4 * 20)
    with begun(tmp_path, rows, member=1, patience=2) as log:
        resumed = log._progress
    assert (resumed.done, resumed.total) == (seen.done, seen.total)
    with begun(tmp_path, [], patience=2) as log:
        assert log._progress.total == 4 * 50


def test_the_line_says_how_long_and_how_sure(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr(run_log, "Pace", lambda: pace(clock))

    def lines(**train):
        rows = []
        log = RunLog(ModelFolder(tmp_path), LAYOUT, TrainSettings(epochs=4, **train), WELLS, rows, Listener(), clock[0])
        with log:
            log.begin(0)
            for member in range(2):
                for epoch in range(1, 5):
                    clock[0] += WELLS[member]
                    run(log, rows, member, epoch)
        return [line.split("wells/s")[1].rstrip(" *").strip() for line in log._progress.lines]

    assert lines()[:2] == ["3 min left", "2 min left"]  # 170 s and 140 s
    assert lines()[4:] == ["60 s left", "40 s left", "20 s left", ""]
    assert lines(patience=1)[4:] == ["at most 60 s left", "at most 40 s left", "at most 20 s left", ""]
    # Two minutes, a minute each: the first member stops after 90 s, the second after 130.
    assert lines(max_minutes=2)[:2] == ["2 min left", "70 s left"]


def test_a_member_that_is_trained_alone_has_a_bar_and_a_time_of_its_own(tmp_path, monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr(run_log, "Pace", lambda: pace(clock))
    train, rows = TrainSettings(epochs=4), [row(1, 1)]
    with RunLog(ModelFolder(tmp_path), LAYOUT, train, WELLS, rows, Listener(), clock[0], members=[1]) as log:
        log.begin(1)
        assert (log._progress.done, log._progress.total) == (20, 4 * 20)
        clock[0] += 10
        log.epoch(row(1, 2))
        log.member_ended(1)
    assert log._progress.total == 2 * 20
    (line,) = log._progress.lines
    assert line.startswith("member 1  epoch   2/4")
    assert "20 s left" in line
    assert pl.read_parquet(tmp_path / "history.running.parquet")["epoch"].to_list() == [1, 2]
    assert read_about(tmp_path / "history.running.parquet", "history")["members"] == 2


def pace(clock, make=time_left.Pace):
    return make(lambda: clock[0])
