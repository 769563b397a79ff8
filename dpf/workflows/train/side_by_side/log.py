"""What processes that train whole members tell: all of it to the first one, which shows it as one training's log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from dpf.training.parallel.beside import Beside
from dpf.workflows.progress import Progress
from dpf.workflows.train.log import RunLog
from dpf.workflows.train.time_left import OwnTime

# A message is a request or two; a bar moves smoothly enough with one a second.
_SECONDS_BETWEEN_MESSAGES = 1.0


class Telling:
    """The progress of a process that is not the first: its lines and warnings go to the first.

    Whoever reports progress is at work and comes by often, so this is also where the other processes are looked at.
    """

    def __init__(self, beside: Beside) -> None:
        self._beside = beside
        self._wells, self._told_at = 0, float("-inf")

    def plan(self, text: str) -> None:
        """Leave it to the first process."""

    def start(self, task: str, total: int, unit: str) -> None:
        """Leave it to the first process."""

    def advance(self, amount: int) -> None:
        """So many wells more are done."""
        self._beside.look()
        self._wells += amount
        if time.monotonic() - self._told_at > _SECONDS_BETWEEN_MESSAGES:
            self.flush()

    def shorten(self, amount: int) -> None:
        """Leave it to the first process."""

    def log(self, text: str) -> None:
        """A line worth keeping."""
        self._tell({"log": text})

    def warn(self, text: str) -> None:
        """A warning."""
        self._tell({"warn": text})

    def flush(self) -> None:
        """Tell of the wells that have not been told of."""
        if self._wells:
            self._beside.tell({"advance": self._wells})
            self._wells, self._told_at = 0, time.monotonic()

    def _tell(self, message: dict[str, Any]) -> None:
        self._beside.look()
        self._beside.tell(message)


class TellingLog:
    """The log of a process that is not the first (`dpf.workflows.train.log.EpochLog`).

    Parameters
    ----------
    members
        Those that this process trains.
    rows
        The history of its part of the run so far.
    """

    def __init__(
        self, beside: Beside, progress: Telling, time_left: OwnTime, members: Sequence[int], rows: list[dict[str, Any]]
    ) -> None:
        self._beside, self._progress, self._time = beside, progress, time_left
        self._members, self._rows = list(members), list(rows)
        #: Whether its part has begun.
        self.begun = False

    def __enter__(self) -> TellingLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing is kept here."""

    def begin(self, member: int | None) -> None:
        """The first epoch of this process, of `member`, is about to start; None where there is none left to run."""
        ended = [one for one in self._members if member is None or one < member]
        self._beside.tell({"rows": self._rows, "ended": ended})
        self.begun = True
        self._time.begin()

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch has ended, and `row` tells of it."""
        seconds = self._time.seconds_after(row["member"], row["epoch"])
        self._progress.flush()
        self._beside.tell({"row": row, "seconds": seconds})

    def member_ended(self, member: int) -> None:
        """A member has run its last epoch."""
        self._beside.tell({"ended": [member], "rows": []})


class Listening:
    """The progress of the first process: its own, and between whiles what the others have told.

    Parameters
    ----------
    progress
        Shows it.
    """

    def __init__(self, beside: Beside, progress: Progress) -> None:
        self._beside, self._progress = beside, progress
        self._log: RunLog | None = None
        self._listened_at = float("-inf")
        self._warned: set[str] = set()

    def begin(self, log: RunLog) -> None:
        """Put the epochs of the others into this log, as soon as it has begun."""
        self._log = log

    def plan(self, text: str) -> None:
        """One line before a long task."""
        self._progress.plan(text)

    def start(self, task: str, total: int, unit: str) -> None:
        """A task of `total` units begins."""
        self._progress.start(task, total, unit)

    def advance(self, amount: int) -> None:
        """So many units more are done."""
        self._progress.advance(amount)
        if time.monotonic() - self._listened_at > _SECONDS_BETWEEN_MESSAGES:
            self.listen()

    def shorten(self, amount: int) -> None:
        """So many units of the task will not be needed."""
        self._progress.shorten(amount)

    def log(self, text: str) -> None:
        """A line worth keeping."""
        self._progress.log(text)
        self.listen()

    def warn(self, text: str) -> None:
        """A warning, once."""
        if text not in self._warned:
            self._warned.add(text)
            self._progress.warn(text)

    def listen(self) -> None:
        """Show what the others have told since the last time, and make sure that they are there."""
        self._beside.look()
        self._listened_at = time.monotonic()
        if self._log is None or not self._log.begun:
            return  # what comes before is kept for later
        for rank, message in self._beside.hear():
            if "row" in message:
                self._log.epoch_elsewhere(rank, message["row"], message["seconds"])
            elif "rows" in message:
                self._log.earlier_elsewhere(message["rows"], message["ended"])
            elif "advance" in message:
                self._progress.advance(message["advance"])
            elif "warn" in message:
                self.warn(message["warn"])
            else:
                self._progress.log(message["log"])
