"""The methods that a deep model has to beat, on its own splits: mean, position, depth, ridge, kernel ridge, PLS,
replicate.

Ahlmann-Eltze, Huber & Anders 2025 (Nature Methods) found published deep models of perturbation behind such
baselines, so every model here is compared with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from dpf.errors import DataError
from dpf.regression.learners import PENALTIES, KernelRidge, Learner, Logistic, Pls, Ridge
from dpf.regression.linear_models import Spectrum, platt
from dpf.regression.selection import SELECTION_WELLS, choose, choosing_wells, patterns
from dpf.splits.grouping import Index, deal, label_strata
from dpf.splits.parts import Part, Parts

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Those that are fitted to a member's training wells, and all, in the order of the scoreboard.
FITTED = ("mean", "position", "depth", "ridge", "kernel ridge", "pls")
#: Those that see no gene.
_ALONE = ("position", "depth")
BASELINES = (*FITTED, "other replicate")
#: Widths γ of the kernel exp(−γ d²), as multiples of 1 / median d².
KERNEL_WIDTHS = (0.1, 0.4, 1.6)
INNER_FOLDS = 5


class Evaluation(NamedTuple):
    """Which wells each member's baselines learn from and which they are measured on: masks of shape (M, N)."""

    train: Mask
    test: Mask


class BaselinePrediction(NamedTuple):
    """One baseline's predictions for N wells.

    Attributes
    ----------
    scores
        float64 array of shape (N, S), in the scores' units: the mean over the members that had the well among
        their test wells; nan for wells that none had, and for scores without a training value. A score that is
        constant or measured in a single group of training wells is predicted by its mean.
    probability
        Shape (N,): of label 1, likewise; the share of label 1 (one well of each class added) where it cannot be learnt.
    """

    scores: Floats
    probability: Floats


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
    depth: Floats | None = None,
    replicates: Index | None = None,
    on_fit: Callable[[], None] = lambda: None,
) -> dict[str, BaselinePrediction]:
    """Predict every test well of every member with every baseline.

    Whatever is fitted or chosen (the genes' means and spreads, penalties, widths, components) comes from the
    member's training wells; settings are chosen by 5-fold cross-validation that holds out whole groups.

    - `mean`: the training mean; for the label the training share.
    - `position`, `depth`: ridge and logistic ridge on that alone, no gene. Left out where it is None.
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
    depth
        Shape (N, Q), from `dpf.analysis.design.position.depth_design`.
    replicates
        Shape (N,): the replicate group of each well (compound and dose); `groups` where None.
    on_fit
        Called after each fit: `FITTED` (without those that are left out) times M.

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
    _check(X, groups, evaluation)
    targets = np.column_stack([y, truth])
    alone = {name: seen for name, seen in zip(_ALONE, (position, depth), strict=True) if seen is not None}
    totals = {name: np.zeros(targets.shape) for name in FITTED if name not in _ALONE or name in alone}
    for member, (train, test) in enumerate(zip(*evaluation, strict=True)):
        folds = inner_folds(groups[train], truth[train], seed + member)
        genes = _Split(_coordinates(standardised(X, train), train, test), targets[train], folds)
        for name, total in totals.items():
            split = genes
            if name in alone:
                split = genes._replace(F=_coordinates(alone[name], train, test))
            total[test] += _predict(name, split)
            on_fit()
    times = evaluation.test.sum(axis=0)[:, None]
    found = {}
    for name, total in totals.items():
        mean = np.divide(total, times, out=np.full(total.shape, np.nan), where=times > 0)
        found[name] = BaselinePrediction(mean[:, :-1], mean[:, -1])
    groups = groups if replicates is None else replicates
    found["other replicate"] = other_replicate(y, truth, groups, evaluation.test)
    return found


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
    return BaselinePrediction(means[:, :-1], probability)


def standardised(X: Floats, train: Mask) -> Floats:
    """Genes z-scored with the training wells' mean and standard deviation; genes constant there become 0."""
    mean, std = X[train].mean(axis=0), X[train].std(axis=0)
    # A constant of 0.1 has a standard deviation of rounding, not of 0: what is left would be blown up.
    varies = std > 1e-9 * np.abs(mean)
    return np.where(varies, (X - mean) / np.where(varies, std, 1.0), 0.0)


def inner_folds(groups: Index, label: Floats, seed: int) -> Index:
    """The inner fold of each training well, shape (n,): whole groups, stratified by label; −1 is not used to choose.

    The same for every baseline, so that all choose their settings on the same wells.
    """
    rng = np.random.default_rng(seed)
    _, group = np.unique(groups, return_inverse=True)
    chosen = choosing_wells(groups, rng)
    strata = label_strata(group, np.zeros(group.size, dtype=bool), label)
    folds = np.full(group.size, -1, dtype=np.intp)
    folds[chosen] = deal(group[chosen], strata[chosen], min(INNER_FOLDS, np.unique(group[chosen]).size), rng)
    return folds


