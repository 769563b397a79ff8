"""What is asked of the C library's allocator, and where it is not asked."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from dpf.cli import memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_a_freed_block_is_kept_and_needs_no_new_pages():
    code = (
        "import ctypes, resource, sys; from dpf.cli.memory import keep_freed_memory; "
        "assert sys.argv[1] == 'not' or keep_freed_memory(); c = ctypes.CDLL(None); "
        "c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]; "
        "c.free.argtypes = [ctypes.c_void_p]; "
        "use = lambda: [ctypes.memset(p, 1, 1 << 26) and c.free(p) for p in [c.malloc(1 << 26)]]; use(); "
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt; [use() for _ in range(3)]; "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )

    def faults(word):
        done = subprocess.run([sys.executable, "-c", code, word], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < 1000
    assert faults("not") > 10 * 1000  # three times 64 MiB in pages of 4 KiB: 49,152


def test_other_systems_and_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: object())
    monkeypatch.setattr(memory.sys, "platform", "linux")
    assert not memory.keep_freed_memory()
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert not memory.keep_freed_memory()


def test_lack_of_memory_says_what_there_is():
    error = memory.no_memory(MemoryError("Unable to allocate 74.5 GiB for an array"))
    assert error.exit_code == 6
    assert error.found == "Unable to allocate 74.5 GiB for an array"
    assert error.hint
    if sys.platform.startswith("linux"):
        assert "GiB, which are free now" in error.expected
    assert memory.no_memory(MemoryError()).found == "MemoryError"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")
def test_free_memory_is_the_least_of_the_machine_and_the_limit():
    code = (
        "import resource; from dpf.cli.memory import free_memory; free = free_memory(); "
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)); print(free, free_memory())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    free, limited = map(int, done.stdout.split())
    assert 1 << 26 < limited < 1 << 30
    assert limited <= free
