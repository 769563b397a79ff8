"""`dpf latent`."""

from __future__ import annotations

from dpf.cli.options import ProjectArgument, TableSession, TopOption
from dpf.config.options import overrides
from dpf.workflows.options import LatentOptions, RunOptions


def command(
    run: TableSession,
    project: ProjectArgument,
    options: LatentOptions,
    using: RunOptions,
    top: TopOption = None,
) -> None:
    """Latent vectors, distances to the controls, activation axis, and a map of the wells."""
    from dpf.project.directory import open_project
    from dpf.workflows.predict.latent import latent_project

    opened = open_project(project, overrides(options, using))
    result = latent_project(opened, using.model, options, progress=run.progress)
    run.show(
        result.table, "latent", top=top, title="Wells in the latent space",
        correlations=result.correlations.to_dicts(),
    )  # fmt: skip
    for row in result.correlations.iter_rows(named=True):
        values = [f"{key.removeprefix('spearman_')} {value:+.2f}" for key, value in row.items() if "spearman" in key]
        run.say(f"Spearman with {row['measured']} ({row['n']} wells): {', '.join(values)}")
    run.say(f"table: {result.path}")
    run.say(f"figures: {', '.join(str(path) for path in result.figures)}")
