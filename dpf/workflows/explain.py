"""`dpf explain`: which genes a prediction rests on."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from torch import Tensor

from dpf.analysis.attribution import GradientTimesInput, Target, gradient_times_input
from dpf.errors import UsageError
from dpf.files import together
from dpf.model.checkpoint import TrainedModel, load_model
from dpf.model.network import Prediction, TargetLayout
from dpf.project.directory import Project
from dpf.tables.storage import write_table
from dpf.training.compute.device import memory_errors, resolve_compute
from dpf.workflows.options import ExplainOptions
from dpf.workflows.predict.gene_order import in_model_order
from dpf.workflows.progress import Progress, Silent
from dpf.workflows.project.inputs import read_inputs
from dpf.workflows.project.model_file import find_model
from dpf.workflows.project.provenance import current, made_of


@dataclass(frozen=True)
class ExplainResult:
    """Genes by importance, the target that was explained, and the files written."""

    table: pl.DataFrame
    target: str
    path: Path
    figures: tuple[Path, ...]


def explain_project(
    project: Project,
    model: str = "default",
    options: ExplainOptions | None = None,
    *,
    progress: Progress | None = None,
) -> ExplainResult:
    """Gradient x Input of a target (of a label: its logit) over all wells, averaged over the members.

    Raises
    ------
    DpfError
        The model or the target are not there, or the project lacks genes of the model.
    """
    options, progress = options or ExplainOptions(), progress or Silent()
    file = find_model(project, model)
    trained = load_model(file.path)
    name, function = find_target(options.target, trained.layout, trained.members[0].settings.latent)
    inputs = read_inputs(project)
    expression = in_model_order(inputs.expression, file.header, inputs.genes, project.expression)
    settings = replace(project.settings.compute, precision="fp32")  # whatever the model trained in
    compute = resolve_compute(settings, log=progress.log)
    members = len(trained.members)
    progress.plan(
        f"Gradient x Input of {name}: {members} x {len(expression):,} wells x {len(trained.genes):,} genes on "
        f"{compute.describe()} (gradients are always in fp32)"
    )
    progress.start("explaining", members * len(expression), "wells")
    parts = []
    with memory_errors(compute, len(trained.genes)):
        for network in trained.members:
            parts.append(
                gradient_times_input(
                    network,
                    expression,
                    inputs.is_control,
                    function,
                    device=compute.device,
                    wells_at_once=compute.wells_at_once(len(trained.genes)),
                    attention=compute.attention,
                    progress=progress.advance,
                )
            )
            network.cpu()
    table = _table(trained, parts)
    results = project.results(file.name)
    slug = re.sub(r"\W+", "_", name)
    path = results.table("importance" if not options.target else f"importance_{slug}")
    about = made_of(current(project, file, inputs), "importance")
    with together(progress.warn):
        write_table(path, table, "importance", about | {"target": name})
        figures = _draw(results.figure(path.stem), table, name, members, options.genes)
    return ExplainResult(table, name, path, figures)


def find_target(name: str, layout: TargetLayout, latent: int) -> tuple[str, Target]:
    """The function of a prediction that a target's name stands for.

    Raises
    ------
    UsageError
        The model has no such head; those it has are listed.
    """
    default = layout.activation or layout.label or next(iter(layout.scores))
    chosen = name or default
    heads: dict[str, Target] = {score: _score(index) for index, score in enumerate(layout.scores)}
    if layout.label:
        heads[layout.label] = _label
    if layout.activation:
        heads[layout.activation] = _activation
    if chosen in heads:
        return chosen, heads[chosen]
    matched = re.fullmatch(r"latent_(\d+)", chosen)
    if matched and int(matched[1]) < latent:
        return chosen, _latent(int(matched[1]))
    known = ", ".join([*heads, f"latent_0 ... latent_{latent - 1}"])
    raise UsageError("the model does not predict that target", found=chosen, expected=f"one of {known}")


def _score(index: int) -> Target:
    return lambda prediction: prediction.scores[:, index]


def _latent(index: int) -> Target:
    return lambda prediction: prediction.latent[:, index]


def _label(prediction: Prediction) -> Tensor:
    assert prediction.label_logit is not None
    return prediction.label_logit


def _activation(prediction: Prediction) -> Tensor:
    assert prediction.activation is not None
    return prediction.activation


def _table(trained: TrainedModel, parts: list[GradientTimesInput]) -> pl.DataFrame:
    """Means over members; `importance_sd` is the standard deviation over members (null for one)."""
    columns: dict[str, object] = {"gene": trained.genes}
    for name in ("importance", "signed", "control_importance", "control_signed", "gradient"):
        columns[name] = np.mean([getattr(part, name) for part in parts], axis=0)
    spread = np.std([part.importance for part in parts], axis=0, ddof=1) if len(parts) > 1 else None
    columns["importance_sd"] = pl.Series([None] * len(trained.genes), dtype=pl.Float64) if spread is None else spread
    table = pl.DataFrame(columns).sort("importance", "gene", descending=[True, False])
    return table.with_row_index("rank", offset=1)


def _draw(path: Path, table: pl.DataFrame, target: str, members: int, top: int) -> tuple[Path, ...]:
    from dpf.figures.drawing.style import save
    from dpf.figures.genes import top_genes

    figure = top_genes(
        table.get_column("gene").to_list(),
        table.get_column("importance").to_numpy(),
        table.get_column("gradient").to_numpy(),
        target=target,
        spread=table.get_column("importance_sd").to_numpy() if members > 1 else None,
        top=top,
    )
    return save(figure, path)
