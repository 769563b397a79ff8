"""New wells from a table that is not part of a project, on the scale that a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dpf.errors import DataError, UsageError, listed, repeated
from dpf.project.directory import Project
from dpf.tables.importing import read_expression
from dpf.tables.preparing.counts import already_normalised, scale_of
from dpf.tables.preparing.normalise import Normalisation, normalise
from dpf.tables.storage import wells_in_blocks
from dpf.workflows.options import InputScale
from dpf.workflows.progress import Progress
from dpf.workflows.project.model_file import find_model


@dataclass(frozen=True)
class NewWells:
    """Expression of wells from a table that is not part of a project.

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

    def part(self, part: tuple[int, int] | None) -> NewWells:
        """Part i of n, counted from 1: as many wells as every other, or one more, in the order of the table."""
        if part is None:
            return self
        number, of = part
        if of > len(self.well_ids):
            found, expected = f"--shard {number}/{of}", f"at most {len(self.well_ids):,} parts, a well each"
            raise UsageError("there are fewer wells than parts", where=self.where, found=found, expected=expected)
        rows = slice(*(len(self.well_ids) * end // of for end in (number - 1, number)))
        return replace(self, well_ids=self.well_ids[rows], expression=self.expression[rows])


def read_new_wells(
    project: Project,
    model: str,
    path: Path,
    progress: Progress,
    source_format: str | None = None,
    layer: str | None = None,
) -> NewWells:
    """Read a table of new wells in any format that `dpf init` reads; the model's genes decide which axis holds genes.

    Parameters
    ----------
    source_format, layer
        The format of the table and the layer of an h5ad file; None recognises the one and takes ``X`` of the other.

    Raises
    ------
    DataError
        The file cannot be read, well ids are repeated, or a value is missing or not finite.
    """
    matrix = read_expression(path, set(find_model(project, model).header["genes"]), None, source_format, layer)
    for note in matrix.notes:
        (progress.warn if note.severity == "warning" else progress.log)(note.text)
    ids = matrix.row_names or [f"row{number + 1}" for number in range(len(matrix.values))]
    if twice := repeated(ids):
        raise DataError("well ids are repeated", where=path, found=listed(twice))
    bad = [(rows.start + row, column) for rows in wells_in_blocks(matrix.values)
           for row, column in np.argwhere(~np.isfinite(matrix.values[rows]))]  # fmt: skip
    if bad:
        shown = [f"{ids[row]} / {matrix.column_names[column]}" for row, column in bad[:10]]
        raise DataError(
            f"{len(bad):,} expression values are missing or not finite",
            where=path,
            found=listed(shown),
            expected="a finite number in every cell",
        )
    return NewWells(ids, matrix.column_names, matrix.values, path)


def on_model_scale(
    wells: NewWells,
    fitted: Normalisation,
    genes: Sequence[str],
    scale: InputScale,
    progress: Progress,
    part: tuple[int, int] | None = None,
) -> NewWells:
    """The wells on the scale that a model was trained on.

    A model made from counts carries their normalisation: new counts go through it, with nothing fitted again. Values
    that are normalised already are taken as they are, and so is everything for a model that was made of such.

    Parameters
    ----------
    fitted
        The model's normalisation.
    genes
        The model's genes; of counts, only these remain.
    scale
        What the values are, by the user.
    part
        Return part i of n of the wells (`NewWells.part`). What the values are is seen from all wells, so that it is the
        same in every part.

    Raises
    ------
    UsageError
        There are fewer wells than parts; `scale` is ``auto`` and the values could be either, or ``counts`` and the
        model has no normalisation for them.
    DataError
        Counts are negative, or lack genes that held more than 5% of the training's counts.
    """
    name = wells.where.name
    if fitted.method == "none":
        if scale == "counts":
            raise UsageError(
                "the model has no normalisation for counts",
                where=wells.where,
                found="a model that was trained on values taken as they were (dpf init --normalize none)",
                expected="values on that scale",
                hint="normalise them as the training data were, or make the project from counts: --normalize log-cpm",
            )
        return wells.part(part)
    own = scale_of(wells.expression)
    wells = wells.part(part)
    if scale == "auto" and own.kind == "unclear":
        raise UsageError(
            "the values could be counts or normalised",
            where=wells.where,
            found=own.evidence,
            expected=f"counts, or values normalised as the training data were ({fitted.method})",
            hint="choose: --input-scale counts or --input-scale normalised",
        )
    if scale == "normalised" or (scale == "auto" and own.kind == "normalised"):
        if own.kind == "counts":
            progress.warn(f"{name}: taken as normalised (--input-scale), though {own.evidence}")
        elif scale == "auto":
            progress.log(f"{name}: {own.evidence}, so they are taken as normalised already")
        return wells
    return _normalised(wells, fitted, genes, own.kind == "counts", own.evidence, progress)


def _normalised(
    wells: NewWells, fitted: Normalisation, genes: Sequence[str], are_counts: bool, evidence: str, progress: Progress
) -> NewWells:
    hint = "are they normalised already? --input-scale normalised"
    if wells.expression.min(initial=0) < 0:
        raise DataError("counts are negative", where=wells.where, found=evidence, expected="numbers from 0", hint=hint)
    if (signs := already_normalised(wells.expression)) is not None:
        raise DataError(
            "values given as counts are normalised already",
            where=wells.where,
            found=signs,
            expected="counts",
            hint=hint,
        )
    if not are_counts:
        progress.warn(f"{wells.where.name}: taken as counts (--input-scale), though {evidence}")
    progress.log(f"{wells.where.name}: counts, normalised as the model's training data were ({fitted.method})")
    own = set(wells.genes)
    present = [gene for gene in genes if gene in own]
    values, notes = normalise(fitted, wells.expression, wells.genes, wells.well_ids, present)
    for note in notes:
        (progress.warn if note.severity == "warning" else progress.log)(f"{wells.where.name}: {note.text}")
    return replace(wells, genes=present, expression=values)
