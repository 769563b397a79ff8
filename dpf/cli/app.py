"""The `dpf` command: one thin file a command, nothing scientific imported until one of them runs."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from dpf import __version__
from dpf.cli.commands import check, evaluate, explain, export, info, init, latent, predict, rank, train
from dpf.cli.session import be_silent, session, set_debug
from dpf.errors import UsageError
from dpf.training.parallel.ranks import ranks_from_environment

app = typer.Typer(
    name="dpf",
    help="Which compounds move the cells, how strongly, in which direction, through which genes.",
    epilog="A first look: dpf init demo --demo, dpf train demo --folds 3 --epochs 15, dpf rank demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    set_debug(debug)
    command = context.invoked_subcommand or ""
    with session(command):
        ranks = ranks_from_environment(os.environ)
        if not ranks.is_rank_0 and not debug:
            be_silent()
        if not ranks.alone and command != "train":
            raise UsageError(
                f"dpf {command} runs in one process", found=f"{ranks.world} processes started by torchrun",
                hint="only dpf train can use several: run this without torchrun",
            )  # fmt: skip


for module in (init, check, train, evaluate, predict, latent, rank, explain, info, export):
    app.command(module.__name__.rpartition(".")[2])(module.command)
