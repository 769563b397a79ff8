"""The lines of evidence for a compound: does it move the expression, the measured scores, what the model predicts?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.latent.pca import principal_components
from dpf.analysis.latent.position_adjustment import adjust_latent
from dpf.analysis.ranking.omnibus import Line, omnibus_test
from dpf.analysis.ranking.p_values import benjamini_hochberg
from dpf.analysis.ranking.power import DesignPower, power_of
from dpf.errors import listed
from dpf.splits.parts import Part
from dpf.tables.matrix import take_columns
from dpf.workflows.project.inputs import Inputs, Measured
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.evidence.blocks import every_blocks
from dpf.workflows.rank.evidence.significance import Design, choose_design
from dpf.workflows.rank.rows import CompoundRows
from dpf.workflows.rank.wells import RankedWells, position_levels

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Number = TypeVar("Number", np.float32, np.float64)

#: Principal components that distances in expression are measured in.
COMPONENTS = 20
#: A target with a larger share of controls without a value is not compared.
MOST_MISSING = 0.1
#: The lines, in the order they are reported.
EXPRESSION, MEASURED, PREDICTED = "expression", "measured", "predicted"


@dataclass(frozen=True)
class Evidence:
    """Of C rows; NaN where a row was not compared.

    Attributes
    ----------
    p, q, floor
        (C,): p of all lines together, Benjamini–Hochberg over the tested rows, smallest p the design allows.
    distance, line_p
        By line: how far the row lies from the controls, and the line's own p, (C,).
    power
        What the design can show; None without p-values.
    statements
        What these rest on.
    lines, design
        What was compared, and within what; None where nothing was.
    """

    p: Floats
    q: Floats
    floor: Floats
    distance: dict[str, Floats]
    line_p: dict[str, Floats]
    power: DesignPower | None
    statements: tuple[str, ...]
    lines: dict[str, Line]
    design: Design | None


def weigh_evidence(
    inputs: Inputs, measured: Measured | None, wells: RankedWells | None, rows: CompoundRows, choices: RankChoices,
    rng: np.random.Generator,
) -> Evidence:  # fmt: skip
    """Every line of evidence of every row, and the p-value of all of them, under the same exchanges of wells.

    *expression*: E-distance on the first 20 principal components of all genes. *measured*: length of the mean
    displacement of the measured targets from the controls', each in standard deviations of all wells. *predicted*: the
    same of the model's predictions, where it held out every well. All are centred on the mean of each block's wells
    (plates, batches, donors), controls and compounds alike, so that no well knows by its place whether it is a control.
    Rows are compared within blocks where `choose_design` says so.

    Parameters
    ----------
    inputs
        With the expression of every gene.
    measured
        None without targets.
    wells
        What the model says of the wells; None without one.
    """
    lines: dict[str, Line] = {}
    statements: list[str] = []
    places = components(inputs, rng)
    if places.shape[1]:
        lines[EXPRESSION] = Line(places, energy=True)
    else:
        statements.append("no gene varies: no distance in expression")
    if measured is not None:
        values, notes = _measured(inputs, measured, rows)
        lines |= {} if values is None else {MEASURED: Line(values)}
        statements += notes
    if wells is not None:
        values, notes = _predicted(inputs, wells, choices)
        lines |= {} if values is None else {PREDICTED: Line(values)}
        statements += notes
    if choices.adjust != "none":
        lines = {
            name: line._replace(values=_adjusted(line.values, inputs, rows, choices)) for name, line in lines.items()
        }
    held_out = np.full(len(rows.codes), Part.HELD_OUT, dtype=np.int8)
    design, reasons = choose_design(held_out, inputs, rows, choices)
    unknown = np.full(rows.count, np.nan)
    if design is None or not lines:
        nothing = dict.fromkeys(lines, unknown)
        return Evidence(unknown, unknown, unknown, nothing, nothing, None, (*statements, *reasons), lines, None)
    found = omnibus_test(lines, design.group, len(design.tested), design.control, design.strata, rng)

    def of_rows(values: Floats) -> Floats:
        every = unknown.copy()
        every[design.tested] = values
        return every

    return Evidence(
        p=of_rows(found.p),
        q=of_rows(benjamini_hochberg(found.p)),
        floor=of_rows(found.floor),
        distance={name: of_rows(values) for name, values in found.values.items()},
        line_p={name: of_rows(values) for name, values in found.line_p.items()},
        power=power_of(design.floors, choices.fdr),
        statements=(*statements, *reasons),
        lines=lines,
        design=design,
    )


def _adjusted(values: Floats, inputs: Inputs, rows: CompoundRows, choices: RankChoices) -> Floats:
    """The values (N, K) without what positions do to the controls and low-effect wells; wells of NaN stay so."""
    known = ~np.isnan(values).any(axis=1)
    levels, found = position_levels(inputs, choices.adjust)[0], values.copy()
    found[known] = adjust_latent(
        values[known], levels[known], rows.codes[known], inputs.is_control[known], np.ones(int(known.sum()), dtype=bool)
    )
    return found


def components(inputs: Inputs, rng: np.random.Generator) -> Floats:
    """(N, 20) places of the wells, each block about its own mean; fewer columns where they hold all the variance."""
    values = take_columns(inputs.expression, np.arange(len(inputs.genes)))
    return principal_components(block_centred(values, inputs), COMPONENTS, rng=rng).places


def block_centred(values: NDArray[Number], inputs: Inputs) -> NDArray[Number]:
    """The values (N, K) about the mean of each block's wells; they are overwritten."""
    every = every_blocks(inputs)
    codes = every[0].codes if every else np.zeros(len(values), dtype=np.int64)
    for block in np.unique(codes):
        values[codes == block] -= values[codes == block].mean(axis=0, dtype=np.float64).astype(values.dtype)
    return values


