"""The callbacks by which a workflow reports its progress, whatever displays it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What a workflow calls while it works."""

    def plan(self, text: str) -> None:
        """One line before a long task: device, precision, parameters, time and memory expected."""

    def start(self, task: str, total: int, unit: str) -> None:
        """A task of `total` units begins."""

    def advance(self, amount: int) -> None:
        """So many units more are done."""

    def shorten(self, amount: int) -> None:
        """So many units of the task will not be needed."""

    def log(self, text: str) -> None:
        """A line worth keeping, such as an epoch's losses."""

    def warn(self, text: str) -> None:
        """Something the user should know before believing the result."""


class Silent:
    """Ignores everything: the default when a workflow is called from Python."""

    def plan(self, text: str) -> None:
        """Ignore it."""

    def start(self, task: str, total: int, unit: str) -> None:
        """Ignore it."""

    def advance(self, amount: int) -> None:
        """Ignore it."""

    def shorten(self, amount: int) -> None:
        """Ignore it."""

    def log(self, text: str) -> None:
        """Ignore it."""

    def warn(self, text: str) -> None:
        """Ignore it."""
