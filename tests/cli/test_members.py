"""`dpf train --member` and `--assemble`: real processes, each with one member, and the model of one run."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import torch

from tests.cli.test_torchrun import files, torchrun

pytestmark = pytest.mark.usefixtures("sketches")
RUN = ["--folds", 3, "--batch-size", 12, "--set", "model.dropout=0.3"]
MODEL = ("model.safetensors", "last.safetensors", "splits.parquet", "metrics.json")


def require_same(one: Path, other: Path) -> None:
    for name in MODEL:
        assert (one / "models/default" / name).read_bytes() == (other / "models/default" / name).read_bytes(), name
    histories = [pl.read_parquet(path / "models/default/history.parquet").drop("seconds") for path in (one, other)]
    assert histories[0].equals(histories[1])
    assert files(one) == files(other)


def test_members_trained_alone_are_the_model_of_one_run(demo, copy, ok, dpf):
    one, alone = copy(demo, "one"), copy(demo, "alone")
    expected = ok("train", one, *RUN)
    ran = ok("train", alone, *RUN, "--member", 2)
    assert ran.rows.equals(expected.rows.filter(member=2))
    assert "1 member (2 of 0-2) x 3 epochs x 31 wells" in ran.err
    said = " ".join(ran.err.split())
    assert "models/default/members/2; member 0, 1 still to come: the last to finish assembles the model" in said
    data = dpf("train", alone, *RUN, "--member", 0, "--format", "json").envelope["data"]
    assert data["missing"] == [1]
    assert [row["member"] for row in data["members"]] == [0]
    info = ok("info", alone).out
    assert info.count("run      default: done; member ") == 2
    assert info.count("of 0-2, epoch 3 of 3, validation total ") == 2
    ran = ok("train", alone, *RUN, "--member", 1)
    assert "the 3 members are there: the model is assembled" in ran.err
    assert "model: " in ran.err
    assert ran.rows.equals(expected.rows)
    require_same(alone, one)
    assert "run " not in ok("info", alone).out


def test_two_processes_at_once(demo, copy, ok, start):
    one, alone = copy(demo, "one"), copy(demo, "alone")
    words = [*RUN, "--folds", 2, "--epochs", 40]
    ok("train", one, *words)
    running = [start("train", alone, *words, "--member", member) for member in (0, 1)]
    ended = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], ended
    # Whoever finished first may have waited for the other's assembly, and then reports the model, too.
    assert sum("the model is assembled" in err for _, err in ended) == 1
    assert sum("model: " in err for _, err in ended) >= 1
    require_same(alone, one)


def test_what_cannot_be_is_refused(demo, copy, dpf, ok):
    project = copy(demo)

    def refused(code, text, *words):
        ran = dpf("train", project, *words)
        assert (ran.code, ran.out) == (code, "")
        assert text in ran.err

    refused(2, "there is no member 9\n  found: --member 9\n  expected: 0 to 2", *RUN, "--member", 9)
    refused(2, "there is no member -1", *RUN, "--member", -1)
    for words in (["--member", 1], ["--resume"], ["--tensorboard"]):
        refused(2, "--assemble trains nothing", *RUN, "--assemble", *words)
    refused(5, "no member of this model has been trained alone", *RUN, "--assemble")
    refused(3, "dpf train PROJECT --member 0, --member 1", *RUN, "--set", "compute.share=members")
    assert not (project / "models").exists()
    ok("train", project, *RUN, "--member", 1)
    refused(5, "found: 1 of 3 members have finished\n  expected: member 0, 2 as well", *RUN, "--assemble")
    refused(5, "train.folds was 3, is 1", "--assemble")
    refused(5, "train.epochs was 3, is 5", *RUN, "--member", 0, "--epochs", 5)
    refused(3, "members of this model are trained one by one", *RUN)
    assert files(project) == [".lock", "members"]


def test_every_option_of_the_guide_is_one(dpf):
    text = (Path(__file__).parents[2] / "docs/how-to/cluster.md").read_text(encoding="utf-8")
    lines = [line for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    used = {word for line in lines for word in re.findall(r"--[a-z-]+", line.partition("dpf train")[2].split("#")[0])}
    assert {"--folds", "--member", "--resume", "--device"} <= used
    known = dpf("train", "--help").out
    assert not [word for word in used if word not in known]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed")
@pytest.mark.skipif(sys.platform == "win32", reason="torchrun's signals are not those of Windows")
@pytest.mark.long
def test_processes_may_share_the_wells_of_one_member(demo, copy, process):
    one, alone = copy(demo, "one"), copy(demo, "alone")
    words = [*RUN, "--folds", 2]
    assert process("train", one, *words, **torchrun(2)).code == 0
    ran = process("train", alone, *words, "--member", 1, **torchrun(2))
    assert ran.code == 0, ran.err
    assert ran.err.count("1 member (1 of 0-1) x 3 epochs") == 1
    ran = process("train", alone, *words, "--member", 0)
    assert ran.code == 5
    assert "processes was 2, is 1" in ran.err
    ran = process("train", alone, *words, "--member", 0, "--resume", **torchrun(2))
    assert ran.code == 0, ran.err
    assert ran.err.count("the model is assembled") == 1
    assert ran.rows.height == 2
    require_same(alone, one)
    ran = process("train", alone, *words, "--member", 0, "--resume", **torchrun(2))
    assert ran.code == 0, ran.err
    assert ran.err.count("there is nothing to resume") == 1


LONG_RUN = ["--epochs", 1000, "--folds", 2, "--set", "model.dropout=0.2"]


@pytest.fixture(scope="module")
def whole_run(demo, tmp_path_factory, ok) -> Path:
    """A run that nobody interrupts, long enough to be caught in the middle."""
    project = Path(shutil.copytree(demo, tmp_path_factory.mktemp("whole") / "demo"))
    ok("train", project, *LONG_RUN)
    return project


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_killed_member_is_resumed_while_another_is_at_work(demo, copy, whole_run, start, ok, dpf, tmp_path, name):
    cut, log = copy(demo), tmp_path / "err"
    with log.open("w") as stream, start("train", cut, *LONG_RUN, "--member", 1, stderr=stream) as running:
        end = time.monotonic() + 120
        while not (cut / "models/default/members/1/history.running.parquet").exists():
            assert running.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)
        states = [run["state"] for run in dpf("info", cut, "--format", "json").envelope["data"]["runs"]]
        assert states == ["at work"]
        running.send_signal(getattr(signal, name))
        out, _ = running.communicate(timeout=60)
    assert out == ""
    if name != "SIGKILL":
        assert running.returncode == 130
        assert f"go on with: dpf train {cut} --member 1 --resume" in log.read_text(encoding="utf-8").replace("\n", " ")
    (run,) = dpf("info", cut, "--format", "json").envelope["data"]["runs"]
    assert (run["member"], run["members"], run["resumable"], run["state"]) == (1, 2, True, "interrupted")
    both = [start("train", cut, *LONG_RUN, "--member", member, "--resume") for member in (0, 1)]
    ended = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert "resuming after epoch" in ended[1][1]
    require_same(cut, whole_run)
