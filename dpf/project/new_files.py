"""Where a command may write for its user: never over a file of theirs, and never among what a project keeps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from dpf.errors import ProjectError, UsageError, listed
from dpf.files import canonical_json, read_object, sha256_file, write_text
from dpf.project.directory import Project, settings_path

_KEPT = ("inputs", "models", "results", "check", "baselines")


def require_free(
    paths: Iterable[Path],
    project: Project | None,
    overwrite: bool,
    *,
    sources: Iterable[Path] = (),
    ours: Callable[[Path], bool] = lambda _: False,
    hint: str = "write somewhere else, or replace it: --overwrite",
) -> None:
    """Refuse to write where something is that dpf did not write, or where a project keeps its own files.

    Parameters
    ----------
    paths
        The files that are about to be written.
    project
        The project at work: its folders are refused by whatever name they are reached, even through a link.
    overwrite
        Whether the user lets files be replaced that are not `ours`.
    sources
        What the command reads for its user: never replaced.
    ours
        Whether a file is a copy that the same command wrote before, and may be replaced unasked.

    Raises
    ------
    UsageError
        One of the paths is refused.
    """
    paths, sources = list(paths), list(sources)
    for path in paths:
        if kept := _kept_folder(path, project):
            raise UsageError(
                "that is a place where a project keeps its own files",
                where=path,
                found=f"inside {kept}",
                hint="write outside of the project, or into another folder of it",
            )
        if any(path.exists() and source.exists() and path.samefile(source) for source in sources):
            raise UsageError("the table would replace the very file it is made from", where=path, hint="name another")
    taken = [] if overwrite else [path for path in paths if os.path.lexists(path) and not ours(path)]
    if taken:
        raise UsageError(
            "files are there already that are not dpf's to replace", where=taken[0].parent,
            found=listed([path.name for path in taken]), hint=hint,
        )  # fmt: skip


def _kept_folder(path: Path, project: Project | None) -> Path | None:
    """The folder of a project, of this one or of any other, that a path lies in."""
    own = [(project.path / name).resolve() for name in _KEPT] if project else []
    for place in (Path.cwd() / path, path.resolve()):
        for folder in (place, *place.parents):
            if folder in own or (folder.name.lower() in _KEPT and settings_path(folder.parent).is_file()):
                return folder
    return None


class Exports:
    """What `dpf export` wrote of a project and where: a file with the digest it had then is a copy to be replaced.

    Kept in the project (`exports.json`) and not beside the files, so that two projects cannot replace each other's.
    """

    def __init__(self, project: Project) -> None:
        self._root = project.path.resolve()
        self._path = project.path / "exports.json"
        try:
            files = read_object(self._path)["files"]
            self._digests = {str(name): str(sha256) for name, sha256 in files.items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):  # then no file is known to be a copy
            self._digests = {}

    def _name(self, path: Path) -> str:
        """Inside the project as from its folder, so that it can be moved."""
        place = path.resolve()
        return (place.relative_to(self._root) if place.is_relative_to(self._root) else place).as_posix()

    def holds(self, path: Path) -> bool:
        """Whether a file is as an earlier export left it."""
        known = self._digests.get(self._name(path))
        return known is not None and path.is_file() and not path.is_symlink() and sha256_file(path) == known

    def add(self, path: Path) -> bool:
        """Remember a file that has been written; False where the project cannot be written to."""
        self._digests[self._name(path)] = sha256_file(path)
        try:
            write_text(self._path, canonical_json({"format": 1, "kind": "exports", "files": self._digests}) + "\n")
        except ProjectError:
            return False
        return True
