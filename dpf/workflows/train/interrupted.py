"""What an interrupted run has left: this training goes on with it, refuses it or discards it."""

from __future__ import annotations

from dpf.errors import UsageError
from dpf.project.directory import ModelFolder
from dpf.training.resume import SavedRun, discard_run, load_run
from dpf.workflows.progress import Progress
from dpf.workflows.train.run import TrainingRun
from dpf.workflows.train.tuning import interrupted_search


def require_replaceable(model: ModelFolder, overwrite: bool) -> None:
    """Refuse to begin a training that would replace a finished model, unless that is asked for.

    Raises
    ------
    UsageError
        The model is finished.
    """
    if model.best.is_file() and not overwrite:
        hint = "train under another name: --model NAME; or replace this one: --overwrite"
        raise UsageError(
            "a finished model is there, which no training replaces unasked",
            where=model.best,
            hint=hint + ("; or go on with the run that was interrupted: --resume" if model.interrupted else ""),
        )


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
