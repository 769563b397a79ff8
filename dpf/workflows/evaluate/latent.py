"""Whether replicates and classes lie together in the latent, compared with expression and with the scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.evaluation.latent_quality import LatentQuality, Precision, latent_quality
from dpf.analysis.latent.pca import principal_components
from dpf.splits.parts import Part
from dpf.tables.schemas.registry import polars_schema
from dpf.workflows.evaluate.wells import EvaluatedWells
from dpf.workflows.predict.outputs import Outputs
from dpf.workflows.project.inputs import Inputs

Floats = NDArray[np.float64]


def latent_table(
    outputs: Outputs, inputs: Inputs, measured: Floats, wells: EvaluatedWells, classes: Sequence[str | None] | None
) -> pl.DataFrame:
    """Mean average precision and silhouette of four representations of the wells that each member held out.

    The member's latent; as many principal components of the expression, of the member's training wells; the scores the
    member predicts; the scores that were measured (left out where one is missing), both in standard deviations of the
    training wells. Cosines are taken from the centre of the training controls. Long: one row a representation, member
    ("mean" over them) and measure (`dpf.analysis.evaluation.latent_quality.LatentQuality`), with what `chance` gives
    where that is known. A value is null where there is nothing to measure.

    Parameters
    ----------
    measured
        Shape (N, S).
    classes
        The class of each well's compound, length N; None where there are none.
    """
    rows = []
    expression = inputs.expression.astype(np.float64)
    members = np.flatnonzero(wells.member_test.any(axis=1))
    for member in members:
        test, train = wells.member_test[member], wells.parts[member] == Part.TRAIN
        fit = train if train.any() else np.ones_like(test)  # a model from elsewhere has no training well here
        latent = outputs.latent[member]
        spaces = {
            "latent": latent,
            "expression": principal_components(expression, latent.shape[1], fit).places,
            "predicted scores": _standardised(outputs.scores[member], fit),
            "measured scores": _standardised(measured, fit),
        }
        for name, space in spaces.items():
            controls = fit & inputs.is_control
            centre = controls if controls.any() else fit
            if not space.shape[1] or not np.isfinite(space[test | centre]).all():
                continue
            found = latent_quality(
                space[test],
                wells.groups[test],
                inputs.is_control[test],
                classes=None if classes is None else [classes[well] for well in np.flatnonzero(test).tolist()],
                centre=space[centre].mean(axis=0),
            )
            rows += _rows(found, name, space.shape[1], str(member))
    table = pl.DataFrame(rows, schema=polars_schema("latent_quality"), orient="row").fill_nan(None)
    return pl.concat([_means(table), table]) if len(members) > 1 else table


def _standardised(scores: Floats, fit: NDArray[np.bool_]) -> Floats:
    """Scores in standard deviations of some wells; those that do not vary there are left out."""
    measured = [column[fit & ~np.isnan(column)] for column in scores.T]
    spread = np.array([np.std(values) if values.size else 0.0 for values in measured])
    kept = spread > 0
    return np.asarray(scores[:, kept] / spread[kept])


def _rows(found: LatentQuality, name: str, dimensions: int, member: str) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for entry in fields(found):
        value = getattr(found, entry.name)
        if isinstance(value, Precision):
            rows.append((name, dimensions, member, f"map_{entry.name}", value.mean_ap, value.chance, value.wells))
        else:
            rows.append((name, dimensions, member, entry.name, value, None, None))
    return rows


def _means(table: pl.DataFrame) -> pl.DataFrame:
    keys = ["representation", "measure"]
    means = table.group_by(keys, maintain_order=True).agg(
        pl.col("dimensions").max(), pl.col("value", "chance").mean(), pl.col("wells").sum()
    )
    return means.with_columns(member=pl.lit("mean")).select(table.columns)
