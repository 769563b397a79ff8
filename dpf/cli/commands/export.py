"""`dpf export`."""

from __future__ import annotations

from dpf.cli.options import ProjectArgument
from dpf.cli.session import Session
from dpf.config.options import overrides
from dpf.workflows.options import ComputeOptions, ExportOptions


def command(
    run: Session,
    project: ProjectArgument,
    options: ExportOptions,
    compute: ComputeOptions,
) -> None:
    """Write inputs and results for other programs, computing first what is missing or stale."""
    from dpf.project.directory import open_project
    from dpf.workflows.export import export_project

    opened, folder = open_project(project, overrides(compute)), options.output or project / "export"
    result = export_project(
        opened, folder, options.model, layout=options.layout, file_format=options.format, progress=run.progress
    )
    run.print("\n".join(map(str, result.files)))
