"""`dpf predict`: every score, label and distance of the project's own wells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.files import together
from dpf.project.directory import Project
from dpf.tables.storage import write_table
from dpf.workflows.predict.outputs import Outputs, project_outputs
from dpf.workflows.predict.well_members import WellMembers, well_distances
from dpf.workflows.progress import Progress, Silent
from dpf.workflows.project.calibration import Calibration, read_calibration
from dpf.workflows.project.inputs import Inputs, Measured, read_inputs, read_measured
from dpf.workflows.project.model_file import ModelFile, find_model
from dpf.workflows.project.provenance import current, made_of

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PredictResult:
    """A table of predictions, one row a well, and where it was written."""

    table: pl.DataFrame
    path: Path


def predict_project(project: Project, model: str = "default", *, progress: Progress | None = None) -> PredictResult:
    """Predict the project's own wells: out of fold wherever a member held the well out.

    Once `dpf evaluate` has calibrated the model, with calibrated probabilities and an interval for each score.

    Raises
    ------
    DpfError
        The model or the inputs cannot be used.
    """
    progress = progress or Silent()
    file = find_model(project, model)
    inputs = read_inputs(project)
    outputs = project_outputs(project, inputs, file, progress)
    members = WellMembers.of(outputs.parts)
    measured = read_measured(inputs.wells, project.settings.targets, project.wells)
    calibration = model_calibration(file, progress)
    table = pl.DataFrame(
        _about_wells(inputs, members)
        | predicted_columns(outputs, members, calibration)
        | measured_columns(outputs, measured)
        | well_distances(outputs, inputs, project.settings.latent, members)
        | latent_columns(outputs, members)
    )
    path = project.results(file.name).table("predictions")
    with together(progress.warn):
        write_table(path, table, "predictions", made_of(current(project, file, inputs), "predictions"))
    warn_not_held_out(members, progress)
    warn_no_axis(outputs, progress)
    return PredictResult(table, path)


def warn_not_held_out(members: WellMembers, progress: Progress) -> None:
    """Warn of wells that are predicted by members that were trained on them or chose their epoch by them."""
    trained, chose = members.part.count("train"), members.part.count("validation")
    if trained or chose:
        progress.warn(
            f"of {len(members.part):,} wells, {trained:,} were trained on and {chose:,} chose the epoch "
            "(column part): train with --folds 5 to have every well predicted by a member that never saw it"
        )


def warn_no_axis(outputs: Outputs, progress: Progress) -> None:
    """Warn that there is no activation axis, and so no direction, and why."""
    if outputs.axis is None and outputs.axis_name:
        progress.warn(
            f"there is no activation axis, and so no direction: a member predicts the same {outputs.axis_name} for "
            "every well, whatever its expression (dpf evaluate shows how well it can be predicted)"
        )
    elif outputs.axis is None:
        progress.warn(
            "there is no activation axis, and so no direction: the model has neither an activation score nor a label, "
            "and more than one score ([targets] activation names one)"
        )


def _about_wells(inputs: Inputs, members: WellMembers) -> dict[str, Any]:
    columns: dict[str, Any] = {"well_id": inputs.well_ids, "compound": inputs.texts("compound")}
    columns["is_control"] = inputs.is_control
    for name in ("plate", "concentration"):
        if name in inputs.wells.columns:
            columns[name] = inputs.wells.get_column(name)
    return columns | {
        "members": members.names(),
        "part": members.part,
        "held_out": [part == "held_out" for part in members.part],
    }


def model_calibration(file: ModelFile, progress: Progress) -> Calibration | None:
    """The calibration in the model's folder; None, with a warning, where it was fitted for other weights.

    Raises
    ------
    ModelError
        The calibration file is damaged or of a later format.
    """
    path = file.folder.calibration
    calibration = read_calibration(path)[0] if path.is_file() else None
    if calibration is None or calibration.model_sha256 == file.sha256:
        return calibration
    progress.warn(
        "the model has been trained again since it was calibrated: no intervals, and probabilities as trained, "
        "until dpf evaluate has run again"
    )
    return None


def predicted_columns(outputs: Outputs, members: WellMembers, calibration: Calibration | None = None) -> dict[str, Any]:
    """`<score>_predicted`, the label's logit, probability and class, `<activation>_predicted`: means over members.

    With a calibration, `<score>_lower` and `<score>_upper` (null where there were too few compounds for an interval),
    and the probability is that at the calibration's temperature; the logit stays as it is.
    """
    columns: dict[str, Any] = {}
    targets = outputs.header["targets"]
    scores = members.average(outputs.scores)
    for index, name in enumerate(outputs.score_names):
        columns |= _with_interval(name, scores[:, index], calibration)
    if outputs.label_logit is not None:
        label = None if calibration is None else calibration.label
        temperature = (label.temperature if label else None) or 1.0
        columns[f"{targets['label']}_logit"] = members.average(outputs.label_logit)
        columns[f"{targets['label']}_probability"] = members.average(_sigmoid(outputs.label_logit / temperature))
        columns[f"{targets['label']}_class"] = (columns[f"{targets['label']}_probability"] > 0.5).astype(np.int64)
    if outputs.activation is not None:
        columns |= _with_interval(targets["activation"], members.average(outputs.activation), calibration)
    return columns


def _with_interval(name: str, predicted: Floats, calibration: Calibration | None) -> dict[str, Any]:
    """`<name>_predicted` and, where the model is calibrated for it, the ends of its interval."""
    columns: dict[str, Any] = {f"{name}_predicted": predicted}
    if calibration is not None and name in calibration.scores:
        width = calibration.scores[name].half_width
        for end, sign in (("lower", -1), ("upper", 1)):
            values = [None] * len(predicted) if width is None else predicted + sign * width
            columns[f"{name}_{end}"] = pl.Series(values, dtype=pl.Float64)
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


def latent_columns(outputs: Outputs, members: WellMembers) -> dict[str, Any]:
    """`latent_member` and `latent_0` ...: the latent of the first of the well's members."""
    chosen, wells = members.first(), np.arange(len(outputs.well_ids))
    latent = outputs.latent[chosen, wells]
    names = {f"latent_{index}": latent[:, index] for index in range(latent.shape[1])}
    return {"latent_member": chosen, **names}
