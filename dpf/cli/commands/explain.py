"""`dpf explain`."""

from __future__ import annotations

from typing import Annotated

import typer

from dpf.cli.memory import keep_freed_memory
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


def command(
    project: ProjectArgument,
    model: ModelOrFileOption = "default",
    target: Annotated[
        str,
        typer.Option(
            "--target",
            help="What to explain: a score, the label or the activation by name, or latent_K. "
            "Default: the activation, else the label, else the first score.",
            show_default=False,
        ),
    ] = "",
    genes: Annotated[int, typer.Option("--genes", min=1, help="Genes in the figure.")] = 25,
    top: TopOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    set_: SetOption = None,
    output: FormatOption = None,
) -> None:
    """Genes by Gradient x Input over all wells."""
    with session("explain", output) as run:
        keep_freed_memory()
        from dpf.project.directory import open_project
        from dpf.workflows.explain import explain_project

        changed = overrides(set_, compute__threads=threads, compute__device=device, compute__precision=precision)
        result = explain_project(open_project(project, changed), model, target=target, top=genes, progress=run.progress)
        title = f"Genes by importance for {result.target}"
        run.show(result.table, "importance", top=top, title=title, target=result.target)
        run.say(f"table: {result.path}")
        run.say(f"figures: {', '.join(str(path) for path in result.figures)}")
