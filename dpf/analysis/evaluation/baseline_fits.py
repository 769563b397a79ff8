"""One baseline on one split: fitted on training wells, its settings chosen by cross-validation inside them.

Inner folds hold out whole compounds. A target with missing values is fitted on the wells that have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import expit

from dpf.regression.learners import EXACT_WELLS, PENALTIES, PLS_COMPONENTS, landmark_ridge, mean_diagonal
from dpf.regression.linear_models import (
    Floats,
    Spectrum,
    centre_kernel,
    logistic_path,
    platt,
    pls_path,
    ridge_fit,
    ridge_path,
    squared_distances,
)
from dpf.regression.selection import SELECTION_WELLS, choosing_wells, patterns
from dpf.splits.grouping import Index, deal, label_strata

LOGISTIC_PENALTIES: Floats = np.logspace(2, -4, 7)
#: Widths γ of the kernel exp(−γ d²), as multiples of 1 / median d².
KERNEL_WIDTHS = (0.1, 0.4, 1.6)
INNER_FOLDS = 5


@dataclass(frozen=True)
class Task:
    """One split of one screen.

    Attributes
    ----------
    train, test
        Features of the n training and t test wells, on one scale, shapes (n, P) and (t, P).
    scores
        Shape (n, S), nan where missing.
    label
        Shape (n,): 0, 1, nan where missing.
    group
        Shape (n,): wells of one group are never parted by an inner fold.
    seed
        Deals the inner folds.
    """

    train: Floats
    test: Floats
    scores: Floats
    label: Floats
    group: Index
    seed: int


@dataclass(frozen=True)
class Fit:
    """What a baseline says of the t test wells: scores (t, S), probability of label 1 (t,), and its settings.

    nan for a target without any training value. A target that is constant or measured in a single group of
    training wells is predicted by its mean, whatever the baseline.
    """

    scores: Floats
    probability: Floats
    settings: tuple[str, ...] = ()


class _Learner(Protocol):
    """A model family with a list of settings, the safest first."""

    settings: list[str]

    def path(self, fit: Index, wells: Index, y: Floats) -> Floats:
        """Predictions (settings, wells, targets) for training wells, fitted on others with targets y."""

    def final(self, fit: Index, y: Floats, setting: int) -> Floats:
        """Predictions (t,) for the test wells, fitted on the training wells `fit` with target y."""


def mean(task: Task) -> Fit:
    """The training mean of each score, the training share of label 1: what knows nothing of a well."""
    t = len(task.test)
    return Fit(np.tile([_mean(y) for y in task.scores.T], (t, 1)), np.full(t, _base_rate(task.label)))


def ridge(task: Task) -> Fit:
    """Ridge for the scores, logistic ridge for the label, on the features as they are."""
    kernel = task.train @ task.train.T, task.test @ task.train.T
    scores, _, settings = _fit_targets(_Ridge([("", *kernel)]), task, task.scores, _squared_error)
    logit, _, chosen = _fit_targets(_Logistic(*kernel), task, task.label[:, None], _logistic_error)
    usable = np.unique(task.label[~np.isnan(task.label)]).size == 2
    probability = expit(logit[:, 0]) if usable else np.full(len(task.test), _base_rate(task.label))
    return Fit(scores, probability, (*settings, *chosen))


def kernel_ridge(task: Task) -> Fit:
    """Ridge with the kernel `exp(−γ‖x − x'‖²)`; the label is fitted as 0 and 1, then scaled (`platt`).

    With more than `EXACT_WELLS` training wells the kernels stand at those that choose the settings, and all wells are
    fitted by them (`dpf.regression.learners.landmark_ridge`): n × n kernels would take gigabytes.
    """
    if len(task.train) > EXACT_WELLS:
        return _label_as_score(_LandmarkRidge(task), task)
    among, across = squared_distances(task.train, task.train), squared_distances(task.test, task.train)
    median = float(np.median(among[np.triu_indices(len(among), 1)])) or 1.0
    kernels = [(f"width {c:g}, ", np.exp(-c / median * among), np.exp(-c / median * across)) for c in KERNEL_WIDTHS]
    return _label_as_score(_Ridge(kernels), task)


def pls(task: Task) -> Fit:
    """PLS regression of each score; the label is fitted as 0 and 1, then scaled (`platt`)."""
    return _label_as_score(_Pls(task), task)


class _Ridge:
    def __init__(self, kernels: list[tuple[str, Floats, Floats]]) -> None:
        self.kernels = kernels
        self.settings = [f"{name}penalty {penalty:.2g}" for name, _, _ in kernels for penalty in PENALTIES]

    def path(self, fit: Index, wells: Index, y: Floats) -> Floats:
        paths = []
        for _, among, _ in self.kernels:
            train, cross = centre_kernel(among[np.ix_(fit, fit)], among[np.ix_(wells, fit)])
            paths.append(ridge_path(Spectrum.of(train), cross, y, PENALTIES * mean_diagonal(train)))
        return np.concatenate(paths)

    def final(self, fit: Index, y: Floats, setting: int) -> Floats:
        kernel, penalty = divmod(setting, len(PENALTIES))
        _, among, across = self.kernels[kernel]
        train, cross = centre_kernel(among[np.ix_(fit, fit)], across[:, fit])
        return ridge_fit(train, cross, y, float(PENALTIES[penalty]) * mean_diagonal(train))


class _LandmarkRidge:
    """Kernel ridge that never holds more than n × m values: m landmarks, the wells that choose its settings."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.chosen = np.flatnonzero(inner_folds(task) >= 0)
        among = squared_distances(task.train[self.chosen], task.train[self.chosen])
        median = float(np.median(among[np.triu_indices(len(among), 1)])) or 1.0
        self.widths = [width / median for width in KERNEL_WIDTHS]
        self.settings = [
            f"width {width:g}, penalty {penalty:.2g}, {len(self.chosen):,} landmarks"
            for width in KERNEL_WIDTHS
            for penalty in PENALTIES
        ]

    def path(self, fit: Index, wells: Index, y: Floats) -> Floats:
        X = self.task.train
        among, across = squared_distances(X[fit], X[fit]), squared_distances(X[wells], X[fit])
        paths = []
        for width in self.widths:
            train, cross = centre_kernel(np.exp(-width * among), np.exp(-width * across))
            paths.append(ridge_path(Spectrum.of(train), cross, y, PENALTIES * mean_diagonal(train)))
        return np.concatenate(paths)

    def final(self, fit: Index, y: Floats, setting: int) -> Floats:
        which, penalty = divmod(setting, len(PENALTIES))
        X, landmarks = self.task.train, self.task.train[np.intersect1d(fit, self.chosen)]

        def kernel(wells: Floats) -> Floats:
            return np.asarray(np.exp(-self.widths[which] * squared_distances(wells, landmarks)))

        bias, alpha = landmark_ridge(kernel(landmarks), kernel(X[fit]), y, float(PENALTIES[penalty]))
        return np.asarray(bias + kernel(self.task.test) @ alpha)


