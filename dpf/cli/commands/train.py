"""`dpf train`."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

from dpf.cli.memory import keep_freed_memory
from dpf.cli.options import ProjectArgument, TableSession
from dpf.cli.streams import silence
from dpf.training.parallel.ranks import ranks_from_environment
from dpf.workflows.options import ComputeOptions, SettingOptions, TrainOptions

if TYPE_CHECKING:
    from dpf.training.parallel.team import Team


def command(
    run: TableSession,
    project: ProjectArgument,
    options: TrainOptions,
    compute: ComputeOptions,
    settings: SettingOptions,
) -> None:
    """Train the model; its weights, splits, history and loss curve go to models/NAME."""
    alone = ranks_from_environment(os.environ).alone
    again = f"dpf train {project} --resume (and the same options)" if alone else "the same torchrun line and --resume"
    keep_freed_memory()
    from dpf.project.directory import open_project
    from dpf.training.parallel.team import joined
    from dpf.workflows.train.train import train_project

    with joined(waiting=run.say) as team, nullcontext() if team.leads or run.debug else silence():
        run.speaks = _speaking(team)
        opened = open_project(project, options.overrides(compute, settings))
        folder = opened.model(options.model)
        run.after_interruption = lambda: (
            f"go on with: {again}" if folder.interrupted else "nothing of it was saved yet: start it again"
        )
        result = train_project(
            opened,
            options.model,
            resume=options.resume,
            tensorboard=options.tensorboard,
            progress=run.progress,
            team=team,
        )
    if team.leads:
        run.show(result.table, title="Validation at the best epoch (these wells chose it)", **result.metrics)
        run.say(f"model: {result.folder.path}")


def _speaking(team: Team) -> Callable[[], bool]:
    def speaks() -> bool:
        if not team.alone:
            # torchrun signals the survivors of a loss, each perhaps more than once: what is to be said is said first.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return team.speaks()

    return speaks
