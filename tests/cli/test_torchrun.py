"""`torchrun -m dpf train`: what one process would give, told by one process, and one clear error when one is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import polars as pl
import pytest
import torch
from safetensors.torch import load_file

pytestmark = [
    pytest.mark.usefixtures("sketches"),
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this PyTorch has no torch.distributed"),
    pytest.mark.skipif(sys.platform == "win32", reason="torchrun's signals are not those of Windows"),
]


def torchrun(processes: int) -> dict[str, list[str]]:
    """How `process` and `start` run a command in so many processes."""
    return {"launcher": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]}


def files(project: Path) -> list[str]:
    return sorted(path.name for path in (project / "models/default").iterdir())


#: Parts of 5 wells, so that the two processes share some of them.
RUN = ["--folds", 2, "--batch-size", 12, "--set", f"compute.tokens_at_once={24 * 5}", "--set", "model.dropout=0.3"]


def test_two_processes_train_as_one(demo, copy, ok, process):
    one, two = copy(demo, "one"), copy(demo, "two")
    expected = ok("train", one, *RUN)
    ran = process("train", two, *RUN, **torchrun(2))
    assert ran.code == 0, ran.err
    assert files(two) == files(one)
    assert ran.rows.columns == expected.rows.columns
    assert ran.rows.height == 2
    for said in (
        "2 members x 3 epochs",
        "2 processes on cpu",
        "member 0  epoch   1/3",
        "member 1  epoch   3/3",
        "model:",
    ):
        assert ran.err.count(said) == 1  # one of the two speaks
    splits, histories = (
        [pl.read_parquet(project / f"models/default/{name}.parquet") for project in (one, two)]
        for name in ("splits", "history")
    )
    assert splits[0].equals(splits[1])
    for name in ("train_total", "train_mse", "train_bce", "validation_total", "validation_reg"):
        assert histories[1][name].to_list() == pytest.approx(histories[0][name].to_list(), rel=1e-5), name
    weights = [load_file(project / "models/default/model.safetensors") for project in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        if not name.endswith("qkv.bias"):  # the keys' bias has no gradient: rounding errors alone move it
            torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-3, msg=name)


#: dpf, of which rank 1 alone finds no memory in its second epoch.
ONE_FAILS = """
import os
import torch
from dpf.__main__ import main
from dpf.training.member import MemberTraining

step = MemberTraining._step

def fails(self, batch, number):
    if os.environ["RANK"] == "1" and self.epoch == 1 and number == 1:
        raise torch.OutOfMemoryError("no more memory")
    return step(self, batch, number)