class _Logistic:
    def __init__(self, among: Floats, across: Floats) -> None:
        self.among, self.across = among, across
        self.settings = [f"logistic penalty {penalty:.2g}" for penalty in LOGISTIC_PENALTIES]

    def path(self, fit: Index, wells: Index, y: Floats) -> Floats:
        if np.ptp(y) == 0:
            rate = _base_rate(y[:, 0])
            return np.full((len(self.settings), wells.size, 1), np.log(rate / (1 - rate)))
        train, cross = centre_kernel(self.among[np.ix_(fit, fit)], self.among[np.ix_(wells, fit)])
        return logistic_path(train, cross, y[:, 0], LOGISTIC_PENALTIES * mean_diagonal(train))[:, :, None]

    def final(self, fit: Index, y: Floats, setting: int) -> Floats:
        train, cross = centre_kernel(self.among[np.ix_(fit, fit)], self.across[:, fit])
        penalty = LOGISTIC_PENALTIES[setting : setting + 1] * mean_diagonal(train)
        return np.asarray(logistic_path(train, cross, y, penalty)[0])


class _Pls:
    def __init__(self, task: Task) -> None:
        self.task = task
        self.settings = [f"{k + 1} component(s)" for k in range(PLS_COMPONENTS)]
        n, width = task.train.shape
        self.features = task.train
        if n < width and n <= 2 * SELECTION_WELLS:  # PLS does not change under rotation, and n coordinates hold all
            gram = task.train @ task.train.T
            self.features = Spectrum.of(gram).coordinates(gram)

    def path(self, fit: Index, wells: Index, y: Floats) -> Floats:
        centre = self.features[fit].mean(axis=0)
        X, T = self.features[fit] - centre, self.features[wells] - centre
        return np.stack([pls_path(X, T, column, PLS_COMPONENTS) for column in y.T], axis=2)

    def final(self, fit: Index, y: Floats, setting: int) -> Floats:
        centre = self.task.train[fit].mean(axis=0)
        return np.asarray(pls_path(self.task.train[fit] - centre, self.task.test - centre, y, setting + 1)[-1])


