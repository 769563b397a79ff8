"""Options that several commands share, each declared once."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dpf.cli.session import OutputFormat
from dpf.config.settings import documentation


class TextFormat(StrEnum):
    """How a result that is no table is shown on stdout."""

    table = "table"
    json = "json"


ProjectArgument = Annotated[Path, typer.Argument(help="The project's folder.", show_default=False)]
ModelOption = Annotated[str, typer.Option("--model", help="The model's name in the project.")]
ModelOrFileOption = Annotated[
    str, typer.Option("--model", help="A model's name in the project, or the path of a model.safetensors.")
]
FormatOption = Annotated[
    OutputFormat | None,
    typer.Option(
        "--format", help="How the result is shown: table (a terminal's default), csv (a pipe's) or json.",
        show_default=False,
    ),
]  # fmt: skip
TextFormatOption = Annotated[
    TextFormat, typer.Option("--format", help="How the result, a text, is shown: as such (table) or as json.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Override a setting for this run, e.g. train.epochs=10."),
]
SourceFormatOption = Annotated[
    str | None,
    typer.Option("--source-format", help="Format of the expression table, if not recognised.", show_default=False),
]
LayerOption = Annotated[
    str | None, typer.Option("--layer", help="Layer of an h5ad file. (Default: X.)", show_default=False)
]
FdrOption = Annotated[float, typer.Option("--fdr", help="The false discovery rate that hits will be called at.")]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace files in the way that this project's earlier runs did not write.")
]
TopOption = Annotated[int | None, typer.Option("--top", min=1, help="Only the first rows.", show_default=False)]


def setting_option(name: str, *flags: str) -> Any:
    """An option that overrides `section.name`; its help is the setting's own documentation."""
    return typer.Option(*flags, help=documentation(name), show_default=False)


DeviceOption = Annotated[str | None, setting_option("compute.device", "--device")]
PrecisionOption = Annotated[str | None, setting_option("compute.precision", "--precision")]
ThreadsOption = Annotated[int | None, setting_option("compute.threads", "--threads")]


def overrides(given: list[str] | None, **flags: object) -> list[str]:
    """`section.name=value` texts of --set and of the flags that were used (`section__name=value`); flags win."""
    texts = [f"{name.replace('__', '.')}={json.dumps(value)}" for name, value in flags.items() if value is not None]
    return [*(given or []), *texts]
