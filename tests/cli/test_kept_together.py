"""What a command writes is put in place at its end, or not at all; where nothing can be kept, its result is shown."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path

import pytest

from dpf.tables.storage import read_about

pytestmark = pytest.mark.usefixtures("sketches")

COMMANDS = [["check", "--permutations", 199], ["predict"], ["latent"], ["rank"], ["evaluate"], ["explain"]]


def state(project):
    files = [path for path in project.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(project).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
def test_a_read_only_project_shows_its_result(folded, copy, ok, monkeypatch, command):
    expected = ok(command[0], copy(folded, "writable"), *command[1:]).out
    project = copy(folded)
    (project / "results/default/outputs.parquet").unlink(missing_ok=True)
    before, real = state(project), tempfile.mkstemp

    def mkstemp(**words):
        if Path(words.get("dir") or "/").is_relative_to(project):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(**words)

    monkeypatch.setattr("dpf.files.tempfile.mkstemp", mkstemp)
    ran = ok(command[0], project, *command[1:])
    assert ran.out == expected
    assert "cannot be written to: nothing of this was kept" in ran.err
    assert state(project) == before


@pytest.mark.parametrize(
    "words", [["--gene-sets", "foreign.gmt"], ["--query", "foreign.gmt"], ["--group-column", "no"]]
)
def test_a_rank_that_fails_replaces_nothing(folded, copy, ok, dpf, tmp_path, words):
    project = copy(folded)
    ok("rank", project, "--signatures")
    (tmp_path / "foreign.gmt").write_text("set\t\tENSX1\tENSX2\n")
    before = state(project)
    ran = dpf(
        "rank", project, "--fdr", 0.2, "--signatures", words[0], tmp_path / words[1] if "gmt" in words[1] else words[1]
    )
    assert ran.code in (2, 4)
    assert state(project) == before


def test_splits_history_and_metrics_name_their_model(trained, copy, ok, dpf):
    project = copy(trained)
    folder = project / "models/default"
    assert "PROBLEM" not in ok("info", project).out
    old = {name: (folder / name).read_bytes() for name in ("metrics.json", "splits.parquet", "history.parquet")}
    ok("train", project, "--seed", 3, "--overwrite")
    sha256 = json.loads((folder / "metrics.json").read_text())["model_sha256"]
    assert {read_about(folder / f"{kind}.parquet", kind)["model_sha256"] for kind in ("splits", "history")} == {sha256}
    for name, content in old.items():  # as a kill between two renames leaves it
        now = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        problems = dpf("info", project, "--format", "json").envelope["data"]["problems"]
        assert [problem.splitlines()[0] for problem in problems] == [
            f"{folder / name} is not of the model in its folder: the model has been trained again since"
        ]
        (folder / name).write_bytes(now)
