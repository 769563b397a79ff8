"""One writer per model: a second one fails at once, and a crashed one leaves nothing to clean up."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpf.errors import ProjectError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold the folder's writer lock while the block runs.

    The lock belongs to the process, not to the file: when the process ends, however it ends, the lock is free.

    Raises
    ------
    ProjectError
        Another process holds it, or the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ProjectError(
            "cannot write in a folder of the project",
            where=folder,
            found=f"{type(error).__name__}: {error.strerror}",
            hint="give yourself write permission there, or copy the project elsewhere",
        ) from error
    try:
        if not _acquired(descriptor, folder):
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() if os.name != "nt" else ""
            raise ProjectError(
                "another dpf process is writing there",
                where=folder,
                found=f"process {holder}" if holder else None,
                hint="wait until it has ended, or choose another --model NAME",
            )
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _acquired(descriptor: int, folder: Path) -> bool:
    try:
        return _acquire(descriptor)
    except OSError as error:
        raise ProjectError(
            "the file system has no locks, so that two processes could write at once",
            where=folder,
            found=f"{type(error).__name__}: {error.strerror}",
            hint="copy the project to a local disk",
        ) from error


if sys.platform == "win32":
    import msvcrt

    def _acquire(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _acquire(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
