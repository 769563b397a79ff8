"""`dpf rank`: compounds by how far they move the cells. Works on kept outputs without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.latent import on_axis_share
from dpf.analysis.ranking import WellScores, group_mean, rank_compounds, replicate_agreement
from dpf.analysis.standardise import Standardised, standardise, standardised_distances, training_deviations
from dpf.errors import DataError, UsageError, listed
from dpf.project.directory import Project
from dpf.tables.storage import write_table
from dpf.workflows.geometry import choose_speakers, well_geometry
from dpf.workflows.inputs import Inputs, read_inputs
from dpf.workflows.outputs import Outputs, find_model, project_outputs
from dpf.workflows.predict import result_provenance, warn_no_axis
from dpf.workflows.progress import Progress, Silent
from dpf.workflows.stored_check import StoredCheck, stored_check

Floats = NDArray[np.float64]

#: Columns in which the first row should be the smallest value.
_ASCENDING = {"rank", "compound"}


@dataclass(frozen=True)
class RankResult:
    """Compounds, best first, what the numbers rest on, what the check says of the design, and the files written."""

    table: pl.DataFrame
    statements: tuple[str, ...]
    path: Path
    figures: tuple[Path, ...]
    design: StoredCheck | None


@dataclass(frozen=True)
class Groups:
    """Wells by compound (or by compound and concentration): codes of shape (N,), -1 for controls, and the keys."""

    codes: NDArray[np.int64]
    keys: pl.DataFrame

    @property
    def names(self) -> list[str]:
        """One text a group."""
        names = self.keys.get_column("compound").to_list()
        if "concentration" not in self.keys.columns:
            return names
        doses = self.keys.get_column("concentration").to_list()
        return [name if dose is None else f"{name} @ {dose:g}" for name, dose in zip(names, doses, strict=True)]


def rank_project(
    project: Project,
    model: str = "default",
    *,
    sort: str = "rank",
    by_dose: bool = False,
    progress: Progress | None = None,
) -> RankResult:
    """Rank the compounds by their mean standardised distance from the controls.

    Every well's distance is measured by members that held it out, from the centre of those members' *training*
    controls, in the spread of the held-out controls (`dpf.analysis.standardise`); where nothing was held out, the
    result says what it rests on.

    Parameters
    ----------
    sort
        The column to sort by.
    by_dose
        One row a compound and concentration, not a compound.

    Raises
    ------
    DpfError
        The model, the inputs or the column are not there, or there are too few controls.
    """
    progress = progress or Silent()
    file = find_model(project, model)
    inputs = read_inputs(project)
    outputs = project_outputs(project, inputs, file, progress)
    groups = group_wells(inputs, by_dose)
    distances = standardised_distances(outputs.latent, outputs.parts, inputs.is_control)
    table = _table(outputs, inputs, groups, distances, project)
    if sort not in table.columns:
        raise UsageError("no such column to sort by", found=sort, expected=f"one of {listed(table.columns, 40)}")
    results = project.results(file.name)
    name = "ranking_by_dose" if by_dose else "ranking"
    design = stored_check(project, inputs.fingerprint)
    verdict = None if design is None or design.stale else design.verdict
    about = {**result_provenance(outputs, inputs, project.settings), "statements": list(distances.statement), "design": verdict}
    write_table(results.table(name), table, name, about)
    figures = _draw(results.figure(name), table, groups, distances.value, inputs)
    warn_no_axis(outputs, progress)
    # Sorted for the reader; the file and the figure stay in the order of the ranking.
    table = table.sort(sort, "rank", descending=[sort not in _ASCENDING, False], nulls_last=True)
    return RankResult(table, distances.statement, results.table(name), figures, design)


def group_wells(inputs: Inputs, by_dose: bool) -> Groups:
    """Number the compounds (and concentrations) in the order of their first well; control wells get -1."""
    columns = ["compound", "concentration"] if by_dose else ["compound"]
    if by_dose and "concentration" not in inputs.wells.columns:
        raise UsageError("there is no concentration column in this project", where="--by-dose")
    treated = inputs.wells.filter(~pl.col("is_control"))
    if treated.is_empty():
        raise DataError("every well is a control: there is nothing to rank", where="the wells table")
    keys = treated.select(columns).unique(maintain_order=True).with_row_index("code")
    joined = inputs.wells.join(keys, on=columns, how="left", nulls_equal=True, maintain_order="left")
    codes = joined.get_column("code").cast(pl.Int64).fill_null(-1).to_numpy().copy()
    codes[inputs.is_control] = -1
    return Groups(codes, keys.drop("code"))


def _table(outputs: Outputs, inputs: Inputs, groups: Groups, distances: Standardised, project: Project) -> pl.DataFrame:
    count = groups.keys.height
    deviation = training_deviations(outputs.latent, outputs.parts, inputs.is_control)
    speakers = choose_speakers(outputs.parts)
    activation = on_axis = None
    if outputs.axis is not None:
        unit = outputs.axis / np.linalg.norm(outputs.axis, axis=1, keepdims=True)
        along = np.einsum("mnl,ml->mn", deviation, unit)
        activation = standardise_position(along, outputs, inputs)
        on_axis = speakers.average(
            np.stack([on_axis_share(a, np.linalg.norm(d, axis=1)) for a, d in zip(along, deviation, strict=True)])
        )
    norm = speakers.average(np.linalg.norm(outputs.latent, axis=2))
    agreement = replicate_agreement(deviation, groups.codes, count, distances.used)
    columns = rank_compounds(groups.codes, count, WellScores(norm, distances.value, activation, on_axis), agreement)
    geometry = well_geometry(outputs, inputs, project.settings.latent, speakers)
    for name in ("distance_euclidean", "distance_cosine", "distance_mahalanobis"):
        columns[name] = group_mean(geometry[name], groups.codes, count)
    held_out = np.array([part == "held_out" for part in speakers.part], dtype=float)
    basis = pl.DataFrame({"code": groups.codes, "part": speakers.part}).group_by("code").agg(pl.col("part").unique())
    parts = dict(basis.iter_rows())
    order = ["rank", *[name for name in columns if name != "rank"]]
    table = pl.concat([groups.keys, pl.DataFrame({name: columns[name] for name in order})], how="horizontal")
    return table.with_columns(
        pl.Series("part", [",".join(sorted(parts[code])) for code in range(count)]),
        pl.Series("held_out", group_mean(held_out, groups.codes, count) == 1.0),
    ).fill_nan(None)


def standardise_position(along: Floats, outputs: Outputs, inputs: Inputs) -> Floats:
    """Positions on the activation axis in robust standard deviations of the controls: (M, N) to (N,)."""
    return standardise(along, outputs.parts, inputs.is_control).value


def _draw(path: Path, table: pl.DataFrame, groups: Groups, values: Floats, inputs: Inputs) -> tuple[Path, ...]:
    from dpf.figures.ranking import ranked_dots
    from dpf.figures.style import save

    name_of = Groups(groups.codes, table.select(groups.keys.columns)).names
    code = {name: index for index, name in enumerate(groups.names)}
    wells: list[Any] = [values[groups.codes == code[name]] for name in name_of]
    nothing = np.full(table.height, np.nan)
    figure = ranked_dots(
        name_of,
        table.get_column("t").to_numpy(),
        table.get_column("activation").to_numpy() if "activation" in table.columns else nothing,
        wells=wells,
        controls=values[inputs.is_control],
    )
    return save(figure, path)
