"""A project's inputs, read and checked against its settings."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.config.settings import TargetSettings
from dpf.errors import DataError, ProjectError, listed
from dpf.files import sha256_file, sha256_text
from dpf.project.directory import Project
from dpf.tables.matrix import select_rows, take_columns
from dpf.tables.preparing.normalise import Normalisation, read_normalisation
from dpf.tables.screen import takes_part
from dpf.tables.storage import expression_digest, read_about, read_expression, read_names, read_table

AUTO = "auto"
#: Key of the normalisation's digest in the footer of the wells table; older projects have none.
NORMALISED_BY = "normalisation_sha256"
_RESTORE = "restore it from a copy, or run dpf init again from the source files"


@dataclass(frozen=True)
class Inputs:
    """The N wells of a project that take part, in one order.

    Attributes
    ----------
    wells
        The wells table.
    genes
        G gene names, the columns of `expression`.
    read
        Reads `expression`; what does without it does not wait for it.
    set_aside
        The other wells (`dpf.tables.preparing.set_aside`), with their reasons.
    is_control
        bool array of shape (N,).
    expression_sha256, fingerprint
        Digests of the expression table, and of it and the wells table (`input_digests`).
    """

    wells: pl.DataFrame
    genes: list[str]
    read: Callable[[], NDArray[np.float32]]
    is_control: NDArray[np.bool_]
    expression_sha256: str
    fingerprint: str
    set_aside: pl.DataFrame = field(default_factory=pl.DataFrame)

    @cached_property
    def expression(self) -> NDArray[np.float32]:
        """float32 array of shape (N, G); of a large screen in a temporary file (`dpf.tables.storage.new_matrix`)."""
        return self.read()

    @property
    def well_ids(self) -> list[str]:
        """The N well ids."""
        return self.wells.get_column("well_id").to_list()

    def of_genes(self, genes: Sequence[str] | None) -> Inputs:
        """The same wells with the expression of these genes, in this order; of all where None."""
        if genes is None or list(genes) == self.genes:
            return self
        place = {gene: at for at, gene in enumerate(self.genes)}
        columns = [place[gene] for gene in genes]
        return replace(self, genes=list(genes), read=lambda: take_columns(self.expression, columns))

    def texts(self, column: str) -> list[str | None] | None:
        """A column as text, or None where the wells table has no such column."""
        return self.wells.get_column(column).cast(pl.String).to_list() if column in self.wells.columns else None


@dataclass(frozen=True)
class Measured:
    """The measured targets of N wells, float64, NaN where missing.

    Attributes
    ----------
    score_names
        S names.
    scores
        (N, S).
    label_name, activation_name
        The columns, or None. A derived activation is named "activation".
    label, activation
        (N,), all NaN when there is no such target.
    activation_source
        The column, "sum of ..." when derived, or None.
    """

    score_names: tuple[str, ...]
    scores: NDArray[np.float64]
    label_name: str | None
    label: NDArray[np.float64]
    activation_name: str | None
    activation: NDArray[np.float64]
    activation_source: str | None

    @property
    def activation_is_derived(self) -> bool:
        """Whether the activation is the sum of the scores and not a column of its own."""
        return self.activation_name is not None and self.activation_source != self.activation_name


def read_inputs(project: Project, *, every_gene: bool = False, every_well: bool = False) -> Inputs:
    """Read the inputs of a project: the wells that take part and the genes that the model reads, or more.

    Raises
    ------
    DataError, ProjectError
        A file is damaged or of a later format, or the tables do not hold the same wells and genes in the same order.
    """
    digest = expression_digest(project.expression)
    well_ids, there = read_names(project.expression)
    genes = (None if every_gene else model_genes(project)) or there
    wells = read_table(project.wells, "wells")
    ids = wells.get_column("well_id").to_list()
    if ids != well_ids:
        different = sorted(set(ids) ^ set(well_ids)) or ["the same wells in another order"]
        raise DataError(
            "the two input tables do not hold the same wells in the same order",
            where=f"{project.wells} and {project.expression}",
            found=listed(different),
            hint="run dpf init again; the tables are written together and belong together",
        )
    used = takes_part(wells, project.settings.quality.keep_flagged)
    if every_well:
        used = pl.repeat(True, wells.height, dtype=pl.Boolean, eager=True)
    kept = wells.filter(used)
    return Inputs(
        kept,
        genes,
        lambda: _expression(project, genes, used),
        kept.get_column("is_control").to_numpy(),
        *input_digests(project, digest),
        wells.filter(~used),
    )


def _expression(project: Project, genes: Sequence[str], used: pl.Series) -> NDArray[np.float32]:
    values = read_expression(project.expression, genes=genes).values
    return values if used.all() else select_rows(values, used.arg_true().to_numpy().astype(np.intp))


def model_genes(project: Project) -> list[str] | None:
    """The genes that the model reads, in the order of the genes table; None: all (a project of format 1)."""
    genes = read_table(project.genes, "genes")
    if "in_model" not in genes.columns or genes.get_column("in_model").all():
        return None
    return genes.filter("in_model").get_column("gene").to_list()


def chosen_by_compounds(project: Project) -> bool:
    """Whether the genes that the model reads were chosen by what all compounds do to them (`--top-perturbed`)."""
    return "most_perturbed" in read_table(project.genes, "genes").columns


def input_digests(project: Project, expression: str = "") -> tuple[str, str]:
    """Digests of the expression, and of it and the wells table, as they are used: by these, results know what they are
    of.
    """
    expression = expression or expression_digest(project.expression, check=False)
    if project.settings.quality.keep_flagged:
        expression = sha256_text(f"{expression} with the wells that are set aside")
    return expression, sha256_text(expression + sha256_file(project.wells))


def has_targets(targets: TargetSettings) -> bool:
    """Whether the settings name anything to learn."""
    return bool(targets.scores or targets.label or targets.activation not in ("", AUTO))


def read_measured(wells: pl.DataFrame, targets: TargetSettings, where: object) -> Measured:
    """The target columns that the settings name, as arrays.

    Raises
    ------
    ProjectError
        A setting names a column that the wells table does not have (the nearest is named).
    DataError
        A target is not numeric, a label is not 0/1, or a target has no value at all.
    """
    label = targets.label or None
    activation = targets.activation if targets.activation not in ("", AUTO) else None
    _require_columns(wells, [*targets.scores, *(name for name in (label, activation) if name)], where)
    columns = [_numbers(wells, name, where) for name in targets.scores]
    scores = np.column_stack(columns) if columns else np.empty((wells.height, 0))
    nothing = np.full(wells.height, np.nan)
    label_values = _label(wells, label, where) if label else nothing
    if activation:
        return Measured(
            targets.scores, scores, label, label_values, activation, _numbers(wells, activation, where), activation
        )
    if targets.activation == AUTO and len(targets.scores) == 3:
        source = f"sum of {', '.join(targets.scores)}"
        return Measured(targets.scores, scores, label, label_values, "activation", scores.sum(1), source)
    if not targets.scores and not label:
        numeric = [name for name in wells.columns if wells.schema[name].is_numeric()]
        raise ProjectError(
            "the project has no target to learn",
            where=where,
            found="[targets] names no score, no label and no activation",
            hint=f"name columns of the wells table in dpf.toml; numeric ones: {listed(numeric) or 'none'}",
        )
    return Measured(targets.scores, scores, label, label_values, None, nothing, None)


def _require_columns(wells: pl.DataFrame, names: Sequence[str], where: object) -> None:
    missing = [name for name in names if name not in wells.columns]
    if missing:
        near = [difflib.get_close_matches(name, wells.columns, n=1, cutoff=0.4) for name in missing]
        shown = [f"{name} (nearest: {close[0]})" if close else name for name, close in zip(missing, near, strict=True)]
        raise ProjectError(
            "the settings name targets that the wells table does not have",
            where=where,
            found=listed(shown),
            expected=f"columns of the wells table: {listed(wells.columns, 20)}",
            hint="correct [targets] in dpf.toml",
        )


def _numbers(wells: pl.DataFrame, name: str, where: object) -> NDArray[np.float64]:
    column = wells.get_column(name)
    if not (column.dtype.is_numeric() or column.dtype == pl.Boolean):
        raise DataError(f"the target {name!r} is not numeric", where=where, found=column.dtype, expected="numbers")
    values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy().copy()
    if np.isinf(values).any():
        rows = np.flatnonzero(np.isinf(values))
        ids = wells.get_column("well_id").gather(rows).to_list()
        raise DataError(f"the target {name!r} has infinite values", where=where, found=f"wells {listed(ids)}")
    if np.isnan(values).all():
        raise DataError(f"the target {name!r} has no value at all", where=where, hint="leave it out of [targets]")
    return values


def _label(wells: pl.DataFrame, name: str, where: object) -> NDArray[np.float64]:
    values = _numbers(wells, name, where)
    classes = sorted(set(values[~np.isnan(values)].tolist()))
    if classes != [0.0, 1.0]:
        raise DataError(
            f"the label {name!r} needs two classes, 0 and 1",
            where=where,
            found=f"values {listed([f'{value:g}' for value in classes])}",
            hint="correct the wells table and run dpf init again, or leave the label out of [targets]",
        )
    return values


def project_normalisation(project: Project) -> Normalisation:
    """How the project's counts became its expression: the file that `dpf init` wrote, and no other.

    A model carries it to put new counts on its scale: with a wrong one, predictions would be wrong without a warning.

    Raises
    ------
    DataError
        The file is gone, damaged, or not the one that the expression was made with.
    ProjectError
        It is of a later format.
    """
    path = project.normalisation
    fitted = read_normalisation(path)
    about = read_about(project.wells, "wells")
    if NORMALISED_BY in about:
        found = sha256_file(path) if path.is_file() else None
        if found != about[NORMALISED_BY]:
            raise _other_normalisation(path, found, about[NORMALISED_BY])
        return fitted
    if fitted.method != "none":  # without a digest (older), the genes must at least be those of the screen
        genes = read_table(project.genes, "genes").get_column("gene").to_list()
        known = len(set(genes) & set(fitted.depth_genes))
        if 2 * known < len(genes):
            raise DataError(
                "the stored normalisation is not that of this screen",
                where=path,
                found=f"it has {known:,} of the screen's {len(genes):,} genes",
                hint=_RESTORE,
            )
    return fitted


def _other_normalisation(path: Path, found: str | None, expected: str | None) -> DataError:
    if expected is None:
        what, was = "a normalisation where the screen was taken as it was", "no such file"
        return DataError(
            what, where=path, found=f"sha256 {found}", expected=was, hint="remove it, or restore the inputs"
        )
    return DataError(
        "the stored normalisation is not the one that the expression was made with",
        where=path,
        found="no such file" if found is None else f"sha256 {found}",
        expected=f"sha256 {expected}",
        hint=_RESTORE,
    )
