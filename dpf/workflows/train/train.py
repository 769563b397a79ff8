"""`dpf train`: a project's inputs become a trained model."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from dpf.config.settings import TrainSettings
from dpf.files import canonical_json, sha256_file, write_text
from dpf.model.checkpoint import save_model
from dpf.model.dropout import NOISE
from dpf.model.network import TargetLayout
from dpf.project.directory import ModelFolder, Project
from dpf.project.lock import writing
from dpf.splits.parts import Part, Parts, describe_leaks, split_fingerprint, table_from_splits
from dpf.tables.schemas.registry import polars_schema
from dpf.tables.storage import write_table
from dpf.training.compute.device import resolve_compute
from dpf.training.divergence import DivergedError
from dpf.training.member import EpochRecord, MemberTraining
from dpf.training.parallel.team import Team, joined
from dpf.training.probe import probe
from dpf.training.resume import RunState, SavedRun, discard_run, run_identity, save_run
from dpf.workflows.progress import Progress, Silent
from dpf.workflows.project.inputs import Inputs, project_normalisation, read_inputs, read_measured
from dpf.workflows.project.splitting import split_wells
from dpf.workflows.train.history import draw_loss_curve, history_row, history_table
from dpf.workflows.train.interrupted import saved_run
from dpf.workflows.train.log import EpochLog, RunLog
from dpf.workflows.train.members import begin_member, prepare_member
from dpf.workflows.train.run import TrainingRun, about_model, keep_best, trained_model
from dpf.workflows.train.side_by_side.members import require_members, shared_members
from dpf.workflows.train.tensorboard import TensorBoardEvents
from dpf.workflows.train.time_left import duration
from dpf.workflows.train.tuning import Tuning, epochs_of_search


def warn_before_training(inputs: Inputs, parts: Parts, train: TrainSettings, progress: Progress) -> None:
    """Warn of too large a batch, of replicates on both sides of the split, of raw values that nothing will centre."""
    wells = min(int((row == Part.TRAIN).sum()) for row in parts)
    if train.batch_size > wells:
        progress.warn(
            f"train.batch_size = {train.batch_size} is more than the {wells} training wells: one step an epoch"
        )
    leaks = describe_leaks(parts, inputs.texts("compound") or [], inputs.is_control)
    if leaks:
        progress.warn(
            f"{leaks} compounds have replicates on both sides of the split (train.split = {train.split}): "
            "held-out figures will look better than they are"
        )
    mean = np.abs(inputs.expression.mean(0, dtype=np.float64))
    spread = inputs.expression.std(0, dtype=np.float64)
    ratio = float(np.median(mean[spread > 0] / spread[spread > 0])) if (spread > 0).any() else 0.0
    if not train.zscore and ratio > 2:
        progress.warn(
            f"the expression is not centred (the median gene's mean is {ratio:.1f} times its standard deviation) and "
            "z-score is off: the network will see little but the mean. Use --zscore"
        )


# Writing the state of a run costs some tens of milliseconds; a power cut may cost this much work.
_SECONDS_BETWEEN_SAVES = 5.0


@dataclass(frozen=True)
class TrainResult:
    """A trained model: where it is, and each member's validation metrics at its best epoch."""

    folder: ModelFolder
    metrics: dict[str, Any]

    @property
    def table(self) -> pl.DataFrame:
        """The metrics, one row a member."""
        rows = [{key: value for key, value in row.items() if key != "wells"} for row in self.metrics["members"]]
        return pl.DataFrame(rows, infer_schema_length=None)


