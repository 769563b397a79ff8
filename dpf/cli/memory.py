"""Memory: keep what a training frees and takes again at every step; say how much there is where it did not suffice."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

from dpf.errors import DeviceError, first_line

# mallopt's names in glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
#: Bytes: larger tensors are the system's again as soon as they are freed, and of the heap's end what is beyond.
_KEPT_AT_MOST = 1 << 30
_PAD_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Have the C library keep large freed blocks for the next step instead of giving them back; whether it does.

    Left alone, glibc maps every tensor of some megabytes anew, and the kernel clears each of its pages on first touch:
    about a tenth of a training step's processor time at 2,541 genes, a fifth of an induced one's. Other C libraries are
    left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # A glibc that refuses so large a threshold is asked to map nothing at all.
    maps_less = mallopt(_MMAP_THRESHOLD, _KEPT_AT_MOST) == 1 or mallopt(_MMAP_MAX, 0) == 1
    settings = ((_TRIM_THRESHOLD, _KEPT_AT_MOST), (_TOP_PAD, _PAD_BYTES))
    return maps_less and all(mallopt(name, value) == 1 for name, value in settings)


def free_memory() -> int | None:
    """Bytes that this process can still take, by the machine, its container and its own limit; None: not known."""
    if not sys.platform.startswith("linux"):
        return None
    import resource

    free = []
    for line in _lines("/proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free.append(int(line.split()[1]) * 1024)
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        pair = [line for name in (limit, used) for line in _lines(f"/sys/fs/cgroup/{name}")]
        if len(pair) == 2 and pair[0].isdecimal():
            free.append(int(pair[0]) - int(pair[1]))
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        free += [most - int(line.split()[0]) * resource.getpagesize() for line in _lines("/proc/self/statm")]
    return max(0, min(free)) if free else None


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text(encoding="ascii").splitlines() if file.is_file() else []


def no_memory(error: BaseException) -> DeviceError:
    """The error for an allocation that has failed, where no command has a better one."""
    free = free_memory()
    return DeviceError(
        "there is not enough memory",
        found=first_line(error),
        expected=None if free is None else f"at most {free / 2**30:,.1f} GiB, which are free now",
        hint="fewer wells at once (a project a plate), fewer genes (dpf init --top-variable), or a machine with more",
    )