def inner_folds(task: Task) -> Index:
    """The inner fold of each training well, shape (n,): whole groups, stratified by label; −1 is not used to choose.

    The same for every baseline, so that they choose on the same wells.
    """
    rng = np.random.default_rng(task.seed)
    _, group = np.unique(task.group, return_inverse=True)
    chosen = choosing_wells(task.group, rng)
    strata = label_strata(group, np.zeros(group.size, dtype=bool), task.label)
    folds = np.full(group.size, -1, dtype=np.intp)
    folds[chosen] = deal(group[chosen], strata[chosen], min(INNER_FOLDS, np.unique(group[chosen]).size), rng)
    return folds


def _fit_targets(
    learner: _Learner, task: Task, targets: Floats, error: Callable[[Floats, Floats], Floats]
) -> tuple[Floats, Floats, tuple[str, ...]]:
    """Test predictions (t, S), inner out-of-fold predictions (n, S) at the chosen settings, and these settings."""
    folds = inner_folds(task)
    predicted = np.tile([_mean(y) for y in targets.T], (len(task.test), 1))
    inner = np.full(targets.shape, np.nan)
    settings = [""] * targets.shape[1]
    for wells, columns in patterns(targets):
        chooses = wells[folds[wells] >= 0]
        if np.unique(folds[chooses]).size < 2:
            continue
        path = np.full((len(learner.settings), len(folds), columns.size), np.nan)
        for fold in np.unique(folds[chooses]):
            fit, score = chooses[folds[chooses] != fold], chooses[folds[chooses] == fold]
            path[:, score] = learner.path(fit, score, targets[np.ix_(fit, columns)])
        best = error(targets[np.ix_(chooses, columns)], path[:, chooses]).argmin(axis=0)
        for place, column in enumerate(columns):
            y = targets[wells, column]
            if np.ptp(y) > 0:
                inner[:, column] = path[best[place], :, place]
                predicted[:, column] = learner.final(wells, y, int(best[place]))
                settings[column] = learner.settings[best[place]]
    return predicted, inner, tuple(settings)


def _label_as_score(learner: _Learner, task: Task) -> Fit:
    targets = np.column_stack([task.scores, task.label])
    predicted, inner, settings = _fit_targets(learner, task, targets, _squared_error)
    known = ~np.isnan(task.label) & ~np.isnan(inner[:, -1])
    if np.unique(task.label[known]).size < 2:
        probability = np.full(len(task.test), _base_rate(task.label))
    else:
        slope, intercept = platt(inner[known, -1], task.label[known])
        probability = expit(slope * predicted[:, -1] + intercept)
    return Fit(predicted[:, :-1], probability, settings)


def _squared_error(y: Floats, path: Floats) -> Floats:
    return np.asarray(np.square(path - y).mean(axis=1))


def _logistic_error(y: Floats, path: Floats) -> Floats:
    return np.asarray(np.logaddexp(0.0, np.where(y == 1, -path, path)).mean(axis=1))


def _mean(y: Floats) -> float:
    known = y[~np.isnan(y)]
    return float(known.mean()) if known.size else float("nan")


def _base_rate(label: Floats) -> float:
    """The share of label 1, (k + 1)/(n + 2), never 0 or 1; nan where no label is known."""
    known = label[~np.isnan(label)]
    return float((known.sum() + 1) / (known.size + 2)) if known.size else float("nan")
