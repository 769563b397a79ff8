"""Check items: whether the design can call anything a hit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.context import Context
from dpf.analysis.design.item import Cell, CheckItem, Verdict, columns_of, not_applicable
from dpf.analysis.design.wells import MISSING, Codes
from dpf.analysis.ranking.power import DesignPower, detectable_effect, power_of, smallest_p_values
from dpf.analysis.ranking.subsets import compositions

GROUP = "power"
#: Of the effect that is named.
POWER = 0.8
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
        verdict = Verdict.FAIL
        needed = f"none passes, even with all {compounds} compounds at their floors"
    else:
        verdict = Verdict.WARN if power.hits_needed > max(1.0, HITS_WARN * compounds) else Verdict.GOOD
        needed = f"{power.hits_needed} of {compounds} compounds must be at their floor before any passes"
    text = (
        f"The smallest p-value a typical compound can get is 1/{1 / power.typical:,.0f};"
        f" at an FDR of {fdr:.0%} {needed}."
    )
    level = fdr * (power.hits_needed or compounds) / compounds
    effects = detectable_effects(shared.units, shared.is_control, shared.plate if matched else None, level)
    typical = float(np.quantile(effects, 0.5, method="higher"))
    if power.hits_needed is not None and np.isfinite(typical):
        text += (
            f" A typical compound is then found with {POWER:.0%} power if it shifts a score by {typical:.1f} standard"
            " deviations of the controls."
        )
    untested = int((power.floors == 1).sum())
    if untested:
        text += f" {untested} have no control to change places with{' on their plates' * matched}: their p-value is 1."
        verdict = Verdict.WARN if verdict == Verdict.GOOD else verdict
    advice = "" if verdict == Verdict.GOOD else "more controls (on every plate), more replicates, or fewer compounds"
    rule = (
        "the smallest p-value of the compound in the middle, controls and compounds changing places; warns where more"
        f" than {HITS_WARN:.0%} of the compounds must be at their floor for Benjamini–Hochberg at {fdr:.0%} (one is"
        " always enough) or some cannot be tested; fails where none passes even if all are"
    )
    return CheckItem(name, GROUP, verdict, power.typical, text, advice, rule, columns_of(_floor_rows(power)))


def _floor_rows(power: DesignPower) -> list[dict[str, Cell]]:
    floors, counts = np.unique(power.floors, return_counts=True)
    return [{"smallest_p": float(floor), "compounds": int(count)} for floor, count in zip(floors, counts, strict=True)]


def detectable_effects(
    units: Codes, is_control: NDArray[np.bool_], plate: Codes | None, level: float
) -> NDArray[np.float64]:
    """The `detectable_effect` of each compound at `level`, shape (C,); arguments as those of `design_power`."""
    group, stratum = _grouped(units, is_control, plate)
    n_groups = int(group.max()) + 1
    controls = np.bincount(stratum[is_control], minlength=int(stratum.max()) + 1)
    effects = np.empty(n_groups)
    for composition, members in compositions(group, n_groups, is_control, stratum).items():
        effects[members] = detectable_effect([(int(controls[code]), n) for code, n in composition], level, POWER)
    return effects


def _grouped(units: Codes, is_control: NDArray[np.bool_], plate: Codes | None) -> tuple[Codes, Codes]:
    """The compounds as numbers from 0 (controls -1), and the strata in which wells change places."""
    stratum = np.zeros(units.size, dtype=np.int64) if plate is None else np.where(plate == MISSING, 0, plate + 1)
    group = np.full(units.size, MISSING, dtype=np.int64)
    group[~is_control] = np.unique(units[~is_control], return_inverse=True)[1]
    return group, stratum


def design_power(units: Codes, is_control: NDArray[np.bool_], plate: Codes | None, fdr: float) -> DesignPower | None:
    r"""The smallest p-values that `dpf.analysis.ranking.p_values.compound_p_values` can give in a design.

    With k controls and n wells of the compound on each plate, ``1 / m`` with :math:`m = \prod \binom{k + n}{n}` sets;
    ``1/10,001`` where m is 10,000 or more and sets are drawn (Phipson & Smyth 2010).

    Parameters
    ----------
    units
        Shape (N,): the compound of each well as a number.
    plate
        Shape (N,), or None to compare with all controls, whatever their plate.
    fdr
        The false discovery rate aimed at, in (0, 1).

    Returns
    -------
    DesignPower or None
        None without compounds.

    Examples
    --------
    40 controls and 364 compounds in duplicate: nine compounds at the floor are needed at 5%.

    >>> units = np.r_[np.repeat(np.arange(364), 2), 364 + np.arange(40)]
    >>> power = design_power(units, np.arange(768) >= 728, None, fdr=0.05)
    >>> round(1 / power.typical), power.hits_needed
    (861, 9)
    """
    if is_control.all():
        return None
    group, stratum = _grouped(units, is_control, plate)
    return power_of(smallest_p_values(group, int(group.max()) + 1, is_control, stratum), fdr)
