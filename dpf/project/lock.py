"""One writer per folder: a second one is refused, and a crashed one leaves nothing to clean up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import lock_descriptor

from dpf.errors import ProjectError

# Long enough for whoever only looks at the lock (`is_held`) or writes a line under it, short enough to be no wait.
_PATIENCE = 1.0
_SECONDS_BETWEEN_TRIES = 0.05


@contextmanager
def writing(folder: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """Hold the folder's writer lock while the block runs.

    The lock belongs to the process, not to the file: when the process ends, however it ends, the lock is free.

    Parameters
    ----------
    patience
        Seconds to wait for a process that holds the lock.

    Raises
    ------
    ProjectError
        Another process holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(_path(folder), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ProjectError(
            "cannot write in a folder of the project",
            where=folder,
            found=f"{type(error).__name__}: {error.strerror}",
            hint="give yourself write permission there, or copy the project elsewhere",
        ) from error
    try:
        if not _acquired(descriptor, folder, patience):
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


def require_there(folder: Path) -> None:
    """Refuse to go on where the folder that is being written to has been removed, which would begin it anew.

    Raises
    ------
    ProjectError
        It, or the lock in it, is not there any more.
    """
    if not _path(folder).exists():
        raise ProjectError(
            "the folder that this command writes to has been removed meanwhile",
            where=folder,
            hint="nothing was written there again; run the command anew in a project that stays",
        )


def is_held(folder: Path) -> bool | None:
    """Whether a process is writing in the folder; None where that cannot be found out."""
    try:
        descriptor = os.open(_path(folder), os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        return not lock_descriptor(descriptor, blocking=False)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _path(folder: Path) -> Path:
    return folder / ".lock"


def _acquired(descriptor: int, folder: Path, patience: float) -> bool:
    end = time.monotonic() + patience
    try:
        while not (acquired := lock_descriptor(descriptor, blocking=False)) and time.monotonic() < end:
            time.sleep(_SECONDS_BETWEEN_TRIES)
    except OSError as error:
        raise ProjectError(
            "the file system has no locks, so that two processes could write at once",
            where=folder,
            found=f"{type(error).__name__}: {error.strerror}",
            hint="copy the project to a local disk",
        ) from error
    return acquired
