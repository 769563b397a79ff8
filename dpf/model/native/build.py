"""The native kernel as a shared library: what it needs, and its compilation on first use.

The package ships the kernel as C++ source. The system's compiler turns it into a library in the user's cache folder,
named after everything it is made from, so that it is compiled once, and anew when any of that changes.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from dpf.errors import DpfError
from dpf.files import atomic_path, sha256_text

_FOLDER = Path(__file__).parent
_SOURCE, _HEADER = "attention.cpp", "attention_panel.h"
_COMPILERS = ("c++", "g++", "clang++")
_NEEDED = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
_BF16 = "avx512_bf16"


class CannotBuildError(Exception):
    """Why there is no native kernel here, in one phrase."""


def cpu_flags() -> frozenset[str]:
    """The instruction sets of this machine's CPU as Linux names them; empty where they are not known."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())


def load_library(*, bf16: bool) -> ctypes.CDLL:
    """The kernel's library, compiled if this user has not got it yet.

    Parameters
    ----------
    bf16
        Whether it must take bf16 besides float32.

    Raises
    ------
    CannotBuildError
        This machine cannot run it, has no compiler, or the compiler refused.
    """
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        raise CannotBuildError("it is for Linux on x86-64 only")
    flags = cpu_flags()
    if missing := [name for name in (*_NEEDED, *([_BF16] if bf16 else [])) if name not in flags]:
        raise CannotBuildError(f"this CPU has no {', '.join(missing)}")
    options = ["-std=c++17", "-O3", "-w", "-fPIC", "-shared", "-mfma", *(f"-m{name}" for name in _NEEDED)]
    if _BF16 in flags:
        options.append("-mavx512bf16")
    compiler = _compiler()
    texts = [(_FOLDER / name).read_text(encoding="utf-8") for name in (_SOURCE, _HEADER)]
    key = sha256_text("\n".join([*texts, *compiler, *options]))
    path = _cache() / f"attention-{key[:16]}.so"
    if not path.is_file():
        _compile([*compiler[:1], *options, str(_FOLDER / _SOURCE)], path)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise CannotBuildError(f"{path} does not load: {error}") from error


def _compiler() -> tuple[str, str]:
    """The path of the C++ compiler and its version text."""
    asked = os.environ.get("CXX")
    names = (asked,) if asked else _COMPILERS
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise CannotBuildError(f"there is no C++ compiler ({'CXX is ' if asked else 'looked for '}{', '.join(names)})")
    return path, subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dpf"


def _compile(command: list[str], path: Path) -> None:
    """Compile onto `path`; of several processes that do so at once the last one wins, with the same library."""
    try:
        with atomic_path(path) as part:
            done = subprocess.run([*command, "-o", str(part)], capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if "error" in line]
                raise CannotBuildError(f"{command[0]} cannot compile it: {(lines or ['no message'])[0].strip()}")
    except DpfError as error:  # the cache folder cannot be written
        raise CannotBuildError(f"{error.what} ({error.where}: {error.found})") from error
