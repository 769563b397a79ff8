"""`dpf evaluate`."""

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
from dpf.errors import UsageError


def command(
    project: ProjectArgument,
    model: ModelOrFileOption = "default",
    baselines_only: Annotated[
        bool, typer.Option("--baselines-only", help="Use no model: see what the data hold before training one.")
    ] = False,
    in_sample: Annotated[
        bool,
        typer.Option(
            "--in-sample", help="Also measure the model on wells it was trained on, marked as proving nothing."
        ),
    ] = False,
    level: Annotated[
        float, typer.Option("--level", min=0.01, max=0.99, help="Coverage that the scores' intervals aim at.")
    ] = 0.9,
    classes: Annotated[
        str, typer.Option("--classes", help="Column with the class of each compound, for the latent's quality.")
    ] = "",
    folds: Annotated[int | None, setting_option("train.folds", "--folds")] = None,
    split: Annotated[str | None, setting_option("train.split", "--split")] = None,
    seed: Annotated[int | None, setting_option("train.seed", "--seed")] = None,
    top: TopOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = None,
    set_: SetOption = None,
    output: FormatOption = None,
) -> None:
    """The model beside simple methods on held-out compounds; its calibration and its card."""
    with session("evaluate", output) as run:
        from dataclasses import asdict

        from dpf.project.directory import open_project
        from dpf.workflows.check.stored import design_lines
        from dpf.workflows.evaluate.evaluate import evaluate_project

        if not baselines_only and (folds is not None or split is not None):
            raise UsageError(
                "a trained model brings its own split",
                found="--folds or --split without --baselines-only",
                hint=f"dpf evaluate {project} --baselines-only --folds 5, or train with --folds 5",
            )
        changed = overrides(
            set_, train__folds=folds, train__split=split, train__seed=seed,
            compute__threads=threads, compute__device=device, compute__precision=precision,
        )  # fmt: skip
        result = evaluate_project(
            open_project(project, changed), model, baselines_only=baselines_only, in_sample=in_sample, level=level,
            classes=classes, progress=run.progress,
        )  # fmt: skip
        for line in (*design_lines(result.design, project), *result.notes):
            run.say(line)
        named = result.board.reference
        reference = f"; verdict: the {named} is better or worse than the method" if named else ""
        run.show(
            result.table, "evaluation", top=top, title=f"Scoreboard{reference}", verdicts=result.verdicts,
            notes=result.notes,
            latent_quality=[] if result.latent is None else result.latent.to_dicts(),
            design=None if result.design is None else asdict(result.design),
        )  # fmt: skip
        for verdict in result.verdicts:
            run.say(verdict)
        run.say(f"files: {', '.join(str(path) for path in result.files)}")
        run.say(f"figures: {', '.join(str(path) for path in result.figures)}")
