"""Progress on stderr: a bar with an ETA on a terminal, plain lines in a log file."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dpf.cli.streams import harmless


class Bar:
    """Shows the progress of a workflow (`dpf.workflows.progress.Progress`)."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def plan(self, text: str) -> None:
        """One line before a long task."""
        self._console.print(harmless(text), style="bold", markup=False)

    def start(self, task: str, total: int, unit: str) -> None:
        """Begin a bar; none is drawn where stderr is not a terminal."""
        self.close()
        if not self._console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
            TimeRemainingColumn(), console=self._console, transient=True,
        )  # fmt: skip
        self._progress.start()
        self._task = self._progress.add_task(task, total=total)

    def advance(self, amount: int) -> None:
        """Move the bar."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, amount)

    def shorten(self, amount: int) -> None:
        """Bring the end of the bar nearer."""
        if self._progress is not None and self._task is not None:
            total = self._progress.tasks[self._task].total
            self._progress.update(self._task, total=None if total is None else total - amount)

    def log(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(harmless(text), markup=False)

    def warn(self, text: str) -> None:
        """A warning above the bar."""
        self._console.print("[yellow bold]warning:[/]", end=" ")
        self._console.print(harmless(text), markup=False)

    def close(self) -> None:
        """End the bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
