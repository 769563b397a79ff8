"""What an interrupted run has left: this training goes on with it, refuses it or discards it."""

from __future__ import annotations

from typing import Any

from dpf.errors import DataError
from dpf.project.directory import ModelFolder, previous_state
from dpf.project.model_header import DamagedModelError, read_model_header
from dpf.training.resume import SavedRun, discard_run, load_run
from dpf.workflows.progress import Progress
from dpf.workflows.train.run import TrainingRun
from dpf.workflows.train.tuning import identity_of_search, interrupted_search


def saved_run(run: TrainingRun, *, resume: bool) -> SavedRun | None:
    """What this process, or the team it is in, goes on from: None where it begins anew.

    Raises
    ------
    ModelError
        There is nothing to resume, it is damaged, or it is a run of other settings, inputs or processes.
    """
    if not resume:
        if run.team.is_rank_0:
            discard_interrupted(run.folder, run.progress)
        return None
    # A run may have been interrupted in its first search, before there was a state to save.
    searching = not run.folder.resumable and interrupted_search(run)
    saved = None if searching else load_run(run.folder.resume, run.identity)
    if saved:
        run.team.from_rank_0(True)  # all have read it: now it may be moved
        if saved.note:
            run.progress.warn(saved.note)
        if run.team.is_rank_0:
            saved.adopt(run.folder.resume)
    return saved


def discard_interrupted(folder: ModelFolder, progress: Progress) -> None:
    """Remove what a run has left in a folder, so that none of it looks like the next run's."""
    if folder.interrupted:
        where = folder.resume if folder.resumable else folder.path
        progress.warn(f"an interrupted run of this model is discarded: {where} (--resume continues one)")
    discard_run(folder.resume)
    for path in (folder.running_tuning, folder.running_history):
        path.unlink(missing_ok=True)


def identity_of(member: ModelFolder) -> dict[str, Any] | None:
    """What a member that is trained alone was begun with (`dpf.training.resume.run_identity`); None if it is not known.

    A damaged state is none: whoever goes on from it reports that.
    """
    for path in (member.best, member.resume, previous_state(member.resume)):
        if path.is_file():
            try:
                about = read_model_header(path)
                found: dict[str, Any] = about["member"]["identity"] if path == member.best else about["identity"]
            except (DamagedModelError, KeyError):
                continue
            return found
    try:
        return identity_of_search(member)
    except DataError:
        return None
