"""Check items: redundant targets, and labels that are a function of a score or a cluster."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.context import Context
from dpf.analysis.design.item import Cell, CheckItem, Verdict, columns_of, not_applicable
from dpf.analysis.design.target_redundancy import (
    CORRELATED,
    EXACT,
    NEAR,
    combinations,
    correlations,
    is_function_of,
    thresholded,
)
from dpf.analysis.design.wells import codes_of
from dpf.errors import listed

GROUP = "targets"
#: Under ten wells of a class, an AUROC's standard error is over 0.1 and most folds hold one such well or none.
FEW_OF_CLASS = 10
#: Under a tenth, accuracy and log loss are uninformative and AUPRC should be read instead of AUROC.
RARE_CLASS = 0.1


def target_items(shared: Context) -> list[CheckItem]:
    """Redundancy among the targets, what else decides the label, and its balance."""
    return [_redundancy_item(shared), *_label_items(shared)]


def _redundancy_item(shared: Context) -> CheckItem:
    name = "redundant targets"
    targets = {
        key: np.asarray(values, dtype=np.float64)
        for key, values in shared.design.targets.items()
        if key != shared.design.label
    }
    if len(targets) < 2:
        return not_applicable(name, GROUP, "There are fewer than two scores.")
    pairs = correlations(targets)
    equations = combinations(targets)
    close = [pair for pair, r in pairs.items() if abs(r) >= CORRELATED]
    found = [equation.equation for equation in equations]
    found += [f"r({a}, {b}) = {pairs[a, b]:.3f}" for a, b in close]
    known = [(abs(r), pair) for pair, r in pairs.items() if not np.isnan(r)]
    top = max(known, default=(float("nan"), ("", "")))
    text = (
        f"{listed(found)}."
        if found
        else f"No score is a combination of the others; largest correlation {top[0]:.2f} ({' and '.join(top[1])})."
    )
    verdict = Verdict.WARN if found else Verdict.GOOD
    advice = "" if not found else "they carry the same information: a loss counts it twice; train on one side of it"
    rule = (
        f"any target that the others determine (1 - R squared at most {EXACT:g}: =; R squared from {NEAR}: ≈), or a"
        f" pair with |r| from {CORRELATED}, warns; the value is the largest |r|"
    )
    rows: list[dict[str, Cell]] = [
        {"target": a, "with": b, "pearson": None if np.isnan(r) else r} for (a, b), r in pairs.items()
    ]
    value = None if np.isnan(top[0]) else top[0]
    return CheckItem(name, GROUP, verdict, value, text, advice, rule, columns_of(rows))


def _label_items(shared: Context) -> list[CheckItem]:
    design = shared.design
    if design.label is None:
        return [not_applicable("label balance", GROUP, "There is no label.")]
    label = np.asarray(design.targets[design.label], dtype=np.float64)
    return [_decided_item(shared, design.label, label), _balance_item(shared, label)]


def _decided_item(shared: Context, name: str, label: NDArray[np.float64]) -> CheckItem:
    design = shared.design
    reasons = []
    for score, values in design.targets.items():
        cut = thresholded(label, np.asarray(values, dtype=np.float64)) if score != name else None
        if cut is not None:
            reasons.append(f"{name} is exactly {score} {cut[0]} {cut[1]:.4g}")
    if design.cluster is not None:
        codes, levels = codes_of(design.cluster)
        if is_function_of(label, codes):
            reasons.append(f"each of the {len(levels)} clusters has one {name}")
    rule = "a label that is a score above or below some value, or a function of the cluster, warns"
    if not reasons:
        return CheckItem(
            "label decided", GROUP, Verdict.GOOD, 0.0, f"Neither a score nor a cluster decides {name}.", "", rule
        )
    text = f"The label adds nothing new: {'; '.join(reasons)}."
    advice = (
        "it is no measurement of its own; where clusters were made from this expression, predicting it is"
        " finding the clusters again"
    )
    return CheckItem("label decided", GROUP, Verdict.WARN, float(len(reasons)), text, advice, rule)


def _balance_item(shared: Context, label: NDArray[np.float64]) -> CheckItem:
    known = ~np.isnan(label)
    rule = (
        f"wells of the rarer class: fewer than {FEW_OF_CLASS} fails; under {RARE_CLASS:.0%} of the labelled wells, or a"
        " plate with one class only, warns"
    )
    rows = _class_counts(shared, label)
    positive = int(label[known].sum())
    rarer = min(positive, int(known.sum()) - positive)
    single = [str(row["level"]) for row in rows if row["factor"] == "plate" and row["positive"] in (0, row["wells"])]
    text = f"{positive} of {int(known.sum())} labelled wells are positive ({positive / max(1, known.sum()):.0%})."
    plates = [float(row["share"]) for row in rows if row["factor"] == "plate" and isinstance(row["share"], float)]
    if len(plates) > 1:
        text += f" By plate: {min(plates):.0%} to {max(plates):.0%}."
    columns = [row for row in rows if row["factor"] == "column"]
    one_class = sum(row["positive"] in (0, row["wells"]) for row in columns)
    if one_class:
        text += f" {one_class} of {len(columns)} columns hold one class only."
    verdict = Verdict.GOOD
    if rarer < FEW_OF_CLASS:
        verdict = Verdict.FAIL
    elif rarer < RARE_CLASS * known.sum() or (single and len(plates) > 1):
        verdict = Verdict.WARN
    advice = {
        Verdict.GOOD: "",
        Verdict.WARN: "read AUPRC beside AUROC, and metrics within plate",
        Verdict.FAIL: "train without this label, or label more wells",
    }[verdict]
    return CheckItem("label balance", GROUP, verdict, float(rarer), text, advice, rule, columns_of(rows))


def _class_counts(shared: Context, label: NDArray[np.float64]) -> list[dict[str, Cell]]:
    rows: list[dict[str, Cell]] = []
    for factor in ("plate", "row", "column"):
        codes, levels = shared.positions.codes[factor], shared.positions.levels[factor]
        for code in np.unique(codes[~np.isnan(label) & (codes >= 0)]):
            wells = ~np.isnan(label) & (codes == code)
            positive = int(label[wells].sum())
            share = positive / int(wells.sum())
            rows.append(
                {
                    "factor": factor,
                    "level": levels[code],
                    "wells": int(wells.sum()),
                    "positive": positive,
                    "share": share,
                }
            )
    return rows
