"""Check items: whether the design can call anything a hit."""

from __future__ import annotations

import numpy as np

from dpf.analysis.check_items import Cell, CheckItem, Verdict, columns_of, not_applicable
from dpf.analysis.design_context import Context
from dpf.analysis.design_power import DesignPower, design_power

GROUP = "power"
#: Share of the compounds that must reach the smallest p-value before Benjamini–Hochberg calls the first hit. Few
#: screens have more strong hits than that; too few controls hide hits, but they call no false ones.
HITS_WARN = 0.05


def power_items(shared: Context, fdr: float) -> list[CheckItem]:
    """The floor of the p-values when compounds and controls change places plate by plate, and over all plates."""
    name = "smallest p-value"
    if not shared.is_control.any() or shared.is_control.all():
        return [not_applicable(name, GROUP, "There are no controls, or no compounds.")]
    if len(shared.positions.levels["plate"]) < 2:
        return [_power_item(name, shared, fdr, matched=False)]
    return [
        _power_item(f"{name}, plate by plate", shared, fdr, matched=True),
        _power_item(f"{name}, all controls", shared, fdr, matched=False),
    ]


def _power_item(name: str, shared: Context, fdr: float, matched: bool) -> CheckItem:
    power = design_power(shared.units, shared.is_control, shared.plate if matched else None, fdr)
    assert power is not None
    compounds = power.floors.size
    if power.hits_needed is None:
        verdict: Verdict = "fail"
        needed = f"none passes, even with all {compounds} compounds at their floors"
    else:
        verdict = "warn" if power.hits_needed > max(1.0, HITS_WARN * compounds) else "good"
        needed = f"{power.hits_needed} of {compounds} compounds must be at their floor before any passes"
    text = (
        f"The smallest p-value a typical compound can get is 1/{1 / power.typical:,.0f};"
        f" at an FDR of {fdr:.0%} {needed}."
    )
    untested = int((power.floors == 1).sum())
    if untested:
        text += f" {untested} have no control to change places with{' on their plates' * matched}: their p-value is 1."
        verdict = "warn" if verdict == "good" else verdict
    advice = "" if verdict == "good" else "more controls (on every plate), more replicates, or fewer compounds"
    rule = (
        "the smallest p-value of the compound in the middle, controls and compounds changing places; warns where more"
        f" than {HITS_WARN:.0%} of the compounds must be at their floor for Benjamini–Hochberg at {fdr:.0%} (one is"
        " always enough) or some cannot be tested; fails where none passes even if all are"
    )
    return CheckItem(name, GROUP, verdict, power.typical, text, advice, rule, columns_of(_floor_rows(power)))


def _floor_rows(power: DesignPower) -> list[dict[str, Cell]]:
    floors, counts = np.unique(power.floors, return_counts=True)
    return [{"smallest_p": float(floor), "compounds": int(count)} for floor, count in zip(floors, counts, strict=True)]
