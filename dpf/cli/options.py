"""How a command's options become typer's: what several commands share, and the classes of options of the workflows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from dpf.cli.session import OutputFormat, Session
from dpf.config.options import Options, keyword, options_of

ProjectArgument = Annotated[Path, typer.Argument(help="The project's folder.", show_default=False)]
TopOption = Annotated[int | None, typer.Option("--top", min=1, help="Only the first rows.", show_default=False)]

_TableFormat = Annotated[
    OutputFormat | None,
    typer.Option(
        "--format", help="How the result is shown: table (a terminal's default), csv (a pipe's) or json.",
        show_default=False,
    ),
]  # fmt: skip
_TextFormat = Annotated[
    Literal["table", "json"],
    typer.Option("--format", help="How the result, a text, is shown: as such (table) or as json."),
]


_TextOrTableFormat = Annotated[
    OutputFormat | None,
    typer.Option(
        "--format", show_default=False,
        help="How the result is shown: a text as such (table) or as json; --columns as table, csv or json.",
    ),
]  # fmt: skip


def _format_option(annotation: Any, default: str | None) -> inspect.Parameter:
    return inspect.Parameter("shown_as", inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


#: The session of a command whose result is a table, of one whose result is a text, of info: each with its --format.
TableSession = Annotated[Session, _format_option(_TableFormat, None)]
TextSession = Annotated[Session, _format_option(_TextFormat, "table")]
InfoSession = Annotated[Session, _format_option(_TextOrTableFormat, None)]


def typer_parameters(command: Callable[..., None]) -> list[inspect.Parameter]:
    """What typer is to read of a command: its parameters, a class of options standing for its fields.

    The first parameter is the command's session, whose `--format`, if it has one, comes last.
    """
    run, *others = inspect.signature(command, eval_str=True).parameters.values()
    found = [own for parameter in others for own in _expanded(parameter)]
    return [*found, *get_args(run.annotation)[1:]]


def _expanded(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    if _is_options(parameter.annotation):
        yield from (_parameter(entry, kind) for entry, kind in options_of(parameter.annotation))
    else:
        yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)


def _is_options(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Options)


def _parameter(entry: Field[Any], kind: Any) -> inspect.Parameter:
    about, default = entry.metadata, entry.default
    if get_origin(kind) is tuple:
        kind, default = list[get_args(kind)[0]] | None, None  # type: ignore[misc]
    option = typer.Option(
        *(about["flags"] or [f"--{entry.name.replace('_', '-')}"]),
        help=about["doc"],
        metavar=about["metavar"],
        rich_help_panel=about["panel"],
        show_default=default not in (None, ""),
        min=about.get("minimum"),
        max=about.get("maximum"),
    )
    return inspect.Parameter(
        keyword(entry), inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


def grouped(command: Callable[..., None], given: Mapping[str, Any]) -> dict[str, Any]:
    """What typer read, as the command wants it: options put together in their classes.

    Raises
    ------
    UsageError
        Options are out of bounds, or do not go together.
    """
    _, *parameters = inspect.signature(command, eval_str=True).parameters.values()
    found: dict[str, Any] = {}
    for parameter in parameters:
        kind = parameter.annotation
        if _is_options(kind):
            found[parameter.name] = kind(**{entry.name: given[keyword(entry)] for entry, _ in options_of(kind)})
        else:
            found[parameter.name] = given[parameter.name]
    return found
