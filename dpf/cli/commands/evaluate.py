"""`dpf evaluate`."""

from __future__ import annotations

from dpf.cli.options import ProjectArgument, TableSession, TopOption
from dpf.config.options import overrides
from dpf.workflows.options import EvaluateOptions, RunOptions


def command(
    run: TableSession,
    project: ProjectArgument,
    options: EvaluateOptions,
    using: RunOptions,
    top: TopOption = None,
) -> None:
    """The model beside simple methods on held-out compounds; its calibration and its card."""
    from dataclasses import asdict

    from dpf.project.directory import open_project
    from dpf.workflows.check.stored import design_lines
    from dpf.workflows.evaluate.evaluate import evaluate_project

    opened = open_project(project, overrides(options, using))
    result = evaluate_project(opened, using.model, options, progress=run.progress)
    for line in (*design_lines(result.design, project), *result.notes):
        run.say(line)
    named = result.board.reference
    reference = f"; verdict: the {named} is better or worse than the method" if named else ""
    run.show(
        result.table, "evaluation", top=top, title=f"Scoreboard{reference}", verdicts=result.verdicts,
        notes=result.notes,
        latent_quality=[] if result.latent is None else result.latent.to_dicts(),
        design=None if result.design is None else asdict(result.design),
    )  # fmt: skip
    for verdict in result.verdicts:
        run.say(verdict)
    run.say(f"files: {', '.join(str(path) for path in result.files)}")
    run.say(f"figures: {', '.join(str(path) for path in result.figures)}")
