"""Members that were trained one by one, by any processes on any machines, become the model that one run would write.

A member that has finished leaves its weights and its history in a folder of its own. Whoever finishes last writes the
model of all of them, under the model's lock.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from dpf.errors import ModelError, ProjectError, listed
from dpf.project.directory import ModelFolder
from dpf.project.lock import writing
from dpf.project.model_header import DamagedModelError, read_model_header
from dpf.tables.storage import read_table
from dpf.training.parallel.differences import differences
from dpf.training.resume import RunState, discard_run, load_run, save_run
from dpf.workflows.train.interrupted import discard_interrupted, require_replaceable
from dpf.workflows.train.run import TrainingRun, TrainResult, validation_metrics, write_model
from dpf.workflows.train.tuning import join_searches

# Seconds: whoever holds the model's lock meanwhile is a member that begins, in a moment, or an assembly.
_PATIENCE = 600.0


def require_whole(model: ModelFolder) -> None:
    """Refuse to train a model as a whole of which members are being trained, or have been, one by one.

    Raises
    ------
    ProjectError
        There are such members: other processes may be at work on them, and each may have taken hours.
    """
    if begun := model.begun_members():
        raise ProjectError(
            "members of this model are trained one by one",
            where=model.members,
            found=f"member {listed(begun)}, finished or not (dpf info shows which)",
            hint="train the others, too, with --member, or assemble them with --assemble; to begin anew, remove that "
            "folder; or choose another --model NAME",
        )


def prepare_folder(run: TrainingRun, member: ModelFolder, *, resume: bool, overwrite: bool, held: ExitStack) -> None:
    """Before a member is trained alone: take its lock, and discard, with a warning, what it does not go on from.

    Raises
    ------
    ModelError
        It could not become part of one model with what is there, of which nothing is discarded then.
    ProjectError
        Another process trains it.
    UsageError
        It would be the first member of a model that replaces a finished one, without `overwrite`.
    """
    require_alike(run, [] if resume else [member])
    if resume and run.folder.interrupted:
        raise ModelError(
            "the interrupted run is one of the whole model",
            where=run.folder.path,
            hint="go on with it: --resume without --member; or begin anew, a member at a time, without --resume",
        )
    if not run.folder.begun_members():  # whoever has begun one has been asked
        require_replaceable(run.folder, overwrite)
    held.enter_context(writing(member.path))
    discard_interrupted(run.folder, run.progress)
    if member.finished.is_file() and not resume:
        run.progress.warn(f"member {member.number} is trained anew: {member.finished} is discarded (--resume keeps it)")
        member.finished.unlink()


def require_alike(run: TrainingRun, but: Sequence[ModelFolder] = ()) -> None:
    """Make sure that all members that have been trained alone, finished or not, are members of this run.

    Raises
    ------
    ModelError
        One was trained with other settings, inputs, numerics or versions: the message says what differs.
    """
    members = [run.folder.member(number) for number in run.folder.begun_members()]
    for member in (one for one in members if one not in but):
        path = member.finished if member.finished.is_file() else member.resume
        try:
            saved = read_model_header(path)["identity"] if path.is_file() else run.identity
        except DamagedModelError:
            continue  # whoever goes on from it reports that
        if different := differences(saved, run.identity):
            raise ModelError(
                f"member {member.number} of this model was begun differently",
                where=path,
                found=listed([f"{name} was {was}, is {now}" for name, was, now in different]),
                expected="the same settings, inputs, split, kind of device, precision, threads, processes and versions "
                "for all members",
                hint="repeat the command it was begun with, but for --member; to begin anew, remove "
                f"{run.folder.members}; or choose another --model NAME",
            )


def is_assembled(run: TrainingRun) -> bool:
    """Whether the model is what this run would end with, so that there is nothing to resume for any member."""
    if run.folder.begun_members() or not run.folder.best.is_file():
        return False
    try:
        about = read_model_header(run.folder.best)
    except DamagedModelError:
        return False
    now = {"inputs": about["inputs_sha256"], "split": about["split_sha256"]}
    now |= {name: about["settings"][name] for name in ("targets", "model", "train")}
    return not differences({name: run.identity[name] for name in now}, now)


def finish_member(run: TrainingRun, state: RunState) -> None:
    """Keep what a member has come to that was trained alone."""
    save_run(run.folder.finished, state, None, run.identity)
    discard_run(run.folder.resume)
    run.folder.diverged.unlink(missing_ok=True)


def assembled(run: TrainingRun) -> TrainResult:
    """The model that is there already."""
    metrics = json.loads(run.folder.metrics.read_text(encoding="utf-8"))
    # In the file the names are in alphabetical order.
    order = ["member", "best_epoch", "wells", *read_table(run.folder.history, "history").columns]
    metrics["members"] = [{name: row[name] for name in order if name in row} for row in metrics["members"]]
    return TrainResult(run.folder, metrics)


def assemble_if_complete(run: TrainingRun, number: int) -> TrainResult:
    """The model, where member `number`, which has just finished, was the last; else that member.

    Raises
    ------
    ModelError
        All members are there, and they are not alike.
    """
    with writing(run.folder.path, _PATIENCE):
        if not run.folder.begun_members():  # another, which finished at the same moment, has assembled the model
            return assembled(run)
        if missing := _missing(run):
            own = replace(run, folder=run.folder.member(number), members=[number])
            state = load_run(own.folder.finished, run.identity).state
            return TrainResult(own.folder, validation_metrics(own, state), missing)
        return _assemble(run)


def assemble_by_hand(run: TrainingRun) -> TrainResult:
    """The model of members that were trained one by one.

    Raises
    ------
    ModelError
        Members are missing, or one was trained differently than this run would train it.
    """
    if not run.folder.begun_members():
        raise ModelError(
            "no member of this model has been trained alone",
            where=run.folder.path,
            hint="train them: the same command with --member 0, --member 1, ... in the place of --assemble",
        )
    with writing(run.folder.path, _PATIENCE):
        require_alike(run)
        if missing := _missing(run):
            raise ModelError(
                "members are missing",
                where=run.folder.members,
                found=f"{len(run.parts) - len(missing)} of {len(run.parts)} members have finished",
                expected=f"member {listed(missing)} as well",
                hint=f"the same command with --member {missing[0]} in the place of --assemble; dpf info shows which "
                "are at work",
            )
        return _assemble(run)


def _missing(run: TrainingRun) -> list[int]:
    return [number for number in range(len(run.parts)) if not run.folder.member(number).finished.is_file()]


def _assemble(run: TrainingRun) -> TrainResult:
    """Write the model of all its members and remove them; where this is cut short, it can be done again."""
    require_alike(run)
    members = [run.folder.member(number) for number in range(len(run.parts))]
    state = RunState.fresh()
    for member in members:
        state.extend(load_run(member.finished, run.identity).state)
    result = write_model(run, state)
    join_searches(run, members)
    for member in members:
        with writing(member.path, _PATIENCE):
            pass  # the process that trained it has let go of it
    removed = run.folder.path / ".members"
    shutil.rmtree(removed, ignore_errors=True)
    run.folder.members.replace(removed)  # in one step: at no moment is there a part of the members
    shutil.rmtree(removed, ignore_errors=True)
    run.progress.log(f"the {len(members)} members are there: the model is assembled")
    return result
