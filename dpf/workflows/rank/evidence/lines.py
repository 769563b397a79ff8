"""The lines of evidence for a compound: does it move the expression, the measured scores, what the model predicts?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.latent.pca import principal_components
from dpf.analysis.ranking.omnibus import Line, distances, omnibus_test
from dpf.analysis.ranking.p_values import benjamini_hochberg
from dpf.analysis.ranking.power import DesignPower, power_of
from dpf.errors import count, listed
from dpf.splits.parts import Part
from dpf.tables.matrix import take_columns
from dpf.workflows.project.inputs import Inputs, Measured
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.evidence.significance import Design, choose_design
from dpf.workflows.rank.rows import CompoundRows
from dpf.workflows.rank.wells import RankedWells, position_levels

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
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
    same of the model's predictions, where it held out every well. Rows are compared
    within blocks (plates, batches, donors) where `choose_design` says so, and all lines are centred on the mean of each
    of these blocks' wells, controls and compounds alike.

    Parameters
    ----------
    inputs
        With the expression of every gene.
    measured
        None without targets.
    wells
        What the model says of the wells; None without one.
    """
    held_out = np.full(len(rows.codes), Part.HELD_OUT, dtype=np.int8)
    design, reasons = choose_design(held_out, inputs, rows, choices)
    strata = np.zeros(len(rows.codes), dtype=np.int64) if design is None else design.strata
    lines: dict[str, Line] = {}
    statements: list[str] = []
    places = components(inputs, strata, rng)
    if places.shape[1]:
        lines[EXPRESSION] = Line(places, energy=True)
    else:
        statements.append("no gene varies within a stratum: no distance in expression")
    for name, (values, notes) in {
        MEASURED: (None, []) if measured is None else _measured(inputs, measured, rows, strata, rng),
        PREDICTED: (None, []) if wells is None else _predicted(wells, strata),
    }.items():
        lines |= {} if values is None else {name: Line(values)}
        statements += notes
    if choices.adjust != "none" and lines:
        levels = position_levels(inputs, choices.adjust)[0]
        lines = {name: line._replace(values=_adjusted(line.values, levels)) for name, line in lines.items()}
        statements.append(
            f"evidence adjusted for {choices.adjust}, fitted on all wells alike: its p-values are approximate"
        )
    unknown = np.full(rows.count, np.nan)
    if design is None or not lines:
        distance = distances(lines, rows.codes, rows.count, inputs.is_control)
        nothing = dict.fromkeys(lines, unknown)
        return Evidence(unknown, unknown, unknown, distance, nothing, None, (*statements, *reasons), lines, None)
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


def components(inputs: Inputs, strata: Codes, rng: np.random.Generator) -> Floats:
    """(N, 20) places of the wells, each stratum about its own mean; fewer columns where they hold all the variance."""
    values = take_columns(inputs.expression, np.arange(len(inputs.genes)))
    return principal_components(stratum_centred(values, strata), COMPONENTS, rng=rng).places


def stratum_centred(values: NDArray[Number], strata: Codes) -> NDArray[Number]:
    """The values (N, K) about the mean of each stratum's wells, which may miss some; they are overwritten.

    Never about the mean of anything finer than what wells are exchanged in: a well would know by its place what else
    stands there.
    """
    for stratum in np.unique(strata):
        own = strata == stratum
        known = ~np.isnan(values[own]).all(axis=0)
        means = np.zeros(values.shape[1])
        means[known] = np.nanmean(values[own][:, known], axis=0, dtype=np.float64)
        values[own] -= means.astype(values.dtype)
    return values


def _adjusted(values: Floats, levels: Floats) -> Floats:
    """The values (N, K) less what a least-squares fit of the positions, to controls and compounds alike, says."""
    known = ~np.isnan(values).any(axis=1)
    found, design = values.copy(), np.column_stack([np.ones(int(known.sum())), levels[known]])
    found[known] -= design @ np.linalg.lstsq(design, values[known], rcond=None)[0]
    return found


def _standardised(columns: dict[str, Floats], strata: Codes) -> tuple[Floats | None, list[str]]:
    """The columns, (N,) each, about the mean of each stratum, in standard deviations: (N, K) of those that vary."""
    if not columns:
        return None, []
    values = np.column_stack(list(columns.values()))
    largest = np.nanmax(np.abs(values), axis=0)
    centred = stratum_centred(values, strata)
    spread = np.nanstd(centred, axis=0)
    varying = spread > 1e-12 * largest
    constant = [name for name, varies in zip(columns, varying, strict=True) if not varies]
    notes = [f"{listed(constant)} not compared: the same in every well"] if constant else []
    return (np.asarray(centred[:, varying] / spread[varying], dtype=np.float64) if varying.any() else None), notes


def _measured(
    inputs: Inputs, measured: Measured, rows: CompoundRows, strata: Codes, rng: np.random.Generator
) -> tuple[Floats | None, list[str]]:
    """The measured targets; NaN in the wells of rows of which a target lacks a well.

    The few controls that lack one take that of another control of their stratum, drawn at random.
    """
    columns = dict(zip(measured.score_names, measured.scores.T, strict=True))
    columns |= {measured.label_name: measured.label} if measured.label_name else {}
    if measured.activation_name and not measured.activation_is_derived:
        columns[measured.activation_name] = measured.activation
    missing = {name: float(np.isnan(values[inputs.is_control]).mean()) for name, values in columns.items()}
    sparse = [name for name, share in missing.items() if share > MOST_MISSING]
    kept = {name: values.copy() for name, values in columns.items() if name not in sparse}
    lines = [f"{listed(sparse)} not compared as measured: more than a tenth of the controls lack it"] if sparse else []
    for values in kept.values():
        for well in np.flatnonzero(np.isnan(values) & inputs.is_control):
            alike = np.flatnonzero(inputs.is_control & (strata == strata[well]) & ~np.isnan(values))
            if len(alike):
                values[well] = values[rng.choice(alike)]
    found, notes = _standardised(kept, strata)
    if found is not None:
        gaps = np.isnan(found).any(axis=1)
        found[gaps] = np.nan
        if gaps.any():
            several = len(np.unique(rows.codes[gaps & ~inputs.is_control]))
            lines.append(f"measured scores are not compared of {count(several, 'row')} with a well that lacks one")
    return found, lines + notes


def _predicted(wells: RankedWells, strata: Codes) -> tuple[Floats | None, list[str]]:
    """The predicted targets, averaged over the members that held a well out; None where one was held out by none.

    About the mean of each set of members, too: these predict on scales of their own, and the wells of a compound share
    their members.
    """
    if set(wells.members.part) != {Part.HELD_OUT.text}:
        return None, ["predictions are not compared: the model was trained on some of the wells (train with --folds 5)"]
    outputs, average = wells.outputs, wells.members.average
    columns = dict(zip(outputs.score_names, average(outputs.scores).T, strict=True))
    columns |= {"the label": average(outputs.label_logit)} if outputs.label_logit is not None else {}
    columns |= {"activation": average(outputs.activation)} if outputs.activation is not None else {}
    members = np.unique(wells.members.names(), return_inverse=True)[1]
    columns = {name: stratum_centred(values[:, None].copy(), members)[:, 0] for name, values in columns.items()}
    found, notes = _standardised(columns, strata)
    return found, [f"predicted: {note}" for note in notes]
