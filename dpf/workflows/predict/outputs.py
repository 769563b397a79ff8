"""The forward pass, once per (model, inputs): all tables and figures of a model are computed from its kept outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError, first_line, translated
from dpf.files import together
from dpf.project.directory import Project
from dpf.splits.parts import PART_NAMES, Parts
from dpf.tables.storage import read_about, read_table, wells_in_blocks, write_table
from dpf.workflows.predict.gene_order import in_model_order
from dpf.workflows.progress import Progress, Silent
from dpf.workflows.project.inputs import Inputs
from dpf.workflows.project.model_file import ModelFile
from dpf.workflows.project.provenance import current, made_of, why_stale

if TYPE_CHECKING:
    from torch import Tensor

    from dpf.model.checkpoint import TrainedModel
    from dpf.model.network import Prediction

Floats = NDArray[np.float64]

#: Prefix of the columns that hold what the members' initial regressions predict.
_INITIAL = "start_"
#: The columns of the other targets, by role.
_HEADS = {"label": "label_logit", "activation": "activation"}


@dataclass(frozen=True)
class MemberPredictions:
    """What M members predict for N wells, on the scale of the user's tables.

    Attributes
    ----------
    scores
        (M, N, S).
    label_logit, activation
        (M, N), or None where the model has no such head.
    """

    scores: Floats
    label_logit: Floats | None
    activation: Floats | None


@dataclass(frozen=True)
class Outputs:
    """What M members predict for N wells, on the scale of the user's tables, and their latents.

    Attributes
    ----------
    well_ids
        N names.
    parts
        int8 array of shape (M, N): what each well was to each member (`Part`).
    latent
        (M, N, L). Members have different latent bases: never average over the first axis.
    scores
        (M, N, S).
    label_logit, activation
        (M, N), or None where the model has no such head.
    initial
        What the members' initial regressions predict alone (`dpf.model.initial_regression`), or None without them.
    axis
        (M, L): each member's activation axis, or None; `axis_name` is the target that it belongs to. With a name and no
        axis, a member predicts the same value for every well.
    header
        The model file's own description.
    model_sha256
        The digest of the model file.
    """

    well_ids: list[str]
    parts: Parts
    latent: Floats
    scores: Floats
    label_logit: Floats | None
    activation: Floats | None
    initial: MemberPredictions | None
    axis: Floats | None
    axis_name: str | None
    header: dict[str, Any]
    model_sha256: str

    @property
    def score_names(self) -> list[str]:
        """The S scores."""
        return list(self.header["targets"]["scores"])


def project_outputs(project: Project, inputs: Inputs, model: ModelFile, progress: Progress | None = None) -> Outputs:
    """The outputs of a model on a project's wells: from `outputs.parquet` unless it is stale, else computed and kept.

    Torch is imported only when something has to be computed.
    """
    path, now = project.results(model.name).table("outputs"), current(project, model, inputs)
    progress = progress or Silent()
    try:
        if path.is_file() and why_stale(about := read_about(path, "outputs"), now) is None:
            targets = model.header["targets"]
            needed = [*(f"score:{name}" for name in targets["scores"]), "latent_0"]
            needed += [column for role, column in _HEADS.items() if targets[role]]
            with translated(lambda error: _damaged(path, error)):
                return _from_table(read_table(path, "outputs", needed=needed), about, model)
    except DataError as error:
        progress.warn(f"{path.name} is computed again: {error.what} ({error.found})")
    outputs = _compute(project, inputs, model, progress)
    axis = {"axis": None if outputs.axis is None else outputs.axis.tolist(), "axis_name": outputs.axis_name}
    with together(progress.warn):
        write_table(path, _to_table(outputs), "outputs", made_of(now, "outputs") | axis)
    return outputs


def _damaged(path: Path, error: BaseException) -> DataError:
    what = "the table or its footer is not as dpf writes it"
    return DataError(what, where=path, found=first_line(error), hint="remove it: it is made again")


def _compute(project: Project, inputs: Inputs, model: ModelFile, progress: Progress) -> Outputs:
    from dpf.model.checkpoint import load_model

    trained = load_model(model.path)
    expression = in_model_order(inputs.expression, model.header, inputs.genes, project.expression)
    parts, known = known_parts(model.header, inputs.well_ids)
    if known and model.header["expression_sha256"] != inputs.expression_sha256:
        progress.warn(
            f"{known:,} wells have the ids of wells this model was trained on, in another expression table: they are "
            "treated as those wells"
        )
    return run_members(trained, expression, inputs.well_ids, parts, model, project, progress)


def known_parts(header: dict[str, Any], well_ids: list[str]) -> tuple[Parts, int]:
    """What each well was to each member, by its id, and how many wells have an id of the model's wells.

    A new well is held out. A well with the id of a training well counts as trained on even where its values differ,
    which is the safe error.
    """
    row = {well: index for index, well in enumerate(header["wells"])}
    held_out = PART_NAMES.index("held_out")
    parts = np.full((header["members"], len(well_ids)), held_out, dtype=np.int8)
    known = [(here, row[well]) for here, well in enumerate(well_ids) if well in row]
    if known:
        here, there = (np.array(side) for side in zip(*known, strict=True))
        codes = np.array([[int(code) for code in member] for member in header["parts"]], dtype=np.int8)
        parts[:, here] = codes[:, there]
    return parts, len(known)


def run_members(
    trained: TrainedModel,
    expression: NDArray[np.float32],
    well_ids: list[str],
    parts: Parts,
    model: ModelFile,
    project: Project,
    progress: Progress,
    missing: NDArray[np.bool_] | None = None,
) -> Outputs:
    """Forward every well through every member.

    `missing`, of shape (G,), marks genes that were not measured: each member fills them, in `expression` itself, with
    its own centre (`dpf.workflows.predict.gene_order.filling`).
    """
    from dpf.training.compute.device import resolve_compute
    from dpf.training.inference import predict_initial_regression, predict_wells

    compute = resolve_compute(project.settings.compute, log=progress.log)
    progress.plan(
        f"{len(trained.members)} x {len(well_ids):,} wells x {len(trained.genes):,} genes on {compute.describe()}"
    )
    progress.start("predicting", len(trained.members) * len(well_ids), "wells")
    passes, regressions = [], []
    for network in trained.members:
        if missing is not None and missing.any():
            for wells in wells_in_blocks(expression):
                expression[wells, missing] = network.gene_mean.numpy()[missing]
        passes.append(predict_wells(network, expression, compute, progress.advance))
        regressions.append(predict_initial_regression(network, expression, compute))
        network.cpu()
    axis, axis_name = activation_axes(trained)
    predicted, latent = _predictions(passes), _stacked([prediction.latent for prediction in passes])
    assert latent is not None
    present = [one for one in regressions if one is not None]
    initial = _predictions(present) if present else None
    return Outputs(
        well_ids, parts, latent, predicted.scores, predicted.label_logit, predicted.activation, initial, axis,
        axis_name, model.header, model.sha256,
    )  # fmt: skip


def _predictions(passes: Sequence[Prediction]) -> MemberPredictions:
    scores = _stacked([prediction.scores for prediction in passes])
    assert scores is not None
    logits = _stacked([prediction.label_logit for prediction in passes])
    return MemberPredictions(scores, logits, _stacked([prediction.activation for prediction in passes]))


def _stacked(members: Sequence[Tensor | None]) -> Floats | None:
    present = [member.numpy() for member in members if member is not None]
    return np.stack(present).astype(np.float64) if present else None


def activation_axes(trained: TrainedModel) -> tuple[Floats | None, str | None]:
    """The direction of activation in each member's latent space, (M, L), and the head it belongs to.

    The weights of the activation head, else of the label's head, else of the only score's. (None, None) where the model
    has none of these; (None, name) where the axis of a member has length 0.
    """
    first = trained.members[0]
    if first.activation is not None:
        heads, name = [member.activation for member in trained.members], trained.layout.activation
    elif first.label is not None:
        heads, name = [member.label for member in trained.members], trained.layout.label
    elif len(trained.layout.scores) == 1:
        heads, name = [member.scores for member in trained.members], trained.layout.scores[0]
    else:
        return None, None
    weights = [
        (head.weight.detach()[0] * member.moving).double().numpy()
        for head, member in zip(heads, trained.members, strict=True)
        if head is not None
    ]
    return _of_every_member(np.stack(weights)), name


def _of_every_member(axis: Floats) -> Floats | None:
    """None where the axis of a member has length 0, so that it predicts one value for every well.

    That happens where an initial regression could not learn the target and predicts its mean.
    """
    return axis if axis.any(axis=1).all() else None


def _to_table(outputs: Outputs) -> pl.DataFrame:
    members, wells, width = outputs.latent.shape
    columns: dict[str, Any] = {
        "well_id": outputs.well_ids * members,
        "member": np.repeat(np.arange(members), wells),
        "part": [PART_NAMES[code] for code in outputs.parts.ravel()],
    }
    columns |= _target_columns("", outputs.score_names, outputs)
    if outputs.initial is not None:
        columns |= _target_columns(_INITIAL, outputs.score_names, outputs.initial)
    for index in range(width):
        columns[f"latent_{index}"] = outputs.latent[:, :, index].ravel().astype(np.float32)
    return pl.DataFrame(columns)


def _target_columns(
    prefix: str, names: list[str], found: MemberPredictions | Outputs
) -> dict[str, NDArray[np.float32]]:
    columns = {f"{prefix}score:{name}": found.scores[:, :, index] for index, name in enumerate(names)}
    if found.label_logit is not None:
        columns[f"{prefix}label_logit"] = found.label_logit
    if found.activation is not None:
        columns[f"{prefix}activation"] = found.activation
    return {name: values.ravel().astype(np.float32) for name, values in columns.items()}


def _from_table(table: pl.DataFrame, about: dict[str, Any], model: ModelFile) -> Outputs:
    members = table.get_column("member").n_unique()
    wells = table.height // members

    def column(name: str) -> Floats:
        return table.get_column(name).to_numpy().astype(np.float64).reshape(members, wells)

    latent = np.stack([column(name) for name in table.columns if name.startswith("latent_")], axis=-1)
    axis = None if about["axis"] is None else np.array(about["axis"], np.float64)
    shape = (model.header["members"], model.header["settings"]["model"]["latent"])
    if (members, latent.shape[-1]) != shape or (axis is not None and axis.shape != shape):
        raise ValueError(f"{members} members in {latent.shape[-1]} dimensions, and an axis {about['axis']}")
    names = model.header["targets"]["scores"]

    def predictions(prefix: str) -> MemberPredictions:
        columns = [column(f"{prefix}score:{name}") for name in names]
        scores = np.stack(columns, axis=-1) if names else np.empty((members, wells, 0))
        others = [f"{prefix}{name}" for name in ("label_logit", "activation")]
        return MemberPredictions(scores, *(column(name) if name in table.columns else None for name in others))

    predicted = predictions("")
    codes = np.array([PART_NAMES.index(part) for part in table.get_column("part")], dtype=np.int8)
    return Outputs(
        well_ids=table.get_column("well_id").to_list()[:wells],
        parts=codes.reshape(members, wells),
        latent=latent,
        scores=predicted.scores,
        label_logit=predicted.label_logit,
        activation=predicted.activation,
        initial=predictions(_INITIAL) if any(name.startswith(_INITIAL) for name in table.columns) else None,
        axis=None if axis is None else _of_every_member(axis),
        axis_name=about["axis_name"],
        header=model.header,
        model_sha256=model.sha256,
    )
