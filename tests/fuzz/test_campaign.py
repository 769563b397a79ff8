"""Damaged files end in a result or in an error that names the file: never in a signal, a hang, a panic or a bug.

The number of cases is DPF_FUZZ_CASES (for each test; by default as many as take CI some minutes), the first of them
DPF_FUZZ_FIRST. Case n is the same wherever it is run: a failure names it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.fuzz.campaign import Counts, Worker, campaign
from tests.fuzz.projects import project_case, undamaged, write_project
from tests.fuzz.screens import screen_case, write_screens

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform == "win32", reason="FIFOs, signals and limits of memory are others there"),
]

SEED = int(os.environ.get("DPF_FUZZ_SEED", "614"))
FIRST = int(os.environ.get("DPF_FUZZ_FIRST", "0"))
WORKERS = int(os.environ.get("DPF_FUZZ_WORKERS", "2"))


def _numbers(default: int) -> range:
    return range(FIRST, FIRST + int(os.environ.get("DPF_FUZZ_CASES", str(default))))


def _require_good(counts: Counts, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{counts}\n")
    assert not counts.bad, "\n".join(counts.bad)


def test_screens(tmp_path, capsys):
    (base := tmp_path / "base").mkdir()
    write_screens(base)
    _require_good(campaign(screen_case(base, SEED), _numbers(800), tmp_path, WORKERS), capsys)


def test_projects(tmp_path, capsys):
    base, own = tmp_path / "base", tmp_path / "first"
    own.mkdir()
    worker = Worker(own)
    write_project(base, worker)
    worker.close()
    make = project_case(base, undamaged(base, own), SEED)
    _require_good(campaign(make, _numbers(500), tmp_path, WORKERS), capsys)


def test_every_file_is_read_undamaged(tmp_path):
    from tests.fuzz.screens import SUBJECTS

    (base := tmp_path / "base").mkdir()
    write_screens(base)
    worker = Worker(tmp_path)
    names = {path.name for path in Path(base).iterdir()}
    for number, subject in enumerate(SUBJECTS):
        words = [str(base / word) if word in names else word for word in subject.words]
        scores = [] if "old" in subject.words else ["--scores", "viability"]
        answer = worker.run(["init", str(tmp_path / f"p{number}"), *words, *scores])
        assert isinstance(answer, dict), (subject, answer)
        assert answer["code"] == 0, (subject, answer["err"])
    worker.close()
