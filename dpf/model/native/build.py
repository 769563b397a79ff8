"""The native kernel as a shared library: what it needs, and its compilation on first use.

The package ships the kernel as C++ source. The system's compiler turns it into a library in the user's cache folder,
named after everything it is made from, so that it is compiled once, and anew when any of that changes. A library runs
with all rights of its user: only one that this user's dpf wrote is loaded, whole, from a folder that no one else can
write to.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dpf.errors import DpfError
from dpf.files import atomic_path, sha256_text

_FOLDER = Path(__file__).parent
_SOURCE, _HEADER = "attention.cpp", "attention_panel.h"
_COMPILERS = ("c++", "g++", "clang++")
_NEEDED = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
_BF16 = "avx512_bf16"
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
#: Bytes of a SHA-256.
_DIGEST = 32
#: A compiler that takes longer, of some seconds as a rule, hangs.
_SECONDS = 300.0


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


def load_library(*, bf16: bool, log: Callable[[str], None] = lambda _: None) -> ctypes.CDLL:
    """The kernel's library, compiled if this user has not got it yet.

    Parameters
    ----------
    bf16
        Whether it must take bf16 besides float32.
    log
        Called with a line before it is compiled, which takes some seconds.

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
    path = _private_folder() / f"attention-{key[:16]}.so"
    library = _loaded(path)
    if library is None:
        log(f"compiling the native attention kernel with {compiler[0]} into {path}, once for this machine")
        _compile([*compiler[:1], *options, str(_FOLDER / _SOURCE)], path)
        library = _loaded(path)
    if library is None:
        raise CannotBuildError(f"{path} has not the content that was compiled into it")
    return library


def _loaded(path: Path) -> ctypes.CDLL | None:
    """The library in a file; None where it is not the one that this user's dpf wrote there.

    The file ends with the SHA-256 of what is before it, which a loader does not look at.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & _WRITABLE_BY_OTHERS:
            return None
        content = file.read()
    if hashlib.sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
        return None
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise CannotBuildError(f"{path} does not load: {error}") from error
    if not all(hasattr(library, name) for name in ("dpf_attention_forward", "dpf_attention_backward")):
        raise CannotBuildError(f"{path} has not the functions of the kernel")
    return library


def _compiler() -> tuple[str, str]:
    """The path of the C++ compiler and its version text."""
    asked = os.environ.get("CXX")
    names = (asked,) if asked else _COMPILERS
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise CannotBuildError(f"there is no C++ compiler ({'CXX is ' if asked else 'looked for '}{', '.join(names)})")
    return path, _run([path, "--version"]).stdout


def _private_folder() -> Path:
    """The folder for libraries in the user's cache, made if need be: nobody else may write to it.

    `XDG_CACHE_HOME` counts where it is absolute, as its specification has it.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = (base if base.is_absolute() else Path.home() / ".cache") / "dpf"
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.stat()
        if about.st_uid != os.geteuid():
            raise CannotBuildError(f"{folder} is another user's: set XDG_CACHE_HOME to a folder of your own")
        if about.st_mode & _WRITABLE_BY_OTHERS:
            folder.chmod(0o700)
    except (OSError, RuntimeError) as error:  # a file in its place, no permission; no home
        raise CannotBuildError(f"there is no folder for it: {error}") from error
    return folder


def _compile(command: list[str], path: Path) -> None:
    """Compile onto `path`; of several processes that do so at once the last one wins, with the same library."""
    try:
        with atomic_path(path) as part:
            done = _run([*command, "-o", str(part)])
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if "error" in line]
                raise CannotBuildError(f"{command[0]} cannot compile it: {(lines or ['no message'])[0].strip()}")
            with part.open("ab") as file:
                file.write(hashlib.sha256(part.read_bytes()).digest())
        with suppress(OSError):  # then it is not loaded
            path.chmod(0o600)  # whatever the umask
    except DpfError as error:  # the cache folder cannot be written
        raise CannotBuildError(f"{error.what} ({error.where}: {error.found})") from error


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a compiler to its end, or stop it, and what it has started, when its time is up."""
    try:
        process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            errors="replace", start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise CannotBuildError(f"{command[0]} cannot be run: {error.strerror}") from error
    with process:
        try:
            out, err = process.communicate(timeout=_SECONDS)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise CannotBuildError(f"{command[0]} has not ended within {_SECONDS:g} s") from None
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)