MemberTraining._step = fails
main()
"""


def test_one_failing_rank_ends_the_run_with_its_error(demo, copy, start, tmp_path):
    project, script = copy(demo), tmp_path / "one_fails.py"
    script.write_text(ONE_FAILS, encoding="utf-8")
    began = time.monotonic()
    launcher = {"launcher": [*torchrun(2)["launcher"], str(script)]}
    with start("train", project, "--batch-size", 8, "--format", "json", module=(), **launcher) as running:
        out, err = running.communicate(timeout=60)
    assert time.monotonic() - began < 40  # most of it the start of three processes
    assert running.returncode != 0
    told = json.loads(out)
    assert told["status"] == "error"
    assert [error["what"] for error in told["errors"]] == ["cpu ran out of memory"]
    assert err.count("error:") == 1
    assert "cpu ran out of memory" in err
    assert "compute.tokens_at_once" in err
    assert "was lost" not in err
    assert "Traceback" not in err.partition("torch/distributed")[0]
    # What is there is whole: the state that --resume goes on from, and the history of the finished epoch.
    whole = {".lock", "resume.safetensors", "resume.previous.safetensors", "history.running.parquet"}
    assert set(files(project)) <= whole
    assert pl.read_parquet(project / "models/default/history.running.parquet")["epoch"].to_list() == [1]


def as_a_process(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    """Take part as torchrun would have it, without torchrun."""
    names = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2}
    for name, value in (names | {"MASTER_ADDR": "localhost", "MASTER_PORT": 1}).items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("command", ["predict", "info"])
def test_other_commands_refuse_several_processes(demo, process, monkeypatch, command):
    for rank in (0, 1):
        as_a_process(monkeypatch, rank)
        ran = process(command, demo)
        assert (ran.code, ran.out) == (2, "")
        assert f"dpf {command} runs in one process" in ran.err
        assert "2 processes started by torchrun" in ran.err


def test_half_an_environment_is_refused(demo, process, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    ran = process("train", demo)
    assert (ran.code, ran.out) == (2, "")
    assert "missing: RANK, LOCAL_RANK" in ran.err


@pytest.mark.long
def test_an_error_of_all_is_told_once(demo, process):
    ran = process("train", demo, "--device", "cuda:77", "--format", "json", **torchrun(2))
    assert ran.code != 0
    assert ran.err.count("error:") == 1
    assert "there is no device 'cuda:77' here" in ran.err
    assert ran.envelope["status"] == "error"
    assert "Traceback" not in ran.err.partition("torch/distributed")[0]


LONG_RUN = ["--epochs", 700, "--batch-size", 8, "--set", "model.dropout=0.2"]


@pytest.fixture(scope="module")
def whole_run(demo, tmp_path_factory, process) -> Path:
    """A run of two processes that nobody interrupts, long enough to be caught in the middle."""
    project = Path(shutil.copytree(demo, tmp_path_factory.mktemp("whole") / "demo"))
    assert process("train", project, *LONG_RUN, **torchrun(2)).code == 0
    return project


Act = Callable[[int, dict[int, int]], None]


def caught(start: Callable[..., Popen[str]], project: Path, log: Path, act: Act) -> tuple[float, str]:
    """Start a long run, act on it (torchrun's id, the ranks' ids) when it has saved; seconds to its end, and stderr."""
    with log.open("w") as stream, start("train", project, *LONG_RUN, stderr=stream, **torchrun(2)) as running:
        end = time.monotonic() + 120
        while not (project / "models/default/resume.safetensors").exists():
            assert running.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)
        act(running.pid, ranks_of(running.pid))
        began = time.monotonic()
        out, _ = running.communicate(timeout=100)
    assert out == ""
    assert running.returncode != 0
    assert not (project / "models/default/model.safetensors").exists()
    return time.monotonic() - began, log.read_text(encoding="utf-8")


def ranks_of(torchrun_id: int) -> dict[int, int]:
    """The process of every rank, by Linux's list of processes."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                words = (entry / "environ").read_bytes().split(b"\0") if parent == torchrun_id else []
            except OSError:  # it has ended meanwhile, or is another user's
                continue
            found |= {int(word[5:]): int(entry.name) for word in words if word.startswith(b"RANK=")}
    return found


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the processes in /proc")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_lost_rank_ends_the_run_with_one_clear_error(demo, copy, start, tmp_path, rank):
    project = copy(demo)
    seconds, err = caught(start, project, tmp_path / "err", lambda _, ranks: os.kill(ranks[rank], signal.SIGKILL))
    assert seconds < 60
    assert err.count(f"rank {rank} of 2 was lost: killed, or crashed") == 1
    assert err.count("\n  next:") == 1
    assert "--resume" in err
    assert "interrupted" not in err


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds the processes in /proc")
@pytest.mark.parametrize("way", ["SIGTERM to torchrun", "Ctrl-C"])
def test_a_stopped_run_is_resumed_bit_for_bit(demo, copy, start, process, whole_run, tmp_path, way):
    cut = copy(demo)

    def act(torchrun_id: int, ranks: dict[int, int]) -> None:
        if way == "Ctrl-C":  # the terminal sends it to every process
            for process_id in (torchrun_id, *ranks.values()):
                os.kill(process_id, signal.SIGINT)
        else:
            os.kill(torchrun_id, signal.SIGTERM)

    _, err = caught(start, cut, tmp_path / "err", act)
    assert err.count("interrupted; go on with: the same torchrun line and --resume") == 1
    assert "was lost" not in err
    other = shutil.copytree(cut, tmp_path / "other")
    ran = process("train", other, *LONG_RUN, "--resume", **torchrun(3))
    assert "processes was 2, is 3" in ran.err
    ran = process("train", cut, *LONG_RUN, "--resume", **torchrun(2))
    assert ran.code == 0, ran.err
    assert ran.err.count("resuming after epoch") == 1
    assert files(cut) == files(whole_run)
    for name in ("model.safetensors", "last.safetensors"):
        assert (cut / "models/default" / name).read_bytes() == (whole_run / "models/default" / name).read_bytes()
