"""Do the replicates of a compound agree: within one member, whose latents can be compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.items.power import HITS_WARN
from dpf.analysis.ranking.compounds import Agreement, replicate_agreement
from dpf.analysis.ranking.power import hits_needed, smallest_p_values
from dpf.analysis.ranking.replicates import cosine_test, replicate_retrieval
from dpf.analysis.ranking.subsets import LARGEST_FLOOR
from dpf.splits.parts import PART_NAMES, Part
from dpf.workflows.project.inputs import Inputs
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.evidence.blocks import Blocks, every_blocks
from dpf.workflows.rank.rows import CompoundRows
from dpf.workflows.rank.wells import RankedWells

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: The level of the flag `replicates_agree`: 5% of inert compounds have it.
AGREE = 0.05


@dataclass(frozen=True)
class ReplicateTests:
    """Of C rows and N wells; NaN where there are too few wells, too few controls, or wells of several members.

    Attributes
    ----------
    agreement
        Cosine and Pearson within and between compounds.
    cosine_p
        (C,): p of the mean cosine within the row.
    ap
        (N,): average precision of each well.
    mean_ap, mean_ap_p
        (C,).
    statements
        What could not be done.
    """

    agreement: Agreement
    cosine_p: Floats
    ap: Floats
    mean_ap: Floats
    mean_ap_p: Floats
    statements: tuple[str, ...]

    def agree(self) -> list[bool | None]:
        """Whether the wells of each row point the same way, `cosine_p` ≤ 0.05; None where not tested."""
        return [None if np.isnan(p) else bool(p <= AGREE) for p in self.cosine_p]


def compare_replicates(
    wells: RankedWells, inputs: Inputs, rows: CompoundRows, matched: str | None, choices: RankChoices,
    rng: np.random.Generator,
) -> ReplicateTests:  # fmt: skip
    """Compare the wells of each row with each other and with the controls of the member that stands for them.

    Strata are member by part (and block, where the ranking is matched by blocks and the design allows it). P-values are
    given where every well was held out, or `in_sample` asks for them.
    """
    agreement = replicate_agreement(wells.deviation, rows.codes, rows.count, wells.t.used)
    profiles, member = wells.profiles()
    strata = member * len(PART_NAMES) + wells.t.basis
    ready = _comparable(strata, rows)
    group, kept = _renumbered(rows, ready)
    control = inputs.is_control
    within = next((one for one in every_blocks(inputs) if one.text == matched), None)
    if within is not None:
        strata = _with_blocks(strata, within, group, len(kept), control, choices.fdr)
    kept_all, (cosine_p, mean_ap, p) = kept, (np.full(rows.count, np.nan) for _ in range(3))
    tested = smallest_p_values(group, len(kept), control, strata) < 1 if len(kept) else np.zeros(0, dtype=bool)
    group, kept = _renumbered(rows, kept_all[tested])
    ap = np.full(len(group), np.nan)
    statements = (
        [] if len(kept) else ["no two wells of a compound, and controls, stand in one member: replicates not compared"]
    )
    if len(kept):
        given = (profiles, group, len(kept), control, strata, rng)
        ap, (mean_ap[kept], p[kept], floor) = replicate_retrieval(*given)
        cosine_p[kept] = cosine_test(*given).p
        statements += _weak(floor)
    seen = np.ones(rows.count, dtype=bool) if choices.null == "none" else np.zeros(rows.count, dtype=bool)
    if not choices.in_sample:
        own = rows.codes >= 0
        seen[rows.codes[own & (wells.t.basis != Part.HELD_OUT)]] = True
    for values in (cosine_p, p):
        values[seen] = np.nan
    return ReplicateTests(agreement, cosine_p, ap, mean_ap, p, tuple(statements))


def _comparable(strata: Codes, rows: CompoundRows) -> Codes:
    """The rows of at least two wells, all of them in one stratum."""
    wells = np.flatnonzero(rows.codes >= 0)
    low, high = np.full(rows.count, strata.max() + 1), np.full(rows.count, -1)
    np.minimum.at(low, rows.codes[wells], strata[wells])
    np.maximum.at(high, rows.codes[wells], strata[wells])
    several = np.bincount(rows.codes[wells], minlength=rows.count) > 1
    return np.flatnonzero((low == high) & several)


def _renumbered(rows: CompoundRows, kept: Codes) -> tuple[Codes, Codes]:
    new = np.full(rows.count + 1, -1, dtype=np.int64)  # the last entry is that of code −1
    new[kept] = np.arange(len(kept))
    return new[rows.codes], kept


def _with_blocks(strata: Codes, within: Blocks, group: Codes, count: int, control: Mask, fdr: float) -> Codes:
    """Strata by block too, where enough of the rows could still be told from inert ones."""
    if not count:
        return strata
    finer = strata * len(within.names) + within.codes
    needed = hits_needed(smallest_p_values(group, count, control, finer), fdr)
    return finer if needed is not None and needed <= max(1.0, HITS_WARN * count) else strata


def _weak(floor: Floats) -> list[str]:
    smallest = float(np.nanmin(floor)) if np.isfinite(floor).any() else 1.0
    if smallest <= LARGEST_FLOOR:
        return []
    return [
        f"replicate agreement: the smallest p is {smallest:.2g}, as they can only use the controls that "
        "the same member held out: fewer folds or more controls"
    ]
