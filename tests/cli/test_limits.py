"""What the system refuses: full disks, files that may not grow, few descriptors. One clear line, nothing lost."""

from __future__ import annotations

import pytest

resource = pytest.importorskip("resource", reason="a system without limits")
pytestmark = [pytest.mark.usefixtures("sketches"), pytest.mark.long]

#: A disk that is full once a command wants to put a file in place, or to open one to write.
FULL = """
import errno, os, runpy, sys
name = sys.argv.pop(1)
real = getattr(os, name)
def full(path, *words, **named):
    if name != "open" or (words[0] & os.O_CREAT and ".part" in str(path)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    return real(path, *words, **named)
setattr(os, name, full)
runpy.run_module("dpf", run_name="__main__", alter_sys=True)
"""
#: Commands, and how they are asked to write again what they have written before.
AGAIN = {"rank": [], "check": [], "export": ["--overwrite"], "train": ["--folds", 3, "--seed", 9, "--overwrite"]}


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def nothing_lost(project, before, ran):
    assert ran.code == 3, ran.err
    assert ran.err.count("error: cannot write a file") == 1
    assert "bug" not in ran.err
    assert ran.out == ""
    assert files(project) == before


@pytest.fixture(scope="module")
def limited(process):
    """Run a command as a process with a limit of the system on it."""

    def run(kind, value, *words):
        return process(*words, preexec_fn=lambda: resource.setrlimit(kind, (value, value)))

    return run


@pytest.mark.parametrize(("command", "size"), [("rank", 6000), ("check", 64), ("export", 6000), ("train", 6000)])
def test_files_that_may_not_grow(folded, copy, ok, limited, command, size):
    project = copy(folded)
    if command != "train":
        ok(command, project)
    before = files(project)
    ran = limited(resource.RLIMIT_FSIZE, size, command, project, *AGAIN[command])
    nothing_lost(project, before, ran)
    assert "File too large" in ran.err
    assert "ulimit -f" in ran.err


def test_a_project_that_may_not_grow_is_none(tmp_path, limited):
    ran = limited(resource.RLIMIT_FSIZE, 6000, "init", tmp_path / "p", "--demo", "--wells", 48, "--genes", 24)
    assert ran.code == 3
    assert "File too large" in ran.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["replace", "open"])
def test_a_full_disk(folded, copy, ok, process, call):
    project = copy(folded)
    ok("rank", project)
    before = files(project)
    ran = process("rank", project, module=("-c", FULL, call))
    nothing_lost(project, before, ran)
    assert "No space left on device" in ran.err
    assert "free some space" in ran.err


@pytest.mark.parametrize("limit", [16, 64])
def test_with_few_descriptors_it_works_or_is_one_clear_line(folded, copy, limited, limit):
    project = copy(folded)
    before = files(project)
    ran = limited(resource.RLIMIT_NOFILE, limit, "rank", project)
    if ran.code:
        nothing_lost(project, before, ran)
        assert "ulimit -n" in ran.err
    assert limit < 64 or ran.code == 0
