"""The p-values of a ranking: who is compared with whom, what the design can show, and what was found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.ranking.p_values import PValues, benjamini_hochberg, compound_p_values
from dpf.analysis.ranking.power import DesignPower, hits_needed, power_of, smallest_p_values
from dpf.analysis.ranking.subsets import LARGEST_FLOOR
from dpf.errors import DataError, count
from dpf.splits.parts import PART_NAMES, Part
from dpf.workflows.project.inputs import Inputs
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.evidence.blocks import Blocks, blocks, every_blocks
from dpf.workflows.rank.rows import CompoundRows
from dpf.workflows.rank.wells import RankedWells

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: What a design without blocks is called.
SCREEN = "screen"
#: Blocks are compared within as long as hits need not be more than this share of the compounds: a p-value that is
#: right comes before one that is small.
MOST_NEEDED = 0.2


@dataclass(frozen=True)
class CompoundTests:
    """Of C rows; NaN where a row was not tested.

    Attributes
    ----------
    p, q, floor
        (C,): p-value, Benjamini–Hochberg over the tested rows, smallest p the design allows.
    activation_p, activation_q
        (C,): the same for the mean position on the activation axis, two-sided; None without an axis.
    power
        What the design can show; None without p-values.
    matched
        What wells changed places within: "plates", "batches x donors", "screen", or None without p-values.
    statements
        What the p-values rest on, or why there are none.
    """

    p: Floats
    q: Floats
    floor: Floats
    activation_p: Floats | None
    activation_q: Floats | None
    power: DesignPower | None
    matched: str | None
    statements: tuple[str, ...]


@dataclass(frozen=True)
class Design:
    """Rows `tested` (ascending) renumbered in `group` (N,); `control` and `strata` (N,) that they are compared in."""

    tested: Codes
    group: Codes
    control: Mask
    strata: Codes
    names: list[str]
    floors: Floats
    matched: str


def choose_design(
    basis: NDArray[np.int8], inputs: Inputs, rows: CompoundRows, choices: RankChoices
) -> tuple[Design | None, list[str]]:
    """Which rows can be tested, and within which strata; None where none may be.

    A row is tested where every well of it was held out (with `in_sample`, every row: wells are then compared with the
    controls that were treated as they were). Strata are the blocks that `match` names: plates, batches, donors, or all
    of them together. "auto" takes the finest blocks in which at least half of the compounds have controls to change
    places with, unless the design, not the data, could then call hardly anything (more than a fifth of the compounds
    would have to reach their smallest p) and coarser ones would change that.
    """
    usable = np.ones(len(basis), dtype=bool) if choices.in_sample else basis == Part.HELD_OUT
    whole = np.array([bool(usable[rows.wells(row)].all()) for row in range(rows.count)])
    if choices.null == "none":
        return None, ["no p-values: --null none"]
    if not whole.any():
        return None, [
            "no p-values: no compound was held out by any member, and a distance measured where the model was trained "
            "proves nothing; train with --folds 5 (or see them all the same: --in-sample)"
        ]
    lines = []
    if not whole.all():
        lines.append(f"{(~whole).sum():,} compounds were not held out: no p-value for them")
    kind = basis.astype(np.int64) if choices.in_sample else np.zeros(len(basis), dtype=np.int64)
    control = inputs.is_control & usable
    designs = [
        _design(one.text, kind * len(one.names) + one.codes, one.names * len(PART_NAMES), whole, rows, control)
        for one in _wanted_blocks(inputs, choices.match)
    ]
    if choices.match in ("auto", "screen"):
        designs.append(_design(SCREEN, kind, [""] * len(PART_NAMES), whole, rows, control))
    design, reason = _chosen(designs, choices, int(whole.sum()))
    return design, lines + reason + _untested(design, int(whole.sum()))


def _wanted_blocks(inputs: Inputs, match: str) -> list[Blocks]:
    """The blocks to choose from, finest first."""
    if match == "screen":
        return []
    every = every_blocks(inputs)
    if match == "auto":
        return every
    if match == "block":
        every = every[:1]
    else:
        every = [one for one in [blocks(inputs, match)] if one is not None and len(one.names) > 1]
    if not every:
        what = "plate, batch or donor" if match == "block" else match
        raise DataError(
            f"the {what} of every well must be known to compare {match} by {match}, and there must be several",
            where=f"--match {match}",
            found=f"one {what}" if blocks(inputs, match) else f"no {what} column, or wells without a {what}",
        )
    return every


def _design(matched: str, strata: Codes, names: list[str], whole: Mask, rows: CompoundRows, control: Mask) -> Design:
    def renumbered(kept: Codes) -> Codes:
        new = np.full(rows.count + 1, -1, dtype=np.int64)  # the last entry is that of code −1
        new[kept] = np.arange(len(kept))
        return new[rows.codes]

    kept = np.flatnonzero(whole)
    floors = smallest_p_values(renumbered(kept), len(kept), control, strata)
    kept, floors = kept[floors < 1], floors[floors < 1]
    return Design(kept, renumbered(kept), control, strata, names, floors, matched)


def _chosen(designs: list[Design], choices: RankChoices, eligible: int) -> tuple[Design, list[str]]:
    """The first of the designs, finest first, that can test most compounds and call some; and why not a finer one."""
    if len(designs) == 1:
        return designs[0], []
    reasons: list[str] = []
    for at, design in enumerate(designs):
        coarser = designs[at + 1 :]
        why = _useless(design, coarser, choices, eligible)
        if why is None:
            return design, _instead(design, reasons)
        reasons.append(f"within {design.matched}, {why}")
    return designs[-1], _instead(designs[-1], reasons)


def _useless(design: Design, coarser: list[Design], choices: RankChoices, eligible: int) -> str | None:
    """Why a coarser design is better than this one, or None."""
    if not coarser:
        return None
    tested, most = len(design.tested), max(len(one.tested) for one in coarser)
    if 2 * tested < eligible and most > tested:
        return f"{eligible - tested:,} of {eligible:,} compounds have no controls to change places with"
    enough = max(1.0, MOST_NEEDED * tested)
    needed, instead = _typical_need(design, choices.fdr), min(_typical_need(one, choices.fdr) for one in coarser)
    lowest = min(one.floors.min(initial=1.0) for one in coarser)
    hopeless = design.floors.min(initial=1.0) > LARGEST_FLOOR >= lowest
    if not hopeless and (needed <= enough or instead > enough):
        return None
    return (
        f"{needed:,.0f} compounds would have to reach their smallest p"
        if np.isfinite(needed)
        else "none could be called"
    )


def _instead(design: Design, reasons: list[str]) -> list[str]:
    if not reasons:
        return []
    if design.matched != SCREEN:
        return [f"compared within {design.matched}: {'; '.join(reasons)} (--match)"]
    return [
        f"compared with the controls of the whole screen: {'; '.join(reasons)}; that these do not differ is assumed "
        "(dpf check; --adjust plate; --match)"
    ]


def _typical_need(design: Design, fdr: float) -> float:
    """How many compounds like the one in the middle must reach its smallest p before any is called; or infinite."""
    if not len(design.floors):
        return float("inf")
    typical = np.quantile(design.floors, 0.5, method="higher")
    needed = hits_needed(np.full(len(design.floors), typical), fdr)
    return float("inf") if needed is None else float(needed)


def _untested(design: Design, eligible: int) -> list[str]:
    if not len(design.tested):
        raise DataError(
            "no compound shares a stratum with a control well: nothing can be tested",
            where=f"within {design.matched}",
            found=f"{design.control.sum():,} held-out control wells",
            expected="controls where the compounds are",
            hint="--match screen compares with the controls of the whole screen; --null none ranks without p-values",
        )
    missing = eligible - len(design.tested)
    if not missing:
        return []
    have = "has" if missing == 1 else "have"
    return [
        f"{count(missing, 'compound')} {have} no (or not enough) controls to change places with within "
        f"{design.matched}: no p-value for them (--match screen compares with the controls of the whole screen)"
    ]


def run_tests(
    wells: RankedWells, inputs: Inputs, rows: CompoundRows, choices: RankChoices, rng: np.random.Generator
) -> CompoundTests:
    """The p-value of each row's mean T, and q over the rows that were tested.

    Raises
    ------
    DataError
        Too few controls for any row to reach 0.05: the message has how many would do.
    """
    missing = np.full(rows.count, np.nan)
    design, lines = choose_design(wells.t.basis, inputs, rows, choices)
    if design is None:
        nothing = None if wells.activation is None else missing
        return CompoundTests(missing, missing, missing, nothing, nothing, None, None, tuple(lines))

    def of_rows(values: Floats) -> Floats:
        found = missing.copy()
        found[design.tested] = values
        return found

    if choices.in_sample and not wells.t.held_out:
        lines.append("in-sample p-values: the model was trained on these wells, and they prove nothing")
    found = _exchanged(wells.t.value, design, rng)
    sides = None
    if wells.activation is not None:
        up, down = (_exchanged(sign * wells.activation, design, rng).p for sign in (1, -1))
        sides = np.minimum(1.0, 2 * np.minimum(up, down))
    return CompoundTests(
        p=of_rows(found.p),
        q=of_rows(benjamini_hochberg(found.p)),
        floor=of_rows(found.floor),
        activation_p=None if sides is None else of_rows(sides),
        activation_q=None if sides is None else of_rows(benjamini_hochberg(sides)),
        power=power_of(design.floors, choices.fdr),
        matched=design.matched,
        statements=tuple(lines),
    )


def _exchanged(values: Floats, design: Design, rng: np.random.Generator) -> PValues:
    return compound_p_values(
        values, design.group, len(design.tested), design.control, design.strata,
        rng=rng, strata_names=design.names,
    )  # fmt: skip
