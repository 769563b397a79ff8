"""`dpf init`."""

from __future__ import annotations

from dpf.cli.display.summaries import summary_lines
from dpf.cli.options import ProjectArgument, TextSession
from dpf.config.options import overrides
from dpf.tables.options import PrepareOptions, Roles
from dpf.workflows.options import DemoOptions, SettingOptions, SourceOptions


def command(
    run: TextSession,
    project: ProjectArgument,
    demo: DemoOptions,
    source: SourceOptions,
    roles: Roles,
    prepare: PrepareOptions,
    settings: SettingOptions,
) -> None:
    """Make a project from your screen's files, or a simulated one to try."""
    from dataclasses import asdict

    from dpf.workflows.project.initialise import init_project

    result = init_project(project, source, demo, roles, prepare, overrides(settings))
    if run.format == "json":
        run.envelope({"project": str(project), "summary": asdict(result.summary)})
    else:
        run.print("\n".join([f"project  {project}", *summary_lines(result.summary)]))
    if result.truth:
        run.say(f"truth    {result.truth} (what was planted; nothing in dpf reads it)")
    next_command = "train" if result.summary.targets else "rank"
    run.say(f"next     dpf {next_command} {project}")
