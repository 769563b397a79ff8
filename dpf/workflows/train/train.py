"""`dpf train`: a project's inputs become a trained model."""

from __future__ import annotations

import time
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np

from dpf.config.settings import TrainSettings
from dpf.errors import UsageError
from dpf.model.dropout import NOISE
from dpf.model.network import TargetLayout
from dpf.project.directory import Project
from dpf.project.lock import writing
from dpf.splits.parts import Part, Parts, describe_leaks, split_fingerprint
from dpf.tables.matrix import gene_moments
from dpf.training.compute.device import resolve_compute
from dpf.training.divergence import DivergedError
from dpf.training.member import EpochRecord, MemberTraining
from dpf.training.parallel.team import Team, joined
from dpf.training.probe import probe
from dpf.training.resume import RunState, run_identity, save_run
from dpf.workflows.progress import Progress, Silent
from dpf.workflows.project.inputs import Inputs, project_normalisation, read_inputs, read_measured
from dpf.workflows.project.splitting import split_wells
from dpf.workflows.train.assemble import (
    assemble_by_hand,
    assemble_if_complete,
    assembled,
    finish_member,
    is_assembled,
    prepare_folder,
    require_whole,
)
from dpf.workflows.train.history import history_row
from dpf.workflows.train.interrupted import require_replaceable, saved_run
from dpf.workflows.train.log import RunLog
from dpf.workflows.train.members import begin_member, prepare_member
from dpf.workflows.train.run import TrainingRun, TrainResult, keep_best, validation_metrics, write_model
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
    if train.zscore:
        return
    mean, spread = gene_moments(inputs.expression, np.ones(len(inputs.expression), dtype=bool))
    ratio = float(np.median(np.abs(mean)[spread > 0] / spread[spread > 0])) if (spread > 0).any() else 0.0
    if ratio > 2:
        progress.warn(
            f"the expression is not centred (the median gene's mean is {ratio:.1f} times its standard deviation) and "
            "z-score is off: the network will see little but the mean. Use --zscore"
        )


# Writing the state of a run costs some tens of milliseconds; a power cut may cost this much work.
_SECONDS_BETWEEN_SAVES = 5.0
# Many members may begin at once, one after another under the model's lock, each in a moment.
_PATIENCE_TO_BEGIN = 60.0


def train_project(
    project: Project,
    model: str = "default",
    *,
    member: int | None = None,
    assemble: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
    progress: Progress | None = None,
    team: Team | None = None,
) -> TrainResult:
    """Train every member of a model, or `member` alone (numbered from 0), and write it into the project.

    A finished model is replaced only with `overwrite=True`, and only when the whole training has finished. An
    interrupted run goes on with `resume=True` and ends, on the same device in the same precision, with the same weights
    bit for bit. With `tensorboard` the numbers of every epoch are written as TensorBoard events too.

    A member that is trained alone has a folder and a lock of its own, so that several processes can each train one; its
    weights are those that it has in a run of all members. The process that finishes the last one assembles the model;
    with `assemble=True` nothing is trained, but the model assembled by hand. With `resume=True` a member goes on
    wherever it stands, so that one command serves its first start, and any other.

    `team` are the processes that train together, those that `torchrun` started if None. Every one of them calls this,
    and they share out each batch; rank 0 writes the files and reports the progress.

    Raises
    ------
    DpfError
        Settings, inputs, splits or device do not allow it; another program trains the same model.
    DivergedError
        The loss is no longer a finite number; the best weights so far are kept in the model's `diverged` file.
    """
    if team is None:
        with joined() as team:
            return train_project(
                project, model, member=member, assemble=assemble, resume=resume, overwrite=overwrite,
                tensorboard=tensorboard, progress=progress, team=team,
            )  # fmt: skip
    progress = progress if progress and team.is_rank_0 else Silent()
    settings = project.settings
    inputs = read_inputs(project)
    measured = read_measured(inputs.wells, settings.targets, project.wells)
    parts = split_wells(project, inputs, measured)
    if member is not None and not 0 <= member < len(parts):
        raise UsageError(
            f"there is no member {member}",
            found=f"--member {member}",
            expected=f"0 to {len(parts) - 1}" if len(parts) > 1 else "0, as long as there is one member (--folds 1)",
            hint="members are numbered from 0; how many there are, --folds, --repeats or the split file says",
        )
    compute = resolve_compute(settings.compute, team.ranks, progress.log)
    layout = TargetLayout(measured.score_names, measured.label_name, measured.activation_name)
    folder = project.model(model)
    identity = run_identity(
        settings.as_dict(), inputs.fingerprint, split_fingerprint(parts, inputs.well_ids), compute.device,
        precision=compute.precision, tokens_at_once=compute.tokens_at_once, attention=compute.attention_kernel,
        deterministic=settings.compute.deterministic, compiled=compute.compiled, processes=team.ranks.world,
        noise=NOISE,
    )  # fmt: skip
    events = TensorBoardEvents(folder.tensorboard) if tensorboard and team.is_rank_0 else None
    run = TrainingRun(
        settings, inputs, measured, parts, compute, layout, folder, identity, time.monotonic(), progress,
        project_normalisation(project), team, events, range(len(parts)),
    )  # fmt: skip
    if assemble:
        return assemble_by_hand(run)
    warn_before_training(inputs, parts, settings.train, progress)
    team.connect(compute.device)
    team.agree("settings and inputs", identity)
    train = _train_whole if member is None else partial(_train_alone, number=member)
    return train(run, resume=resume, overwrite=overwrite)


