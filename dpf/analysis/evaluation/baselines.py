"""The methods that a deep model has to beat, on its own splits: mean, position, ridge, kernel ridge, PLS, replicate.

Ahlmann-Eltze, Huber & Anders 2025 (Nature Methods) found published deep models of perturbation behind such
baselines; here they stand beside ours every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.evaluation import baseline_fits
from dpf.analysis.evaluation.baseline_fits import Fit, Task
from dpf.errors import DataError
from dpf.splits.grouping import Index
from dpf.splits.parts import Part, Parts

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: In the order of the scoreboard.
BASELINES = ("mean", "position", "ridge", "kernel ridge", "pls", "other replicate")

_FITS: dict[str, Callable[[Task], Fit]] = {
    "mean": baseline_fits.mean,
    "position": baseline_fits.ridge,
    "ridge": baseline_fits.ridge,
    "kernel ridge": baseline_fits.kernel_ridge,
    "pls": baseline_fits.pls,
}


class Evaluation(NamedTuple):
    """Which wells each member's baselines learn from and which they are measured on: masks of shape (M, N)."""

    train: Mask
    test: Mask


@dataclass(frozen=True)
class BaselinePrediction:
    """What one baseline says of N wells.

    Attributes
    ----------
    name
        One of `BASELINES`.
    scores
        float64 array of shape (N, S), in the scores' units: the mean over the members that had the well among
        their test wells; nan for wells that none had, and for scores without a training value.
    probability
        Shape (N,): of label 1, likewise.
    settings
        One tuple a member: the settings chosen inside its training wells, score by score, then the label's.
    """

    name: str
    scores: Floats
    probability: Floats
    settings: tuple[tuple[str, ...], ...] = ()


def evaluation_of(parts: Parts) -> Evaluation:
    """The masks for a split: measured on the held-out wells, fitted on all others.

    A member without held-out wells (the classic 80/20 run) is measured on its validation wells. With held-out
    wells the baselines get the validation wells to learn from, since the model uses them too: it chooses its
    epoch on them.
    """
    parts = np.asarray(parts)
    test = np.where((parts == Part.HELD_OUT).any(axis=1)[:, None], parts == Part.HELD_OUT, parts == Part.VALIDATION)
    return Evaluation(~test, test)


def baseline_predictions(
    expression: NDArray[np.floating],
    scores: Floats,
    label: Floats | None,
    groups: Index,
    evaluation: Evaluation,
    *,
    seed: int,
    position: Floats | None = None,
    replicates: Index | None = None,
    names: Sequence[str] = BASELINES,
    on_step: Callable[[str], None] | None = None,
) -> dict[str, BaselinePrediction]:
    """Predict every test well of every member with every baseline.

    Whatever is fitted or chosen (the genes' means and spreads, penalties, widths, components) comes from the
    member's training wells; settings are chosen by 5-fold cross-validation that holds out whole groups.

    - `mean`: the training mean; for the label the training share.
    - `position`: ridge and logistic ridge on `position` alone, no gene. Left out where `position` is None.
    - `ridge`: ridge and logistic ridge on the z-scored genes.
    - `kernel ridge`: Gaussian kernel on the z-scored genes. `pls`: PLS1. Both fit the label as 0 and 1 and scale
      it to a probability (Platt 1999) on the inner out-of-fold predictions.
    - `other replicate`: the mean of what was measured in the other wells of the replicate group, in whatever part:
      the noise ceiling of any method that knows the compound and nothing of the well itself. For the label the
      share of the others, shrunk by one well towards the overall share.

    Parameters
    ----------
    expression
        Shape (N, G), finite.
    scores
        Shape (N, S), nan where missing.
    label
        Shape (N,): 0, 1, nan where missing; None where the screen has none.
    groups
        Shape (N,): wells that inner folds may not part (`dpf.splits.grouping.group_wells`).
    evaluation
        Masks of shape (M, N), from `evaluation_of`.
    position
        Shape (N, P), from `dpf.analysis.design.position.position_design`.
    replicates
        Shape (N,): the replicate group of each well (compound and dose); `groups` where None.
    names
        Which baselines.
    on_step
        Called with a name before each fit.

    Raises
    ------
    DataError
        A well is both trained and tested on in one member, expression that is not finite, or a member with fewer
        than two groups to learn from.
    """
    X = np.asarray(expression, dtype=np.float64)
    y = np.asarray(scores, dtype=np.float64)
    if y.shape[:1] != X.shape[:1] or y.ndim != 2:
        raise ValueError(f"scores have the shape (N, S), not {y.shape} for {len(X)} wells")
    truth = np.full(len(X), np.nan) if label is None else np.asarray(label, dtype=np.float64)
    _check(X, groups, evaluation, names)
    predictions = {}
    for name in BASELINES:
        features = position if name == "position" else X
        if name not in names or features is None:
            continue
        if on_step is not None:
            on_step(name)
        if name == "other replicate":
            predictions[name] = other_replicate(y, truth, groups if replicates is None else replicates, evaluation.test)
        else:
            predictions[name] = _predict(name, features, y, truth, groups, evaluation, seed)
    return predictions


