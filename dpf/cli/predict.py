"""`dpf predict`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dpf.cli.options import (
    DeviceOption,
    FormatOption,
    ModelOrFileOption,
    PrecisionOption,
    ProjectArgument,
    SetOption,
    ThreadsOption,
    TopOption,
    overrides,
)
from dpf.cli.session import session


class _Missing(StrEnum):
    refuse = "refuse"
    impute = "impute"


def command(
    project: ProjectArgument,
    model: ModelOrFileOption = "default",
    new_wells: Annotated[
        Path | None, typer.Option("--input", help="New wells: a table of wells x genes, any format init reads.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--output", help="With --input: where the table goes (Parquet).")
    ] = None,
    missing_genes: Annotated[
        _Missing,
        typer.Option("--missing-genes", help="Genes that --input lacks: an error, or the training mean."),
    ] = _Missing.refuse,
    top: TopOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    set_: SetOption = None,
    output: FormatOption = None,
) -> None:
    """Every score, label, activation, latent and distance: of the project's wells (out of fold) or of new ones."""
    with session("predict", output) as run:
        from dpf.project.directory import open_project
        from dpf.workflows.predict import predict_project
        from dpf.workflows.predict_new import predict_new, read_new_wells

        changed = overrides(set_, compute__threads=threads, compute__device=device, compute__precision=precision)
        opened = open_project(project, changed)
        if new_wells is None:
            result = predict_project(opened, model, progress=run.progress)
        else:
            wells = read_new_wells(opened, model, new_wells, run.progress)
            impute = missing_genes is _Missing.impute
            result = predict_new(opened, wells, target, model, impute_missing=impute, progress=run.progress)
        run.show(result.table, top=top, title="Predictions")
        run.say(f"table: {result.path}")
