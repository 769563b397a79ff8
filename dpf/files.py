"""Atomic writes, digests, canonical JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dpf.errors import ProjectError

_BLOCK = 1 << 20


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path in the folder of `target` to write to; on success it is fsynced and renamed onto `target`.

    A reader sees the old file or the new one, never half of one. When the block raises, the half-written
    file is removed and `target` stays as it was.

    Raises
    ------
    ProjectError
        The disk is full, or the folder cannot be written.
    """
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=f".part{target.suffix}")
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary)
        # mkstemp makes files only their owner can read; a project's files follow the user's umask.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise _write_error(target, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows has no fsync of a folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_error(target: Path, error: OSError) -> ProjectError:
    advice = {
        errno.ENOSPC: "free some space on that disk, then run the command again; what was there before is untouched",
        errno.EDQUOT: "the disk quota is used up: free some space, then run the command again",
        errno.EACCES: "give yourself write permission there, or work in another folder",
        errno.EPERM: "give yourself write permission there, or work in another folder",
        errno.EROFS: "that file system is read-only: work in another folder",
    }
    found = f"{type(error).__name__}: {error.strerror or error}"
    return ProjectError(
        "cannot write a file", where=target, found=found, hint=advice.get(error.errno or 0, "see the message above")
    )


def write_bytes(target: Path, data: bytes) -> None:
    """Write `data` to `target`, atomically."""
    with atomic_path(target) as path:
        path.write_bytes(data)


def write_text(target: Path, text: str) -> None:
    """Write `text` to `target` in UTF-8 with Unix line ends, atomically."""
    write_bytes(target, text.encode())


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and no NaN: equal values give equal text, on every machine."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_text(text: str) -> str:
    """The SHA-256 of a text in UTF-8, as 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
