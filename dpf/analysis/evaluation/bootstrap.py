"""Whole scoreboards of bootstrap intervals in seconds: every metric over all draws of compounds at once.

The same draws and the same numbers as `paired_bootstrap`, without its loop over draws. A draw says how often each
compound was taken, so each metric is a weighted one: of sums over compounds where it is made of sums (R², RMSE,
Pearson, Brier, log loss, calibration error), of weighted ranks where it is made of ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.evaluation.metrics import CALIBRATION_BINS, calibration_bin
from dpf.analysis.evaluation.paired_bootstrap import DRAWS, LEVEL, Verdict

Floats = NDArray[np.float64]
Index = NDArray[np.intp]

#: Draws × wells that are weighted at once: rank metrics are fastest where a block stays in the cache.
_BLOCK = 100_000
#: A variance below this share of the whole sample's is rounding: the draw took equal values only.
_NO_VARIANCE = 1e-12
#: A share of draws that a metric may leave undefined (one class only, say) before the interval means nothing.
_UNDEFINED = 0.1


@dataclass(frozen=True)
class CompoundDraws:
    """Bootstrap draws of C compounds that stand for N wells.

    Attributes
    ----------
    counts
        float64 array of shape (D, C): how often each draw took each compound, C in each row.
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


def draw_compounds(groups: Index, rng: np.random.Generator, draws: int = DRAWS) -> CompoundDraws:
    """Draw as many compounds as there are, with replacement, `draws` times.

    `groups` has shape (N,): the compound of each well, each control one of its own. The draws are those that
    `paired_bootstrap` makes with the same generator.
    """
    _, code = np.unique(groups, return_inverse=True)
    size = int(code.max(initial=-1)) + 1
    drawn = rng.integers(0, size, (draws, size)) if size else np.empty((draws, 0), dtype=np.int64)
    flat = np.bincount((drawn + size * np.arange(draws)[:, None]).ravel(), minlength=draws * size)
    return CompoundDraws(flat.reshape(draws, size).astype(np.float64), code)


def interval(values: Floats, level: float = LEVEL) -> tuple[float, float]:
    """Percentile interval (Efron & Tibshirani 1993, ch. 13); nan where over a tenth of the draws is undefined."""
    defined = values[np.isfinite(values)]
    if not defined.size or defined.size < (1 - _UNDEFINED) * values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def verdict(low: float, high: float, lower_is_better: bool) -> Verdict:
    """What the interval of a difference says of the first method: as `paired_bootstrap.Difference.verdict`."""
    if np.isnan(low):
        return "unknown"
    if low <= 0 <= high:
        return "equal"
    return "worse" if (low > 0) == lower_is_better else "better"


