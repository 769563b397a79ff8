"""`dpf export`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dpf.cli.options import (
    DeviceOption,
    ModelOption,
    OverwriteOption,
    PrecisionOption,
    ProjectArgument,
    ThreadsOption,
    overrides,
)
from dpf.cli.session import OutputFormat, session


class _Layout(StrEnum):
    tables = "tables"
    classic = "classic"


class _Format(StrEnum):
    csv = "csv"
    parquet = "parquet"
    h5ad = "h5ad"


def command(
    project: ProjectArgument,
    folder: Annotated[Path | None, typer.Option("--output", help="Folder to write to. [PROJECT/export]")] = None,
    model: ModelOption = "default",
    layout: Annotated[
        _Layout, typer.Option("--layout", help="tables: everything; classic: the eight files of the classic pipeline.")
    ] = _Layout.tables,
    file_format: Annotated[_Format, typer.Option("--format", help="Of the tables.")] = _Format.csv,
    overwrite: OverwriteOption = False,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
) -> None:
    """Write inputs and results for other programs, computing first what is missing or stale."""
    with session("export", OutputFormat.csv) as run:
        from dpf.project.directory import open_project
        from dpf.workflows.export import export_project

        changed = overrides(None, compute__threads=threads, compute__device=device, compute__precision=precision)
        opened = open_project(project, changed)
        target = folder or project / "export"
        result = export_project(
            opened, target, model, layout=layout.value, file_format=file_format.value, overwrite=overwrite,
            progress=run.progress,
        )  # fmt: skip
        for path in result.files:
            typer.echo(str(path))
