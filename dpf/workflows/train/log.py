"""What a training tells while it runs: a line an epoch, the bar, and a table that any Parquet reader can watch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Protocol

from dpf.config.settings import TrainSettings
from dpf.errors import DpfError
from dpf.model.network import TargetLayout
from dpf.project.directory import ModelFolder
from dpf.tables.storage import write_table
from dpf.workflows.progress import Progress
from dpf.workflows.train.history import epoch_line, history_table
from dpf.workflows.train.run import TrainingRun
from dpf.workflows.train.tensorboard import TensorBoardEvents
from dpf.workflows.train.time_left import OwnTime, duration

# A write is synced to the disk, some ten milliseconds; who watches looks less often than this.
_SECONDS_BETWEEN_WRITES = 2.0


class EpochLog(Protocol):
    """What a training tells of its epochs."""

    begun: bool

    def begin(self, member: int | None) -> None:
        """The first epoch of this process, of `member`, is about to start; None where there is none left to run."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch has ended, and `row` tells of it."""

    def member_ended(self, member: int) -> None:
        """A member has run its last epoch, perhaps before it had run all it might."""


class RunLog:
    """The log of one training.

    The table, `history.running.parquet`, is a file of its own: `history.parquet` belongs to the model beside it until
    that model is replaced. It is up to date after an epoch to within two seconds, and when the run ends early.

    Parameters
    ----------
    wells
        Training wells of every member.
    rows
        The run's history so far, one dictionary an epoch and member: not empty where a run is resumed.
    started
        `time.monotonic()` when the training began.
    events
        TensorBoard events, where they were asked for.
    writes
        Whether it writes the table: of several processes one does.
    members
        Those that this process trains, in order; all of them if None. What is told of the others comes through
        `earlier_elsewhere` and `epoch_elsewhere`.
    """

    def __init__(
        self,
        folder: ModelFolder,
        layout: TargetLayout,
        train: TrainSettings,
        wells: Sequence[int],
        rows: Sequence[dict[str, Any]],
        progress: Progress,
        started: float,
        events: TensorBoardEvents | None = None,
        *,
        writes: bool = True,
        members: Sequence[int] | None = None,
    ) -> None:
        self._folder, self._layout, self._train, self._progress = folder, layout, train, progress
        self._wells, self._rows = list(wells), list(rows)
        self._events, self._writes = events, writes
        self._members = range(len(self._wells)) if members is None else members
        self._own_time = OwnTime(self._wells, self._members, train, started)
        self._ends: dict[int, float] = {}  # when each process will have ended, as it thinks
        #: Whether the bar has begun.
        self.begun = False
        self._written_at = float("-inf")
        self._unwritten = False

    @classmethod
    def of(cls, run: TrainingRun, rows: Sequence[dict[str, Any]], members: Sequence[int] | None = None) -> RunLog:
        """The log of a run, which goes on after `rows`."""
        return cls(
            run.folder, run.layout, run.settings.train, run.wells, rows, run.progress, run.started, run.events,
            writes=run.team.leads, members=members,
        )  # fmt: skip

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._events:
            self._events.close()
        if not self._unwritten:
            return
        try:
            self._write()
        except DpfError:
            if error is None:  # else what ended the run is what the user must see
                raise

    def begin(self, member: int | None) -> None:
        """The first epoch of this process, of `member`, is about to start; None where there is none left to run."""
        done = self._members if member is None else [one for one in self._members if one < member]
        skipped = sum(self._left(number) for number in done)
        self._progress.start("training", sum(self._wells) * self._train.epochs - skipped, "wells")
        self.begun = True
        self._tell_earlier(self._rows)
        self._own_time.begin()

    def earlier_elsewhere(self, rows: Sequence[dict[str, Any]], ended: Sequence[int]) -> None:
        """Another process goes on with a run: its history, and those of its members that have ended."""
        self._rows += rows
        self._tell_earlier(rows)
        for member in ended:
            self.member_ended(member)

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch has ended, and `row` tells of it. Epoch 0 is the start's, which takes no time."""
        self.epoch_elsewhere(-1, row, self._own_time.seconds_after(row["member"], row["epoch"]))

    def epoch_elsewhere(self, process: int, row: dict[str, Any], seconds: float) -> None:
        """The same of another process, which thinks that it will need so many seconds more."""
        self._rows.append(row)
        now = time.monotonic()
        self._ends[process] = now + seconds
        line = epoch_line(
            row, len(self._wells), self._train.epochs, self._wells[row["member"]],
            self._time_left(max(self._ends.values()) - now),
        )  # fmt: skip
        self._progress.log(line)
        self._tell(row)
        self._unwritten = self._writes
        if self._writes and now - self._written_at > _SECONDS_BETWEEN_WRITES:
            self._write()

    def member_ended(self, member: int) -> None:
        """A member has run its last epoch, perhaps before it had run all it might."""
        if left := self._left(member):
            self._progress.shorten(left)

    def _tell_earlier(self, rows: Sequence[dict[str, Any]]) -> None:
        if wells := sum(self._wells[row["member"]] for row in rows if row["epoch"]):
            self._progress.advance(wells)
        for row in rows:
            self._tell(row)

    def _tell(self, row: dict[str, Any]) -> None:
        if self._events:
            self._events.epoch(row)

    def _left(self, member: int) -> int:
        """Wells in the epochs that a member has not run."""
        done = sum(bool(row["member"] == member and row["epoch"]) for row in self._rows)
        return (self._train.epochs - done) * self._wells[member]

    def _time_left(self, seconds: float) -> str:
        if seconds <= 0:
            return ""
        return f"{'at most ' if self._train.patience else ''}{duration(seconds)} left"

    def _write(self) -> None:
        side_by_side = len(self._members) < len(self._wells)
        about = {"members": len(self._wells), "epochs": self._train.epochs, "side_by_side": side_by_side}
        table = history_table(self._layout, self._rows)
        if side_by_side:  # rows of several processes, as they came
            table = table.sort("member", "epoch")
        write_table(self._folder.running_history, table, "history", about)
        self._written_at, self._unwritten = time.monotonic(), False
