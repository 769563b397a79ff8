"""How far predictions are from measurements: one number each, and the same number for every draw of a bootstrap.

Everywhere in this file

- a missing measurement (nan) is masked; a prediction that is not finite makes the metric nan;
- a metric that the data do not define (too few wells, constant values, one class) is nan, without a warning.

A bootstrap draw is how often each compound was taken, so each formula is a weighted one: of sums over compounds where
it is made of sums, of weighted ranks where it is made of ranks. All draws are computed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import update_wrapper

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

#: The width of a bin of the expected calibration error is one over this.
CALIBRATION_BINS = 10
#: Draws × wells that are weighted at once: rank metrics are fastest where a block stays in the cache.
_BLOCK = 100_000
#: A variance below this share of the whole sample's is rounding: the draw took equal values only.
_NO_VARIANCE = 1e-12


@dataclass(frozen=True)
class Draws:
    """Draws of C compounds that stand for N wells.

    Attributes
    ----------
    counts
        float64 array of shape (D, C): how often each draw took each compound.
    code
        Shape (N,): the compound of each well, 0 to C − 1.
    """

    counts: Floats
    code: Index

    @property
    def compounds(self) -> int:
        """C."""
        return int(self.counts.shape[1])

    def sums(self, *values: Floats) -> list[Floats]:
        """For each array of shape (N,), its sum over the drawn wells, shape (D,); all of them in one product."""
        per_compound = np.zeros((self.compounds, len(values)))
        np.add.at(per_compound, self.code, np.stack(values, axis=1))
        return list((self.counts @ per_compound).T)

    def blocks(self) -> Iterator[Floats]:
        """How often each well was drawn, shape (d, N), a block of draws at a time."""
        size = max(1, _BLOCK // max(1, self.code.size))
        for start in range(0, len(self.counts), size):
            yield self.counts[start : start + size][:, self.code]


class Metric:
    """One metric. Called with measurements and predictions of shape (N,) it gives a float.

    Attributes
    ----------
    name
        As in the tables of an evaluation.
    lower_is_better
        Else higher is better.
    """

    def __init__(self, formula: Callable[..., Floats], name: str, lower_is_better: bool, of_probability: bool) -> None:
        self.name, self.lower_is_better = name, lower_is_better
        self._formula, self._of_probability = formula, of_probability
        update_wrapper(self, formula)

    def __call__(self, measured: ArrayLike, predicted: ArrayLike, stratum: ArrayLike | None = None) -> float:
        """The metric of all wells; with a `stratum` (`auroc` only) of the pairs within one."""
        y, f = np.asarray(measured, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
        if y.ndim != 1 or y.shape != f.shape:
            raise ValueError(f"metrics compare two arrays of shape (N,), not {y.shape} and {f.shape}")
        known = ~np.isnan(y)
        if not np.isfinite(f[known]).all():
            return float("nan")
        once = Draws(np.ones((1, int(known.sum()))), np.arange(known.sum()))
        cells = None if stratum is None else np.asarray(stratum)[known]
        return float(self.of_draws(once, y[known], f[known], cells)[0])

    def of_draws(self, draws: Draws, measured: Floats, predicted: Floats, stratum: Index | None = None) -> Floats:
        """The metric of every draw, shape (D,), of N finite values."""
        if self._of_probability and predicted.size and (predicted.min() < 0 or predicted.max() > 1):
            raise ValueError(f"probabilities lie between 0 and 1, not {predicted.min():g} to {predicted.max():g}")
        strata = {} if stratum is None else {"stratum": stratum}
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return self._formula(draws, measured, predicted, **strata)


def _metric(
    name: str, *, lower_is_better: bool = False, of_probability: bool = False
) -> Callable[[Callable[..., Floats]], Metric]:
    return lambda formula: Metric(formula, name, lower_is_better, of_probability)


@_metric("r2")
def r2(draws: Draws, y: Floats, f: Floats) -> Floats:
    """Coefficient of determination, `1 − Σ(y − f)² / Σ(y − ȳ)²`, in (−∞, 1]: 1 is perfect, 0 is the mean."""
    centred = _centred(y)
    n, total, squares, error = draws.sums(np.ones_like(y), centred, centred**2, (y - f) ** 2)
    return 1.0 - error / _variation(squares, total, n, centred)


@_metric("pearson")
def pearson(draws: Draws, y: Floats, f: Floats) -> Floats:
    """Pearson correlation, in [−1, 1]; nan where a side is constant."""
    a, b = (centred / (np.abs(centred).max(initial=0.0) or 1.0) for centred in (_centred(y), _centred(f)))
    n, sa, sb, saa, sbb, sab = draws.sums(np.ones_like(a), a, b, a * a, b * b, a * b)
    both = np.sqrt(_variation(saa, sa, n, a) * _variation(sbb, sb, n, b))
    return np.asarray(np.clip((sab - sa * sb / n) / both, -1.0, 1.0))


@_metric("spearman")
def spearman(draws: Draws, y: Floats, f: Floats) -> Floats:
    """Spearman correlation: Pearson's of the ranks, ties sharing their mean rank; nan where a side is constant."""
    places = _Ties.of(y), _Ties.of(f)
    parts = []
    for weight in draws.blocks():
        middle = (weight.sum(axis=1, keepdims=True) + 1) / 2
        a, b = (ties.ranks(weight) - middle for ties in places)
        weighted = weight * a
        both = (weighted * a).sum(axis=1) * (weight * b * b).sum(axis=1)
        parts.append((weighted * b).sum(axis=1) / np.sqrt(np.where(both > 0, both, np.nan)))
    return np.asarray(np.clip(np.concatenate(parts), -1.0, 1.0))


