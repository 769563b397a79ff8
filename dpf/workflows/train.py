"""`dpf train`: a project's inputs become a trained model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from dpf.config import Settings
from dpf.files import canonical_json, write_text
from dpf.model.checkpoint import ControlWells, TrainedModel, gene_fingerprint, save_model
from dpf.model.losses import TargetBatch
from dpf.model.network import TargetLayout, build_network, empty_network
from dpf.project.directory import ModelFolder, Project
from dpf.project.lock import writing
from dpf.tables.normalisation_table import read_normalisation
from dpf.tables.normalise import Normalisation
from dpf.tables.storage import write_table
from dpf.tensors.grouping import group_wells
from dpf.tensors.splits import PART_NAMES, Part, Parts, split_fingerprint, table_from_splits
from dpf.tensors.targets import TargetArrays, fit_scaling, scaled_targets
from dpf.training.device import Compute, resolve_compute
from dpf.training.inference import predict_wells
from dpf.training.linear_start import start_from_ridge
from dpf.training.member import MemberData, MemberTraining
from dpf.training.probe import probe
from dpf.training.resume import RunState, Weights, discard_run, load_run, run_identity, save_run
from dpf.workflows.history import draw_loss_curve, history_row, history_table
from dpf.workflows.inputs import Inputs, Measured, read_inputs, read_measured
from dpf.workflows.progress import Progress, Silent
from dpf.workflows.run_log import RunLog
from dpf.workflows.splitting import split_wells
from dpf.workflows.tensorboard_events import TensorBoardEvents
from dpf.workflows.time_left import duration
from dpf.workflows.training_warnings import warn_before_training

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


@dataclass(frozen=True)
class _Run:
    """What stays the same while a model is trained."""

    settings: Settings
    inputs: Inputs
    measured: Measured
    parts: Parts
    compute: Compute
    layout: TargetLayout
    folder: ModelFolder
    identity: dict[str, Any]
    started: float
    progress: Progress
    normalisation: Normalisation
    events: TensorBoardEvents | None


def train_project(
    project: Project,
    model: str = "default",
    *,
    resume: bool = False,
    tensorboard: bool = False,
    progress: Progress | None = None,
) -> TrainResult:
    """Train every member of a model and write it into the project.

    The model's files are replaced only when the whole training has finished. An interrupted run goes on with
    `resume=True` and ends, on the same device in the same precision, with the same weights bit for bit. With
    `tensorboard` the numbers of every epoch are written as TensorBoard events too.

    Raises
    ------
    DpfError
        Settings, inputs, splits or device do not allow it; another process trains the same model; the loss diverged.
    """
    progress = progress or Silent()
    settings = project.settings
    inputs = read_inputs(project)
    measured = read_measured(inputs.wells, settings.targets, project.wells)
    parts = split_wells(project, inputs, measured)
    compute = resolve_compute(settings.compute)
    layout = TargetLayout(measured.score_names, measured.label_name, measured.activation_name)
    folder = project.model(model)
    events = TensorBoardEvents(folder.tensorboard) if tensorboard else None
    identity = run_identity(
        settings.as_dict(), inputs.fingerprint, split_fingerprint(parts, inputs.well_ids), compute.device,
        precision=compute.precision, tokens_at_once=compute.tokens_at_once, attention=compute.attention_kernel,
        deterministic=settings.compute.deterministic, compiled=compute.compiled,
    )  # fmt: skip
    normalisation = read_normalisation(project.normalisation)
    run = _Run(
        settings, inputs, measured, parts, compute, layout, folder, identity, time.monotonic(), progress, normalisation,
        events,
    )  # fmt: skip
    _warn(run)
    with writing(folder.path):
        state = _train_members(run, resume)
        return _write_model(run, state)


def _warn(run: _Run) -> None:
    warn_before_training(run.inputs, run.parts, run.settings.train, run.progress)


def _train_members(run: _Run, resume: bool) -> RunState:
    saved = load_run(run.folder.resume, run.identity) if resume else None
    if saved:
        if saved.note:
            run.progress.warn(saved.note)
        saved.adopt(run.folder.resume)
    else:
        if discard_run(run.folder.resume):
            run.progress.warn(
                f"an interrupted run of this model is discarded: {run.folder.resume} (--resume continues one)"
            )
        run.folder.running_history.unlink(missing_ok=True)  # of a run that is over: it must not look like this one's
    state = saved.state if saved else RunState.fresh()
    wells = [int((row == Part.TRAIN).sum()) for row in run.parts]
    log = RunLog(
        run.folder, run.layout, run.settings.train, wells, state.history, run.progress, run.started, run.events
    )
    first = True
    with log:
        for member in range(len(state.best), len(run.parts)):
            training = _begin_member(run, member)
            if first:
                _plan(run, training)
                log.begin(member)
            if first and saved:
                saved.restore(training)
                epochs = run.settings.train.epochs
                run.progress.log(f"resuming after epoch {training.epoch} of {epochs}, member {member}")
            first = False
            _run_member(run, state, training, member, log)
            log.member_ended(member)
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
    )
    if network.linear is not None:
        learned = rows == Part.TRAIN
        groups = group_wells("compound", run.inputs.texts("compound") or [], run.inputs.is_control, None)[learned]
        kept = torch.from_numpy(np.flatnonzero(learned))
        start_from_ridge(network, expression.cpu()[kept], TargetBatch(*scaled).rows(kept), torch.from_numpy(groups))
    return MemberTraining(network, data, train, run.compute, (train.seed, member))


def _plan(run: _Run, training: MemberTraining) -> None:
    estimate = probe(training)
    wells = sum(int((row == Part.TRAIN).sum()) for row in run.parts)
    seconds = estimate.seconds_per_well * wells * run.settings.train.epochs
    members = len(run.parts)
    parameters = sum(weight.numel() for weight in training.network.parameters())
    run.progress.plan(
        f"{members} member{'s' if members > 1 else ''} x {run.settings.train.epochs} epochs x "
        f"{wells // members:,} wells x {len(run.inputs.genes):,} genes on {run.compute.describe()}; "
        f"{parameters / 1e6:.2f} M parameters; "
        f"about {duration(seconds)} and {estimate.gib:.1f} GiB"
    )


def _run_member(run: _Run, state: RunState, training: MemberTraining, member: int, log: RunLog) -> None:
    saved_at = time.monotonic()
    while not training.finished:
        record = training.run_epoch(run.progress.advance)
        state.history.append(history_row(run.layout, training, member, record))
        log.epoch(state.history[-1])
        if time.monotonic() - saved_at > _SECONDS_BETWEEN_SAVES:
            save_run(run.folder.resume, state, training, run.identity)
            saved_at = time.monotonic()
        if _time_is_up(run, member):
            run.progress.log(
                f"member {member} stops after epoch {training.epoch}: its share of train.max_minutes is used"
            )
            return


def _time_is_up(run: _Run, member: int) -> bool:
    """Whether a member has used its share of the time: every member gets the same, and what earlier ones left over."""
    allowed = run.settings.train.max_minutes * 60 * (member + 1) / len(run.parts)
    return 0 < allowed < time.monotonic() - run.started


def _write_model(run: _Run, state: RunState) -> TrainResult:
    folder, ids = run.folder, run.inputs.well_ids
    about = _about(run, state)
    for path, members in ((folder.last, state.last), (folder.best, state.best)):
        save_model(path, _trained(run, members, about))
    rows = table_from_splits(run.parts, ids)
    splits = pl.DataFrame(rows, schema={"well_id": pl.String, "member": pl.Int64, "part": pl.String}, orient="row")
    write_table(folder.splits, splits, "splits", {"fingerprint": about["split_sha256"]})
    history = history_table(run.layout, state.history)
    write_table(folder.history, history, "history")
    metrics = _metrics(run, state)
    write_text(folder.metrics, canonical_json(metrics) + "\n")
    draw_loss_curve(history, state.best_epochs, folder.loss_curve)
    discard_run(folder.resume)
    folder.running_history.unlink(missing_ok=True)
    return TrainResult(folder, metrics)


def _about(run: _Run, state: RunState) -> dict[str, Any]:
    return {
        "settings": run.settings.as_dict(),
        "inputs_sha256": run.inputs.fingerprint,
        "expression_sha256": run.inputs.expression_sha256,
        "wells": run.inputs.well_ids,
        "parts": ["".join(map(str, row)) for row in run.parts.tolist()],
        "split_sha256": split_fingerprint(run.parts, run.inputs.well_ids),
        "genes_sha256": gene_fingerprint(run.inputs.genes),
        "activation_source": run.measured.activation_source,
        "seed": run.settings.train.seed,
        "device": run.compute.device.type,
        "precision": run.compute.precision,
        "best_epochs": state.best_epochs,
    }


def _trained(run: _Run, members: Sequence[Weights], about: dict[str, Any]) -> TrainedModel:
    """The members' networks and the latents of the control wells, which place the centre for wells yet to come."""
    controls = np.flatnonzero(run.inputs.is_control)
    networks, latents = [], []
    for weights in members:
        network = empty_network(len(run.inputs.genes), run.layout, run.settings.model, run.settings.train.zscore)
        network.load_state_dict(weights)
        networks.append(network)
        latents.append(predict_wells(network, run.inputs.expression[controls], run.compute).latent)
        network.cpu()
    known = _control_wells(run, controls, latents)
    return TrainedModel(networks, run.inputs.genes, run.layout, known, about, run.normalisation)


def _control_wells(run: _Run, controls: NDArray[np.intp], latents: list[torch.Tensor]) -> ControlWells:
    def pick(column: str) -> list[str | None]:
        values = run.inputs.texts(column)
        return [values[row] if values else None for row in controls]

    ids = run.inputs.well_ids
    parts = [[PART_NAMES[row[well]] for well in controls] for row in run.parts]
    return ControlWells([ids[row] for row in controls], pick("plate"), pick("cluster"), parts, latents)


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
