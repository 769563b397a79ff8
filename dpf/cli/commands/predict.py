"""`dpf predict`."""

from __future__ import annotations

from dpf.cli.options import ProjectArgument, TableSession, TopOption
from dpf.config.options import overrides
from dpf.workflows.options import PredictOptions, RunOptions


def command(
    run: TableSession,
    project: ProjectArgument,
    options: PredictOptions,
    using: RunOptions,
    top: TopOption = None,
) -> None:
    """Every score, label, activation, latent and distance: of the project's wells (out of fold) or of new ones."""
    from dpf.project.directory import open_project
    from dpf.workflows.predict.new import predict_wells

    result = predict_wells(open_project(project, overrides(using)), using.model, options, progress=run.progress)
    run.show(result.table, "predictions", top=top, title="Predictions")
    run.say(f"table: {result.path}")
