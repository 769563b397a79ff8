"""`dpf latent`: where every well lies in the latent space, as a table, a map, and against what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.evaluation.metrics import spearman
from dpf.analysis.latent.activation_pattern import NoPatternError, activation_pattern
from dpf.analysis.latent.pca import latent_pca
from dpf.errors import UsageError, listed
from dpf.files import together
from dpf.project.directory import Project
from dpf.tables.storage import write_table
from dpf.workflows.options import LatentOptions
from dpf.workflows.predict.outputs import Outputs, project_outputs
from dpf.workflows.predict.predict import latent_columns, warn_no_axis, warn_not_held_out
from dpf.workflows.predict.well_members import WellMembers, center_wells, well_distances
from dpf.workflows.progress import Progress, Silent
from dpf.workflows.project.inputs import Inputs, Measured, read_inputs, read_measured
from dpf.workflows.project.model_file import find_model
from dpf.workflows.project.provenance import current, made_of

Floats = NDArray[np.float64]

_MOST_CLASSES = 10


@dataclass(frozen=True)
class LatentResult:
    """The wells' table, the correlations with what was measured, and the files written."""

    table: pl.DataFrame
    correlations: pl.DataFrame
    path: Path
    figures: tuple[Path, ...]


def latent_project(
    project: Project,
    model: str = "default",
    options: LatentOptions | None = None,
    *,
    progress: Progress | None = None,
) -> LatentResult:
    """Distances to the controls, place on the activation axis, and a map of the latent space.

    A table row comes from a member that held its well out; a map cannot mix members, whose bases differ. It is
    coloured by the column asked for, else by the label, else by the first score, else by the compounds.

    Raises
    ------
    DpfError
        The model, the inputs, the column or the member are not there.
    """
    options, progress = options or LatentOptions(), progress or Silent()
    member, umap = options.member, options.umap
    file = find_model(project, model)
    inputs = read_inputs(project)
    outputs = project_outputs(project, inputs, file, progress)
    if not 0 <= member < len(outputs.latent):
        raise UsageError("no such member", found=member, expected=f"0 to {len(outputs.latent) - 1}")
    members = WellMembers.of(outputs.parts)
    measured = read_measured(inputs.wells, project.settings.targets, project.wells)
    distances = well_distances(outputs, inputs, project.settings.latent, members)
    controls = center_wells(inputs, project.settings.latent)
    pca = latent_pca(outputs.latent[member], controls)
    places = _umap(outputs.latent[member], project.settings.train.seed) if umap else pca.places
    names = ("umap_1", "umap_2") if umap else ("pc_1", "pc_2")
    table = pl.DataFrame(
        {"well_id": inputs.well_ids, "compound": inputs.texts("compound"), "is_control": inputs.is_control}
        | ({"plate": inputs.wells.get_column("plate")} if "plate" in inputs.wells.columns else {})
        | {"part": members.part}
        | distances
        | {names[0]: places[:, 0], names[1]: places[:, 1]}
        | latent_columns(outputs, members)
    )
    results, now = project.results(file.name), current(project, file, inputs)
    about = made_of(now, "latent", *(["umap"] if umap else [])) | {"map_member": member}
    correlations, kind = correlate(distances, measured), "latent_correlations"
    arrow = None if umap else _direction(outputs, member, pca.axes, progress)
    explained = None if umap else pca.explained
    figure = results.figure("latent_umap" if umap else "latent_pca")
    with together(progress.warn):
        write_table(results.table("latent"), table, "latent", about)
        write_table(results.table(kind), correlations, kind, made_of(now, kind))
        figures = _draw(figure, places, explained, inputs, measured, options.colour, arrow)
    warn_not_held_out(members, progress)
    warn_no_axis(outputs, progress)
    return LatentResult(table, correlations, results.table("latent"), figures)


def correlate(distances: dict[str, Floats], measured: Measured) -> pl.DataFrame:
    """Spearman correlation of the distance and of the activation axis with every measured score, over all wells."""
    columns = {name: measured.scores[:, index] for index, name in enumerate(measured.score_names)}
    if measured.label_name:
        columns[measured.label_name] = measured.label
    if measured.activation_name and measured.activation_name not in columns:
        columns[measured.activation_name] = measured.activation
    kinds = [name for name in ("distance_euclidean", "activation_axis") if name in distances]
    rows = {"measured": list(columns), "n": [int((~np.isnan(values)).sum()) for values in columns.values()]}
    found = {f"spearman_{kind}": [spearman(values, distances[kind]) for values in columns.values()] for kind in kinds}
    return pl.DataFrame(rows | found)


def _direction(outputs: Outputs, member: int, axes: Floats, progress: Progress) -> Floats | None:
    """Where wells move with activation, on the map, (2,): the pattern, not the filter that reads activation."""
    if outputs.axis is None:
        return None
    try:
        pattern = activation_pattern(outputs.latent[member], outputs.axis[member])
    except NoPatternError:
        progress.warn(f"member {member} predicts the same activation for every well: the map has no arrow")
        return None
    direction: Floats = axes @ pattern
    return direction


def _umap(latent: Floats, seed: int) -> Floats:
    try:
        from umap import UMAP
    except ImportError:
        raise UsageError(
            "UMAP is not installed", hint="pipx inject drugseq-perturbformer umap-learn (or pip install '.[umap]')"
        ) from None
    places: Floats = UMAP(random_state=seed, n_jobs=1).fit_transform(latent).astype(np.float64)
    return places


def _draw(
    path: Path,
    places: Floats,
    explained: Floats | None,
    inputs: Inputs,
    measured: Measured,
    colour: str | None,
    arrow: Floats | None,
) -> tuple[Path, ...]:
    from dpf.figures.drawing.style import save
    from dpf.figures.latent_map import latent_map

    name = colour or measured.label_name or next(iter(measured.score_names), "compound")
    if name not in inputs.wells.columns:
        raise UsageError(
            "no such column to colour by", found=name, expected=f"one of {listed(inputs.wells.columns, 20)}"
        )
    column = inputs.wells.get_column(name)
    numeric = column.dtype.is_numeric() and column.n_unique() > _MOST_CLASSES
    figure = latent_map(
        places,
        explained=None if explained is None else explained[:2].tolist(),
        method="PC" if explained is not None else "UMAP",
        classes=None if numeric else column.cast(pl.String).to_list(),
        values=column.cast(pl.Float64).fill_null(float("nan")).to_numpy() if numeric else None,
        colour_label=name,
        controls=inputs.is_control,
        activation_direction=None if arrow is None else arrow.tolist(),
    )
    return save(figure, path)
