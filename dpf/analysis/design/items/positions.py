"""Check items: how much of each target, of expression and of depth follows position."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.context import Context, LayoutEffects
from dpf.analysis.design.depth_prediction import predict_from_depth
from dpf.analysis.design.item import CheckItem, Verdict, columns_of, graded, not_applicable, worst
from dpf.analysis.design.position_prediction import (
    PositionPrediction,
    groups_with_controls_as_one,
    predict_from_position,
)
from dpf.analysis.design.variance_explained import FactorShare, edge_difference, position_shares
from dpf.analysis.design.wells import BLOCK_FACTORS

GROUP = "positions"
#: Shares of variance that are a medium and a large effect by Cohen's (1988) convention. A model that reaches the R
#: squared of 0.2 to 0.8 usual for such screens gets a third or more of it from position at the larger one.
SHARE_WARN, SHARE_FAIL = 0.06, 0.14
#: AUROCs of position alone: 0.7 is where a predictor starts to count as acceptable (Hosmer & Lemeshow 2000).
AUROC_WARN, AUROC_FAIL = 0.6, 0.7
#: Nothing is flagged unless it is also unlikely by chance (for the shares, times the number of factors).
ALPHA = 0.05

_SHARE_RULE = (
    "the largest share of the compounds' variance above chance (eta squared, permutation), or of the controls' by"
    f" plate, batch or donor, if p times the factors is at most {ALPHA}: warn from {SHARE_WARN}, fail from"
    f" {SHARE_FAIL}; plate, batch and donor warn at most while each has controls"
)
_WITHIN_RULE = (
    "; of all wells and within plates, the worse of the two, but what shows only between plates warns at most while"
    " every plate has controls"
)
_R2_RULE = (
    f"R squared of a ridge on one-hot plate, row, column in compound-grouped cross-validation, if p is"
    f" at most {ALPHA}: warn from {SHARE_WARN}, fail from {SHARE_FAIL}{_WITHIN_RULE}"
)
_AUROC_RULE = (
    "AUROC of a ridge on one-hot plate, row, column in compound-grouped cross-validation, if p is at most"
    f" {ALPHA}: warn from {AUROC_WARN}, fail from {AUROC_FAIL}{_WITHIN_RULE}"
)
_CONFOUNDED = (
    "randomise the next layout (dpf check --suggest-layout); in this one judge models against position alone and"
    " within position (dpf evaluate)"
)


def position_items(shared: Context, rng: np.random.Generator) -> tuple[list[CheckItem], LayoutEffects]:
    """Shares of variance and position-only prediction for every target, expression and library size."""
    items, depth, looked_at, affected = [], list[CheckItem](), [], []
    for name, values in _measurements(shared).items():
        generator = rng.spawn(1)[0]
        item, within_plate = _share_item(name, values, shared, generator)
        verdicts = [within_plate]
        items.append(item)
        if name in shared.design.targets:
            depth += _depth_item(name, values[:, 0], shared, generator)
            alone, within_plates = _prediction_item(name, values[:, 0], shared, generator)
            items.append(alone)
            verdicts.append(within_plates)
        if name != "library size" and worst(verdicts) != Verdict.NOT_APPLICABLE:
            looked_at.append(name)
            if worst(verdicts) != Verdict.GOOD:
                affected.append(name)
    if shared.design.library_size is None and shared.design.targets:
        why = "No depth is known: no counts were read, and no column of the wells table is headed like a library size."
        depth = [not_applicable("depth alone", GROUP, why)]
    return [*items, *depth], LayoutEffects(tuple(looked_at), tuple(affected))


def _measurements(shared: Context) -> dict[str, NDArray[np.float64]]:
    design = shared.design
    table = {name: np.asarray(values, dtype=np.float64)[:, None] for name, values in design.targets.items()}
    if shared.components is not None and "expression" not in table:
        table["expression"] = shared.components
    if design.library_size is not None and "library size" not in table:
        table["library size"] = np.log10(np.maximum(design.library_size, 1.0))[:, None]
    return table


def _share_item(
    name: str, values: NDArray[np.float64], shared: Context, rng: np.random.Generator
) -> tuple[CheckItem, Verdict]:
    """The item, and the verdict on the factors within the plate alone."""
    title = f"position effect: {name}"
    if not any((codes.max() > 0) for codes in shared.positions.codes.values()):
        why = "The wells have neither positions nor several plates."
        return not_applicable(title, GROUP, why), Verdict.NOT_APPLICABLE
    shares = position_shares(values, shared.positions, shared.units, shared.is_control, rng, shared.permutations)
    if not shares:
        why = f"{name} does not vary among the compounds' wells whose position is known."
        return not_applicable(title, GROUP, why), Verdict.NOT_APPLICABLE
    judged = [_judge(share, len(shares), shared, name) for share in shares]
    among = [_judge_controls(share, len(shares), shared, name) for share in shares]
    both = [worst(pair) for pair in zip(judged, among, strict=True)]
    verdict = worst(both)
    within = worst(v for v, share in zip(both, shares, strict=True) if share.factor not in BLOCK_FACTORS)
    top = max(zip(judged, shares, strict=True), key=lambda pair: (pair[0].harm, pair[1].above_chance))[1]
    difference = edge_difference(values[:, 0], shared.positions, shared.is_control) if values.shape[1] == 1 else np.nan
    text = (
        f"{top.factor.capitalize()} explains {top.share:.1%} of {name}; among the compounds {top.share_compounds:.1%},"
        f" {max(0.0, top.above_chance):.1%} above chance (p = {top.p_value:.3g})."
    )
    value, advised = top.above_chance, top.factor
    harm = worst(judged).harm
    moved = [(v.harm, share.controls.above_chance, share) for v, share in zip(among, shares, strict=True)
             if share.controls is not None and v != Verdict.GOOD]  # fmt: skip
    if moved:
        of_harm, above, most = max(moved, key=lambda one: one[:2])
        assert most.controls is not None
        text += (
            f" Of the controls' variance, {most.factor} explains {most.controls.share:.0%},"
            f" {above:.0%} above chance (p = {most.controls.p_value:.3g})."
        )
        if (of_harm, above) > (harm, value):
            value, advised = above, most.factor
    if name == "expression":
        text += f" Measured on principal components that hold {shared.components_share:.0%} of the variance."
    advice = "" if verdict == Verdict.GOOD else _share_advice(advised, name)
    rows = [_row(share, v, difference) for share, v in zip(shares, both, strict=True)]
    return CheckItem(title, GROUP, verdict, value, text, advice, _SHARE_RULE, columns_of(rows)), within


def _judge(share: FactorShare, n_factors: int, shared: Context, name: str) -> Verdict:
    return _graded(share.factor, share.above_chance, share.p_value * n_factors, shared, name)


def _judge_controls(share: FactorShare, n_factors: int, shared: Context, name: str) -> Verdict:
    """Of plate, batch and donor: rows and columns have a control or two each, which are shown and decide nothing."""
    if share.controls is None or share.factor not in BLOCK_FACTORS:
        return Verdict.GOOD
    return _graded(share.factor, share.controls.above_chance, share.controls.p_value * n_factors, shared, name)


def _graded(factor: str, above_chance: float, p_value: float, shared: Context, name: str) -> Verdict:
    if p_value > ALPHA:
        return Verdict.GOOD
    verdict = graded(above_chance, SHARE_WARN, SHARE_FAIL)
    # What differs between plates is taken out by plate-matched controls; depth, by normalisation.
    mild = name == "library size" or (factor in BLOCK_FACTORS and not shared.without_controls(factor))
    return Verdict.WARN if mild and verdict == Verdict.FAIL else verdict


def _share_advice(factor: str, name: str) -> str:
    if name == "library size":
        return "normalise the counts; look at the plate figure for dispensing or evaporation patterns"
    if factor in BLOCK_FACTORS:
        return f"compare every well with the controls of its own {factor}"
    return _CONFOUNDED


def _row(share: FactorShare, verdict: Verdict, difference: float) -> dict[str, str | float | None]:
    return {
        "factor": share.factor,
        "share": share.share,
        "share_compounds": share.share_compounds,
        "above_chance": share.above_chance,
        "p_value": share.p_value,
        "permuted": share.unit,
        "share_controls": share.controls.share if share.controls else None,
        "above_chance_controls": share.controls.above_chance if share.controls else None,
        "p_value_controls": share.controls.p_value if share.controls else None,
        "edge_difference_sd": difference if share.factor == "edge" and not np.isnan(difference) else None,
        "verdict": verdict,
    }


def _prediction_item(
    name: str, values: NDArray[np.float64], shared: Context, rng: np.random.Generator
) -> tuple[CheckItem, Verdict]:
    """The item, and the verdict on row and column within the plates."""
    title = f"position alone: {name}"
    is_label = name == shared.design.label
    groups = groups_with_controls_as_one(shared.units, shared.is_control)
    result = predict_from_position(values, shared.positions, groups, is_label, rng, shared.permutations)
    if result is None:
        why = f"Too few wells have both {name} and a position, or it does not vary."
        return not_applicable(title, GROUP, why), Verdict.NOT_APPLICABLE
    verdict, within = _judge_prediction(result, is_label, shared)
    metric, logistic = ("AUROC", f"logistic regression: {result.logistic:.3f}; ") if is_label else ("R²", "")
    several = not np.isnan(result.plate)
    text = (
        f"{'Plate, row' if several else 'Row'} and column alone, without a gene, predict {name} at {metric} "
        f"{result.score:.3f} ({logistic}p = {result.p_value:.3g})"
    )
    if several:
        text += f"; the plate alone at {result.plate:.3f}; within plates, row and column at "
        text += "no value" if np.isnan(result.within) else f"{result.within:.3f} (p = {result.within_p:.3g})"
    row: dict[str, str | float | None] = {
        "metric": "auroc" if is_label else "r2",
        "ridge": result.score,
        "logistic": result.logistic if is_label and not np.isnan(result.logistic) else None,
        "p_value": result.p_value,
        "plate_alone": result.plate if several else None,
        "within_plates": None if np.isnan(result.within) else result.within,
        "within_p": None if np.isnan(result.within) else result.within_p,
        "wells": result.n_wells,
    }
    advice = "" if verdict == Verdict.GOOD else _share_advice("plate", name) if within == Verdict.GOOD else _CONFOUNDED
    rule = _AUROC_RULE if is_label else _R2_RULE
    return CheckItem(title, GROUP, verdict, result.score, f"{text}.", advice, rule, columns_of([row])), within


def _depth_item(name: str, values: NDArray[np.float64], shared: Context, rng: np.random.Generator) -> list[CheckItem]:
    """What log depth and plate predict; nothing where no depth is known, or it does not vary."""
    title, depth = f"depth alone: {name}", shared.design.library_size
    if depth is None:
        return []
    is_label = name == shared.design.label
    groups = groups_with_controls_as_one(shared.units, shared.is_control)
    result = predict_from_depth(
        values, depth, shared.plate, groups, shared.units, is_label, rng.spawn(1)[0], shared.permutations
    )
    if result is None:
        why = f"Too few wells have both {name} and counts, or one of them does not vary."
        return [not_applicable(title, GROUP, why)]
    limit, metric = (AUROC_WARN, "AUROC") if is_label else (SHARE_WARN, "R²")
    verdict = Verdict.WARN if result.score >= limit and result.p_value <= ALPHA else Verdict.GOOD
    several = not np.isnan(result.plate)
    text = (
        f"Log depth{' and plate' * several} alone, without a gene, predict{'s' * (not several)} {name} at {metric} "
        f"{result.score:.3f} (p = {result.p_value:.3g})"
        + (f"; the plate alone at {result.plate:.3f}." * several or ".")
    )
    advice = "judge models against depth alone (dpf evaluate); wells with few cells or little RNA differ in everything"
    rule = (
        f"{metric} of a ridge on log library size and one-hot plate in compound-grouped cross-validation, if p is at"
        f" most {ALPHA}: warn from {limit}"
    )
    row: dict[str, str | float | None] = {
        "metric": "auroc" if is_label else "r2", "ridge": result.score, "p_value": result.p_value,
        "plate_alone": result.plate if several else None, "wells": result.n_wells,
    }  # fmt: skip
    return [
        CheckItem(title, GROUP, verdict, result.score, text, advice if verdict != Verdict.GOOD else "", rule,
                  columns_of([row]))
    ]  # fmt: skip


def _judge_prediction(result: PositionPrediction, is_label: bool, shared: Context) -> tuple[Verdict, Verdict]:
    """The item's verdict, and that within the plates; both are the same on one plate."""
    limits = (AUROC_WARN, AUROC_FAIL) if is_label else (SHARE_WARN, SHARE_FAIL)
    overall = graded(result.score, *limits) if result.p_value <= ALPHA else Verdict.GOOD
    within = graded(result.within, *limits) if result.within_p <= ALPHA else Verdict.GOOD
    if overall == Verdict.FAIL and not np.isnan(result.plate) and not shared.without_controls("plate"):
        overall = Verdict.WARN  # plate-matched controls take out what differs between plates
    return worst([overall, within]), within
