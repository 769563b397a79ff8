"""The ranking as a table: one row a compound, with a verdict in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.evaluation.calibration import probability_of
from dpf.analysis.latent.activation_pattern import pattern_cosine
from dpf.analysis.ranking.compounds import group_mean, rank_compounds
from dpf.analysis.ranking.intervals import likely_intervals
from dpf.splits.parts import Part
from dpf.tables.screen import NO_CELLS
from dpf.workflows.predict.well_members import plate_codes
from dpf.workflows.project.inputs import Inputs, Measured
from dpf.workflows.rank.evidence.lines import EXPRESSION, Evidence
from dpf.workflows.rank.evidence.replicates import ReplicateTests
from dpf.workflows.rank.evidence.significance import CompoundTests
from dpf.workflows.rank.rows import CompoundRows
from dpf.workflows.rank.verdicts import Verdict, verdicts
from dpf.workflows.rank.wells import RankedWells

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Columns that stand first, in this order, where they are there.
_FIRST = (
    *("rank", "verdict", "direction", "n", "t", "t_low", "t_high", "p", "q", "activation", "activation_p"),
    *("pattern_cosine", "on_axis", "replicates_agree", "rank_low", "rank_high"),
)


def ranking_table(
    wells: RankedWells, inputs: Inputs, measured: Measured, rows: CompoundRows, tests: CompoundTests,
    replicates: ReplicateTests, evidence: Evidence, fdr: float, rng: np.random.Generator,
) -> pl.DataFrame:  # fmt: skip
    """One row a compound, in the order of `rows`; null where a number is not defined."""
    codes, count = rows.codes, rows.count
    columns: dict[str, Any] = dict(
        rank_compounds(codes, count, wells.norm, wells.t.value, wells.activation, wells.on_axis, replicates.agreement)
    )
    cosine = None
    if wells.pattern is not None:
        cosine = pattern_cosine(wells.deviation, wells.pattern, wells.members.used, codes, count)
        columns["pattern_cosine"] = cosine
    for name, values in (wells.raw | wells.standardised).items():
        columns[name] = group_mean(values, codes, count)
    intervals = likely_intervals(wells.t.value, codes, count, rng=rng)
    columns |= {name: getattr(intervals, name) for name in ("t_low", "t_high", "rank_low", "rank_high")}
    columns |= {"p": evidence.p, "q": evidence.q, "t_p": tests.p}
    if tests.activation_p is not None:
        columns |= {"activation_p": tests.activation_p, "activation_q": tests.activation_q}
    columns |= {
        "smallest_p": evidence.floor,
        "replicate_cosine_p": replicates.cosine_p,
        "replicate_map": replicates.mean_ap,
        "replicate_map_p": replicates.mean_ap_p,
        "replicates_agree": pl.Series(replicates.agree(), dtype=pl.Boolean),
    }
    columns |= _lines(evidence)
    columns |= score_shifts(wells, inputs, measured, rows)
    found = verdicts(evidence.q, columns.get("activation"), tests.activation_p, cosine, fdr)
    columns["verdict"] = pl.Series(found, dtype=pl.String)
    order = [*(name for name in _FIRST if name in columns), *(name for name in columns if name not in _FIRST)]
    table = pl.concat([rows.keys, pl.DataFrame({name: columns[name] for name in order})], how="horizontal")
    return table.with_columns(_basis(wells, rows)).fill_nan(None)


def _lines(evidence: Evidence) -> dict[str, Floats]:
    """`<line>_distance` and `<line>_p` of every line of evidence."""
    columns: dict[str, Floats] = {}
    for name, values in evidence.distance.items():
        columns |= {f"{name}_distance": values, f"{name}_p": evidence.line_p[name]}
    return columns


def unmodelled_table(evidence: Evidence, shifts: dict[str, Floats], rows: CompoundRows, fdr: float) -> pl.DataFrame:
    """The ranking without a model, in the order of `rows`: by p, of equal ones the farthest first."""
    farthest = -np.nan_to_num(evidence.distance.get(EXPRESSION, np.zeros(rows.count)))
    place = np.lexsort((farthest, np.nan_to_num(evidence.p, nan=2.0)))
    rank = np.empty(rows.count)
    rank[place] = np.arange(1, rows.count + 1)
    columns: dict[str, Any] = {
        "rank": rank,
        "verdict": pl.Series(verdicts(evidence.q, None, None, None, fdr), dtype=pl.String),
        "n": np.bincount(rows.codes[rows.codes >= 0], minlength=rows.count),
        "p": evidence.p,
        "q": evidence.q,
        **_lines(evidence),
        "smallest_p": evidence.floor,
        **shifts,
    }
    return pl.concat([rows.keys, pl.DataFrame(columns)], how="horizontal").fill_nan(None)


def with_wells(table: pl.DataFrame, inputs: Inputs, *, by_dose: bool) -> pl.DataFrame:
    """The ranking with the depth of each row's wells and how many are set aside; last the rows that have no others."""
    keys = ["compound", "concentration"] if by_dose else ["compound"]
    if "library_size" in inputs.wells.columns and inputs.wells.schema["library_size"].is_numeric():
        depth = (
            inputs.wells.filter(~pl.col("is_control"))
            .group_by(keys)
            .agg(depth_median=pl.col("library_size").median().cast(pl.Float64))
        )
        table = table.join(depth, on=keys, how="left", nulls_equal=True, maintain_order="left")
    if "set_aside" not in inputs.wells.columns:
        return table
    aside = inputs.set_aside.filter(~pl.col("is_control") & (pl.col("set_aside") != NO_CELLS))
    counts = aside.group_by(keys, maintain_order=True).agg(wells_set_aside=pl.len().cast(pl.Int64))
    table = table.join(counts, on=keys, how="left", nulls_equal=True, maintain_order="left")
    table = table.with_columns(pl.col("wells_set_aside").fill_null(0))
    lost = counts.join(table, on=keys, how="anti", nulls_equal=True, maintain_order="left")
    if lost.is_empty():
        return table
    about = [pl.lit(Verdict.NOT_MEASURED.value).alias("verdict"), pl.lit(0, pl.Int64).alias("n")]
    return pl.concat([table, lost.with_columns(about)], how="diagonal")


