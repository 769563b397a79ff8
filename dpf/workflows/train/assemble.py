"""Members that were trained one by one, by any processes on any machines, become the model that one run would write.

A member that has finished is a model file of one member in a folder of its own. Whoever finishes last puts them
together under the model's lock; weights, splits and histories are copied, and nothing is computed anew.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch

from dpf import __version__
from dpf.config.toml import parse_settings, with_overrides
from dpf.errors import ModelError, ProjectError, listed
from dpf.model.checkpoint import TrainedModel, load_model, save_model
from dpf.project.directory import ModelFolder, Project
from dpf.project.lock import writing
from dpf.project.model_header import DamagedModelError, read_model_header
from dpf.splits.parts import Parts, split_fingerprint
from dpf.tables.storage import inputs_fingerprint, read_table, write_table
from dpf.training.parallel.differences import differences
from dpf.training.resume import RunState, discard_run
from dpf.workflows.progress import Progress, Silent
from dpf.workflows.train.history import history_table
from dpf.workflows.train.interrupted import discard_interrupted, identity_of
from dpf.workflows.train.run import (
    TrainingRun,
    TrainResult,
    about_model,
    trained_model,
    validation_metrics,
    write_model,
)
from dpf.workflows.train.tuning import join_searches, keep_search

# Seconds: whoever holds the model's lock meanwhile is a member that begins, in milliseconds, or an assembly.
_PATIENCE = 600.0
_LEARNT = ("targets", "model", "train")


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


def require_alike(run: TrainingRun, model: ModelFolder, *, resume: bool) -> None:
    """Make sure that a member can become part of one model with what is there.

    Raises
    ------
    ModelError
        Another member was begun with other settings, inputs or versions, or an interrupted run of the whole model is
        there and should be resumed.
    """
    if resume and model.interrupted:
        raise ModelError(
            "the interrupted run is one of the whole model",
            where=model.path,
            hint="go on with it: --resume without --member; or begin anew, a member at a time, without --resume",
        )
    discard_interrupted(model, run.progress)
    for number in model.begun_members():
        found = None if number in run.members and not resume else identity_of(model.member(number))
        if different := differences(found or run.identity, run.identity):
            raise ModelError(
                "another member of this model was trained differently" if number not in run.members else
                "this member was trained differently",
                where=model.member(number).path,
                found=listed([f"{name} was {was}, is {now}" for name, was, now in different]),
                expected="the same settings, inputs, split, kind of device, precision and versions for every member",
                hint="repeat the command of the others with another --member; to begin anew, remove "
                f"{model.members}; or choose another --model NAME",
            )  # fmt: skip


def discard_member(run: TrainingRun) -> None:
    """Remove a member that has been trained before, so that the model is not assembled with it meanwhile."""
    folder = run.folder
    if folder.best.is_file():
        run.progress.warn(f"member {folder.number}, trained before, is discarded: {folder.path} (--resume keeps it)")
    for path in (folder.best, folder.last, folder.history, folder.tuning):
        path.unlink(missing_ok=True)


def is_assembled(run: TrainingRun, model: ModelFolder) -> bool:
    """Whether the model is what this run would end with, so that there is nothing to resume for any member."""
    if model.begun_members() or not model.best.is_file():
        return False
    try:
        about = read_model_header(model.best)
    except DamagedModelError:
        return False
    same = all(about["settings"][name] == run.identity[name] for name in _LEARNT)
    return same and [about["inputs_sha256"], about["split_sha256"]] == [run.identity["inputs"], run.identity["split"]]


def write_member(run: TrainingRun, state: RunState) -> None:
    """Write the files of a member that was trained alone. Its model file comes last: where that is, the others are."""
    (number,) = run.members
    own, folder = replace(run, parts=run.parts[[number]]), run.folder
    member = {"number": number, "members": len(run.parts), "identity": run.identity}
    about = {**about_model(own, state.best_epochs, state.tuned), "member": member}
    keep_search(run)
    history = history_table(run.layout, state.history)
    write_table(folder.history, history, "history", {"members": len(run.parts), "epochs": run.settings.train.epochs})
    for path, weights in ((folder.last, state.last), (folder.best, state.best)):
        save_model(path, trained_model(own, weights, about))
    discard_run(folder.resume)
    for path in (folder.running_history, folder.diverged):
        path.unlink(missing_ok=True)


def finish_member(run: TrainingRun, model: ModelFolder) -> TrainResult:
    """The member that was trained alone or, where it was the last one, the model that it is part of.

    Raises
    ------
    ModelError
        All members are there, and they are not alike.
    """
    with writing(model.path, _PATIENCE):
        trained = _trained(model)
        if not trained:  # another one, which finished at the same moment, has assembled the model
            return assembled(model)
        missing = sorted(set(range(len(run.parts))) - set(trained))
        if not missing:
            return _assemble(model, len(run.parts), {}, run.progress)
    about, history = read_model_header(run.folder.best), read_table(run.folder.history, "history")
    metrics = validation_metrics(run.members, _codes(about["parts"]), about["best_epochs"], history)
    return TrainResult(run.folder, metrics, missing)


def assembled(model: ModelFolder) -> TrainResult:
    """The model that is there already."""
    return TrainResult(model, json.loads(model.metrics.read_text(encoding="utf-8")))


def assemble_project(
    project: Project, model: str = "default", overrides: Sequence[str] = (), progress: Progress | None = None
) -> TrainResult:
    """Assemble a model of members that were trained one by one. Its settings are theirs, whatever `dpf.toml` says now.

    `overrides` (`section.name=value`) change nothing: what they name must be what the members were trained with.

    Raises
    ------
    ModelError
        Members are missing; or they were trained with other settings, inputs, splits, devices or versions than each
        other, than asked for, or than are here now.
    """
    folder = project.model(model)
    again = f"dpf train {project.path}{'' if model == 'default' else f' --model {model}'}"
    if not _trained(folder):
        raise ModelError(
            "no member of this model has been trained alone, to its end",
            where=folder.path,
            hint=f"train them: {again} --folds 5 --member 0, --member 1, ...",
        )
    with writing(folder.path, _PATIENCE):
        trained = _trained(folder)
        if not trained:  # the last one, which has just finished, has assembled the model
            return assembled(folder)
        about = read_model_header(folder.member(trained[0]).best)
        count: int = about["member"]["members"]
        if missing := sorted(set(range(count)) - set(trained)):
            raise ModelError(
                "members are missing",
                where=folder.members,
                found=f"trained: member {listed(trained)} of 0-{count - 1}",
                expected=f"member {listed(missing)} as well",
                hint=f"{again} --member {missing[0]} (and the options of the others); dpf info shows which are at work",
            )
        asked = with_overrides(parse_settings(about["settings"], folder.members), overrides).as_dict()
        now = {"inputs": inputs_fingerprint(project.expression, project.wells), **{n: asked[n] for n in _LEARNT}}
        return _assemble(folder, count, now, progress or Silent())


def _trained(model: ModelFolder) -> list[int]:
    return [number for number in model.begun_members() if model.member(number).best.is_file()]


def _assemble(model: ModelFolder, count: int, now: Mapping[str, Any], progress: Progress) -> TrainResult:
    """Write the model of all its members and remove them; where this is cut short, it can be done again."""
    members = [model.member(number) for number in range(count)]
    identity = _one_identity(members, {"dpf": __version__, "torch": torch.__version__, **now})
    best = _joined([load_model(member.best) for member in members])
    last = _joined([load_model(member.last) for member in members])
    history = pl.concat([read_table(member.history, "history") for member in members])
    result = write_model(model, best, last, _codes(best.about["parts"]), history, progress)
    join_searches(model, members, identity)
    for member in members:
        with writing(member.path, _PATIENCE):
            pass  # the process that trained it has let go of it
    removed = model.path / ".members"
    shutil.rmtree(removed, ignore_errors=True)
    model.members.replace(removed)  # in one step: at no moment is there a part of the members
    shutil.rmtree(removed, ignore_errors=True)
    progress.log(f"the {count} members are there: the model is assembled")
    return result


def _one_identity(members: Sequence[ModelFolder], now: Mapping[str, Any]) -> dict[str, Any]:
    """What all members were trained with; `now` are parts of it that must be those of this moment."""
    identities = [read_model_header(member.best)["member"]["identity"] for member in members]
    first: dict[str, Any] = identities[0]
    others = [*((f"in member {number}", identity) for number, identity in enumerate(identities))]
    others += [("here and now", {**first, **now})]
    for where, other in others:
        if different := differences(first, other):
            raise ModelError(
                "the members of this model were not trained alike",
                where=members[0].path.parent,
                found=listed([f"{name}: {a} in member 0, {b} {where}" for name, a, b in different]),
                expected="the same settings, inputs, split, kind of device, precision and versions for every member",
                hint="train the odd ones again with the options of the others (--member N, without --resume); nothing "
                "has been removed",
            )
    return first


def _joined(models: Sequence[TrainedModel]) -> TrainedModel:
    """One model of several of one member each."""
    first = models[0]
    about = {name: value for name, value in first.about.items() if name != "member"}
    for name in ("parts", "best_epochs", "tuned"):
        if about[name] is not None:
            about[name] = [one for model in models for one in model.about[name]]
    about["split_sha256"] = split_fingerprint(_codes(about["parts"]), about["wells"])
    controls = replace(
        first.controls,
        parts=[row for model in models for row in model.controls.parts],
        latents=[latent for model in models for latent in model.controls.latents],
    )
    return replace(first, members=[one for model in models for one in model.members], controls=controls, about=about)


def _codes(parts: Sequence[str]) -> Parts:
    """A split, int8 (M, N), from the digits that a model file has for it."""
    return np.array([[int(code) for code in row] for row in parts], dtype=np.int8)
