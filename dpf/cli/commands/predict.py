"""`dpf predict`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dpf.cli.options import (
    DeviceOption,
    FormatOption,
    LayerOption,
    ModelOrFileOption,
    OverwriteOption,
    PrecisionOption,
    ProjectArgument,
    SetOption,
    SourceFormatOption,
    ThreadsOption,
    TopOption,
    overrides,
)
from dpf.cli.session import session
from dpf.errors import UsageError, listed


class _Scale(StrEnum):
    auto = "auto"
    normalised = "normalised"
    counts = "counts"


class _Missing(StrEnum):
    refuse = "refuse"
    impute = "impute"


def command(
    project: ProjectArgument,
    model: ModelOrFileOption = "default",
    new_wells: Annotated[
        Path | None, typer.Option("--input", help="New wells: a table of wells x genes, any format init reads.")
    ] = None,
    input_scale: Annotated[
        _Scale,
        typer.Option(
            "--input-scale",
            help="What --input holds: counts (normalised as the model's training data were), or values normalised "
            "already; auto: as the values say, an error where they do not.",
        ),
    ] = _Scale.auto,
    source_format: SourceFormatOption = None,
    layer: LayerOption = None,
    target: Annotated[
        Path | None, typer.Option("--output", help="With --input: where the table goes (Parquet).")
    ] = None,
    overwrite: OverwriteOption = False,
    missing_genes: Annotated[
        _Missing,
        typer.Option("--missing-genes", help="Genes that --input lacks: an error, or the mean they are centred on."),
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
        for_new_wells = {
            "--output": target,
            "--overwrite": overwrite,
            "--missing-genes": missing_genes is _Missing.impute,
            "--input-scale": input_scale is not _Scale.auto,
            "--source-format": source_format,
            "--layer": layer,
        }
        alone = [name for name, given in for_new_wells.items() if given and new_wells is None]
        if alone:
            raise UsageError(f"{listed(alone)} is for new wells", expected="--input TABLE beside it")
        if target and target.suffix != ".parquet":
            raise UsageError(
                "new wells are written as Parquet",
                found=target,
                expected="--output NAME.parquet",
                hint="for CSV redirect the result: dpf predict ... --format csv > NAME.csv",
            )
        from dpf.project.directory import open_project
        from dpf.workflows.predict.new import predict_new
        from dpf.workflows.predict.new_wells import read_new_wells
        from dpf.workflows.predict.predict import predict_project

        changed = overrides(set_, compute__threads=threads, compute__device=device, compute__precision=precision)
        opened = open_project(project, changed)
        if new_wells is None:
            result = predict_project(opened, model, progress=run.progress)
        else:
            wells = read_new_wells(opened, model, new_wells, run.progress, source_format, layer)
            result = predict_new(
                opened, wells, target, model, impute_missing=missing_genes is _Missing.impute, scale=input_scale.value,
                overwrite=overwrite, progress=run.progress,
            )  # fmt: skip
        run.show(result.table, "predictions", top=top, title="Predictions")
        run.say(f"table: {result.path}")
