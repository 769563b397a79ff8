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
from dpf.errors import UsageError, listed
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
    alone, member = ranks_from_environment(os.environ).alone, options.member
    own = "" if member is None else f" --member {member}"
    again = f"dpf train {project}{own} --resume (and the same options)"
    again = again if alone else "the same torchrun line and --resume"
    if options.assemble and not alone:
        raise UsageError(
            "--assemble runs in one process", found="several processes started by torchrun", hint="leave torchrun out"
        )
    keep_freed_memory()
    from dpf.project.directory import open_project
    from dpf.training.parallel.team import joined
    from dpf.workflows.train.train import train_project

    with joined(waiting=run.say) as team, nullcontext() if team.is_rank_0 or run.debug else silence():
        run.may_report = _reporting(team)
        opened = open_project(project, options.overrides(compute, settings))
        folder = opened.model(options.model)
        run.after_interruption = lambda: (
            f"go on with: {again}"
            if folder.interrupted or member is not None
            else "nothing of it was saved yet: start it again"
        )
        result = train_project(
            opened, options.model, member=member, assemble=options.assemble, resume=options.resume,
            overwrite=options.overwrite, tensorboard=options.tensorboard, progress=run.progress, team=team,
        )  # fmt: skip
    if not team.is_rank_0:
        return
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
