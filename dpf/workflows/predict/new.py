"""`dpf predict --input`: predict new wells from a table that is not part of a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.latent.distances import latent_distances
from dpf.errors import DataError, DpfError, ModelError, UsageError, listed, repeated
from dpf.files import together
from dpf.project.directory import Project
from dpf.project.new_files import require_free
from dpf.tables.matrix import gene_moments
from dpf.tables.storage import let_go, new_matrix, read_about, wells_in_blocks, write_table
from dpf.workflows.options import PredictOptions
from dpf.workflows.predict.gene_order import filling
from dpf.workflows.predict.new_wells import NewWells, on_model_scale, read_new_wells
from dpf.workflows.predict.outputs import Outputs, known_parts, run_members
from dpf.workflows.predict.predict import (
    PredictResult,
    latent_columns,
    model_calibration,
    predict_project,
    predicted_columns,
)
from dpf.workflows.predict.well_members import WellMembers, distance_columns
from dpf.workflows.progress import Progress, Silent
from dpf.workflows.project.model_file import ModelFile, find_model
from dpf.workflows.project.provenance import Now, made_of

if TYPE_CHECKING:
    from dpf.model.network import PerturbFormer

Floats = NDArray[np.float64]


def predict_wells(
    project: Project, model: str, options: PredictOptions, *, progress: Progress | None = None
) -> PredictResult:
    """Predict the project's own wells (`predict_project`) or, where the options name a table, those in it."""
    if options.input is None:
        return predict_project(project, model, progress=progress)
    wells = read_new_wells(project, model, options.input, progress or Silent(), options.source_format, options.layer)
    return predict_new(project, wells, model, options, progress=progress)


def predict_new(
    project: Project,
    wells: NewWells,
    model: str = "default",
    options: PredictOptions | None = None,
    *,
    progress: Progress | None = None,
) -> PredictResult:
    """Predict new wells; genes are matched by name. Calibrated, once `dpf evaluate` has calibrated the model.

    Predictions are means over the members, none of which has seen a new well. Latents and distances (to the centre of
    the control wells that the model was trained with) are those of the first member: members have different bases.

    The table goes to `results/<model>/predictions_<table's name>.parquet` if nothing else is asked for; one part of it
    (`--shard`) to `part-<number>.parquet` in a folder `predictions_<table's name>_in_<parts>`. What is there already is
    replaced if it is the predictions of the same table, and otherwise only with `overwrite`. Genes that are imputed get
    what each member centres them on (`dpf.workflows.predict.gene_order.filling`).

    Raises
    ------
    UsageError
        The output is in the way of something else.
    ModelError
        The table lacks genes of the model, which are not to be imputed.
    DataError
        The wells cannot be used.
    """
    from dpf.model.checkpoint import load_model

    options, progress = options or PredictOptions(), progress or Silent()
    file = find_model(project, model)
    path = _free_place(project, file, wells.where, options)
    trained = load_model(file.path)
    wells = on_model_scale(wells, trained.normalisation, trained.genes, options.input_scale, progress, options.part)
    expression, missing = _aligned(file.header, wells, options.missing_genes == "impute")
    if missing.any():
        progress.warn(
            f"{missing.sum():,} of the model's {len(missing):,} genes are not in {wells.where.name}; filled with "
            f"{filling(file.header)}"
        )
    extra = len(wells.genes) - int((~missing).sum())
    if extra:
        progress.log(f"{extra:,} genes of {wells.where.name} are not in the model and are ignored")
    _warn_units(expression, ~missing, trained.members[0], filling(file.header), progress)
    parts, known = known_parts(file.header, wells.well_ids)
    if known:
        progress.warn(f"{known:,} wells have the ids of wells this model was trained on (column part)")
    outputs = run_members(trained, expression, wells.well_ids, parts, file, project, progress, missing)
    members = WellMembers.of(parts)
    controls = np.stack([latent.double().numpy() for latent in trained.controls.latents])  # (M, n, L)
    table = pl.DataFrame(
        {"well_id": wells.well_ids, "members": members.names(), "part": members.part,
         "held_out": [part == "held_out" for part in members.part]}
        | predicted_columns(outputs, members, model_calibration(file, progress))
        | _new_distances(outputs, controls, members)
        | latent_columns(outputs, members)
    )  # fmt: skip
    about = made_of(Now(project, file), "predictions of new wells")
    source = {"input": wells.where.name, "input_path": str(wells.where.resolve())}
    source |= {"shard": options.shard} if options.shard else {}
    with together(progress.warn if options.output is None else None):
        write_table(path, table, "predictions", about | source)
    return PredictResult(table, path)


