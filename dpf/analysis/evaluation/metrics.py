"""How far predictions are from measurements: one number each, in float64, cheap enough for every epoch.

Arrays in, a float out. Everywhere in this file

- a missing measurement (nan) is masked; a prediction that is not finite makes the metric nan;
- a metric that the data do not define (too few wells, constant values, one class) is nan, without a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Metric = Callable[[ArrayLike, ArrayLike], float]

NAN = float("nan")

#: The width of a bin of the expected calibration error is one over this.
CALIBRATION_BINS = 10


def r2(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Coefficient of determination, `1 − Σ(y − f)² / Σ(y − ȳ)²`. Higher is better, 1 is perfect, 0 is the mean.

    Parameters
    ----------
    measured, predicted
        Shape (N,), same units. `measured` may hold nan.

    Returns
    -------
    float
        In (−∞, 1]; nan with fewer than 2 wells or constant measurements.
    """
    pair = _observed(measured, predicted)
    if pair is None or pair[0].size < 2 or np.ptp(pair[0]) == 0:
        return NAN
    y, f = pair
    with np.errstate(over="ignore"):
        return float(1.0 - np.square(y - f).sum() / np.square(y - y.mean()).sum())


def rmse(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Root mean squared error, in the units of the score. Lower is better. nan without a measured well."""
    pair = _observed(measured, predicted)
    if pair is None or not pair[0].size:
        return NAN
    with np.errstate(over="ignore"):
        return float(np.sqrt(np.square(pair[0] - pair[1]).mean()))


def pearson(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Pearson correlation, in [−1, 1]. Higher is better. nan with fewer than 2 wells or where a side is constant."""
    pair = _observed(measured, predicted)
    return NAN if pair is None else _correlation(*pair)


def spearman(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Spearman correlation: Pearson's of the ranks, ties sharing their mean rank. nan as for `pearson`."""
    pair = _observed(measured, predicted)
    return NAN if pair is None else _correlation(average_ranks(pair[0]), average_ranks(pair[1]))


def auroc(label: ArrayLike, score: ArrayLike, stratum: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs that `score` puts in order, ties half.

    Parameters
    ----------
    label
        Shape (N,): 0, 1 or nan.
    score
        Shape (N,): anything that grows with the probability.
    stratum
        Shape (N,): only pairs within one stratum are counted. With plate×column as the stratum this is the
        AUROC *within position*: no effect of the position on the score, whatever its form, can raise it.

    Returns
    -------
    float
        In [0, 1], higher is better, 0.5 is chance; nan where no pair is to be had.
    """
    kept = None if stratum is None else np.asarray(stratum)[~np.isnan(_floats(label))]
    pair = _observed(label, score)
    if pair is None:
        return NAN
    y, s = pair
    strata = [np.arange(y.size)] if kept is None else [np.flatnonzero(kept == value) for value in np.unique(kept)]
    ordered = pairs = 0.0
    for wells in strata:
        positive = y[wells] == 1
        n_positive, n_negative = int(positive.sum()), int((~positive).sum())
        if n_positive and n_negative:
            ordered += average_ranks(s[wells])[positive].sum() - n_positive * (n_positive + 1) / 2
            pairs += n_positive * n_negative
    return float(ordered / pairs) if pairs else NAN


def auprc(label: ArrayLike, score: ArrayLike) -> float:
    """Average precision `Σ (R_k − R_{k−1}) P_k` over the distinct values of the score, highest first.

    Higher is better; chance is the share of positives. nan where a class is missing.
    """
    pair = _observed(label, score)
    if pair is None or not _both_classes(pair[0]):
        return NAN
    y, s = pair
    order = np.argsort(-s, kind="stable")
    last = np.append(np.flatnonzero(np.diff(s[order])), y.size - 1)  # the last well of each tie
    true_positives = np.cumsum(y[order])[last]
    precision = true_positives / (last + 1)
    return float((np.diff(true_positives, prepend=0.0) * precision).sum() / true_positives[-1])


def brier(label: ArrayLike, probability: ArrayLike) -> float:
    """Mean squared distance of the probability from the label (Brier 1950), in [0, 1]. Lower is better."""
    pair = _observed(label, probability)
    return NAN if pair is None or not pair[0].size else float(np.square(_probability(pair[1]) - pair[0]).mean())


def log_loss(label: ArrayLike, probability: ArrayLike) -> float:
    """Mean of `−log p(label)` in nats. Lower is better. Probabilities are kept 2⁻⁵² away from 0 and 1."""
    pair = _observed(label, probability)
    if pair is None or not pair[0].size:
        return NAN
    eps = np.finfo(np.float64).eps
    p = np.clip(_probability(pair[1]), eps, 1 - eps)
    return float(-np.where(pair[0] == 1, np.log(p), np.log1p(-p)).mean())


def expected_calibration_error(label: ArrayLike, probability: ArrayLike, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error `Σ_b n_b/N · |mean label − mean probability|` over `bins` equal-width bins.

    The binary form of Guo et al. 2017 (ICML): the probability of label 1 against its frequency. Bins are
    closed on the left, the last on both sides. In [0, 1], lower is better; few wells push it up.
    """
    pair = _observed(label, probability)
    if pair is None or not pair[0].size:
        return NAN
    y, p = pair
    gaps = np.bincount(calibration_bin(_probability(p), bins), weights=y - p, minlength=bins)
    return float(np.abs(gaps).sum() / y.size)


def calibration_bin(probability: Floats, bins: int) -> NDArray[np.intp]:
    """The equal-width bin, 0 to `bins` − 1, of each probability."""
    return np.minimum((probability * bins).astype(np.intp), bins - 1)


SCORE_METRICS: dict[str, Metric] = {"r2": r2, "pearson": pearson, "spearman": spearman, "rmse": rmse}
LABEL_METRICS: dict[str, Callable[..., float]] = {
    "auroc": auroc,
    "auprc": auprc,
    "brier": brier,
    "ece": expected_calibration_error,
    "log_loss": log_loss,
}
LOWER_IS_BETTER = frozenset({"rmse", "brier", "ece", "log_loss"})


def score_metrics(measured: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
    """Every metric of `SCORE_METRICS` for one score, shapes (N,)."""
    return {name: metric(measured, predicted) for name, metric in SCORE_METRICS.items()}


def label_metrics(label: ArrayLike, probability: ArrayLike) -> dict[str, float]:
    """Every metric of `LABEL_METRICS`, shapes (N,)."""
    return {name: metric(label, probability) for name, metric in LABEL_METRICS.items()}


def per_score(metric: Metric, measured: ArrayLike, predicted: ArrayLike) -> Floats:
    """`metric` of each column of two (N, S) arrays, shape (S,)."""
    y, f = _floats(measured), _floats(predicted)
    return np.array([metric(y[:, s], f[:, s]) for s in range(y.shape[1])], dtype=np.float64)


def average_ranks(values: ArrayLike) -> Floats:
    """Ranks 1 to N in ascending order, ties sharing their mean rank; shape (N,). `values` must hold no nan."""
    _, place, count = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray(((last - count + 1 + last) / 2)[place], dtype=np.float64)


def _floats(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _observed(measured: ArrayLike, predicted: ArrayLike) -> tuple[Floats, Floats] | None:
    """The pairs whose measurement is there; None where one of their predictions is not finite."""
    y, f = _floats(measured), _floats(predicted)
    if y.ndim != 1 or y.shape != f.shape:
        raise ValueError(f"metrics compare two arrays of shape (N,), not {y.shape} and {f.shape}")
    known = ~np.isnan(y)
    return (y[known], f[known]) if np.isfinite(f[known]).all() else None


def _correlation(a: Floats, b: Floats) -> float:
    if a.size < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return NAN
    a, b = (centred / np.abs(centred).max() for centred in (a - a.mean(), b - b.mean()))  # no under- or overflow
    return float(np.clip((a @ b) / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def _both_classes(y: Floats) -> bool:
    return bool((y == 1).any() and (y != 1).any())


def _probability(p: Floats) -> Floats:
    if p.size and (p.min() < 0 or p.max() > 1):
        raise ValueError(f"probabilities lie between 0 and 1, not between {p.min():g} and {p.max():g}")
    return p
