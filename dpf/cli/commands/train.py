"""`dpf train`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from enum import StrEnum
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from dpf.cli.memory import keep_freed_memory
from dpf.cli.options import (
    DeviceOption,
    FormatOption,
    ModelOption,
    PrecisionOption,
    ProjectArgument,
    SetOption,
    ThreadsOption,
    overrides,
    setting_option,
)
from dpf.cli.session import session
from dpf.config.toml import preset_overrides
from dpf.errors import UsageError, listed
from dpf.training.parallel.ranks import ranks_from_environment

if TYPE_CHECKING:
    from dpf.training.parallel.team import Team


class _Preset(StrEnum):
    classic = "classic"
    linear_start = "linear-start"
    recommended = "recommended"


def command(
    project: ProjectArgument,
    model: ModelOption = "default",
    preset: Annotated[
        _Preset | None,
        typer.Option(
            "--preset",
            help="classic: the model as published; linear-start: its latent begins as a ridge regression of each "
            "target; recommended: as ridge, PLS and kernel ridge regressions, mixed. Other options win over it. "
            "[what dpf.toml says]",
            show_default=False,
        ),
    ] = None,
    attention: Annotated[str | None, setting_option("model.attention", "--attention")] = None,
    epochs: Annotated[int | None, setting_option("train.epochs", "--epochs")] = None,
    batch_size: Annotated[int | None, setting_option("train.batch_size", "--batch-size")] = None,
    learning_rate: Annotated[float | None, setting_option("train.learning_rate", "--learning-rate")] = None,
    pretrain: Annotated[int | None, setting_option("train.pretrain", "--pretrain")] = None,
    tune: Annotated[int | None, setting_option("train.tune", "--tune")] = None,
    zscore: Annotated[bool | None, setting_option("train.zscore", "--zscore/--no-zscore")] = None,
    folds: Annotated[int | None, setting_option("train.folds", "--folds")] = None,
    repeats: Annotated[int | None, setting_option("train.repeats", "--repeats")] = None,
    split: Annotated[str | None, setting_option("train.split", "--split")] = None,
    seed: Annotated[int | None, setting_option("train.seed", "--seed")] = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    deterministic: Annotated[
        bool | None, setting_option("compute.deterministic", "--deterministic/--no-deterministic")
    ] = None,
    member: Annotated[
        int | None,
        typer.Option(
            "--member",
            show_default=False,
            help="Train this member alone, numbered from 0: several processes, on any machines, can each train one. "
            "The last to finish assembles the model.",
        ),
    ] = None,
    assemble: Annotated[
        bool,
        typer.Option("--assemble", help="Train nothing: assemble the model of members that --member has trained."),
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with an interrupted run, given the command it was started with. With --member: wherever the "
            "member stands, also at its beginning or its end.",
        ),
    ] = False,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Write TensorBoard events to models/NAME/tensorboard (extra: tensorboard)."),
    ] = False,
    set_: SetOption = None,
    output: FormatOption = None,
) -> None:
    """Train the model; its weights, splits, history and loss curve go to models/NAME."""
    alone = ranks_from_environment(os.environ).alone
    own = "" if member is None else f" --member {member}"
    again = f"dpf train {project}{own} --resume (and the same options)"
    again = again if alone else "the same torchrun line and --resume"
    with session("train", output) as run:
        signal.signal(signal.SIGTERM, _as_interrupt)
        keep_freed_memory()
        from dpf.project.directory import open_project
        from dpf.training.parallel.team import joined
        from dpf.workflows.train.train import train_project

        chosen = preset_overrides(preset) if preset else []
        changed = overrides(
            [*chosen, *(set_ or [])],
            model__attention=attention,
            train__epochs=epochs, train__batch_size=batch_size, train__learning_rate=learning_rate,
            train__zscore=zscore, train__folds=folds, train__repeats=repeats, train__split=split, train__seed=seed,
            compute__threads=threads, compute__device=device, compute__precision=precision,
            train__pretrain=pretrain, train__tune=tune,
            compute__deterministic=deterministic,
        )  # fmt: skip
        if assemble and (member is not None or resume or tensorboard or not alone):
            raise UsageError(
                "--assemble trains nothing, and runs in one process",
                found="--member, --resume, --tensorboard or torchrun with it",
                hint="leave that out, and repeat the settings that the members were trained with",
            )
        with joined() as team:
            run.speaks = _reporting(team)
            opened = open_project(project, changed)
            folder = opened.model(model)
            run.after_interruption = lambda: (
                f"go on with: {again}"
                if folder.interrupted or member is not None
                else "nothing of it was saved yet: start it again"
            )
            result = train_project(
                opened, model, member=member, assemble=assemble, resume=resume, tensorboard=tensorboard,
                progress=run.progress, team=team,
            )  # fmt: skip
        data = result.metrics if member is None else {**result.metrics, "missing": result.missing}
        run.show(result.table, "training", title="Validation at the best epoch (these wells chose it)", **data)
        if result.missing:
            others = f"member {listed(result.missing)} still to come: the last to finish assembles the model"
            run.say(f"member {member}: {result.folder.path}; {others}")
        else:
            run.say(f"model: {result.folder.path}")


def _reporting(team: Team) -> Callable[[], bool]:
    def may_report() -> bool:
        if not team.alone:
            # torchrun signals the survivors of a loss, each perhaps more than once: what is to be reported comes first.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return team.may_report()

    return may_report


def _as_interrupt(_signal: int, _frame: FrameType | None) -> None:
    """SIGTERM, which clusters send before they stop a job, ends a run as Ctrl-C does: resumable."""
    raise KeyboardInterrupt