def _standardised(columns: list[Floats], inputs: Inputs) -> Floats | None:
    """The columns, (N,) each, about the mean of each block, in their standard deviations: (N, K) of those that vary."""
    centred = block_centred(np.column_stack(columns), inputs) if columns else np.zeros((0, 0))
    spread = centred.std(axis=0)
    varying = spread > 1e-12 * np.abs(np.column_stack(columns)).max(axis=0) if columns else spread > 0
    return np.asarray(centred[:, varying] / spread[varying], dtype=np.float64) if varying.any() else None


def _measured(inputs: Inputs, measured: Measured, rows: CompoundRows) -> tuple[Floats | None, list[str]]:
    """The measured targets; NaN in the wells of rows of which a target lacks a well."""
    columns = dict(zip(measured.score_names, measured.scores.T, strict=True))
    columns |= {measured.label_name: measured.label} if measured.label_name else {}
    if measured.activation_name and not measured.activation_is_derived:
        columns[measured.activation_name] = measured.activation
    missing = {name: float(np.isnan(values[inputs.is_control]).mean()) for name, values in columns.items()}
    sparse = [name for name, share in missing.items() if share > MOST_MISSING]
    kept = {name: values for name, values in columns.items() if name not in sparse}
    lines = [f"{listed(sparse)} not compared as measured: more than a tenth of the controls lack it"] if sparse else []
    gaps = np.zeros(len(rows.codes), dtype=bool)
    filled = []
    for values in kept.values():
        absent = np.isnan(values)
        gaps |= absent & ~inputs.is_control
        filled.append(np.where(absent, np.nanmean(values), values))
    found = _standardised(filled, inputs)
    if found is not None:
        found[gaps] = np.nan
        if gaps.any():
            several = len(np.unique(rows.codes[gaps]))
            lines.append(f"measured scores are not compared of {several:,} rows, which lack one in some well")
    return found, lines


def _predicted(inputs: Inputs, wells: RankedWells, choices: RankChoices) -> tuple[Floats | None, list[str]]:
    """The predicted targets, averaged over the members that held a well out; None where one was held out by none."""
    if not (choices.in_sample or set(wells.members.part) == {Part.HELD_OUT.text}):
        return None, ["predictions are not compared: the model was trained on some of the wells (train with --folds 5)"]
    outputs, average = wells.outputs, wells.members.average
    columns = list(average(outputs.scores).T)
    columns += [average(outputs.label_logit)] if outputs.label_logit is not None else []
    columns += [average(outputs.activation)] if outputs.activation is not None else []
    return _standardised(columns, inputs), []