def _train_whole(run: TrainingRun, *, resume: bool, overwrite: bool) -> TrainResult:
    with writing(run.folder.path) if run.team.is_rank_0 else nullcontext():
        if run.team.is_rank_0:
            require_whole(run.folder)
            require_replaceable(run.folder, overwrite or resume)
        state = _train_members(run, resume)
        run.team.disconnect()
        if run.team.is_rank_0:
            return write_model(run, state)
        return TrainResult(run.folder, validation_metrics(run, state))


def _train_alone(run: TrainingRun, *, number: int, resume: bool, overwrite: bool) -> TrainResult:
    team, complete, state = run.team, False, None
    own = replace(run, folder=run.folder.member(number), members=[number])
    with ExitStack() as held:
        if team.is_rank_0:
            with writing(run.folder.path, _PATIENCE_TO_BEGIN):
                complete = resume and is_assembled(run)
                if not complete:
                    prepare_folder(run, own.folder, resume=resume, overwrite=overwrite, held=held)
        complete = team.from_rank_0(complete)
        if not complete and not team.from_rank_0(own.folder.finished.is_file()):
            state = _train_members(own, team.from_rank_0(resume and own.folder.interrupted))
        team.disconnect()
        if state and team.is_rank_0:
            finish_member(own, state)
    if not team.is_rank_0:
        return TrainResult(own.folder, {"members": []})
    if complete:
        run.progress.log("the model has all its members: there is nothing to resume")
        return assembled(run)
    return assemble_if_complete(run, number)


def _train_members(run: TrainingRun, resume: bool) -> RunState:
    saved = saved_run(run, resume=resume)
    search = Tuning(run, resume=resume)
    state = saved.state if saved else RunState.fresh()
    probed: MemberTraining | None = None
    with RunLog(
        run.folder, run.layout, run.settings.train, run.wells, state.history, run.progress, run.started, run.events,
        writes=run.team.is_rank_0, members=run.members,
    ) as log:  # fmt: skip
        for member in run.members[len(state.best) :]:
            prepared = prepare_member(run, member)
            first = probed is None
            if probed is None:
                probed = prepared.training()
                _plan(run, probed)
                log.begin(member)
            training = begin_member(prepared, search.choose, saved if first else None)
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
    train, wells = run.settings.train, [run.wells[member] for member in run.members]
    epochs = train.epochs + train.pretrain + epochs_of_search(train.tune, train.epochs)
    parameters = sum(weight.numel() for weight in training.network.parameters())
    members = f"{len(wells)} member{'s' if len(wells) > 1 else ''}"
    members += f" ({run.members[0]} of 0-{len(run.parts) - 1})" if len(wells) < len(run.parts) else ""
    processes = "" if run.team.alone else f"{run.team.ranks.world} processes on "
    run.progress.plan(
        f"{members} x {train.epochs} epochs x {sum(wells) // len(wells):,} wells x {len(run.inputs.genes):,} genes on "
        f"{processes}{run.compute.describe()}; {parameters / 1e6:.2f} M parameters; "
        f"about {duration(estimate.seconds_per_well * sum(wells) * epochs)} and {estimate.gib:.1f} GiB"
    )


def _run_member(run: TrainingRun, state: RunState, training: MemberTraining, member: int, log: RunLog) -> None:
    def note(record: EpochRecord) -> None:
        state.history.append(history_row(run.layout, training, member, record))
        log.epoch(state.history[-1])

    saved_at = time.monotonic()
    if training.epoch == 0:
        noted = any(row["member"] == member for row in state.history)
        if training.data.initial is not None and not noted:
            note(training.evaluate_initial_regression())
        if run.team.is_rank_0:  # a search or a pretraining may have taken long
            save_run(run.folder.resume, state, training, run.identity)
    while not training.finished:
        try:
            record = training.run_epoch(run.progress.advance)
        except DivergedError as error:
            raise keep_best(run, state, training, error) from error
        note(record)
        if run.team.is_rank_0 and time.monotonic() - saved_at > _SECONDS_BETWEEN_SAVES:
            save_run(run.folder.resume, state, training, run.identity)
            saved_at = time.monotonic()
        if _time_is_up(run, member):
            run.progress.log(
                f"member {member} stops after epoch {training.epoch}: its share of train.max_minutes is used"
            )
            break
    if training.data.initial is not None and training.best_epoch == 0:
        run.progress.log(
            f"member {member} keeps its initial regression: no epoch was better on its validation wells by more than "
            "the standard error"
        )


def _time_is_up(run: TrainingRun, member: int) -> bool:
    """Whether a member has used its share of the time: each gets the same, and what earlier ones have left over."""
    allowed = run.settings.train.max_minutes * 60 * (run.members.index(member) + 1) / len(run.members)
    return allowed > 0 and run.team.from_rank_0(allowed < time.monotonic() - run.started)
