"""Odd surroundings: streams that are closed or full, other encodings, paths that are no text, signals, a stray RANK."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from dpf.cli.session import session

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="streams, signals and paths are others there")

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


def closing(*descriptors: int):
    """What a shell's `>&-` does."""

    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    return {"preexec_fn": close}


@pytest.mark.parametrize("rank", ["1", "x"])
def test_a_stray_rank_silences_nobody(folded, process, monkeypatch, tmp_path, rank):
    monkeypatch.setenv("RANK", rank)
    ran = process("rank", tmp_path / "absent")
    assert (ran.code, ran.out) == (3, "")
    assert "error: no such project" in ran.err
    ran = process("train", folded, "--folds", 99, "--format", "json")
    assert ran.code == 4
    assert "too little for 99 folds" in ran.err
    assert ran.envelope["status"] == "error"


def test_half_an_environment_of_torchrun_is_an_error_that_is_shown(folded, process, monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    for command in ("info", "rank", "train"):
        ran = process(command, folded)
        assert (ran.code, ran.out) == (2, "")
        assert "missing: LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT" in ran.err


def test_a_closed_stdout_takes_the_result(folded, process):
    ran = process("rank", folded, **closing(1))
    assert ran.code == 0, ran.err
    assert "tables:" in ran.err
    assert "Error" not in ran.err


@needs_full
@pytest.mark.parametrize("words", [["rank", "--format", "table"], ["rank", "--format", "json"], ["info"], ["--help"]])
def test_a_full_disk_behind_stdout_is_no_bug(folded, process, words):
    command, *options = words
    with FULL.open("w") as full:
        ran = process(command, *([] if command == "--help" else [folded]), *options, stdout=full)
    assert ran.code == 3
    assert "error: the result cannot be written\n  where: stdout\n  found: No space left on device" in ran.err
    assert "Exception" not in ran.err
    assert "Traceback" not in ran.err


@needs_full
def test_an_error_is_told_where_stdout_is_full(process, tmp_path):
    with FULL.open("w") as full:
        ran = process("rank", tmp_path / "absent", "--format", "json", stdout=full)
    assert ran.code == 3
    assert ran.err.startswith("error: no such project")


@needs_full
def test_a_training_does_not_end_for_want_of_a_stderr(demo, copy, ok, process, start):
    """Full, closed, or a reader that has gone: the model is the one that is trained with somebody watching."""
    project = copy(demo)
    words = ["train", project, "--epochs", 2, "--model"]
    with FULL.open("w") as full:
        assert process(*words, "full", stderr=full).rows.height == 1
    with start(*words, "gone", bufsize=0) as running:
        running.stderr.close()
        out = running.stdout.read()
    assert running.returncode == 0
    assert out.count("\n") == 2
    assert process(*words, "closed", **closing(0, 1, 2)).code == 0
    ok(*words, "watched")
    models = {path.read_bytes() for path in project.glob("models/*/model.safetensors")}
    assert len(models) == 1
    assert len(list(project.glob("models/*/model.safetensors"))) == 4


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_result_is_utf_8_whatever_the_locale(screen, process, monkeypatch, tmp_path, encoding):
    files = screen(lambda e, w: (e, w.with_columns(pl.col("compound").replace("DMSO", "α-Vehikel 溶媒"))))
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    monkeypatch.setenv("PYTHONUTF8", "0")
    words = ["init", tmp_path / "p", *files.words, "--scores", "viability", "--control", "α-Vehikel 溶媒"]
    ran = process(*words, encoding="utf-8")
    assert ran.code == 0, ran.err
    assert "α-Vehikel 溶媒 8" in ran.out


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are Unicode there")
def test_a_path_that_is_no_text_is_named(folded, process, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Pr\xfcf"))
    ran = process("init", odd, "--demo", "--wells", 24, "--genes", 20)
    assert (ran.code, ran.out) == (3, "")
    assert not odd.exists()
    odd.mkdir()
    for words in (["rank", odd], ["export", folded, "--output", odd / "x"], ["rank", folded, "--gene-sets", odd]):
        ran = process(*words)
        assert (ran.code, ran.out) == (3, "")
        assert ran.err.startswith(f"error: a name cannot be written as UTF-8\n  found: {tmp_path}/Pr\\udcfcf")
    ran = process("info", "p", "--format", "json", cwd=odd)
    assert ran.code == 3
    assert ran.envelope["errors"][0]["found"].endswith("Pr\udcfcf/p")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_interrupts_any_command(demo, copy, start, name):
    number = getattr(signal, name)
    ours = signal.signal(number, signal.SIG_DFL)  # a child ignores what its parent ignores
    try:
        running = start("check", copy(demo), "--permutations", 10**7, "--format", "json")
    finally:
        signal.signal(number, ours)
    try:
        assert "10,000,000 permutations" in running.stderr.readline()
        time.sleep(0.5)
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
    finally:
        running.kill()
    assert running.returncode == 130
    assert err == "interrupted\n"
    assert '"kind": "interrupted"' in out


def test_signals_are_as_before_when_a_command_has_ended():
    before = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)]
    with session("rank"):
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)] == before