def _free_place(project: Project, file: ModelFile, source: Path, options: PredictOptions) -> Path:
    """Where the predictions of a table go: no other table's predictions, and nothing of the user's, lie there."""
    names = (str(source.resolve()), source.name)  # those of earlier versions have the table's name only
    output, overwrite = options.output, options.overwrite
    if output is not None:
        require_free([output], project, overwrite, sources=[source], ours=lambda path: _made_from(path) in names)
        return output
    name = source.name if source.is_dir() else Path(source.name.removesuffix(".gz")).stem
    path = project.results(file.name).table(f"predictions_{name}", options.part)
    if not overwrite and (other := _made_from(path)) and other not in names:
        raise UsageError(
            "the project has predictions of another table of that name",
            where=path,
            found=other,
            expected=f"those of {names[0]}",
            hint="write these to a file of their own: --output NAME.parquet; or replace those: --overwrite",
        )
    return path


def _made_from(path: Path) -> str | None:
    """The table that stored predictions are of; None where the file is not there, is damaged or is something else."""
    try:
        about = read_about(path, "predictions")
    except DpfError:
        return None
    return about.get("input_path") or about.get("input")


def _aligned(header: dict[str, Any], wells: NewWells, impute: bool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Expression in the model's gene order, and which of the model's genes are missing (those columns are 0)."""
    column = {gene: index for index, gene in enumerate(wells.genes)}
    if twice := repeated(wells.genes):
        raise DataError("gene names are repeated", where=wells.where, found=listed(twice))
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
    expression = new_matrix(len(wells.well_ids), len(missing))
    columns = [column[gene] for gene in header["genes"] if gene in column]
    for rows in wells_in_blocks(wells.expression):
        expression[rows, ~missing] = wells.expression[rows][:, columns]
        let_go(expression)
    return expression, missing


def _warn_units(
    new: NDArray[np.float32], measured: NDArray[np.bool_], member: PerturbFormer, centre: str, progress: Progress
) -> None:
    """Warn when the new values look as if they were in other units than the training data."""
    mean, std = (part.numpy()[measured] for part in (member.gene_mean, member.gene_std))
    varying = std > 0
    if not varying.any() or not len(new):
        return
    own_mean, own_std = (part[measured] for part in gene_moments(new, np.ones(len(new), dtype=bool)))
    shift = np.median(np.abs(own_mean[varying] - mean[varying]) / std[varying])
    spread = float(np.median(own_std[varying] / std[varying])) if len(new) > 2 else 1.0
    if shift > 3 or not 0.2 < spread < 5:
        progress.warn(
            f"these values do not look like the training data: the median gene lies {shift:.1f} training standard "
            f"deviations from {centre} and has {spread:.2g} times its spread (there: mean {np.median(mean):.3g}, here "
            f"{np.median(own_mean):.3g}). Same normalisation? Predictions are extrapolations otherwise"
        )


def _new_distances(outputs: Outputs, controls: Floats, members: WellMembers) -> dict[str, Any]:
    """Distances of new wells from the controls that the model was trained with, in the first of each well's members."""
    n = controls.shape[1]
    mask = np.arange(n + outputs.latent.shape[1]) < n
    columns = []
    for member, latent in enumerate(outputs.latent):
        axis = None if outputs.axis is None else outputs.axis[member]
        distances = latent_distances(np.concatenate([controls[member], latent]), axis, mask)
        columns.append({name: values[n:] for name, values in distance_columns(distances).items()})
    chosen, wells = members.first(), np.arange(len(outputs.well_ids))
    return {name: np.stack([member[name] for member in columns])[chosen, wells] for name in columns[0]}
