"""`dpf predict`: every score, label and distance, for the project's wells or for new ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError, ModelError, listed
from dpf.project.directory import Project
from dpf.tables.storage import write_table
from dpf.analysis.latent import latent_geometry
from dpf.workflows.geometry import Speakers, choose_speakers, geometry_columns, well_geometry
from dpf.workflows.inputs import Inputs, Measured, read_inputs, read_measured
from dpf.workflows.outputs import ModelFile, Outputs, find_model, known_parts, project_outputs, run_members
from dpf.workflows.progress import Progress, Silent

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PredictResult:
    """A table of predictions, one row a well, and where it was written."""

    table: pl.DataFrame
    path: Path


def predict_project(
    project: Project, model: str = "default", *, progress: Progress | None = None
) -> PredictResult:
    """Predict the project's own wells: out of fold wherever a member held the well out.

    Raises
    ------
    DpfError
        The model or the inputs cannot be used.
    """
    progress = progress or Silent()
    file = find_model(project, model)
    inputs = read_inputs(project)
    outputs = project_outputs(project, inputs, file, progress)
    speakers = choose_speakers(outputs.parts)
    measured = read_measured(inputs.wells, project.settings.targets, project.wells)
    table = pl.DataFrame(
        _about_wells(inputs, speakers)
        | predicted_columns(outputs, speakers)
        | measured_columns(outputs, measured)
        | well_geometry(outputs, inputs, project.settings.latent, speakers)
        | latent_columns(outputs, speakers)
    )
    path = project.results(file.name).table("predictions")
    write_table(path, table, "predictions", result_provenance(outputs, inputs))
    warn_not_held_out(speakers, progress)
    return PredictResult(table, path)


def result_provenance(outputs: Outputs, inputs: Inputs) -> dict[str, Any]:
    """What a result was made from, for its footer."""
    return {"model_sha256": outputs.model_sha256, "inputs_sha256": inputs.fingerprint}


def warn_not_held_out(speakers: Speakers, progress: Progress) -> None:
    """Say which wells rest on members that had seen them."""
    trained, chose = speakers.part.count("train"), speakers.part.count("validation")
    if trained or chose:
        progress.warn(
            f"of {len(speakers.part):,} wells, {trained:,} were trained on and {chose:,} chose the epoch (column part): "
            "train with --folds 5 to have every well predicted by a member that never saw it"
        )


def _about_wells(inputs: Inputs, speakers: Speakers) -> dict[str, Any]:
    columns: dict[str, Any] = {"well_id": inputs.well_ids, "compound": inputs.texts("compound")}
    columns["is_control"] = inputs.is_control
    for name in ("plate", "concentration"):
        if name in inputs.wells.columns:
            columns[name] = inputs.wells.get_column(name)
    return columns | {
        "members": speakers.members(),
        "part": speakers.part,
        "held_out": [part == "held_out" for part in speakers.part],
    }


def predicted_columns(outputs: Outputs, speakers: Speakers) -> dict[str, Any]:
    """`<score>_predicted`, the label's logit, probability and class, `<activation>_predicted`: means over members."""
    columns: dict[str, Any] = {}
    scores = speakers.average(outputs.scores)
    for index, name in enumerate(outputs.score_names):
        columns[f"{name}_predicted"] = scores[:, index]
    targets = outputs.header["targets"]
    if outputs.label_logit is not None:
        logit = speakers.average(outputs.label_logit)
        columns[f"{targets['label']}_logit"] = logit
        columns[f"{targets['label']}_probability"] = speakers.average(_sigmoid(outputs.label_logit))
        columns[f"{targets['label']}_class"] = (columns[f"{targets['label']}_probability"] > 0.5).astype(np.int64)
    if outputs.activation is not None:
        columns[f"{targets['activation']}_predicted"] = speakers.average(outputs.activation)
    return columns


def _sigmoid(x: Floats) -> Floats:
    return 0.5 * (1.0 + np.tanh(0.5 * x))  # never overflows


def measured_columns(outputs: Outputs, measured: Measured) -> dict[str, Any]:
    """The measured values of what the model predicts, under their own names, null where missing."""
    columns: dict[str, Any] = {}
    for index, name in enumerate(measured.score_names):
        if name in outputs.score_names:
            columns[f"{name}_measured"] = pl.Series(measured.scores[:, index]).fill_nan(None)
    if measured.label_name and measured.label_name == outputs.header["targets"]["label"]:
        columns[f"{measured.label_name}_measured"] = pl.Series(measured.label).fill_nan(None).cast(pl.Int64)
    if measured.activation_name and measured.activation_name == outputs.header["targets"]["activation"]:
        columns[f"{measured.activation_name}_measured"] = pl.Series(measured.activation).fill_nan(None)
    return columns


def latent_columns(outputs: Outputs, speakers: Speakers) -> dict[str, Any]:
    """`latent_member` and `latent_0` ...: the latent of the one member that stands for the well."""
    chosen, wells = speakers.first(), np.arange(len(outputs.well_ids))
    latent = outputs.latent[chosen, wells]
    names = {f"latent_{index}": latent[:, index] for index in range(latent.shape[1])}
    return {"latent_member": chosen, **names}


# New wells ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NewWells:
    """Expression of wells from a table that is no project.

    Attributes
    ----------
    well_ids, genes
        N and G names.
    expression
        float32 array of shape (N, G).
    where
        The table's path.
    """

    well_ids: list[str]
    genes: list[str]
    expression: NDArray[np.float32]
    where: Path