class _Split(NamedTuple):
    """One member's n training wells, then its t test wells, in coordinates F, shape (n + t, r).

    `targets` has the shape (n, S + 1), the label last, nan where missing; `folds` are the `inner_folds`.
    """

    F: Floats
    targets: Floats
    folds: Index

    @property
    def test(self) -> Index:
        """The rows of the test wells."""
        return np.arange(len(self.targets), len(self.F))


def _coordinates(X: Floats, train: Mask, test: Mask) -> Floats:
    """Training, then test wells in coordinates that keep the distances of training wells from all, (n + t, r).

    Where there are fewer training wells than features: their principal coordinates, and one more that is 0 for them and
    for a test well the length of what lies outside their span. No method here changes under rotation.
    """
    a, b = X[train], X[test]
    if not len(a) < X.shape[1] or len(a) > 2 * SELECTION_WELLS:
        return np.concatenate([a, b])
    gram = a @ a.T
    spectrum = Spectrum.of(gram)
    inside = spectrum.coordinates(b @ a.T)
    outside = np.sqrt(np.maximum(np.square(b).sum(axis=1) - np.square(inside).sum(axis=1), 0.0))
    return np.block([[spectrum.coordinates(gram), np.zeros((len(a), 1))], [inside, outside[:, None]]])


def _predict(name: str, split: _Split) -> Floats:
    """Scores and probability of label 1 of the test wells, (t, S + 1)."""
    *scores, label = split.targets.T
    known = label[~np.isnan(label)]
    base_rate = (known.sum() + 1) / (known.size + 2) if known.size else np.nan  # never 0 or 1
    fallback = np.array([*(y[~np.isnan(y)].mean() if (~np.isnan(y)).any() else np.nan for y in scores), base_rate])
    predicted = np.full((len(split.test), len(fallback)), np.nan)
    if name in (*_ALONE, "ridge"):
        predicted[:, :-1], _ = _learn(Ridge(), split, split.targets[:, :-1])
        logit, _ = _learn(Logistic(), split, split.targets[:, -1:])
        predicted[:, -1] = expit(logit[:, 0])
    elif name != "mean":
        learner: Learner = Pls()
        if name == "kernel ridge":
            chosen = np.flatnonzero(split.folds >= 0)
            learner = KernelRidge(split.F, split.F.shape[1:], chosen, KERNEL_WIDTHS, PENALTIES)
        predicted, settings = _learn(learner, split, split.targets)
        predicted[:, -1] = _scaled(learner, split, label, int(settings[-1]), predicted[:, -1])
    return np.where(np.isnan(predicted), fallback, predicted)


def _learn(learner: Learner, split: _Split, targets: Floats) -> tuple[Floats, Index]:
    """Test values (t, T) and settings (T,), chosen inside the training wells; nan and −1 where none can be chosen."""
    predicted = np.full((len(split.test), targets.shape[1]), np.nan)
    settings = np.full(targets.shape[1], -1, dtype=np.intp)
    for wells, columns in patterns(targets):
        choosing = wells[split.folds[wells] >= 0]
        columns = columns[np.ptp(targets[np.ix_(wells, columns)], axis=0) > 0]
        if not columns.size or np.unique(split.folds[choosing]).size < 2:
            continue
        settings[columns] = choose([learner], split.F, choosing, targets[:, columns], split.folds)[0]
        for column in columns:
            solution = learner.solve(split.F, wells, targets[wells, column], int(settings[column]))
            predicted[:, column] = solution.predict(split.F, split.test)
    return predicted, settings


def _scaled(learner: Learner, split: _Split, label: Floats, setting: int, predicted: Floats) -> Floats:
    """Probabilities from a label that was fitted as 0 and 1: Platt's scaling of its inner out-of-fold values."""
    wells = np.flatnonzero(~np.isnan(label) & (split.folds >= 0))
    if setting < 0 or np.ptp(label[wells]) == 0:
        return np.full(len(predicted), np.nan)
    fold_of, inner = split.folds[wells], np.empty(len(wells))
    for fold in np.unique(fold_of):
        fit = wells[fold_of != fold]
        solution = learner.solve(split.F, fit, label[fit], setting)
        inner[fold_of == fold] = solution.predict(split.F, wells[fold_of == fold])
    slope, intercept = platt(inner, label[wells])
    return np.asarray(expit(slope * predicted + intercept))


def _check(X: Floats, groups: Index, evaluation: Evaluation) -> None:
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
