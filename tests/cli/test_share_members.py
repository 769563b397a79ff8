"""`torchrun -m dpf train --share members`: real processes, each with whole members, and the model of one process."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import torch

from tests.cli.test_torchrun import files, ranks_of, torchrun

pytestmark = [
    pytest.mark.usefixtures("sketches"),
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"),
    pytest.mark.skipif(sys.platform == "win32", reason="torchrun's signals are not those of Windows"),
]
RUN = ["--folds", 3, "--batch-size", 12, "--set", "model.dropout=0.3"]
MODELS = ("model.safetensors", "last.safetensors", "splits.parquet", "metrics.json")


def require_same(one: Path, other: Path) -> None:
    for name in MODELS:
        assert (one / "models/default" / name).read_bytes() == (other / "models/default" / name).read_bytes(), name
    histories = [pl.read_parquet(path / "models/default/history.parquet").drop("seconds") for path in (one, other)]
    assert histories[0].equals(histories[1])


def test_two_processes_write_the_model_of_one(demo, copy, ok, process):
    one, two = copy(demo, "one"), copy(demo, "two")
    expected = ok("train", one, *RUN)
    ran = process("train", two, *RUN, "--share", "members", **torchrun(2))
    assert ran.code == 0, ran.err
    require_same(one, two)
    assert files(two) == files(one)
    assert ran.rows.equals(expected.rows)
    for said in (
        "3 members x 3 epochs",
        "2 processes, each its own members, on cpu, 1 thread",
        *(f"member {member}  epoch   {epoch}/3" for member in range(3) for epoch in (1, 2, 3)),
        "model:",
    ):
        assert ran.err.count(said) == 1, said


#: dpf, in which a member's loss is not finite after two epochs; whose, the environment says.
DIVERGES = """
import os
from dpf.__main__ import main
from dpf.training.member import MemberTraining

run_epoch = MemberTraining.run_epoch

def diverges(self, progress=None):
    if str(self.key[1]) in os.environ["DIVERGING"] and self.epoch == 2:
        self.data.expression[self.data.train[0]] = float("nan")
    return run_epoch(self, progress)

MemberTraining.run_epoch = diverges
main()
"""


@pytest.mark.long
def test_one_diverging_member_ends_the_run_with_its_error(demo, copy, process, tmp_path, monkeypatch):
    project, script = copy(demo), tmp_path / "diverges.py"
    script.write_text(DIVERGES, encoding="utf-8")
    monkeypatch.setenv("DIVERGING", "12")  # both processes have one
    launcher = {"launcher": [*torchrun(2)["launcher"], str(script)]}
    ran = process("train", project, *RUN, "--share", "members", module=(), **launcher)
    assert ran.code != 0
    assert ran.err.count("error: the training loss is no longer a finite number") == 1
    assert ran.err.count("\n  where: epoch 3 of 3, member") == 1
    assert "was lost" not in ran.err
    assert "diverged.safetensors" in files(project)
    assert not [name for name in files(project) if name.startswith("resume")]


@pytest.mark.long
def test_more_processes_than_members_is_said_once(demo, copy, process):
    project = copy(demo)
    ran = process("train", project, *RUN, "--share", "members", **torchrun(4))
    assert ran.code != 0
    assert ran.out == ""
    assert ran.err.count("error: there are more processes than members to share out") == 1
    assert ran.err.count("torchrun --nproc-per-node 3, more --folds, or --share wells") == 1
    assert not (project / "models").exists()


LONG_RUN = ["--epochs", 400, "--folds", 3, "--batch-size", 8, "--set", "model.dropout=0.2", "--share", "members"]


@pytest.fixture(scope="module")
def whole_run(demo, tmp_path_factory, process) -> Path:
    """A run of one process that nobody interrupts, long enough to be caught in the middle were it of several."""
    project = Path(shutil.copytree(demo, tmp_path_factory.mktemp("whole") / "demo"))
    ran = process("train", project, *LONG_RUN)
    assert ran.code == 0, ran.err
    assert "one process trains the 3 members, one after another" in ran.err
    return project


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the processes in /proc")
@pytest.mark.parametrize(
    ("way", "wait"),
    [("SIGTERM to torchrun", 0.0), ("Ctrl-C", 2.0), ("SIGKILL 0", 1.0), ("SIGKILL 1", 0.5), ("SIGKILL all", 1.5)],
)
def test_a_run_that_was_ended_goes_on_bit_for_bit(demo, copy, start, process, whole_run, tmp_path, way, wait):
    cut, log = copy(demo), tmp_path / "err"
    with log.open("w") as stream, start("train", cut, *LONG_RUN, stderr=stream, **torchrun(2)) as running:
        end = time.monotonic() + 120
        while not list((cut / "models").glob("default/resume.rank-*")):
            assert running.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)
        time.sleep(wait)
        ranks = ranks_of(running.pid)
        assert len(ranks) == 2
        if way.startswith("SIGKILL"):
            chosen = [running.pid, *ranks.values()] if way.endswith("all") else [ranks[int(way[-1])]]
        else:
            chosen = [running.pid, *ranks.values()] if way == "Ctrl-C" else [running.pid]
        number = {"S": signal.SIGKILL if "KILL" in way else signal.SIGTERM, "C": signal.SIGINT}[way[0]]
        for process_id in chosen:
            os.kill(process_id, number)
        began = time.monotonic()
        out, _ = running.communicate(timeout=100)
    err = log.read_text(encoding="utf-8")
    assert out == ""
    assert running.returncode != 0
    assert time.monotonic() - began < 60
    assert not (cut / "models/default/model.safetensors").exists()
    if way[-1] in "01":
        assert err.count(f"rank {way[-1]} of 2 was lost: killed, or crashed") == 1
        assert "interrupted" not in err
    elif not way.endswith("all"):
        assert err.count("interrupted; go on with: the same torchrun line and --resume") == 1
        assert "was lost" not in err
    if way == "SIGTERM to torchrun":
        ran = process("train", cut, *LONG_RUN, "--resume", **torchrun(3))
        assert "processes was 2, is 3" in ran.err
        ran = process("train", cut, *LONG_RUN, "--resume")
        assert ran.code == 5
        assert 'share was "members", is null' in ran.err
    ran = process("train", cut, *LONG_RUN, "--resume", **torchrun(2))
    assert ran.code == 0, ran.err
    assert "resuming after epoch" in ran.err
    assert files(cut) == files(whole_run)
    require_same(cut, whole_run)
