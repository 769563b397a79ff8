"""A project is made in a hidden folder in its own, and put in place when it is whole: there is never half of one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dpf.errors import ProjectError
from dpf.files import write_bytes
from dpf.project.directory import settings_path
from dpf.project.lock import is_held, writing

#: Where a project is made.
_UNFINISHED = ".init.part"
#: What `making` may have put in place when it was killed.
_PUT_IN_PLACE = ("inputs", "truth.parquet", "truth_genes.parquet")
_INPUTS = {f"{name}.parquet" for name in ("expression", "counts", "wells", "genes", "normalisation")}


def require_new(path: Path) -> None:
    """Refuse to begin a project where something already is, but for what a killed `dpf init` has left.

    Raises
    ------
    ProjectError
        The path is a file or a folder that is not empty.
    """
    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not _left_over(path)):
        what = "a project already is there" if settings_path(path).exists() else "that folder is not empty"
        what = "there is a file of that name" if path.is_file() else what
        raise ProjectError(what, where=path, hint="name a new folder; dpf init never overwrites")


def _left_over(path: Path) -> list[Path]:
    """All that is in a folder, where it is what a `dpf init` has left that does not run any more; else nothing."""
    there, unfinished = list(path.iterdir()), path / _UNFINISHED
    known = {child.name for child in there} <= {_UNFINISHED, *_PUT_IN_PLACE}
    known = known and {child.name for child in (path / "inputs").glob("*")} <= _INPUTS
    return there if known and unfinished.is_dir() and is_held(unfinished) is False else []


@contextmanager
def making(path: Path) -> Iterator[Path]:
    """Yield a folder to make a project in; at the end of the block all of it is put in place, the settings last.

    When the block fails, what it has written is removed, and `path` too if it was not there.

    Raises
    ------
    ProjectError
        The folder is not empty or cannot be written.
    """
    require_new(path)
    existed, unfinished = path.is_dir(), path / _UNFINISHED
    for child in _left_over(path) if existed else []:
        shutil.rmtree(child) if child.is_dir() else child.unlink()
    moved: list[Path] = []
    try:
        with writing(unfinished):
            yield unfinished
            for name in _PUT_IN_PLACE:
                if (unfinished / name).exists():
                    moved.append((unfinished / name).replace(path / name))
            write_bytes(settings_path(path), settings_path(unfinished).read_bytes())
    except BaseException:
        for child in [unfinished, *moved]:
            shutil.rmtree(child, ignore_errors=True) if child.is_dir() else child.unlink(missing_ok=True)
        if not existed:
            with suppress(OSError):
                path.rmdir()
        raise
    shutil.rmtree(unfinished, ignore_errors=True)