def test_what_nohup_has_ignored_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with session("rank"):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.long
def test_a_left_over_environment_says_what_it_waits_for_and_ends_on_a_signal(demo, start, monkeypatch):
    names = {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 3, "LOCAL_WORLD_SIZE": 4}
    for variable, value in (names | {"MASTER_ADDR": "localhost", "MASTER_PORT": 29871}).items():
        monkeypatch.setenv(variable, str(value))
    with start("train", demo) as running:
        assert "waiting at localhost:29871 for the other 3 processes" in running.stderr.readline()
        running.terminate()
        out, err = running.communicate(timeout=30)
    assert running.returncode == 130
    assert (out, err) == ("", "interrupted\n")


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (MemoryError("Unable to allocate 74.5 GiB"), 6, "found: Unable to allocate 74.5 GiB"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            6,
            "not enough memory",
        ),
        (pa.ArrowMemoryError("malloc of size 99 failed"), 6, "malloc of size 99 failed"),
        (OSError(errno.ENOSPC, "No space left on device", "/a/b"), 3, "where: /a/b"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "/a/b"), 3, "File name too long"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), 3, "Permission denied"),
        (RuntimeError("something else"), 1, "this is a bug in dpf"),
    ],
)
def test_what_the_system_refuses_is_no_bug(folded, dpf, monkeypatch, raised, code, text):
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise raised

    monkeypatch.setattr("dpf.workflows.rank.rank.rank_project", refuse)
    ran = dpf("rank", folded, "--format", "json")
    assert ran.code == code
    assert text in ran.err
    assert ("bug" in ran.err) == (code == 1)
    assert ran.envelope["status"] == "error"


def test_a_name_too_long_is_one_line(folded, dpf, tmp_path):
    long = "x" * 400
    for words in (
        ["info", tmp_path / long],
        ["init", tmp_path / long, "--demo"],
        ["init", tmp_path / "p", "--from", tmp_path / long, "--scores", "a"],
        ["predict", folded, "--model", f"{long}.safetensors"],
        ["predict", folded, "--input", tmp_path / long],
        ["rank", folded, "--gene-sets", tmp_path / long],
        ["export", folded, "--output", tmp_path / long],
    ):
        ran = dpf(*words)
        assert ran.code in (3, 4, 5), (words, ran.err)
        assert "File name too long" in ran.err
        assert "bug" not in ran.err


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may read everything")
def test_no_right_to_read_is_one_line(folded, copy, dpf):
    project = copy(folded)
    for part in ("dpf.toml", "inputs/wells.parquet", "inputs/expression.parquet", "models/default/model.safetensors"):
        (project / part).chmod(0)
        ran = dpf("predict", project)
        assert ran.code in (3, 4, 5)
        assert "Permission denied" in ran.err or "may not be read" in ran.err
        (project / part).chmod(0o644)


def test_a_project_that_is_deleted_in_mid_training_is_an_error_and_stays_away(demo, copy, start):
    project = copy(demo)
    with start("train", project, "--epochs", 100_000) as running:
        for line in running.stderr:
            if "epoch" in line and "train" in line and "plan" not in line:
                break
        shutil.rmtree(project, ignore_errors=True)
        shutil.rmtree(project, ignore_errors=True)
        try:
            _, err = running.communicate(timeout=60)
        finally:
            running.kill()
    assert running.returncode == 3, err
    assert "has been removed meanwhile" in err
    assert not project.exists()