def resampled(
    name: str, draws: CompoundDraws, measured: ArrayLike, predicted: ArrayLike, stratum: Index | None = None
) -> Floats:
    """A metric of `dpf.analysis.evaluation.metrics` on every draw, shape (D,); nan where a draw does not define it.

    Parameters
    ----------
    name
        A key of `metrics.SCORE_METRICS` or `metrics.LABEL_METRICS`.
    measured, predicted
        Shape (N,), finite.
    stratum
        Shape (N,), for `auroc` only: pairs within one stratum are counted, no others.
    """
    y, f = np.asarray(measured, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if draws.compounds < 2:  # one compound has no spread to draw from
        return np.full(len(draws.counts), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        if stratum is not None:
            return _auroc_within(draws, y, f, stratum)
        return _METRICS[name](draws, y, f)


def _r2(draws: CompoundDraws, y: Floats, f: Floats) -> Floats:
    centred = y - y.mean()
    n, total, squares, error = draws.sums(np.ones_like(y), centred, centred**2, (y - f) ** 2)
    return 1.0 - error / _variation(squares, total, n, centred)


def _rmse(draws: CompoundDraws, y: Floats, f: Floats) -> Floats:
    n, error = draws.sums(np.ones_like(y), (y - f) ** 2)
    return np.asarray(np.sqrt(error / n))


def _pearson(draws: CompoundDraws, y: Floats, f: Floats) -> Floats:
    a, b = y - y.mean(), f - f.mean()
    n, sa, sb, saa, sbb, sab = draws.sums(np.ones_like(a), a, b, a * a, b * b, a * b)
    both = np.sqrt(_variation(saa, sa, n, a) * _variation(sbb, sb, n, b))
    return np.asarray(np.clip((sab - sa * sb / n) / both, -1.0, 1.0))


def _variation(squares: Floats, total: Floats, n: Floats, centred: Floats) -> Floats:
    """Σ(v − v̄)² of each draw; nan where nothing varies."""
    found = squares - total**2 / n
    return np.where(found > _NO_VARIANCE * float(centred @ centred), found, np.nan)


def _spearman(draws: CompoundDraws, y: Floats, f: Floats) -> Floats:
    places = _Ties.of(y), _Ties.of(f)
    parts = []
    for weight in draws.blocks():
        middle = (weight.sum(axis=1, keepdims=True) + 1) / 2
        a, b = (ties.ranks(weight) - middle for ties in places)
        weighted = weight * a
        both = (weighted * a).sum(axis=1) * (weight * b * b).sum(axis=1)
        parts.append((weighted * b).sum(axis=1) / np.sqrt(np.where(both > 0, both, np.nan)))
    return np.asarray(np.clip(np.concatenate(parts), -1.0, 1.0))


def _auroc(draws: CompoundDraws, y: Floats, f: Floats) -> Floats:
    ties = _Ties.of(f)
    parts = []
    for weight in draws.blocks():
        positive, negative = ties.totals(weight * y), ties.totals(weight * (1 - y))
        below = np.cumsum(negative, axis=1) - negative / 2
        parts.append((positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1)))
    return np.concatenate(parts)


def _auroc_within(draws: CompoundDraws, y: Floats, f: Floats, stratum: Index) -> Floats:
    cells = []
    for value in np.unique(stratum):
        positive = np.flatnonzero((stratum == value) & (y == 1))
        negative = np.flatnonzero((stratum == value) & (y == 0))
        if positive.size and negative.size:
            higher, tied = (np.greater, np.equal)
            order = higher.outer(f[positive], f[negative]) + tied.outer(f[positive], f[negative]) / 2
            cells.append((positive, negative, order))
    parts = []
    for weight in draws.blocks():
        ordered, pairs = np.zeros((2, len(weight)))
        for positive, negative, order in cells:
            ordered += ((weight[:, positive] @ order) * weight[:, negative]).sum(axis=1)
            pairs += weight[:, positive].sum(axis=1) * weight[:, negative].sum(axis=1)
        parts.append(ordered / pairs)
    return np.concatenate(parts)


def _auprc(draws: CompoundDraws, y: Floats, f: Floats) -> Floats:
    ties = _Ties.of(-f)  # the highest first
    parts = []
    for weight in draws.blocks():
        positive = ties.totals(weight * y)
        taken = np.cumsum(ties.totals(weight), axis=1)
        precision = np.cumsum(positive, axis=1) / np.where(taken > 0, taken, 1.0)
        all_positive = positive.sum(axis=1)
        both = (all_positive > 0) & (all_positive < taken[:, -1])
        parts.append(np.where(both, (positive * precision).sum(axis=1) / all_positive, np.nan))
    return np.concatenate(parts)


def _brier(draws: CompoundDraws, y: Floats, p: Floats) -> Floats:
    n, error = draws.sums(np.ones_like(y), (y - p) ** 2)
    return error / n


def _log_loss(draws: CompoundDraws, y: Floats, p: Floats) -> Floats:
    eps = np.finfo(np.float64).eps
    safe = np.clip(p, eps, 1 - eps)
    n, loss = draws.sums(np.ones_like(y), -np.where(y == 1, np.log(safe), np.log1p(-safe)))
    return loss / n


def _ece(draws: CompoundDraws, y: Floats, p: Floats) -> Floats:
    inside = calibration_bin(p, CALIBRATION_BINS)
    gaps = [np.where(inside == b, y - p, 0.0) for b in range(CALIBRATION_BINS)]
    n, *sums = draws.sums(np.ones_like(y), *gaps)
    return np.asarray(np.abs(np.stack(sums)).sum(axis=0) / n)


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


_METRICS: dict[str, Callable[[CompoundDraws, Floats, Floats], Floats]] = {
    "r2": _r2,
    "rmse": _rmse,
    "pearson": _pearson,
    "spearman": _spearman,
    "auroc": _auroc,
    "auprc": _auprc,
    "brier": _brier,
    "ece": _ece,
    "log_loss": _log_loss,
}
