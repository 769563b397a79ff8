"""Atomic writes, digests, canonical JSON."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dpf.errors import DataError, DpfError, ProjectError

_BLOCK = 1 << 20
#: What `atomic_path` writes to: the target's name, eight characters at random, and the target's ending once more.
_PART = re.compile(r"\..+?(\.[^.]*)?\.[a-z0-9_]{8}\.part(?(1)\1)")


@dataclass
class _Waiting:
    """Files that are written and not in place yet: where they are by where they belong, and what holds them."""

    files: dict[Path, Path] = field(default_factory=dict)
    handles: list[int] = field(default_factory=list)
    #: Instead of folders that cannot be written to; None where that is an error.
    elsewhere: Path | None = None
    lost: list[Path] = field(default_factory=list)


_WAITING: ContextVar[_Waiting | None] = ContextVar("waiting", default=None)
_MAY_NOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def together(not_kept: Callable[[str], None] | None = None) -> Iterator[dict[Path, Path]]:
    """Put the files that are written in the block in place at its end, at once; where it raises, none of them.

    Parameters
    ----------
    not_kept
        Called with a line where their folders may not be written to, as in a project on a read-only disk; nothing is
        kept then. None: that is an error.

    Yields
    ------
    dict
        Where each file is until the end of the block, by where it will be.

    Raises
    ------
    ProjectError
        A file cannot be put in place.
    """
    with ExitStack() as stack:
        waiting = _Waiting()
        if not_kept is not None:
            waiting.elsewhere = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        token = _WAITING.set(waiting)
        try:
            try:
                yield waiting.files
            finally:
                _WAITING.reset(token)
            for target, temporary in waiting.files.items():
                try:
                    temporary.replace(target)
                except OSError as error:
                    raise _write_error(target, error) from error
            for folder in {target.parent for target in waiting.files}:
                _sync(folder)
        finally:
            for temporary in waiting.files.values():
                temporary.unlink(missing_ok=True)
            for handle in waiting.handles:
                os.close(handle)
        if waiting.lost and not_kept is not None:
            names = ", ".join(sorted(path.name for path in waiting.lost))
            not_kept(f"{waiting.lost[0].parent} cannot be written to: nothing of this was kept ({names})")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a path in the folder of `target` to write to; on success it is fsynced and renamed onto `target`.

    What killed processes left half-written in that folder is removed: a writer holds a lock on its file as long as it
    lives. A reader sees the old file or the new one, never half of one. When the block raises, the half-written
    file is removed and `target` stays as it was. Within `together` the renaming waits.

    Raises
    ------
    ProjectError
        The disk is full, or the folder cannot be written.
    """
    temporary: Path | None = None
    handle: int | None = None
    waiting = _WAITING.get()
    try:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(
                dir=target.parent, prefix=f".{target.name}.", suffix=f".part{target.suffix}"
            )
        except OSError as error:
            if waiting is None or waiting.elsewhere is None or error.errno not in _MAY_NOT_WRITE:
                raise
            waiting.lost.append(target)
            yield waiting.elsewhere / f"lost{target.suffix}"
            return
        temporary = Path(name)
        handle = _hold(handle, target)
        yield temporary
        _sync(temporary)
        # mkstemp makes files only their owner can read; a project's files follow the user's umask.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        if waiting is None:
            temporary.replace(target)
            _sync(target.parent)
        else:
            assert target not in waiting.files
            waiting.files[target], temporary = temporary, None
            waiting.handles += [handle] if handle is not None else []
            handle = None
    except OSError as error:
        raise _write_error(target, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


if sys.platform == "win32":

    def _hold(handle: int, target: Path) -> int | None:  # noqa: ARG001
        os.close(handle)  # Windows does not rename a file that is open
        return None

else:
    import fcntl

    def _hold(handle: int, target: Path) -> int | None:
        """Lock this process's half-written file, and remove those in the folder that no process has a lock on."""
        if _locked(handle):
            for path in target.parent.iterdir():
                if _PART.fullmatch(path.name) and path.is_file():
                    with suppress(OSError), path.open("rb") as stream:
                        if _locked(stream.fileno()):
                            path.unlink(missing_ok=True)
        if target.suffix == ".h5ad":  # HDF5 locks what it writes itself, and gives up where another lock is
            fcntl.flock(handle, fcntl.LOCK_UN)
        return handle

    def _locked(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # another process has it, or the file system has no locks
            return False
        return True


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
        errno.EFBIG: "a limit on the size of files is set, or that file system's own is reached: see ulimit -f",
        errno.EMFILE: "raise the limit on open files (ulimit -n), then run the command again",
    }
    found = f"{type(error).__name__}: {error.strerror or error}"
    # Polars has no number of the system's, but its text.
    number = error.errno or next((one for one in advice if os.strerror(one) in found), 0)
    if not target.parent.exists():
        return ProjectError(
            "the folder that this command writes to has been removed meanwhile", where=target.parent, found=found,
            hint="run the command anew in a project that stays",
        )  # fmt: skip
    return ProjectError(
        "cannot write a file", where=target, found=found, hint=advice.get(number, "see the message above")
    )


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@contextmanager
def regular_file(path: Path) -> Iterator[Path]:
    """Yield `path`, or a copy of what a pipe holds (``/dev/stdin``, ``<(zcat x.csv.gz)``): that is read once only.

    Raises
    ------
    DataError
        It is a device or a socket, or as `copied`.
    """
    kind = path.stat().st_mode if path.exists() else stat.S_IFREG  # whoever opens it says that it is missing
    if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
        yield path
    elif stat.S_ISFIFO(kind):
        with path.open("rb") as stream, copied(stream, path, path.name) as copy:
            yield copy
    else:
        raise DataError("a device is no file", where=path, expected="a file, or a pipe")


@contextmanager
def copied(stream: _Readable, path: Path, name: str, longest: int = 1 << 40) -> Iterator[Path]:
    """Yield a temporary file `name` with what `stream` holds, which is that of `path`: errors name `path`.

    Raises
    ------
    DataError
        There are more than `longest` bytes, or there is no room for them.
    """
    with tempfile.TemporaryDirectory(prefix="dpf-", ignore_cleanup_errors=True) as folder:
        copy, size = Path(folder, name), 0
        with copy.open("wb", buffering=0) as target:
            while block := stream.read(_BLOCK):
                size += len(block)
                if size > longest:
                    raise DataError("a file unpacks to too much", where=path, expected=f"at most {longest:,} bytes")
                try:
                    target.write(block)
                except OSError as error:
                    hint = "set TMPDIR to a folder with more room"
                    raise DataError("no room for a copy", where=path, found=error.strerror, hint=hint) from error
        try:
            yield copy
        except DpfError as error:
            error.where = error.where and error.where.replace(str(copy), str(path))
            raise


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


def parse_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object. Whatever else the text is, a ValueError says: no JSON, a list, nested 5,000 deep."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object was expected, not {type(value).__name__}")
    return value


def require_regular(path: Path) -> None:
    """Raise OSError where there is something else than a file: to open a FIFO waits for ever, a device has no end."""
    if path.exists() and not path.is_file():
        raise OSError("it is a directory" if path.is_dir() else "it is no regular file")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file (OSError, ValueError: there is none)."""
    require_regular(path)
    return parse_object(path.read_bytes())


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