def train_project(
    project: Project,
    model: str = "default",
    *,
    resume: bool = False,
    tensorboard: bool = False,
    progress: Progress | None = None,
    team: Team | None = None,
) -> TrainResult:
    """Train every member of a model and write it into the project.

    The model's files are replaced only when the whole training has finished. An interrupted run goes on with
    `resume=True` and ends, on the same device in the same precision, with the same weights bit for bit. With
    `tensorboard` the numbers of every epoch are written as TensorBoard events too.

    `team` are the processes that train together, those that `torchrun` started if None. Every one of them calls this;
    the first writes the files and tells of the progress. They share out each batch or, with `compute.share = members`,
    the members.

    Raises
    ------
    DpfError
        Settings, inputs, splits or device do not allow it; another program trains the same model.
    DivergedError
        The loss is no longer a finite number; the best weights so far are kept in the model's `diverged` file.
    """
    if team is None:
        with joined() as team:
            return train_project(project, model, resume=resume, tensorboard=tensorboard, progress=progress, team=team)
    progress = progress if progress and team.leads else Silent()
    settings = project.settings
    inputs = read_inputs(project)
    measured = read_measured(inputs.wells, settings.targets, project.wells)
    parts = split_wells(project, inputs, measured)
    compute = resolve_compute(settings.compute, team.ranks)
    layout = TargetLayout(measured.score_names, measured.label_name, measured.activation_name)
    folder = project.model(model)
    shares_members = settings.compute.share == "members" and not team.alone
    identity = run_identity(
        settings.as_dict(), inputs.fingerprint, split_fingerprint(parts, inputs.well_ids), compute.device,
        precision=compute.precision, tokens_at_once=compute.tokens_at_once, attention=compute.attention_kernel,
        deterministic=settings.compute.deterministic, compiled=compute.compiled, processes=team.ranks.world,
        share=None if team.alone else settings.compute.share, noise=NOISE,
    )  # fmt: skip
    events = TensorBoardEvents(folder.tensorboard) if tensorboard and team.leads else None
    normalisation = project_normalisation(project)
    run = TrainingRun(
        settings, inputs, measured, parts, compute, layout, folder, identity, time.monotonic(), progress, normalisation,
        team, events, range(len(parts)),
    )  # fmt: skip
    if shares_members:
        require_members(len(parts), team.ranks.world)
    warn_before_training(inputs, parts, settings.train, progress)
    return _train_side_by_side(run, resume) if shares_members else _train_together(run, resume)


def _train_together(run: TrainingRun, resume: bool) -> TrainResult:
    """One process, or several that share out each batch."""
    if run.settings.compute.share == "members" and run.team.alone and len(run.parts) > 1:
        run.progress.log(
            f"one process trains the {len(run.parts)} members, one after another; side by side: "
            f"torchrun --nproc-per-node {len(run.parts)} -m dpf train ... --share members"
        )
    team = run.team
    team.connect(run.compute.device)
    team.agree("start", run.identity)
    with writing(run.folder.path) if team.leads else nullcontext():
        saved = saved_run(run, resume=resume)
        with RunLog.of(run, saved.state.history if saved else []) as log:
            state = _train_members(run, saved, log, resume)
        team.disconnect()
        return _write_model(run, state) if team.leads else TrainResult(run.folder, _metrics(run, state))


def _train_side_by_side(run: TrainingRun, resume: bool) -> TrainResult:
    """One of several processes that train whole members each."""
    with shared_members(run, resume=resume) as shared:
        with shared.log:
            own = _train_members(shared.run, shared.saved, shared.log, resume)
            state = shared.gather(own)
        if state is None:
            return TrainResult(run.folder, shared.beside.wait_until_over())
        result = _write_model(run, state)
        shared.beside.over(result.metrics)
        return result


def _train_members(run: TrainingRun, saved: SavedRun | None, log: EpochLog, resume: bool) -> RunState:
    search = Tuning(run, resume=resume)
    state = saved.state if saved else RunState.fresh()
    probed: MemberTraining | None = None
    for member in run.members[len(state.best) :]:
        prepared = prepare_member(run, member)
        first = probed is None
        if probed is None:
            probed = prepared.training()
            _plan(run, probed)
            log.begin(member)
        training = begin_member(prepared, search, saved if first else None)
        training.memory = probed.memory
        if first and saved:
            epochs = run.settings.train.epochs
            run.progress.log(f"resuming after epoch {training.epoch} of {epochs}, member {member}")
        training.check_agreement()
        _run_member(run, state, training, member, log)
        log.member_ended(member)
        state.finish_member(training)
    return state


def _plan(run: TrainingRun, training: MemberTraining) -> None:
    estimate = probe(training)
    train, members = run.settings.train, len(run.parts)
    epochs = train.epochs + train.pretrain + epochs_of_search(train.tune, train.epochs)
    seconds = estimate.seconds_per_well * sum(run.wells[member] for member in run.members) * epochs
    parameters = sum(weight.numel() for weight in training.network.parameters())
    processes, each = "" if run.team.alone else f"{run.team.ranks.world} processes on ", ""
    if run.beside:
        processes, each = f"{run.beside.ranks.world} processes, each its own members, on ", " a process"
    run.progress.plan(
        f"{members} member{'s' if members > 1 else ''} x {run.settings.train.epochs} epochs x "
        f"{sum(run.wells) // members:,} wells x {len(run.inputs.genes):,} genes on {processes}"
        f"{run.compute.describe()}; {parameters / 1e6:.2f} M parameters; "
        f"about {duration(seconds)} and {estimate.gib:.1f} GiB{each}"
    )


