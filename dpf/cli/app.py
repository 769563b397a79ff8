"""The `dpf` command: one thin file a command, nothing scientific imported until one of them runs."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dpf import __version__
from dpf.cli.commands import check, evaluate, explain, export, info, init, latent, predict, rank, train
from dpf.cli.options import grouped, typer_parameters
from dpf.cli.session import session
from dpf.cli.streams import prepare_streams
from dpf.errors import DpfError, UsageError
from dpf.training.parallel.ranks import ranks_from_environment

app = typer.Typer(
    name="dpf",
    help="Which compounds move the cells, how strongly, in which direction, through which genes.",
    epilog="A first look: dpf init demo --demo, dpf train demo --folds 3 --epochs 15, dpf rank demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
#: The commands that several processes, started by `torchrun`, can run together.
_TEAM = ("train",)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"dpf {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Which compounds move the cells, how strongly, in which direction, through which genes."""
    del version  # eager: it has been answered already
    context.obj = debug


def _texts(given: Mapping[str, Any]) -> Iterator[str]:
    """The texts that a command was given, paths in full."""
    for value in given.values():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str | Path):
                yield one if isinstance(one, str) else str(one.absolute())


def _registered(name: str, command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer runs it: in a session, its options as the workflows want them."""

    def run(context: typer.Context, **given: Any) -> None:
        with session(name, given.pop("shown_as", None), debug=context.obj) as current:
            ranks = ranks_from_environment(os.environ)
            if not ranks.alone and name not in _TEAM:
                raise UsageError(
                    f"dpf {name} runs in one process", found=f"{ranks.world} processes started by torchrun",
                    hint="only dpf train can use several: run this without torchrun",
                )  # fmt: skip
            for text in _texts(given):
                text.encode()  # before anything is computed: a path that is no UTF-8 could not be written to or kept
            command(current, **grouped(command, given))

    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *typer_parameters(command)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = command.__doc__
    return run


for module in (init, check, train, evaluate, predict, latent, rank, explain, info, export):
    name = module.__name__.rpartition(".")[2]
    app.command(name)(_registered(name, module.command))


def main() -> None:
    """Run the command line."""
    prepare_streams()
    try:
        app()
    except DpfError as error:  # outside of a command: `dpf --help > /dev/full`
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