@_metric("rmse", lower_is_better=True)
def rmse(draws: Draws, y: Floats, f: Floats) -> Floats:
    """Root mean squared error, in the units of the score."""
    n, error = draws.sums(np.ones_like(y), (y - f) ** 2)
    return np.asarray(np.sqrt(error / n))


@_metric("auroc")
def auroc(draws: Draws, y: Floats, f: Floats, stratum: Index | None = None) -> Floats:
    """Area under the ROC curve: the share of (positive, negative) pairs of wells that `f` puts in order, ties half.

    In [0, 1], 0.5 is chance; `f` is anything that grows with the probability of label 1. Of a `stratum`, shape (N,),
    only pairs within it are counted. With plate×column as the stratum this is the AUROC *within position*: no effect
    of the position on `f`, whatever its form, can raise it.
    """
    cells = np.zeros(y.size) if stratum is None else stratum
    strata = [(wells, _Ties.of(f[wells])) for wells in (np.flatnonzero(cells == cell) for cell in np.unique(cells))]
    strata = [(wells, ties) for wells, ties in strata if np.ptp(y[wells]) > 0]
    parts = []
    for weight in draws.blocks():
        ordered, pairs = np.zeros((2, len(weight)))
        for wells, ties in strata:
            positive, negative = (
                ties.totals(weight[:, wells] * y[wells]),
                ties.totals(weight[:, wells] * (1 - y[wells])),
            )
            ordered += (positive * (np.cumsum(negative, axis=1) - negative / 2)).sum(axis=1)
            pairs += positive.sum(axis=1) * negative.sum(axis=1)
        parts.append(ordered / pairs)
    return np.concatenate(parts)


@_metric("auprc")
def auprc(draws: Draws, y: Floats, f: Floats) -> Floats:
    """Average precision `Σ (R_k − R_{k−1}) P_k` over the values of `f`, highest first; chance: the share of 1."""
    ties = _Ties.of(-f)
    parts = []
    for weight in draws.blocks():
        positive = ties.totals(weight * y)
        taken = np.cumsum(ties.totals(weight), axis=1)
        precision = np.cumsum(positive, axis=1) / np.where(taken > 0, taken, 1.0)
        all_positive = positive.sum(axis=1)
        both = (all_positive > 0) & (all_positive < weight.sum(axis=1))
        parts.append(np.where(both, (positive * precision).sum(axis=1) / all_positive, np.nan))
    return np.concatenate(parts)


