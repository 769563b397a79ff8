"""`dpf explain`."""

from __future__ import annotations

from dpf.cli.memory import keep_freed_memory
from dpf.cli.options import ProjectArgument, TableSession, TopOption
from dpf.config.options import overrides
from dpf.workflows.options import ExplainOptions, RunOptions


def command(
    run: TableSession,
    project: ProjectArgument,
    options: ExplainOptions,
    using: RunOptions,
    top: TopOption = None,
) -> None:
    """Genes by Gradient x Input over all wells."""
    keep_freed_memory()
    from dpf.project.directory import open_project
    from dpf.workflows.explain import explain_project

    result = explain_project(open_project(project, overrides(using)), using.model, options, progress=run.progress)
    title = f"Genes by importance for {result.target}"
    run.show(result.table, "importance", top=top, title=title, target=result.target)
    run.say(f"table: {result.path}")
    run.say(f"figures: {', '.join(str(path) for path in result.figures)}")
