"""Check items: the positions of the controls against the compounds, and of replicates against each other."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from dpf.analysis.design.context import Context, LayoutEffects
from dpf.analysis.design.controls import ControlSpread, ReplicateSpread, control_spread, replicate_spread
from dpf.analysis.design.item import CheckItem, Verdict, columns_of, graded, not_applicable, worst
from dpf.errors import listed

#: A median and MAD of fewer than eight controls are too loose to standardise by (the MAD's standard error is then a
#: third of it).
FEW_CONTROLS = 8
#: Shares of the controls that would have to move to lie as the compounds do, above what random layouts give: a half is
#: a layout where most controls stand where compounds do not.
DISTANCE_WARN, DISTANCE_FAIL = 0.25, 0.5
#: Unlikely by chance in a random layout; times the number of factors.
ALPHA = 0.05
#: Shares of the replicated compounds with all their wells in one place, above chance. Over a half, what replicates have
#: in common is as much their place as their compound.
TOGETHER_WARN, TOGETHER_FAIL = 0.1, 0.5

_SPREAD_RULE = (
    "the share of the controls that would have to move to lie over plates, rows, columns, quadrants and edge as the"
    f" compounds do, above that of random layouts, if p times the factors is at most {ALPHA}: warn from"
    f" {DISTANCE_WARN}, fail from {DISTANCE_FAIL}, but only a warning where position was looked at and has no effect"
)
_TOGETHER_RULE = (
    "the share of the replicated compounds with all wells at one position (same row and column), above chance: warn"
    f" from {TOGETHER_WARN}, fail from {TOGETHER_FAIL}, but only a warning where position was looked at and has no"
    f" effect; one row, column or quadrant: warn from {TOGETHER_FAIL}"
)


def control_items(shared: Context, effects: LayoutEffects, rng: np.random.Generator) -> list[CheckItem]:
    """How many controls, and whether they are exchangeable with the compounds as far as position goes."""
    return [_number_item(shared), _spread_item(shared, effects, rng)]


def _number_item(shared: Context) -> CheckItem:
    name, group = "controls: number", "controls"
    n_controls, bare = int(shared.is_control.sum()), shared.without_controls("plate")
    rule = f"control wells: none fails; fewer than {FEW_CONTROLS}, or a plate without, warns"
    if n_controls == 0:
        return CheckItem(
            name, group, Verdict.FAIL, 0.0, "There are no control wells.", "name them: dpf init --control", rule
        )
    plates = len(shared.positions.levels["plate"])
    text = f"{n_controls} control wells on {plates - len(bare)} of {plates} plate{'s' * (plates > 1)}."
    if bare:
        text += f" Without controls: {listed(bare)}."
    verdict = Verdict.WARN if bare or n_controls < FEW_CONTROLS else Verdict.GOOD
    advice = "" if verdict == Verdict.GOOD else "put controls on every plate, eight or more in all"
    return CheckItem(name, group, verdict, float(n_controls), text, advice, rule)


def _spread_item(shared: Context, effects: LayoutEffects, rng: np.random.Generator) -> CheckItem:
    name, group = "controls: exchangeable with compounds", "controls"
    spreads = control_spread(shared.positions, shared.is_control, rng, shared.permutations)
    if not spreads:
        return not_applicable(name, group, "Controls, compounds or their positions are missing.")
    judged = [_judge_spread(spread, len(spreads)) for spread in spreads]
    verdict = effects.judge(worst(judged))
    flagged = [spread for spread, v in zip(spreads, judged, strict=True) if v != Verdict.GOOD]
    top = max(flagged or spreads, key=lambda spread: spread.above_chance)
    if flagged:
        levels = _levels_text(top)
        text = (
            f"Controls and compounds do not stand in the same places: the {int(shared.is_control.sum())} controls are"
            f" in {levels}, with {top.reach:.0%} of the compounds' wells; {top.distance:.0%} of them would have to"
            f" move to lie as the compounds do. {effects.text}"
        )
        advice = (
            "a difference from the controls can be one of position: call no hit from it without saying so; scatter the"
            " controls in the next layout (dpf check --suggest-layout)"
        )
    else:
        largest = f"largest distance: {top.factor}, p = {top.p_value:.3g}"
        text = f"The controls lie over the plates as the compounds do ({largest})."
        advice = ""
    rows = [asdict(spread) | {"verdict": v} for spread, v in zip(spreads, judged, strict=True)]
    return CheckItem(name, group, verdict, top.above_chance, text, advice, _SPREAD_RULE, columns_of(rows))


def _levels_text(spread: ControlSpread) -> str:
    what = {"interleave": "interleaved quarter", "edge": "zone"}.get(spread.factor, spread.factor)
    return f"{spread.levels_used} of {spread.levels} {what}s"


def _judge_spread(spread: ControlSpread, n_factors: int) -> Verdict:
    if spread.p_value * n_factors > ALPHA:
        return Verdict.GOOD
    return graded(spread.above_chance, DISTANCE_WARN, DISTANCE_FAIL)


def replicate_items(shared: Context, effects: LayoutEffects, rng: np.random.Generator) -> list[CheckItem]:
    """Whether the wells of a compound stand in the same place."""
    name, group = "replicates: shared positions", "replicates"
    spreads = replicate_spread(shared.positions, shared.units, shared.is_control, rng)
    by_place = {spread.place: spread for spread in spreads}
    if "position" not in by_place:
        why = "No compound has two wells whose position is known."
        return [not_applicable(name, group, why)]
    judged = {place: _judge_together(spread, effects) for place, spread in by_place.items()}
    verdict = worst(judged.values())
    top = by_place["position"]
    text = (
        f"{top.together} of {top.compounds} replicated compounds have all their wells at one position"
        f" ({top.chance:.1f} expected by chance)."
    )
    also = [place for place in ("row", "column", "quadrant") if judged.get(place, Verdict.GOOD) != Verdict.GOOD]
    if also and judged["position"] == Verdict.GOOD:
        text += f" Most have them in one {' and one '.join(also)}."
    if verdict != Verdict.GOOD:
        text += f" {effects.text}"
    advice = (
        ""
        if verdict == Verdict.GOOD
        else "agreement of replicates can come from their place; put them in different rows, columns and quadrants"
        " (dpf check --suggest-layout)"
    )
    rows = [asdict(spread) | {"verdict": judged[spread.place]} for spread in spreads]
    return [CheckItem(name, group, verdict, _excess(top), text, advice, _TOGETHER_RULE, columns_of(rows))]


def _excess(spread: ReplicateSpread) -> float:
    """The share above chance; 0 where chance already puts all together."""
    room = spread.compounds - spread.chance
    return (spread.together - spread.chance) / room if room > 0 else 0.0


def _judge_together(spread: ReplicateSpread, effects: LayoutEffects) -> Verdict:
    if spread.place == "position":
        return effects.judge(graded(_excess(spread), TOGETHER_WARN, TOGETHER_FAIL))
    if spread.place == "plate":  # the usual way, and why exchanges are made within plates
        return Verdict.GOOD
    return Verdict.WARN if _excess(spread) >= TOGETHER_FAIL else Verdict.GOOD
