"""How well a well's depth alone, without a gene, predicts a target: a confounder like position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.position_prediction import ALPHA, FOLDS, auroc_of_rows, r2_of_rows
from dpf.analysis.design.variance_explained import PERMUTATIONS, permutation_p, permuted_in_blocks
from dpf.analysis.design.wells import MISSING, Codes
from dpf.splits.grouping import deal

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DepthPrediction:
    """How well log depth and plate predict a target, out of fold.

    Attributes
    ----------
    score
        R squared of a ridge, or for a label the AUROC of the ridge on 0 and 1.
    p_value
        Share of rearranged targets that are predicted as well.
    plate
        The same by plate alone; NaN on one plate.
    n_wells
        Wells with the target and counts.
    """

    score: float
    p_value: float
    plate: float
    n_wells: int


def predict_from_depth(
    target: Floats,
    depth: Floats,
    plate: Codes,
    groups: Codes,
    units: Codes,
    is_label: bool,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> DepthPrediction | None:
    """Predict a target from log depth and one-hot plate in five-fold cross-validation grouped by compound.

    Whole compounds change places in the rearrangements: depth and target are alike among replicates.

    Parameters
    ----------
    target, depth
        Shape (N,); NaN where not known.
    plate
        Shape (N,).
    groups, units
        Shape (N,): the compound of each well as a number; in `groups` the controls share one, in `units` each is one.

    Returns
    -------
    DepthPrediction or None
        None with fewer than ten usable wells or two groups, a target or depth that does not vary, or a class of fewer
        than two wells.
    """
    wells = np.flatnonzero(~np.isnan(target) & (depth > 0) & (plate != MISSING))
    y, group, logs = target[wells], groups[wells], np.log(depth[wells])
    folds = min(FOLDS, np.unique(group).size)
    if wells.size < 10 or folds < 2 or np.ptp(y) == 0 or np.ptp(logs) == 0:
        return None
    if is_label and min(y.sum(), (1 - y).sum()) < 2:
        return None
    nothing = np.zeros(wells.size, dtype=np.intp)
    fold = deal(group, nothing, folds, rng)  # which do not know the label: it changes places, they do not
    plates = np.eye(int(plate.max()) + 1)[plate[wells]]
    X = np.column_stack([(logs - logs.mean()) / logs.std(), plates])
    metric = auroc_of_rows if is_label else r2_of_rows
    score = float(metric(y[None], _out_of_fold(X, y[None], fold))[0])
    blocks = permuted_in_blocks(units[wells], nothing, permutations, rng)
    null = np.concatenate([metric(y[order], _out_of_fold(X, y[order], fold)) for order in blocks])
    several = bool((plate[wells] != plate[wells][0]).any())
    alone = float(metric(y[None], _out_of_fold(plates, y[None], fold))[0]) if several else float("nan")
    return DepthPrediction(score, permutation_p(score, null), alone, wells.size)


def _out_of_fold(X: Floats, y: Floats, fold: Codes) -> Floats:
    """Ridge predictions (B, n) of each of B targets (B, n) by the other folds; the intercept is not penalised."""
    predicted = np.empty_like(y)
    for held_out in np.unique(fold):
        test = fold == held_out
        x_mean, y_mean = X[~test].mean(axis=0), y[:, ~test].mean(axis=1)
        centred = X[~test] - x_mean
        gram = centred.T @ centred + ALPHA * np.eye(X.shape[1])
        slope = np.linalg.solve(gram, centred.T @ (y[:, ~test] - y_mean[:, None]).T)  # (p, B)
        predicted[:, test] = y_mean[:, None] + ((X[test] - x_mean) @ slope).T
    return predicted
