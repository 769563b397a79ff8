"""SIGKILL at any moment of any command: what was there is whole, the next command goes on, and nothing is left over."""

from __future__ import annotations

import random
import signal
import time

import polars as pl
import pytest

pytestmark = pytest.mark.long

POINTS = 4
#: Of two equal runs these differ: they hold times, or paths.
TIMED = ("history.parquet", "exports.json", ".lock")


def files(project):
    return {
        path.relative_to(project).as_posix(): path.read_bytes()
        for path in project.rglob("*")
        if path.is_file() and path.name not in TIMED
    }


def killed(start, words, seconds):
    """Run a command and kill it after so many seconds; whether it was still running."""
    with start(*words) as running:
        time.sleep(seconds)
        running.kill()
        running.communicate()
    return running.returncode == -signal.SIGKILL


def moments(name, duration):
    """Points of time of a run, most of them after its imports."""
    draw = random.Random(name)
    return [duration * draw.uniform(0.1 if point < 2 else 0.5, 1.0) for point in range(POINTS)]


def timed(process, *words):
    began = time.monotonic()
    ran = process(*words)
    assert ran.code == 0, ran.err
    return time.monotonic() - began


def test_init_can_be_killed_and_run_again(process, start, dpf, tmp_path):
    words = ["--demo", "--wells", 192, "--genes", 3000]
    duration = timed(process, "init", tmp_path / "whole", *words)
    expected = files(tmp_path / "whole")
    for point, seconds in enumerate(moments("init", duration)):
        project = tmp_path / f"p{point}"
        killed(start, ["init", project, *words], seconds)
        if not (project / "dpf.toml").exists():
            assert dpf("info", project).code == 3
            assert process("init", project, *words).code == 0
        assert files(project) == expected


def test_training_can_be_killed_and_resumed_byte_for_byte(demo, copy, process, start, dpf):
    words = ["--folds", 2, "--epochs", 40, "--seed", 5]
    whole = copy(demo, "whole")
    duration = timed(process, "train", whole, *words)
    expected, resumed = files(whole), 0
    for point, seconds in enumerate(moments("train", duration)):
        project = copy(demo, f"p{point}")
        killed(start, ["train", project, *words], seconds)
        info = dpf("info", project, "--format", "json")
        assert info.code == 0
        folder = project / "models/default"
        if (folder / "resume.safetensors").exists() or (folder / "resume.previous.safetensors").exists():
            resumed += 1
            assert dpf("train", project, *words, "--resume").code == 0
        elif not (folder / "model.safetensors").exists():
            assert dpf("train", project, *words).code == 0
        assert files(project) == expected
        assert dpf("info", project, "--format", "json").envelope["data"]["problems"] == []
    assert resumed


@pytest.mark.parametrize(
    "command", [["rank", "--signatures"], ["predict"], ["export"], ["evaluate"]], ids=lambda words: words[0]
)
def test_results_can_be_killed_and_made_again(folded, copy, ok, process, start, dpf, command):
    name, *words = command
    before = copy(folded, "before")
    ok(name, before, *words)  # an older result, of other inputs to the command
    ok("train", before, "--folds", 3, "--seed", 9, "--overwrite")
    whole = copy(before, "whole")
    duration = timed(process, name, whole, *words)
    old, expected = files(before), files(whole)
    for point, seconds in enumerate(moments(name, duration)):
        project = copy(before, f"p{point}")
        killed(start, [name, project, *words], seconds)
        assert dpf("info", project, "--format", "json").envelope["data"]["problems"] == []
        left = files(project)
        for path, content in old.items():
            assert left[path] in (content, expected[path]), path
        assert process(name, project, *words, *(["--overwrite"] if name == "export" else [])).code == 0
        found = files(project)
        assert found.keys() == expected.keys()
        for path in (path for path in expected if path.endswith(".parquet")):
            assert pl.read_parquet(project / path).equals(pl.read_parquet(whole / path)), path
