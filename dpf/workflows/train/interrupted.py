"""What an interrupted run of a model has left: this training goes on with it, refuses it or discards it."""

from __future__ import annotations

from dpf.project.model_header import DamagedModelError, read_model_header
from dpf.training.resume import SavedRun, load_run, nothing_to_resume, require_same
from dpf.workflows.train.run import TrainingRun
from dpf.workflows.train.tuning import interrupted_search


def saved_run(run: TrainingRun, *, resume: bool) -> SavedRun | None:
    """What this process, or the team it is in, goes on from: None where it begins anew.

    Raises
    ------
    ModelError
        There is nothing to resume, it is damaged, or it is a run of other settings, inputs or processes.
    """
    if not resume:
        if run.team.leads:
            discard_interrupted(run)
        return None
    _require_this_run(run)
    # A run may have been interrupted in its first search, before there was a state to save.
    searching = not run.folder.resumable and interrupted_search(run)
    saved = None if searching else load_run(run.folder.resume, run.identity)
    if saved:
        run.team.told(True)  # all have read it: now it may be moved
        _take_over(run, saved)
    return saved


def saved_part(run: TrainingRun) -> SavedRun | None:
    """What one of the processes that train whole members goes on from: None where it had saved nothing yet."""
    if not run.folder.resumable:
        return None
    saved = load_run(run.folder.resume, run.identity)
    _take_over(run, saved)
    return saved


def prepare_parts(run: TrainingRun, parts: list[TrainingRun], *, resume: bool) -> None:
    """Before processes that train whole members begin: discard what is there, or make sure that they may go on from it.

    Called by the first, for all of them.

    Raises
    ------
    ModelError
        There is nothing to resume, or it is a run of other settings, inputs or processes.
    """
    if not resume:
        discard_interrupted(run)
        return
    _require_this_run(run)
    if not run.folder.resumable and not any(interrupted_search(part) for part in parts):
        raise nothing_to_resume(run.folder.path)


def discard_interrupted(run: TrainingRun) -> None:
    """Remove what any run of the model has left, whatever processes it had."""
    folder = run.folder
    states, of_ranks, interrupted = folder.states, folder.rank_files, folder.interrupted
    # None of it must look like this run's.
    for path in {*states, *of_ranks, folder.running_tuning, folder.running_history}:
        path.unlink(missing_ok=True)
    if interrupted:
        where = folder.resume if states and states[0] not in of_ranks else folder.path
        run.progress.warn(f"an interrupted run of this model is discarded: {where} (--resume continues one)")


def _take_over(run: TrainingRun, saved: SavedRun) -> None:
    if saved.note:
        run.progress.warn(saved.note)
    if run.team.leads:
        saved.adopt(run.folder.resume)


def _require_this_run(run: TrainingRun) -> None:
    """Refuse states of other processes: not even one of them may be taken for this run's, or left beside it."""
    for path in run.folder.states:
        try:
            saved = read_model_header(path)["identity"]
        except (DamagedModelError, KeyError):
            continue  # whoever would go on from it tells
        require_same(path, {name: value for name, value in saved.items() if name != "rank"}, run.identity)
