"""`dpf rank`."""

from __future__ import annotations

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


def command(
    project: ProjectArgument,
    model: ModelOrFileOption = "default",
    sort: Annotated[str, typer.Option("--sort", help="Column to sort by; all but names and ranks: largest first.")] = (
        "rank"
    ),
    by_dose: Annotated[
        bool, typer.Option("--by-dose", help="One row a compound and concentration instead of a compound.")
    ] = False,
    top: TopOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    set_: SetOption = None,
    output: FormatOption = None,
) -> None:
    """Compounds by their standardised distance from the controls, with direction and replicate agreement."""
    with session("rank", output) as run:
        from dataclasses import asdict

        from dpf.project.directory import open_project
        from dpf.workflows.rank import rank_project
        from dpf.workflows.stored_check import design_lines

        changed = overrides(set_, compute__threads=threads, compute__device=device, compute__precision=precision)
        result = rank_project(open_project(project, changed), model, sort=sort, by_dose=by_dose, progress=run.progress)
        for line in (*design_lines(result.design, project), *result.statements):
            run.say(line)
        run.show(
            result.table,
            top=top,
            title="Compounds, farthest from the controls first",
            statements=result.statements,
            design=None if result.design is None else asdict(result.design),
        )
        run.say(f"table: {result.path}")
        run.say(f"figures: {', '.join(str(path) for path in result.figures)}")