def other_replicate(scores: Floats, label: Floats, replicates: Index, test: Mask) -> BaselinePrediction:
    """Predict each well that is tested by the mean of the other wells of its replicate group; nan where it has none."""
    targets = np.column_stack([scores, label])
    known = np.where(np.isnan(targets), 0.0, 1.0)
    _, group = np.unique(replicates, return_inverse=True)
    total, count = np.zeros((2, int(group.max()) + 1, targets.shape[1]))
    values = np.where(np.isnan(targets), 0.0, targets)
    np.add.at(total, group, values)
    np.add.at(count, group, known)
    others, n = total[group] - values, count[group] - known
    tested: Mask = np.any(test, axis=0)
    seen = tested[:, None] & (n > 0)
    means = np.divide(others, n, out=np.full(others.shape, np.nan), where=seen)
    share = values[:, -1].sum() / max(known[:, -1].sum(), 1.0)
    probability = np.where(seen[:, -1], (others[:, -1] + share) / (n[:, -1] + 1), np.nan)
    return BaselinePrediction("other replicate", means[:, :-1], probability)


def standardised(X: Floats, train: Mask) -> Floats:
    """Genes z-scored with the training wells' mean and standard deviation; genes constant there become 0."""
    mean, std = X[train].mean(axis=0), X[train].std(axis=0)
    # A constant of 0.1 has a standard deviation of rounding, not of 0: what is left would be blown up.
    varies = std > 1e-9 * np.abs(mean)
    return np.where(varies, (X - mean) / np.where(varies, std, 1.0), 0.0)


def _predict(
    name: str, features: Floats, scores: Floats, label: Floats, groups: Index, evaluation: Evaluation, seed: int
) -> BaselinePrediction:
    total = np.zeros((len(features), scores.shape[1] + 1))
    times = np.zeros((len(features), 1))
    settings = []
    for member, (train, test) in enumerate(zip(*evaluation, strict=True)):
        X = features if name == "position" else standardised(features, train)
        task = Task(X[train], X[test], scores[train], label[train], groups[train], seed + member)
        fit = _FITS[name](task)
        total[test] += np.column_stack([fit.scores, fit.probability])
        times[test] += 1
        settings.append(fit.settings)
    mean = np.divide(total, times, out=np.full(total.shape, np.nan), where=times > 0)
    return BaselinePrediction(name, mean[:, :-1], mean[:, -1], tuple(settings))


def _check(X: Floats, groups: Index, evaluation: Evaluation, names: Sequence[str]) -> None:
    if strange := sorted(set(names) - set(BASELINES)):
        raise DataError("unknown baseline", found=", ".join(strange), expected=", ".join(BASELINES))
    if not np.isfinite(X).all():
        well, gene = np.argwhere(~np.isfinite(X))[0]
        raise DataError(
            "the expression is not finite",
            where=f"well number {well + 1}, gene number {gene + 1}",
            found=X[well, gene],
            expected="finite values",
        )
    for member, (train, test) in enumerate(zip(*evaluation, strict=True)):
        if (train & test).any():
            raise DataError(
                "the evaluation is asked for wells that the member has trained on",
                where=f"member {member}",
                found=f"{int((train & test).sum()):,} wells in both parts",
                expected="none",
            )
        if (found := np.unique(groups[train]).size) < 2:
            raise DataError(
                "there are too few compounds to fit and choose a baseline",
                where=f"member {member}",
                found=f"{found} group(s) of training wells",
                expected="at least 2",
                hint="use fewer folds (--folds), or another rule (--split)",
            )