def predict_new(
    project: Project,
    wells: NewWells,
    output: Path | None = None,
    model: str = "default",
    *,
    impute_missing: bool = False,
    progress: Progress | None = None,
) -> PredictResult:
    """Predict new wells; genes are matched by name.

    Predictions are means over the members, none of which has seen a new well. Latents and distances (to the centre of
    the control wells that the model was trained with) are those of the first member: members have different bases.

    Parameters
    ----------
    output
        Where the table goes; None: `results/<model>/predictions_<table's name>.parquet`.
    impute_missing
        Fill genes the table lacks with each member's training mean, instead of refusing.

    Raises
    ------
    ModelError
        The table lacks genes of the model and `impute_missing` is off.
    DataError
        The wells cannot be used.
    """
    from dpf.model.checkpoint import load_model

    progress = progress or Silent()
    file = find_model(project, model)
    trained = load_model(file.path)
    expression, missing = _aligned(file.header, wells, impute_missing)
    if missing.any():
        progress.warn(
            f"{missing.sum():,} of the model's {len(missing):,} genes are not in {wells.where.name}; filled with the "
            "training mean"
        )
        means = np.mean([network.gene_mean.numpy() for network in trained.members], axis=0)
        expression[:, missing] = means[missing]
    extra = len(wells.genes) - int((~missing).sum())
    if extra:
        progress.log(f"{extra:,} genes of {wells.where.name} are not in the model and are ignored")
    _warn_units(expression[:, ~missing], trained.members[0].gene_mean.numpy()[~missing],
                trained.members[0].gene_std.numpy()[~missing], progress)  # fmt: skip
    parts, known = known_parts(file.header, wells.well_ids)
    if known:
        progress.warn(f"{known:,} wells have the ids of wells this model was trained on (column part)")
    outputs = run_members(trained, expression, wells.well_ids, parts, file, project, progress)
    speakers = choose_speakers(parts)
    controls = np.stack([latent.double().numpy() for latent in trained.controls.latents])  # (M, n, L)
    table = pl.DataFrame(
        {"well_id": wells.well_ids, "members": speakers.members(), "part": speakers.part,
         "held_out": [part == "held_out" for part in speakers.part]}
        | predicted_columns(outputs, speakers)
        | _new_distances(outputs, controls, speakers)
        | latent_columns(outputs, speakers)
    )  # fmt: skip
    path = output or project.results(file.name).table(f"predictions_{wells.where.name.split('.')[0]}")
    write_table(path, table, "predictions", {"model_sha256": file.sha256, "input": wells.where.name})
    return PredictResult(table, path)


def _aligned(
    header: dict[str, Any], wells: NewWells, impute: bool
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Expression in the model's gene order, and which of the model's genes are missing (those columns are 0)."""
    column = {gene: index for index, gene in enumerate(wells.genes)}
    if len(column) < len(wells.genes):
        twice = sorted({gene for gene in wells.genes if wells.genes.count(gene) > 1})
        raise DataError("gene names stand more than once", where=wells.where, found=listed(twice))
    missing = np.array([gene not in column for gene in header["genes"]])
    names = [gene for gene, absent in zip(header["genes"], missing, strict=True) if absent]
    if len(names) == len(header["genes"]) or (names and not impute):
        raise ModelError(
            f"{len(names):,} of the model's {len(missing):,} genes are not in the table",
            where=wells.where,
            found=f"missing: {listed(names)}; the table has {listed(wells.genes, 3)}",
            hint="name the genes as the training data did"
            + ("" if len(names) == len(header["genes"]) else ", or fill them: --missing-genes impute"),
        )
    expression = np.zeros((len(wells.well_ids), len(missing)), np.float32)
    rows = [column[gene] for gene in header["genes"] if gene in column]
    expression[:, ~missing] = wells.expression[:, rows]
    return expression, missing


def _warn_units(
    new: NDArray[np.float32], mean: NDArray[np.float32], std: NDArray[np.float32], progress: Progress
) -> None:
    """Say so when the new values look as if they were in other units than the training's."""
    varying = std > 0
    if not varying.any() or not len(new):
        return
    shift = np.median(np.abs(new.mean(0)[varying] - mean[varying]) / std[varying])
    spread = float(np.median(new.std(0)[varying] / std[varying])) if len(new) > 2 else 1.0
    if shift > 3 or not 0.2 < spread < 5:
        progress.warn(
            f"these values do not look like the training's: the median gene lies {shift:.1f} training standard "
            f"deviations away and has {spread:.2g} times its spread (training: mean {np.median(mean):.3g}, here "
            f"{np.median(new.mean(0)):.3g}). Same normalisation? Predictions are extrapolations otherwise"
        )


def _new_distances(outputs: Outputs, controls: Floats, speakers: Speakers) -> dict[str, Any]:
    """Distances of new wells to the controls the model knew, each taken in the one member that stands for the well."""
    n = controls.shape[1]
    mask = np.arange(n + outputs.latent.shape[1]) < n
    columns = []
    for member, latent in enumerate(outputs.latent):
        axis = None if outputs.axis is None else outputs.axis[member]
        geometry = latent_geometry(np.concatenate([controls[member], latent]), axis, mask)
        columns.append({name: values[n:] for name, values in geometry_columns(geometry).items()})
    chosen, wells = speakers.first(), np.arange(len(outputs.well_ids))
    return {name: np.stack([member[name] for member in columns])[chosen, wells] for name in columns[0]}
