"""Check items: quality, plate by plate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.context import Context
from dpf.analysis.design.item import CheckItem, Verdict, columns_of, graded, not_applicable
from dpf.analysis.design.plates import PlateSummary, outliers, plate_summaries, repeated_positions
from dpf.analysis.design.variance_explained import explained
from dpf.analysis.design.wells import MISSING
from dpf.errors import listed
from dpf.tables.preparing.well_quality import OUTLIER_MADS
from dpf.tables.roles.well_names import PLATE_SHAPES

GROUP = "plates"
#: Ratio of the deepest plate's median to the shallowest's. At twofold, a gene at the detection limit of one plate is
#: missed in a tenth of the other's wells more; at tenfold, normalisation can not bring back what was not seen.
DEPTH_WARN, DEPTH_FAIL = 2.0, 10.0
#: Composition factors: a half or the double is not what a normalisation should have to make up for; one that follows
#: the compounds is what they do to the cells, and moves every gene of theirs.
COMPOSITION_FAR, COMPOSITION_MOVED, COMPOSITION_SHARE, COMPOSITION_ALPHA = 2.0, 1.25, 0.5, 0.05
#: Share of outlier wells that is a failed run and not failed wells.
OUTLIERS_FAIL = 0.1
#: Controls with more than twice the variance of the compounds: some of them are not what they should be. (In a screen
#: of inert compounds the ratio is 1, give or take a fifth with 20 controls.)
SPREAD_WARN = 1.5
#: Share of a plate's positions without a well, edge left free on purpose not counted.
MISSING_WARN = 0.05


def plate_items(shared: Context, rng: np.random.Generator) -> list[CheckItem]:
    """Depth, detected genes, composition, outlier wells, spread of the controls, missing and repeated positions."""
    design = shared.design
    plates = plate_summaries(
        shared.positions, shared.set_aside, shared.is_control, design.library_size, design.detected, shared.components
    )
    return [
        _median_item("library size", plates, lambda plate: plate.library_size),
        _median_item("detected genes", plates, lambda plate: plate.detected),
        _composition_item(shared, rng),
        _outlier_item(shared),
        _spread_item(plates),
        _missing_item(shared, plates),
        _repeated_item(shared),
    ]


def _median_item(name: str, plates: list[PlateSummary], median: Callable[[PlateSummary], float]) -> CheckItem:
    medians = np.array([median(plate) for plate in plates])
    known = medians[~np.isnan(medians)]
    if not known.size:
        return not_applicable(name, GROUP, f"The project does not know the wells' {name} (no counts were read).")
    ratio = float(known.max() / known.min()) if known.min() > 0 else float("inf")
    verdict = graded(ratio, DEPTH_WARN, DEPTH_FAIL)
    text = f"Median {name} by plate: {known.min():,.0f} to {known.max():,.0f} ({ratio:.1f}-fold)."
    advice = "" if verdict == Verdict.GOOD else "compare within plates, or sequence the shallow plates deeper"
    rule = f"largest over smallest plate median: warn from {DEPTH_WARN:g}, fail from {DEPTH_FAIL:g}"
    table = columns_of(asdict(plate) for plate in plates)
    return CheckItem(name, GROUP, verdict, ratio if np.isfinite(ratio) else None, text, advice, rule, table)


def _composition_item(shared: Context, rng: np.random.Generator) -> CheckItem:
    name, factors = "composition", shared.design.composition
    if factors is None:
        return not_applicable(name, GROUP, "No composition factors are known (dpf init --normalize log-cpm has them).")
    logs = np.log2(np.where(factors > 0, factors, 1.0))
    text = f"Library sizes were multiplied by {2 ** logs.min():.2f} to {2 ** logs.max():.2f} for composition."
    far = np.flatnonzero(np.abs(logs) > np.log2(COMPOSITION_FAR))
    if far.size:
        text += f" Beyond {COMPOSITION_FAR:g}-fold: {listed([shared.design.well_name(int(well)) for well in far])}."
    moved, share = _moved_by_compounds(shared, logs, rng)
    if moved:
        shown = [f"{compound} {factor:.2f}" for compound, factor in moved]
        text += f" They follow the compound ({share:.0%} of their variance above chance): {listed(shown)}."
    advice = ""
    if far.size or moved:
        advice = (
            "look at what takes up these libraries: a strong effect, dead cells or few genes; their fold changes are"
            " relative to most genes staying as they are"
        )
    rule = (
        f"the largest departure of a well's factor from 1, as a fold: beyond {COMPOSITION_FAR:g} warns, and so do"
        f" compounds {COMPOSITION_MOVED:g}-fold off the controls where the compound explains {COMPOSITION_SHARE:.0%} of"
        " the factors' variance above chance"
    )
    verdict = Verdict.WARN if advice else Verdict.GOOD
    return CheckItem(name, GROUP, verdict, float(2 ** np.abs(logs).max()), text, advice, rule)


def _moved_by_compounds(
    shared: Context, logs: NDArray[np.float64], rng: np.random.Generator
) -> tuple[list[tuple[str, float]], float]:
    """The compounds whose mean factor lies apart, the farthest first, and the share of variance between compounds."""
    treated = np.flatnonzero(~shared.is_control & (shared.plate != MISSING))
    _, unit, size = np.unique(shared.units[treated], return_inverse=True, return_counts=True)
    treated = treated[size[unit] > 1]
    units = shared.units[treated]
    if np.unique(units).size < 2 or np.ptp(logs[treated]) == 0:
        return [], 0.0
    wells = np.arange(treated.size)
    found = explained(logs[treated, None], units, wells, shared.plate[treated], rng, shared.permutations)
    if found.p_value > COMPOSITION_ALPHA or found.above_chance < COMPOSITION_SHARE:
        return [], found.above_chance
    controls = logs[shared.is_control]
    middle = float(np.median(controls if controls.size else logs))
    names = {int(code): str(shared.design.compound[int(well)]) for code, well in zip(units, treated, strict=True)}
    means = {code: float(logs[treated][units == code].mean()) - middle for code in names}
    apart = [code for code, mean in means.items() if abs(mean) > np.log2(COMPOSITION_MOVED)]
    apart.sort(key=lambda code: -abs(means[code]))
    return [(names[code], 2 ** means[code]) for code in apart], found.above_chance


def _outlier_item(shared: Context) -> CheckItem:
    name, design = "outlier wells", shared.design
    measured = {"library size": design.library_size, "detected genes": design.detected}
    rows = []
    for quantity, values in measured.items():
        if values is None:
            continue
        deviation = outliers(np.log10(np.maximum(np.asarray(values, dtype=np.float64), 1.0)), shared.plate)
        rows += [
            {"well": design.well_name(int(well)), "quantity": quantity, "value": float(values[well]), "mads": mads}
            for well, mads in zip(np.arange(design.n_wells), deviation.tolist(), strict=True)
            if abs(mads) > OUTLIER_MADS
        ]
    if all(values is None for values in measured.values()):
        return not_applicable(name, GROUP, "The project does not know library sizes or detected genes.")
    wells = list(dict.fromkeys(str(row["well"]) for row in rows))
    share = len(wells) / design.n_wells
    verdict = Verdict.FAIL if share > OUTLIERS_FAIL else Verdict.WARN if wells else Verdict.GOOD
    limit = f"{OUTLIER_MADS:g} MADs from their plate's median (log10)"
    text = f"{len(wells)} wells are more than {limit}: {listed(wells)}." if wells else f"No well is more than {limit}."
    advice = "" if not wells else "look at them; shallow wells are best left out before normalisation"
    rule = f"wells beyond {limit}: any warns, more than {OUTLIERS_FAIL:.0%} fails"
    return CheckItem(name, GROUP, verdict, float(len(wells)), text, advice, rule, columns_of(rows))


def _spread_item(plates: list[PlateSummary]) -> CheckItem:
    name = "control spread"
    spreads = {plate.plate: plate.control_spread for plate in plates if not np.isnan(plate.control_spread)}
    if not spreads:
        return not_applicable(name, GROUP, "No plate has expression of three controls and three compounds' wells.")
    wide = [plate for plate, spread in spreads.items() if spread >= SPREAD_WARN]
    value = max(spreads.values())
    text = f"Controls spread {min(spreads.values()):.2f} to {value:.2f} times as far as the compounds, by plate."
    if wide:
        text += f" Too far: {listed(wide)}." if any(wide) else " That is too far."
    advice = "" if not wide else "look for failed or mislabelled control wells"
    rule = (
        "root mean square distance to their mean, controls over compounds, on principal components of a plate: warn"
        f" from {SPREAD_WARN:g}"
    )
    return CheckItem(
        name, GROUP, Verdict.WARN if wide else Verdict.GOOD, value, text, advice, rule, _spread_table(spreads)
    )


def _spread_table(spreads: dict[str, float]) -> dict[str, list[str | float | int | bool | None]]:
    return {"plate": list(spreads), "control_spread": list(spreads.values())}


def _missing_item(shared: Context, plates: list[PlateSummary]) -> CheckItem:
    name = "missing wells"
    if not shared.positions.known.any():
        return not_applicable(name, GROUP, "The wells have no positions.")
    plate_format = shared.positions.plate_format
    n_rows, n_columns = PLATE_SHAPES[plate_format]
    edge = n_rows * n_columns - (n_rows - 2) * (n_columns - 2)
    missing = {p.plate: (p.missing_inside if p.missing - p.missing_inside == edge else p.missing) for p in plates}
    share = max(missing.values()) / plate_format
    verdict = graded(share, MISSING_WARN, float("inf"))
    total = sum(plate.missing for plate in plates)
    text = (
        f"{total} of {plate_format * len(plates):,} positions ({plate_format}-well plates) have no well in the table."
    )
    if any(p.missing - p.missing_inside == edge for p in plates):
        text += " The edge is left free."
    advice = "" if verdict == Verdict.GOOD else "check that wells are missing on purpose, and not the ones that died"
    rule = (
        "the largest share of a plate's positions without a well, not counting an edge left free: warn from"
        f" {MISSING_WARN}"
    )
    table = columns_of(
        {"plate": p.plate, "missing": p.missing, "missing_inside": p.missing_inside, "share": p.missing / plate_format}
        for p in plates
    )
    return CheckItem(name, GROUP, verdict, share, text, advice, rule, table)


def _repeated_item(shared: Context) -> CheckItem:
    name = "repeated positions"
    if not shared.positions.known.any():
        return not_applicable(name, GROUP, "The wells have no positions.")
    repeated = repeated_positions(shared.positions)
    rule = "places on a plate that more than one well claims: any fails"
    if not repeated:
        return CheckItem(name, GROUP, Verdict.GOOD, 0.0, "Every well has a place of its own.", "", rule)
    text = f"{len(repeated)} places are claimed by more than one well: {listed(repeated)}."
    advice = "correct the plate map: plates with the same name, or wells read twice"
    return CheckItem(name, GROUP, Verdict.FAIL, float(len(repeated)), text, advice, rule)
