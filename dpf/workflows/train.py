"""`dpf train`: a project's inputs become a trained model."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import torch

from dpf.files import canonical_json, write_text
from dpf.model.checkpoint import save_model
from dpf.model.losses import TargetBatch
from dpf.model.network import PerturbFormer, TargetLayout, build_network
from dpf.project.directory import ModelFolder, Project
from dpf.project.lock import writing
from dpf.tables.normalisation_table import read_normalisation
from dpf.tables.storage import write_table
from dpf.tensors.grouping import group_wells
from dpf.tensors.splits import Part, describe_leaks, split_fingerprint, table_from_splits
from dpf.tensors.targets import TargetArrays, fit_scaling, scaled_targets
from dpf.training.device import resolve_compute
from dpf.training.distributed import Team, joined
from dpf.training.divergence import DivergedError
from dpf.training.member import EpochRecord, MemberData, MemberTraining
from dpf.training.probe import probe
from dpf.training.resume import RunState, load_run, run_identity, save_run
from dpf.training.start import set_start
from dpf.workflows.history import draw_loss_curve, epoch_line, history_row, history_table
from dpf.workflows.inputs import read_inputs, read_measured
from dpf.workflows.progress import Progress, Silent
from dpf.workflows.splitting import split_wells
from dpf.workflows.training_run import TrainingRun as _Run
from dpf.workflows.training_run import about_model, keep_best, trained_model

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
    progress: Progress | None = None,
    team: Team | None = None,
) -> TrainResult:
    """Train every member of a model and write it into the project.

    The model's files are replaced only when the whole training has finished. An interrupted run goes on with
    `resume=True` and ends, on the same device in the same precision, with the same weights bit for bit.

    `team` are the processes that train together, those that `torchrun` started if None. Every one of them calls this;
    the first writes the files and tells of the progress.

    Raises
    ------
    DpfError
        Settings, inputs, splits or device do not allow it; another process trains the same model.
    DivergedError
        The loss is no longer a finite number; the best weights so far are kept in the model's `diverged` file.
    """
    if team is None:
        with joined() as team:
            return train_project(project, model, resume=resume, progress=progress, team=team)
    progress = progress if progress and team.leads else Silent()
    settings = project.settings
    inputs = read_inputs(project)
    measured = read_measured(inputs.wells, settings.targets, project.wells)
    parts = split_wells(project, inputs, measured)
    compute = resolve_compute(settings.compute, team.ranks)
    layout = TargetLayout(measured.score_names, measured.label_name, measured.activation_name)
    folder = project.model(model)
    identity = run_identity(
        settings.as_dict(), inputs.fingerprint, split_fingerprint(parts, inputs.well_ids), compute.device,
        precision=compute.precision, tokens_at_once=compute.tokens_at_once, attention=compute.attention_kernel,
        processes=team.ranks.world,
    )  # fmt: skip
    normalisation = read_normalisation(project.normalisation)
    run = _Run(
        settings, inputs, measured, parts, compute, layout, folder, identity, time.monotonic(), progress, normalisation,
        team,
    )  # fmt: skip
    _warn(run)
    team.connect(compute.device)
    team.agree("start", identity)
    with writing(folder.path) if team.leads else nullcontext():
        state = _train_members(run, resume)
        team.disconnect()
        return _write_model(run, state) if team.leads else TrainResult(folder, _metrics(run, state))


def _warn(run: _Run) -> None:
    """Say what a user should know before hours are spent."""
    inputs, train = run.inputs, run.settings.train
    wells = min(int((row == Part.TRAIN).sum()) for row in run.parts)
    if train.batch_size > wells:
        run.progress.warn(
            f"train.batch_size = {train.batch_size} is more than the {wells} training wells: one step an epoch"
        )
    leaks = describe_leaks(run.parts, inputs.texts("compound") or [], inputs.is_control)
    if leaks:
        run.progress.warn(
            f"{leaks} compounds have replicates on both sides of the split (train.split = {train.split}): "
            "held-out figures will look better than they are"
        )
    mean = np.abs(inputs.expression.mean(0, dtype=np.float64))
    spread = inputs.expression.std(0, dtype=np.float64)
    ratio = float(np.median(mean[spread > 0] / spread[spread > 0])) if (spread > 0).any() else 0.0
    if not train.zscore and ratio > 2:
        run.progress.warn(
            f"the expression is not centred (the median gene's mean is {ratio:.1f} times its standard deviation) and "
            "z-score is off: the network will see little but the mean. Use --zscore"
        )


def _train_members(run: _Run, resume: bool) -> RunState:
    saved = load_run(run.folder.resume, run.identity) if resume else None
    if run.team.leads and run.folder.resume.exists() and not resume:
        run.progress.warn(
            f"an interrupted run of this model is discarded: {run.folder.resume} (--resume continues one)"
        )
        run.folder.resume.unlink()
    state = saved.state if saved else RunState.fresh()
    epochs, members = run.settings.train.epochs, len(run.parts)
    first = True
    for member in range(len(state.best), members):
        training = _begin_member(run, member)
        if first:
            _plan(run, training)
            run.progress.start("training", members * epochs * int((run.parts[0] == Part.TRAIN).sum()), "wells")
            if saved:
                saved.restore(training)
                done = member * epochs + training.epoch
                run.progress.log(f"resuming after epoch {training.epoch} of {epochs}, member {member}")
                run.progress.advance(done * int((run.parts[0] == Part.TRAIN).sum()))
            first = False
        training.check_agreement()
        _run_member(run, state, training, member)
        state.finish_member(training)
    return state


def _begin_member(run: _Run, member: int) -> MemberTraining:
    """A member before its first epoch: fresh weights, scaler fitted on its own training wells, data on the device."""
    train = run.settings.train
    rows = run.parts[member]
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([train.seed, member]).generate_state(1)[0]))
    network = build_network(len(run.inputs.genes), run.layout, run.settings.model, train.zscore, generator)
    targets = TargetArrays(run.measured.scores, run.measured.label, run.measured.activation)
    scaling = fit_scaling(
        run.inputs.expression, targets, rows == Part.TRAIN, scores=train.standardise_targets,
        activation=train.standardise_targets or run.measured.activation_is_derived,
    )  # fmt: skip
    for name in ("gene_mean", "gene_std", "target_mean", "target_std"):
        getattr(network, name).copy_(getattr(scaling, name))
    device = run.compute.device
    expression = network.scale(torch.from_numpy(run.inputs.expression)).to(device)
    scaled = scaled_targets(targets, scaling)
    data = MemberData(
        expression,
        TargetBatch(*(part.to(device) for part in scaled)),
        torch.from_numpy(np.flatnonzero(rows == Part.TRAIN)).to(device),
        torch.from_numpy(np.flatnonzero(rows == Part.VALIDATION)).to(device),
        names=tuple(run.inputs.well_ids),
    )
    if run.settings.model.start != "none":
        data = _with_start(run, network, data, member)
    return MemberTraining(network, data, train, run.compute, (train.seed, member), run.team)


def _with_start(run: _Run, network: PerturbFormer, data: MemberData, member: int) -> MemberData:
    """Fit the start to all that the member may learn from or choose by.

    Its validation wells are among these where it has held-out wells to be measured on: the start's values for them are
    out of fold, so they still choose the epoch fairly. Without held-out wells they are what is measured.
    """
    rows = run.parts[member]
    learned = rows != Part.HELD_OUT if (rows == Part.HELD_OUT).any() else rows == Part.TRAIN
    rule = "well" if run.settings.train.split == "well" else "compound"
    groups = group_wells(rule, run.inputs.texts("compound") or [], run.inputs.is_control, None)
    targets = TargetBatch(*(part.cpu() for part in data.targets))
    start, parts = set_start(
        network, data.expression.cpu(), targets, groups, np.flatnonzero(learned), run.settings.train.seed + member
    )
    names = [*run.layout.scores, *(name for name in (run.layout.label, run.layout.activation) if name)]
    mixtures = "; ".join(f"{name}: {text}" for name, text in zip(names, parts, strict=True))
    run.progress.log(f"member {member} starts as {mixtures}")
    return replace(data, start=start.to(run.compute.device), groups=torch.from_numpy(groups))


def _plan(run: _Run, training: MemberTraining) -> None:
    estimate = probe(training)
    wells = sum(int((row == Part.TRAIN).sum()) for row in run.parts)
    seconds = estimate.seconds_per_well * wells * run.settings.train.epochs
    members = len(run.parts)
    parameters = sum(weight.numel() for weight in training.network.parameters())
    processes = "" if run.team.alone else f"{run.team.ranks.world} processes on "
    run.progress.plan(
        f"{members} member{'s' if members > 1 else ''} x {run.settings.train.epochs} epochs x "
        f"{wells // members:,} wells x {len(run.inputs.genes):,} genes on {processes}{run.compute.describe()}; "
        f"{parameters / 1e6:.2f} M parameters; "
        f"about {duration(seconds)} and {estimate.gib:.1f} GiB"
    )


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `3 h 20 min`."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _run_member(run: _Run, state: RunState, training: MemberTraining, member: int) -> None:
    saved_at = time.monotonic()
    if training.data.start is not None and training.epoch == 0:
        _note(run, state, training, member, training.look_at_start())
    while not training.finished:
        try:
            record = training.run_epoch(run.progress.advance)
        except DivergedError as error:
            raise keep_best(run, state, training, error) from error
        _note(run, state, training, member, record)
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


def _note(run: _Run, state: RunState, training: MemberTraining, member: int, record: EpochRecord) -> None:
    row = history_row(run.layout, training, member, record)
    state.history.append(row)
    run.progress.log(epoch_line(row, len(run.parts), run.settings.train.epochs, len(training.data.train)))


def _time_is_up(run: _Run, member: int) -> bool:
    """Whether a member has used its share of the time: every member gets the same, and what earlier ones left over."""
    allowed = run.settings.train.max_minutes * 60 * (member + 1) / len(run.parts)
    return allowed > 0 and run.team.told(allowed < time.monotonic() - run.started)


def _write_model(run: _Run, state: RunState) -> TrainResult:
    folder, ids = run.folder, run.inputs.well_ids
    about = about_model(run, state.best_epochs)
    for path, members in ((folder.last, state.last), (folder.best, state.best)):
        save_model(path, trained_model(run, members, about))
    rows = table_from_splits(run.parts, ids)
    splits = pl.DataFrame(rows, schema={"well_id": pl.String, "member": pl.Int64, "part": pl.String}, orient="row")
    write_table(folder.splits, splits, "splits", {"fingerprint": about["split_sha256"]})
    history = history_table(run.layout, state.history)
    write_table(folder.history, history, "history")
    metrics = _metrics(run, state)
    write_text(folder.metrics, canonical_json(metrics) + "\n")
    draw_loss_curve(history, state.best_epochs, folder.loss_curve)
    folder.resume.unlink(missing_ok=True)
    folder.diverged.unlink(missing_ok=True)
    return TrainResult(folder, metrics)


def _metrics(run: _Run, state: RunState) -> dict[str, Any]:
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
