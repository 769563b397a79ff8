"""How far compounds move the expression: the E-distance on principal components of all genes. No model is needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.latent.pca import principal_components
from dpf.analysis.ranking.energy import energy_test
from dpf.analysis.ranking.p_values import benjamini_hochberg
from dpf.analysis.ranking.power import DesignPower, power_of
from dpf.splits.parts import Part
from dpf.workflows.project.inputs import Inputs
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.evidence.blocks import every_blocks
from dpf.workflows.rank.evidence.significance import choose_design
from dpf.workflows.rank.rows import CompoundRows

Floats = NDArray[np.float64]

#: Principal components that distances are measured in.
COMPONENTS = 20


@dataclass(frozen=True)
class ExpressionTests:
    """Of C rows; NaN where a row was not tested.

    Attributes
    ----------
    distance
        (C,): E-distance from the controls, in squared units of the expression.
    p, q, floor
        (C,): its p-value, Benjamini–Hochberg over the tested rows, smallest p the design allows.
    power
        What the design can show; None without p-values.
    statements
        What these rest on.
    """

    distance: Floats
    p: Floats
    q: Floats
    floor: Floats
    power: DesignPower | None
    statements: tuple[str, ...]


def distances_in_expression(
    inputs: Inputs, rows: CompoundRows, choices: RankChoices, rng: np.random.Generator
) -> ExpressionTests:
    """The E-distance of every row from the controls, and its p-value by exchange of wells.

    Expression is centred on the mean of each block's wells (plates, batches, donors), controls and compounds alike, so
    that no well knows by its place whether it is a control, and projected on the first 20 principal components of all
    wells. Rows are compared within blocks where `choose_design` says so. Every well counts: nothing was trained, so nothing is held out.

    Parameters
    ----------
    inputs
        With the expression of every gene.
    """
    unknown = np.full(rows.count, np.nan)
    held_out = np.full(len(rows.codes), Part.HELD_OUT, dtype=np.int8)
    design, lines = choose_design(held_out, inputs, rows, choices)
    places = components(inputs, rng)
    if design is None or not places.shape[1]:
        lines = lines if places.shape[1] else ["no gene varies: no distance in expression"]
        return ExpressionTests(unknown, unknown, unknown, unknown, None, tuple(lines))
    found = energy_test(
        places, design.group, len(design.tested), design.control, design.strata, rng, of_single_wells=True
    )

    def of_rows(values: Floats) -> Floats:
        every = unknown.copy()
        every[design.tested] = values
        return every

    return ExpressionTests(
        distance=of_rows(found.value),
        p=of_rows(found.p),
        q=of_rows(benjamini_hochberg(found.p)),
        floor=of_rows(found.floor),
        power=power_of(design.floors, choices.fdr),
        statements=tuple(lines),
    )


def components(inputs: Inputs, rng: np.random.Generator) -> Floats:
    """(N, 20) places of the wells, each block about its own mean; fewer columns where they hold all the variance."""
    values = inputs.expression.copy()
    every = every_blocks(inputs)
    codes = every[0].codes if every else np.zeros(len(values), dtype=np.int64)
    for block in np.unique(codes):
        values[codes == block] -= values[codes == block].mean(axis=0, dtype=np.float64).astype(np.float32)
    return principal_components(values, COMPONENTS, rng=rng).places
