"""Memory that a step frees is there for the next one, without asking the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import ctypes, resource, sys
from dpf.training.heap import keep_freed_memory

assert sys.argv[1] == "freed" or keep_freed_memory()
library, size, faults = ctypes.CDLL(None), 64 << 20, []  # 64 MiB: more than glibc ever keeps by itself
library.malloc.restype = ctypes.c_void_p
for _ in range(4):
    block = ctypes.c_void_p(library.malloc(ctypes.c_size_t(size)))
    ctypes.memset(block, 1, size)
    library.free(block)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[3] - faults[1])
"""


def page_faults(how):
    """Of two blocks of 64 MiB, after two others."""
    done = subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, text=True, check=False)
    if "AssertionError" in done.stderr:
        pytest.skip("another C library, or one that does not do as it is told")
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_freed_memory_is_kept():
    assert page_faults("kept") < 1000 < page_faults("freed")