def _basis(wells: RankedWells, rows: CompoundRows) -> list[pl.Series]:
    """`part`: what the wells of a row were to the members that predict them; `held_out`: all were held out."""
    kinds = pl.DataFrame({"code": rows.codes, "part": wells.members.part}).filter(pl.col("code") >= 0)
    met = dict(kinds.group_by("code").agg(pl.col("part").unique().sort()).iter_rows())
    held_out = [met[code] == [Part.HELD_OUT.text] for code in range(rows.count)]
    return [pl.Series("part", [",".join(met[code]) for code in range(rows.count)]), pl.Series("held_out", held_out)]


def score_shifts(wells: RankedWells, inputs: Inputs, measured: Measured, rows: CompoundRows) -> dict[str, Floats]:
    """`<score>_predicted_shift`, `<score>_measured_shift`: mean of a row's wells less that of the controls, in the
    score's own unit (a label's as a share of wells).

    Controls of the well's own plate, where every plate of compounds has controls with a value; else of all plates.
    """
    outputs, targets = wells.outputs, wells.outputs.header["targets"]
    average = wells.members.average
    predicted: dict[str, Floats] = {name: average(outputs.scores)[:, i] for i, name in enumerate(outputs.score_names)}
    if outputs.label_logit is not None:
        predicted[targets["label"]] = average(probability_of(outputs.label_logit))
    if outputs.activation is not None:
        predicted[targets["activation"]] = average(outputs.activation)
    known, plate = _known(measured), _plate(inputs, rows)
    columns: dict[str, Floats] = {}
    for name, values in predicted.items():
        columns[f"{name}_predicted_shift"] = _shift(values, rows, inputs.is_control, plate)
        if name in known:
            columns[f"{name}_measured_shift"] = _shift(known[name], rows, inputs.is_control, plate)
    return columns


def measured_shifts(inputs: Inputs, measured: Measured, rows: CompoundRows) -> dict[str, Floats]:
    """`<score>_measured_shift` alone, as `score_shifts` has it."""
    plate = _plate(inputs, rows)
    return {f"{name}_measured_shift": _shift(values, rows, inputs.is_control, plate)
            for name, values in _known(measured).items()}  # fmt: skip


def _known(measured: Measured) -> dict[str, Floats]:
    known = {name: measured.scores[:, index] for index, name in enumerate(measured.score_names)}
    known |= {measured.label_name: measured.label} if measured.label_name else {}
    return known | ({measured.activation_name: measured.activation} if measured.activation_name else {})


def _plate(inputs: Inputs, rows: CompoundRows) -> Codes:
    plates = plate_codes(inputs.texts("plate"))
    return np.zeros(len(rows.codes), dtype=np.int64) if plates is None else plates[0].astype(np.int64)


def _shift(values: Floats, rows: CompoundRows, control: Mask, plate: Codes) -> Floats:
    """(C,) NaN where a row has no value or there is no control with one."""
    count = int(plate.max(initial=0)) + 1
    reference = group_mean(values, np.where(control, plate, -1), count)
    if np.isnan(reference[np.unique(plate[~control])]).any():
        reference[:] = group_mean(values, np.where(control, 0, -1), 1)[0]
    return group_mean(values - reference[plate], rows.codes, rows.count)
