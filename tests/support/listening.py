"""A progress that remembers what it was told."""

from __future__ import annotations


class Listener:
    """Keeps count of the task at hand, and every line: `lines` of them all, `warnings` those that warn."""

    def __init__(self) -> None:
        self.total = self.done = 0
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def plan(self, text: str) -> None:
        self.lines.append(text)

    def start(self, task: str, total: int, unit: str) -> None:
        self.total, self.done = total, 0

    def advance(self, amount: int) -> None:
        self.done += amount

    def shorten(self, amount: int) -> None:
        self.total -= amount

    def log(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(text)
        self.warnings.append(text)
