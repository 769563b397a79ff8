"""How well position alone, without expression, predicts a target: a baseline for models of expression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

from dpf.analysis.design.variance_explained import PERMUTATIONS, often_together, permutation_p, permuted_in_blocks
from dpf.analysis.design.wells import MISSING, Codes, Positions
from dpf.analysis.latent.position_adjustment import one_hot
from dpf.splits.grouping import deal

Floats = NDArray[np.float64]

FOLDS = 5
#: The ridge's penalty, scikit-learn's default: one well's worth of shrinkage for each plate, row and column.
ALPHA = 1.0


@dataclass(frozen=True)
class PositionPrediction:
    """How well position alone predicts a target, out of fold: plate, row and column together, and within the plates.

    Attributes
    ----------
    score
        R squared of the ridge on plate, row and column, or for a label the AUROC of the ridge on 0 and 1.
    p_value
        Share of rearranged targets that are predicted as well.
    plate
        The same by plate alone; NaN on one plate.
    within
        The same predictions as in `score`, within plates: R squared after the plate's mean is taken off what was
        measured and what was predicted, or AUROC over pairs of wells of one plate. What plate-matched controls do not
        take out. On one plate it is `score`; NaN where no plate has both classes.
    within_p
        Its p-value, the targets rearranged within the plates.
    logistic
        AUROC of a logistic regression on the same encoding and folds (label only; else NaN).
    n_wells
        Wells with the target and a position.
    """

    score: float
    p_value: float
    plate: float
    within: float
    within_p: float
    logistic: float
    n_wells: int


def ridge_out_of_fold(X: Floats, Y: Floats, fold: Codes) -> Floats:
    r"""Predictions of each well by a ridge that was fitted on the other folds.

    .. math:: \hat y = \bar y + (x - \bar x) (X_c^T X_c + \alpha I)^{-1} X_c^T y_c

    with the means of the training folds (the intercept is not penalised, as in `sklearn.linear_model.Ridge`).

    Parameters
    ----------
    X
        Shape (n, p).
    Y
        Shape (n, k): k targets at once.
    fold
        Shape (n,).

    Returns
    -------
    ndarray of shape (n, k)
    """
    predicted = np.empty_like(Y)
    for held_out in np.unique(fold):
        test = fold == held_out
        x_mean, y_mean = X[~test].mean(axis=0), Y[~test].mean(axis=0)
        centred = X[~test] - x_mean
        gram = centred.T @ centred + ALPHA * np.eye(X.shape[1])
        predicted[test] = y_mean + (X[test] - x_mean) @ np.linalg.solve(gram, centred.T @ (Y[~test] - y_mean))
    return predicted


def ridge_out_of_fold_moved(X: Floats, y: Floats, fold: Codes, orders: NDArray[np.intp]) -> Floats:
    """`ridge_out_of_fold` after every rearrangement, the wells taking their target *and their fold* along.

    Column b is ``ridge_out_of_fold(X, y[order], fold[order])[:, 0]`` of the b-th order, without a loop over them.

    Parameters
    ----------
    X, y, fold
        Shapes (n, p), (n,), (n,).
    orders
        Shape (B, n): which well stands in each place.

    Returns
    -------
    ndarray of shape (n, B), a row a place
    """
    place = np.argsort(orders, axis=1)  # (B, n): where each well stands
    gram, total = X.T @ X, X.sum(axis=0)
    predicted = np.empty(orders.shape)
    for held_out in np.unique(fold):
        test = np.flatnonzero(fold == held_out)
        left_out, n = X[place[:, test]], len(fold) - len(test)  # (B, t, p)
        y_mean = float(np.delete(y, test).mean())
        x_mean = (total - left_out.sum(axis=1)) / n  # (B, p)
        centred = gram - left_out.transpose(0, 2, 1) @ left_out - n * x_mean[:, :, None] * x_mean[:, None]
        # As y has its mean taken off, that of X does not matter to their products.
        rest = np.where(fold == held_out, 0.0, y - y_mean)
        right = rest[orders] @ X  # (B, p)
        slope = np.linalg.solve(centred + ALPHA * np.eye(X.shape[1]), right[:, :, None])
        values = y_mean + ((left_out - x_mean[:, None]) @ slope)[:, :, 0]  # (B, t)
        np.put_along_axis(predicted, place[:, test], values, axis=1)
    return np.ascontiguousarray(predicted.T)


def r2_of_columns(y: Floats, predicted: Floats) -> Floats:
    """`metrics.r2` of each column of (n, k) at once: a thousand rearrangements in one call."""
    return np.asarray(1 - ((y - predicted) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0))


def auroc_of_columns(label: Floats, scores: Floats) -> Floats:
    """`metrics.auroc` of each column of (n, k) at once."""
    positive = label == 1
    n_positive, n_negative = positive.sum(axis=0), (~positive).sum(axis=0)
    rank_sum = np.where(positive, rankdata(scores, axis=0), 0.0).sum(axis=0)
    return np.asarray((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def r2_within(y: Floats, predicted: Floats, plate: Codes) -> Floats:
    """`r2_of_columns` after the mean of each plate is taken off both."""
    return r2_of_columns(_less_mean(y, plate), _less_mean(predicted, plate))


def _less_mean(values: Floats, plate: Codes) -> Floats:
    of_plate = np.eye(plate.max() + 1)[plate]  # (n, P)
    means = (of_plate.T @ values) / of_plate.sum(axis=0)[:, None]
    return np.asarray(values - of_plate @ means)


def auroc_within(label: Floats, scores: Floats, plate: Codes) -> Floats:
    """`auroc_of_columns` over the pairs of wells of one plate, all plates together; NaN where there is no such pair."""
    won, pairs = np.zeros(label.shape[1]), np.zeros(label.shape[1])
    for one in range(plate.max() + 1):
        y, f = label[plate == one], scores[plate == one]
        n = y.sum(axis=0) * (1 - y).sum(axis=0)
        found = n > 0
        won[found] += auroc_of_columns(y[:, found], f[:, found]) * n[found]
        pairs += n
    return np.divide(won, pairs, out=np.full_like(won, np.nan), where=pairs > 0)


def predict_from_position(
    target: Floats,
    positions: Positions,
    groups: Codes,
    is_label: bool,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> PositionPrediction | None:
    """Predict a target from one-hot plate, row and column in five-fold cross-validation grouped by compound.

    A compound is never in training and test at once, and all controls together are one more compound: their own
    columns cannot be learned from other controls. (With every control a group of its own, the figures rise a
    little wherever the controls sit together.) Folds of a label hold equally many wells of both classes, so they know
    the label: a rearrangement moves the wells with their folds, or what it is compared with would be of other folds.

    On the public metadata of the classic layout (768 wells, eight plates of 96), over 20 draws of the folds: label
    AUROC 0.984 to 0.988 by the ridge and 0.991 to 0.994 by logistic regression, R squared 0.82 to 0.83 for pseudotime
    and 0.78 for Tscore. Without the plate, AUROC is 0.94; by column alone 0.90.

    Parameters
    ----------
    target
        Shape (N,); NaN where not measured.
    groups
        Shape (N,): the compound of each well as a number, the controls sharing one.

    Returns
    -------
    PositionPrediction or None
        None with fewer than ten usable wells or two groups, a target that does not vary, or a class of fewer than
        two wells.
    """
    wells = np.flatnonzero(~np.isnan(target) & positions.known)
    y, group = target[wells], groups[wells]
    folds = min(FOLDS, np.unique(group).size)
    if wells.size < 10 or folds < 2 or np.ptp(y) == 0 or (is_label and min(y.sum(), (1 - y).sum()) < 2):
        return None
    fold = deal(group, _strata(y, group, is_label), folds, rng)
    X = one_hot([positions.codes[factor][wells] for factor in ("plate", "row", "column")])
    metric, metric_within = (auroc_of_columns, auroc_within) if is_label else (r2_of_columns, r2_within)
    plates, plate = np.unique(positions.codes["plate"][wells], return_inverse=True)
    predicted = ridge_out_of_fold(X, y[:, None], fold)
    score, within = float(metric(y[:, None], predicted)[0]), float(metric_within(y[:, None], predicted, plate)[0])
    together = often_together(group, positions.well[wells])
    units = group if together else np.arange(wells.size)

    def chance(strata: Codes, of: Callable[[Floats, Floats], Floats]) -> Floats:
        if is_label:
            blocks = permuted_in_blocks(units, strata, permutations, rng, width=X.shape[1])
            return np.concatenate([of(y[order].T, ridge_out_of_fold_moved(X, y, fold, order)) for order in blocks])
        moved = (y[order].T for order in permuted_in_blocks(units, strata, permutations, rng))
        return np.concatenate([of(Y, ridge_out_of_fold(X, Y, fold)) for Y in moved])

    p_value = within_p = permutation_p(score, chance(np.zeros(wells.size, dtype=np.intp), metric))
    alone = float("nan")
    if len(plates) > 1:
        alone = float(metric(y[:, None], ridge_out_of_fold(np.eye(len(plates))[plate], y[:, None], fold))[0])
        # Wells stay on their plates: what differs between these also sets how much there is to predict within them.
        within_p = permutation_p(within, chance(plate, lambda Y, values: metric_within(Y, values, plate)))
    logistic = _logistic_auroc(X, y, fold) if is_label else float("nan")
    return PositionPrediction(score, p_value, alone, within, within_p, logistic, wells.size)


def _strata(y: Floats, group: Codes, is_label: bool) -> Codes:
    """The stratum of each well's group: the majority of its labels; one stratum for a score."""
    if not is_label:
        return np.zeros(y.size, dtype=np.intp)
    _, place = np.unique(group, return_inverse=True)
    mean = np.bincount(place, weights=y) / np.bincount(place)
    return (mean >= 0.5).astype(np.intp)[place]


def _logistic_auroc(X: Floats, y: Floats, fold: Codes) -> float:
    scores = np.empty(y.size)
    for held_out in np.unique(fold):
        test = fold == held_out
        if np.ptp(y[~test]) == 0:
            return float("nan")
        scores[test] = LogisticRegression(C=1 / ALPHA, max_iter=1000).fit(X[~test], y[~test]).decision_function(X[test])
    return float(auroc_of_columns(y[:, None], scores[:, None])[0])


def groups_with_controls_as_one(units: Codes, is_control: NDArray[np.bool_]) -> Codes:
    """The compound of each well, all controls sharing the number -2 (no compound has it; -1 means missing)."""
    return np.where(is_control, MISSING - 1, units)