def _run_member(run: TrainingRun, state: RunState, training: MemberTraining, member: int, log: EpochLog) -> None:
    def note(record: EpochRecord) -> None:
        state.history.append(history_row(run.layout, training, member, record))
        log.epoch(state.history[-1])

    saved_at = time.monotonic()
    if training.epoch == 0:
        told = any(row["member"] == member for row in state.history)
        if training.data.start is not None and not told:
            note(training.look_at_start())
        if run.team.leads:  # a search or a pretraining may have taken long
            save_run(run.folder.resume, state, training, run.identity)
    while not training.finished:
        try:
            record = training.run_epoch(run.progress.advance)
        except DivergedError as error:
            raise keep_best(run, state, training, error) from error
        note(record)
        if run.team.leads and time.monotonic() - saved_at > _SECONDS_BETWEEN_SAVES:
            save_run(run.folder.resume, state, training, run.identity)
            saved_at = time.monotonic()
        if _time_is_up(run, member):
            run.progress.log(
                f"member {member} stops after epoch {training.epoch}: its share of train.max_minutes is used"
            )
            break
    if training.data.start is not None and training.best_epoch == 0:
        run.progress.log(
            f"member {member} stays as it started: no epoch was better on its validation wells by more than the "
            "standard error"
        )


def _time_is_up(run: TrainingRun, member: int) -> bool:
    """Whether a member has used its share of the time.

    Every member of a process gets the same, and what earlier ones of that process have left over.
    """
    allowed = run.settings.train.max_minutes * 60 * (run.members.index(member) + 1) / len(run.members)
    return allowed > 0 and run.team.told(allowed < time.monotonic() - run.started)


def _write_model(run: TrainingRun, state: RunState) -> TrainResult:
    folder, ids = run.folder, run.inputs.well_ids
    about = about_model(run, state.best_epochs, state.tuned)
    replaced = sha256_file(folder.best) if folder.best.is_file() else None
    for path, members in ((folder.last, state.last), (folder.best, state.best)):
        save_model(path, trained_model(run, members, about))
    rows = table_from_splits(run.parts, ids)
    splits = pl.DataFrame(rows, schema=polars_schema("splits"), orient="row")
    write_table(folder.splits, splits, "splits", {"fingerprint": about["split_sha256"]})
    history = history_table(run.layout, state.history)
    write_table(folder.history, history, "history")
    metrics = _metrics(run, state)
    write_text(folder.metrics, canonical_json(metrics) + "\n")
    draw_loss_curve(history, state.best_epochs, folder.loss_curve)
    discard_run(folder.resume)
    for path in folder.rank_files:
        path.unlink()
    folder.running_history.unlink(missing_ok=True)
    if epochs_of_search(run.settings.train.tune, run.settings.train.epochs):
        folder.running_tuning.replace(folder.tuning)
    else:
        folder.tuning.unlink(missing_ok=True)
    folder.diverged.unlink(missing_ok=True)
    # The calibration stays: predict does not use it with these weights, and says why it gives no intervals.
    if folder.card.is_file() and sha256_file(folder.best) != replaced:
        folder.card.unlink()
        run.progress.log(
            f"removed {folder.card.name} of the model that this one replaces; dpf evaluate writes a new one"
        )
    return TrainResult(folder, metrics)


def _metrics(run: TrainingRun, state: RunState) -> dict[str, Any]:
    members = []
    for member, best in enumerate(state.best_epochs):
        row = next(r for r in state.history if r["member"] == member and r["epoch"] == best)
        numbers = {key: value if np.isfinite(value) else None for key, value in row.items() if "validation" in key}
        wells = {part.text: int((run.parts[member] == part).sum()) for part in Part}
        members.append({"member": member, "best_epoch": best, "wells": wells, **numbers})
    return {
        "note": "validation wells chose the epoch: these figures are selected on them, not held out",
        "members": members,
    }
