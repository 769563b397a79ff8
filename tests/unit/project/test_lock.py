"""One writer per model, over processes; a killed one leaves nothing to clean up."""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
import threading

import pytest

from dpf.errors import ProjectError
from dpf.project import lock
from dpf.project.lock import is_held, require_there, writing

HOLD = """
import sys, time
from pathlib import Path
from dpf.project.lock import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path/"m"."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "m")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_fails_and_says_who_holds_it(tmp_path, holder):
    with pytest.raises(ProjectError) as caught, writing(tmp_path / "m"):
        pass
    assert caught.value.what == "another dpf process is writing there"
    assert caught.value.where == str(tmp_path / "m")
    assert caught.value.found == f"process {holder.pid}"
    assert caught.value.hint == "wait until it has ended, or choose another --model NAME"
    with writing(tmp_path / "other"):  # other models are free
        pass


def test_a_killed_process_leaves_the_lock_free(tmp_path, holder):
    holder.kill()  # SIGKILL: no handler of it can run
    holder.wait()
    with writing(tmp_path / "m"):
        pass


def test_the_lock_is_free_after_the_block_and_after_an_error(tmp_path):
    for _ in range(2):
        with writing(tmp_path / "m"):
            pass
    with pytest.raises(ValueError, match="stop"), writing(tmp_path / "m"):
        raise ValueError("stop")
    with writing(tmp_path / "m"), pytest.raises(ProjectError, match="another dpf process"), writing(tmp_path / "m"):
        pass
    with writing(tmp_path / "m"):
        pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ProjectError, match="cannot write in a folder of the project"), writing(tmp_path / "file" / "m"):
        pass


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(_descriptor, *, blocking):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "lock_descriptor", refuse)
    assert is_held(tmp_path) is False  # there is no lock file
    with pytest.raises(ProjectError, match=r"has no locks[\s\S]*No locks available"), writing(tmp_path):
        pass
    assert is_held(tmp_path) is None


def test_whether_a_folder_is_being_written_in_can_be_asked(tmp_path, holder):
    assert is_held(tmp_path / "m") is True
    assert (tmp_path / "m/.lock").read_text() == f"{holder.pid}\n"  # who looks leaves no trace
    holder.kill()
    holder.wait()
    assert is_held(tmp_path / "m") is False
    assert is_held(tmp_path / "never") is False
    assert not (tmp_path / "never").exists()


def test_one_may_wait_for_the_lock(tmp_path, holder):
    threading.Timer(0.3, holder.kill).start()
    with writing(tmp_path / "m", patience=60.0):
        pass


def test_a_folder_that_is_removed_while_it_is_written_to(tmp_path):
    with writing(tmp_path / "m"):
        require_there(tmp_path / "m")
        shutil.rmtree(tmp_path / "m")
        with pytest.raises(ProjectError, match="has been removed meanwhile"):
            require_there(tmp_path / "m")
        (tmp_path / "m").mkdir()  # another one of the same name
        with pytest.raises(ProjectError, match="has been removed meanwhile"):
            require_there(tmp_path / "m")
