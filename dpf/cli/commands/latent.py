"""`dpf latent`."""

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
    setting_option,
)
from dpf.cli.session import session


def command(
    project: ProjectArgument,
    model: ModelOrFileOption = "default",
    colour: Annotated[
        str | None, typer.Option("--colour", "--color", help="Column of the wells table to colour the map by.")
    ] = None,
    member: Annotated[int, typer.Option("--member", min=0, help="Whose latent space is drawn.")] = 0,
    umap: Annotated[bool, typer.Option("--umap", help="Draw a UMAP instead of a PCA (extra: umap).")] = False,
    center: Annotated[str | None, setting_option("latent.center", "--center")] = None,
    control_cluster: Annotated[list[str] | None, setting_option("latent.control_clusters", "--control-cluster")] = None,
    top: TopOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    set_: SetOption = None,
    output: FormatOption = None,
) -> None:
    """Latent vectors, distances to the controls, activation axis, and a map of the wells."""
    with session("latent", output) as run:
        from dpf.project.directory import open_project
        from dpf.workflows.predict.latent import latent_project

        changed = overrides(
            set_, latent__center=center, latent__control_clusters=control_cluster or None,
            compute__threads=threads, compute__device=device, compute__precision=precision,
        )  # fmt: skip
        result = latent_project(
            open_project(project, changed), model, colour=colour, member=member, umap=umap, progress=run.progress
        )
        run.show(
            result.table, "latent", top=top, title="Wells in the latent space",
            correlations=result.correlations.to_dicts(),
        )  # fmt: skip
        for row in result.correlations.iter_rows(named=True):
            values = [
                f"{key.removeprefix('spearman_')} {value:+.2f}" for key, value in row.items() if "spearman" in key
            ]
            run.say(f"Spearman with {row['measured']} ({row['n']} wells): {', '.join(values)}")
        run.say(f"table: {result.path}")
        run.say(f"figures: {', '.join(str(path) for path in result.figures)}")