@_metric("brier", lower_is_better=True, of_probability=True)
def brier(draws: Draws, y: Floats, p: Floats) -> Floats:
    """Mean squared distance of the probability from the label (Brier 1950), in [0, 1]."""
    n, error = draws.sums(np.ones_like(y), (y - p) ** 2)
    return error / n


@_metric("ece", lower_is_better=True, of_probability=True)
def expected_calibration_error(draws: Draws, y: Floats, p: Floats) -> Floats:
    """Expected calibration error `Σ_b n_b/N · |mean label − mean probability|` over ten equal-width bins, in [0, 1].

    The binary form of Guo et al. 2017 (ICML): the probability of label 1 against its frequency. Bins are closed on the
    left, the last on both sides. Few wells push it up.
    """
    inside = np.minimum((p * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    gaps = [np.where(inside == b, y - p, 0.0) for b in range(CALIBRATION_BINS)]
    n, *sums = draws.sums(np.ones_like(y), *gaps)
    return np.asarray(np.abs(np.stack(sums)).sum(axis=0) / n)


@_metric("log_loss", lower_is_better=True, of_probability=True)
def log_loss(draws: Draws, y: Floats, p: Floats) -> Floats:
    """Mean of `−log p(label)` in nats. Probabilities are kept 2⁻⁵² away from 0 and 1."""
    eps = np.finfo(np.float64).eps
    safe = np.clip(p, eps, 1 - eps)
    n, loss = draws.sums(np.ones_like(y), -np.where(y == 1, np.log(safe), np.log1p(-safe)))
    return loss / n


SCORE_METRICS = {metric.name: metric for metric in (r2, pearson, spearman, rmse)}
LABEL_METRICS = {metric.name: metric for metric in (auroc, auprc, brier, expected_calibration_error, log_loss)}
METRICS = SCORE_METRICS | LABEL_METRICS


def _centred(values: Floats) -> Floats:
    """Values less their mean: 0 of a constant, not its rounding."""
    return values - values.mean() if values.size and np.ptp(values) > 0 else np.zeros_like(values)


def _variation(squares: Floats, total: Floats, n: Floats, centred: Floats) -> Floats:
    """Σ(v − v̄)² of each draw; nan where nothing varies."""
    found = squares - total**2 / n
    return np.where(found > _NO_VARIANCE * float(centred @ centred), found, np.nan)


@dataclass(frozen=True)
class _Ties:
    """N values in ascending order, equal ones together: `order` sorts them, `last` ends each of the T ties."""

    order: Index
    last: Index
    place: Index  # the tie of each value, in the values' own order

    @classmethod
    def of(cls, values: Floats) -> _Ties:
        _, place, count = np.unique(values, return_inverse=True, return_counts=True)
        return cls(np.argsort(values, kind="stable"), np.cumsum(count) - 1, place)

    def totals(self, weight: Floats) -> Floats:
        """The weight of each tie, shape (d, T)."""
        ends = np.cumsum(weight[:, self.order], axis=1)[:, self.last]
        return np.asarray(np.diff(ends, axis=1, prepend=0.0))

    def ranks(self, weight: Floats) -> Floats:
        """The rank of each value, shape (d, N), when it stands `weight` times: ties share their mean rank."""
        ends = np.cumsum(weight[:, self.order], axis=1)[:, self.last]
        starts = np.concatenate([np.zeros((len(ends), 1)), ends[:, :-1]], axis=1)
        return np.asarray(((starts + ends + 1) / 2)[:, self.place])
