"""Classes of compounds (pathway, library): does a class stand high in the ranking, and does it hold the hits?"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.ranking.compounds import descending_rank
from dpf.analysis.signatures.enrichment import MIN_SIZE, MeasuredSets, over_representation, univariate_linear_model
from dpf.errors import DataError, UsageError, listed
from dpf.tables.schemas.registry import polars_schema
from dpf.workflows.project.inputs import Inputs
from dpf.workflows.rank.rows import CompoundRows
from dpf.workflows.rank.verdicts import HITS


def class_table(table: pl.DataFrame, inputs: Inputs, rows: CompoundRows, column: str) -> tuple[pl.DataFrame, list[str]]:
    """One row a class: where it stands in the ranking, which way its compounds go, how many hits it holds.

    `rank_t` is the t of the slope of the compounds' ranks of T (largest T highest) on membership, two-sided, over all
    compounds (a rank-sum test); `activation_t` the same of the ranks of activation; `hits_p` is hypergeometric,
    one-sided. Each is adjusted over the classes (Benjamini–Hochberg). The tests take compounds as independent; they
    compare compounds with compounds, so the controls have no part in them. Classes of fewer than 3 compounds are
    listed, not tested.

    Parameters
    ----------
    table
        The ranking, in the order of `rows`.
    column
        A column of the wells table.

    Raises
    ------
    UsageError
        There is no such column.
    DataError
        A compound is of several classes, or there is only one class.
    """
    members, lines = _members(inputs, rows, column)
    names = sorted(members, key=lambda name: (-len(members[name]), name))
    member = np.zeros((len(names), rows.count), dtype=bool)
    for index, name in enumerate(names):
        member[index, members[name]] = True
    known = member.any(axis=0)
    tested = _tested(table.filter(pl.Series(known)), names, member[:, known])
    result = pl.DataFrame({column: names, "n": member.sum(axis=1)} | tested).fill_nan(None)
    return result.sort(pl.col("rank_p").fill_null(2.0), column), lines


def _tested(table: pl.DataFrame, names: list[str], member: NDArray[np.bool_]) -> dict[str, object]:
    """The tests of `class_table`, of the compounds that have a class: `member` (classes, compounds)."""
    found: dict[str, object] = {}
    for name, label in (("t", "rank"), ("activation", "activation")):
        if name not in table.columns:
            continue
        values = table.get_column(name).to_numpy()
        test = univariate_linear_model(-descending_rank(values)[None, :], member.astype(np.float64))
        found[f"{name}_mean"] = [values[own].mean() for own in member]
        found |= {f"{label}_t": test.score[0], f"{label}_p": test.p[0], f"{label}_q": test.q[0]}
    verdict = table.get_column("verdict")
    if verdict.count():
        hit = verdict.is_in(HITS).fill_null(value=False).to_numpy()
        enriched = over_representation(hit[None, :], MeasuredSets(tuple(names), member.astype(np.float64), 0))
        found |= {"hits": (member & hit).sum(axis=1), "hits_fold": enriched.score[0]}
        found |= {"hits_p": enriched.p[0], "hits_q": enriched.q[0]}
    return found


def _members(inputs: Inputs, rows: CompoundRows, column: str) -> tuple[dict[str, list[int]], list[str]]:
    classes = inputs.texts(column)
    if classes is None:
        raise UsageError(
            "no such column of the wells table",
            where="--group-column",
            found=column,
            expected=f"one of {listed(inputs.wells.columns, 30)}",
        )
    if column in polars_schema("classes"):
        raise UsageError(
            "the table of classes has a column of that name itself",
            where="--group-column",
            found=column,
            hint="give the column of the wells table another name",
        )
    of_row: dict[int, set[str]] = defaultdict(set)
    for code, name in zip(rows.codes.tolist(), classes, strict=True):
        if code >= 0 and name is not None and name.strip():
            of_row[code].add(name)
    names = rows.names
    mixed = [f"{names[row]} ({listed(sorted(own), 3)})" for row, own in of_row.items() if len(own) > 1]
    if mixed:
        raise DataError(
            "a class column gives each compound one class",
            where=f"the wells table, column {column}",
            found=f"{len(mixed):,} compounds of several: {listed(mixed, 3)}",
            hint="use a column of the compounds, not of the wells",
        )
    members: dict[str, list[int]] = defaultdict(list)
    for row in sorted(of_row):
        members[of_row[row].pop()].append(row)
    if len(members) < 2:
        raise DataError(
            "to compare classes there must be two",
            where=f"the wells table, column {column}",
            found=listed(list(members)),
        )
    lines = []
    if (unknown := rows.count - len(of_row)) > 0:
        lines.append(f"{column}: {unknown:,} compounds have no class and take no part")
    small = sum(len(own) < MIN_SIZE for own in members.values())
    if small:
        lines.append(
            f"{column}: {small:,} of {len(members):,} classes have fewer than {MIN_SIZE} compounds: not tested"
        )
    return dict(members), lines
