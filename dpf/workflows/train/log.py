"""What a training reports while it runs: a line an epoch, the bar, and a table that any Parquet reader can watch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from dpf.config.settings import TrainSettings
from dpf.errors import DpfError
from dpf.model.network import TargetLayout
from dpf.project.directory import ModelFolder
from dpf.project.lock import require_there
from dpf.tables.storage import write_table
from dpf.workflows.progress import Progress
from dpf.workflows.train.history import epoch_line, history_table
from dpf.workflows.train.tensorboard import TensorBoardEvents
from dpf.workflows.train.time_left import Pace, duration, seconds_left

# A write is synced to the disk, some ten milliseconds; who watches looks less often than this.
_SECONDS_BETWEEN_WRITES = 2.0


class RunLog:
    """The log of one training.

    The table, `history.running.parquet`, is a file of its own: `history.parquet` belongs to the model in the same
    folder until that model is replaced. It is up to date after an epoch to within two seconds, and when the run ends
    early.

    Parameters
    ----------
    wells
        Training wells of every member of the model.
    rows
        The run's history so far, one dictionary an epoch and member: not empty where a run is resumed.
    started
        `time.monotonic()` when the training began.
    events
        TensorBoard events, where they were asked for.
    writes
        Whether it writes the table: of several processes one does.
    members
        Those that are trained, in order; all of them if None.
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
        self._wells, self._rows, self._started = list(wells), list(rows), started
        self._events, self._writes = events, writes
        self._members = list(range(len(self._wells)) if members is None else members)
        self._pace = Pace()
        self._written_at = float("-inf")
        self._unwritten = False

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
            require_there(self._folder.path)
            self._write()
        except DpfError:
            if error is None:  # else what ended the run is what the user must see
                raise

    def begin(self, member: int) -> None:
        """The first epoch of this process, of `member`, is about to begin."""
        skipped = sum(self._left(one) for one in self._members if one < member)
        whole = self._train.epochs * sum(self._wells[one] for one in self._members)
        self._progress.start("training", whole - skipped, "wells")
        if done := sum(self._wells[row["member"]] for row in self._rows if row["epoch"]):
            self._progress.advance(done)
        if self._events:
            for row in self._rows:
                self._events.epoch(row)
        self._pace = Pace()

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch has ended, and `row` describes it. Epoch 0 is the initial regression, which takes no time."""
        self._rows.append(row)
        wells = self._wells[row["member"]]
        if row["epoch"]:
            self._pace.epoch(wells)
        self._progress.log(epoch_line(row, len(self._wells), self._train.epochs, wells, self._time_left(row)))
        if self._events:
            self._events.epoch(row)
        if self._writes:
            require_there(self._folder.path)
        self._unwritten = self._writes
        if self._writes and time.monotonic() - self._written_at > _SECONDS_BETWEEN_WRITES:
            self._write()

    def member_ended(self, member: int) -> None:
        """A member has run its last epoch, perhaps before it had run all it might."""
        if left := self._left(member):
            self._progress.shorten(left)

    def _left(self, member: int) -> int:
        """Wells in the epochs that a member has not run."""
        done = sum(bool(row["member"] == member and row["epoch"]) for row in self._rows)
        return (self._train.epochs - done) * self._wells[member]

    def _time_left(self, row: dict[str, Any]) -> str:
        seconds = seconds_left(
            self._pace.seconds_per_well, [self._wells[one] for one in self._members], self._train.epochs,
            self._members.index(row["member"]), row["epoch"],
            elapsed=time.monotonic() - self._started, limit=self._train.max_minutes * 60,
        )  # fmt: skip
        if seconds <= 0:
            return ""
        return f"{'at most ' if self._train.patience else ''}{duration(seconds)} left"

    def _write(self) -> None:
        about = {"members": len(self._wells), "epochs": self._train.epochs}
        write_table(self._folder.running_history, history_table(self._layout, self._rows), "history", about)
        self._written_at, self._unwritten = time.monotonic(), False
