"""Run cases in processes of their own, judge how each ends, and count."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

_REPOSITORY = Path(__file__).resolve().parents[2]
#: Seconds after which a command hangs; the first of a process loads torch.
PATIENCE = 60.0


class Case(NamedTuple):
    """A command over something damaged.

    Attributes
    ----------
    subject
        The kind of file, for the counts.
    damage
        What was done to it.
    words
        The command.
    named
        Names of which an error must have one.
    expected
        What the command prints over undamaged files, where a damage must never change it without a word; else None.
    """

    subject: str
    damage: str
    words: list[str]
    named: tuple[str, ...]
    expected: str | None = None


class Outcome(NamedTuple):
    """How a case ended: `kind` is one of `GOOD` or `BAD`; `text` is what shows it."""

    kind: str
    text: str


GOOD = ("read", "refused", "memory")
BAD = ("internal", "panic", "signal", "hang", "changed", "file not named", "no next step", "usage")


def judge(case: Case, answer: dict[str, Any]) -> Outcome:
    """What the answer of a worker amounts to."""
    text = f"{answer['err']}\n{answer['stray']}".strip()
    if "panicked" in text or "PanicException" in text:
        return Outcome("panic", text)
    if answer["code"] == 0:
        if case.expected is not None and answer["out"] != case.expected and "warning" not in text.lower():
            return Outcome("changed", text or answer["out"][:300])
        return Outcome("read", text)
    if answer["code"] == 6:
        return Outcome("memory", text)
    if answer["code"] not in (3, 4, 5):
        return Outcome("usage" if answer["code"] == 2 else "internal", text)
    joined = " ".join(text.split())
    if not any(name in joined for name in case.named):
        return Outcome("file not named", text)
    if not ("next: " in joined or "expected: " in joined):
        return Outcome("no next step", text)
    return Outcome("refused", text)


class Worker:
    """A process that runs one command after another, and is started again where one ends it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def run(self, words: list[str], patience: float = PATIENCE) -> dict[str, Any] | Outcome:
        """The answer, or the outcome of a process that ended or did not answer."""
        if self._process is None:
            self._process = self._start()
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(words) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], patience)
        line = process.stdout.readline() if ready else ""
        if line:
            return json.loads(line)  # type: ignore[no-any-return]
        stray = (self._folder / "stray").read_text(errors="replace")[:2000]
        self.close()
        return Outcome("signal" if ready else "hang", f"exit {process.returncode}: {stray}")

    def _start(self) -> subprocess.Popen[str]:
        package = os.environ.get("DPF_FUZZ_PACKAGE", str(_REPOSITORY))
        path = os.pathsep.join([package, str(_REPOSITORY)])
        environment = {**os.environ, "PYTHONPATH": path, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "COLUMNS": "500"}
        environment |= {"POLARS_MAX_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        # Not -m: the folder at work would come before PYTHONPATH.
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), str(self._folder / "stray")]
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@dataclass
class Counts:
    """Outcomes by subject and kind, and the text of each bad one."""

    of: Counter[tuple[str, str]] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = [kind for kind in (*GOOD, *BAD) if any(one == kind for _, one in self.of)]
        subjects = sorted({subject for subject, _ in self.of})
        rows = [["", *kinds], *([s, *(str(self.of[s, kind]) for kind in kinds)] for s in subjects)]
        rows.append(["all", *(str(sum(n for (_, one), n in self.of.items() if one == kind)) for kind in kinds)])
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(lines)


def campaign(make: Callable[[int, Path], Case], numbers: range, folder: Path, workers: int) -> Counts:
    """Run the cases of these numbers: `make` writes one into an empty folder, which is the same for all of a worker.

    Outcomes are in `outcomes.txt` as they come, bad ones with what shows them.
    """
    counts, lock, left = Counts(), threading.Lock(), iter(numbers)
    log = folder / "outcomes.txt"

    def serve(own: Path) -> None:
        worker = Worker(own)
        for number in _shared(left, lock):
            place = own / "case"
            place.mkdir(parents=True)
            case = make(number, place)
            answer = worker.run(case.words)
            outcome = answer if isinstance(answer, Outcome) else judge(case, answer)
            with lock:
                counts.of[case.subject, outcome.kind] += 1
                shown = f"case {number}, {case.subject}, {case.damage}: {outcome.kind}"
                if outcome.kind in BAD:
                    shown += f"\n  dpf {' '.join(case.words)}\n  {outcome.text[-1500:]}"
                    counts.bad.append(shown)
                with log.open("a") as stream:
                    stream.write(f"{shown}\n")
            shutil.rmtree(place)
        worker.close()

    threads = []
    for at in range(workers):
        own = folder / f"worker-{at}"
        own.mkdir(parents=True)
        threads.append(threading.Thread(target=serve, args=(own,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    return counts


def _shared(numbers: Iterator[int], lock: threading.Lock) -> Iterator[int]:
    while True:
        with lock:
            number = next(numbers, None)
        if number is None:
            return
        yield number
