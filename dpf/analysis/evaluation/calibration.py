"""Calibration: a temperature for the probability of a label, conformal intervals for scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from dpf.errors import DataError

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

#: A temperature outside these means only that the labels are separated, or that the logits are of no use.
TEMPERATURE_RANGE = (0.01, 100.0)
LEVEL = 0.9


def probability_of(logits: ArrayLike, temperature: ArrayLike = 1.0) -> Floats:
    """`σ(logit / T)`; shape of the logits, nan where they are."""
    return np.asarray(expit(np.asarray(logits, dtype=np.float64) / np.asarray(temperature, dtype=np.float64)))


def fit_temperature(logits: ArrayLike, label: ArrayLike) -> float:
    """The temperature T > 0 that minimises the log loss of `σ(logit / T)` (Guo et al. 2017).

    The loss is convex in 1/T; its slope `Σ (σ(l/T) − y) l` is bisected. T > 1: the model was too sure. Order, and
    so AUROC and the class at probability 0.5, stay as they are.

    Parameters
    ----------
    logits, label
        Shape (N,): of wells that the model has not trained on. Wells where either is nan are left out.

    Returns
    -------
    float
        Within `TEMPERATURE_RANGE`: an end of it where the loss has no minimum inside.

    Raises
    ------
    DataError
        The wells are not of both classes.
    """
    value, y = np.asarray(logits, dtype=np.float64), np.asarray(label, dtype=np.float64)
    known = ~(np.isnan(value) | np.isnan(y))
    value, y = value[known], y[known]
    if not ((y == 1).any() and (y == 0).any()):
        raise DataError(
            "no temperature can be fitted: the wells that were not trained on are not of both label classes",
            found=f"{int((y == 0).sum()):,} wells of label 0 and {int((y == 1).sum()):,} of label 1",
            expected="at least one of each",
            hint="use more folds (--folds), so that every well is held out once",
        )
    low, high = (float(np.log(1 / end)) for end in reversed(TEMPERATURE_RANGE))
    for _ in range(100):
        middle = (low + high) / 2
        slope = float(((probability_of(value, np.exp(-middle)) - y) * value).sum())
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def cross_fitted_probability(logits: ArrayLike, label: ArrayLike, fold: Index) -> Floats:
    """Probabilities of each fold's wells at the temperature of the other folds: honest calibration figures.

    The temperature that is stored with a model is fitted on all wells; measured on these same wells it looks a
    little better than it is.

    Parameters
    ----------
    logits, label
        Shape (N,), out of fold.
    fold
        Shape (N,): whole compounds in one fold; negative for wells that take no part (their probability is nan).

    Raises
    ------
    DataError
        Without some fold, the others are not of both classes.
    """
    value, y = np.asarray(logits, dtype=np.float64), np.asarray(label, dtype=np.float64)
    result = np.full(value.shape, np.nan)
    for k in np.unique(fold[fold >= 0]):
        others = (fold >= 0) & (fold != k)
        result[fold == k] = probability_of(value[fold == k], fit_temperature(value[others], y[others]))
    return result


@dataclass(frozen=True)
class Conformal:
    """A split-conformal interval `prediction ± half_width`.

    Attributes
    ----------
    half_width
        In the score's units; infinite where there are too few compounds for the level.
    level
        The coverage asked for: a new well of a new compound lies inside with at least this probability.
    coverage
        What leaving each compound out in turn gives: the share of its wells inside, mean over compounds.
    wells, compounds
        How many the interval rests on.
    """

    half_width: float
    level: float
    coverage: float
    wells: int
    compounds: int


def split_conformal(measured: ArrayLike, predicted: ArrayLike, groups: Index, level: float = LEVEL) -> Conformal:
    r"""Interval for one score from wells that the model has not trained on, with compounds as the exchangeable unit.

    The half-width is the `level` quantile of

    .. math:: \frac{1}{C+1} \Big( \sum_{c=1}^{C} \sum_{i=1}^{n_c} \frac{1}{n_c} \delta_{|y_{ci} - f_{ci}|}
              + \delta_\infty \Big)

    (Lee, Barber & Willett 2023, hierarchical conformal prediction): each compound counts once, however many wells
    it has, and the compound that is to come counts as infinitely far. With one well a compound this is split
    conformal prediction, the ⌈(C+1)·level⌉-th smallest residual. The coverage is guaranteed for one model and new
    compounds that are exchangeable with these; over out-of-fold predictions of several members it holds nearly.

    Parameters
    ----------
    measured, predicted
        Shape (N,), nan where missing: such wells are left out.
    groups
        Shape (N,): the compound of each well, each control one of its own.
    level
        Between 0 and 1.

    Raises
    ------
    DataError
        No well has both.
    """
    if not 0 < level < 1:
        raise DataError("a coverage lies between 0 and 1", found=level)
    residual = np.abs(np.asarray(measured, dtype=np.float64) - np.asarray(predicted, dtype=np.float64))
    known = ~np.isnan(residual)
    if not known.any():
        raise DataError("no interval can be made: no well has both a measured and a held-out predicted value")
    residual, (_, group, size) = residual[known], np.unique(groups[known], return_inverse=True, return_counts=True)
    order = np.argsort(residual, kind="stable")
    residual, group = residual[order], group[order]
    weight = 1.0 / size[group]  # a compound's wells weigh 1 together
    inside = np.zeros(size.size)
    for c in range(size.size):
        own = group == c
        width = _quantile(residual, np.where(own, 0.0, weight), size.size - 1, level)
        inside[c] = (residual[own] <= width).mean()
    half_width = _quantile(residual, weight, size.size, level)
    return Conformal(half_width, level, float(inside.mean()), residual.size, size.size)


def _quantile(ascending: Floats, weight: Floats, compounds: int, level: float) -> float:
    """The smallest value whose weight, with all below, reaches `level · (compounds + 1)`; infinite if none does."""
    place = int(np.searchsorted(np.cumsum(weight), level * (compounds + 1) * (1 - 1e-12)))
    return float(ascending[place]) if place < ascending.size else float("inf")
