"""`dpf rank`."""

from __future__ import annotations

from dpf.cli.options import ProjectArgument, TableSession, TopOption
from dpf.config.options import overrides
from dpf.workflows.options import RunOptions
from dpf.workflows.rank.choices import RankChoices


def command(
    run: TableSession,
    project: ProjectArgument,
    choices: RankChoices,
    using: RunOptions,
    top: TopOption = None,
) -> None:
    """Compounds by their distance from the controls: which of them one may call, and what kind of hit each is."""
    from dataclasses import asdict

    from dpf.project.directory import open_project
    from dpf.workflows.check.stored import design_lines
    from dpf.workflows.rank.rank import rank_project

    result = rank_project(open_project(project, overrides(using)), using.model, choices, progress=run.progress)
    lines = [*design_lines(result.design, project), *result.statements]
    for line in [*lines, *([result.power] if result.power else [])]:
        run.say(line)
    run.show(
        result.table,
        "ranking_by_dose" if choices.by_dose else "ranking",
        top=top,
        title="Compounds, farthest from the controls first" if "t" in result.table.columns else "Compounds, by p",
        sorted_by="" if choices.sort == "rank" else choices.sort,
        power=result.power,
        statements=result.statements,
        design=None if result.design is None else asdict(result.design),
        files=[str(path) for path in (result.path, *result.files)],
    )
    run.say(f"tables: {', '.join(str(path) for path in (result.path, *result.files))}")
    if result.figures:
        run.say(f"figures: {', '.join(str(path) for path in result.figures)}")
