"""Redundant targets: copies, sums of others, thresholds of others, functions of a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.wells import MISSING, Codes

#: 1 - R squared below which a combination is exact: values rounded to three decimals at unit spread leave 1e-7.
EXACT = 1e-6
#: R squared from which a combination is near: under 1% of the variance is left that the others do not hold.
NEAR = 0.99
#: |r| from which two targets are near copies (R squared 0.9).
CORRELATED = 0.95

Table = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Combination:
    """A target that is a linear combination of others.

    Attributes
    ----------
    target, parts, weights, intercept
        ``target = intercept + sum(weight * part)``.
    unexplained
        1 - R squared of that equation.
    """

    target: str
    parts: tuple[str, ...]
    weights: tuple[float, ...]
    intercept: float
    unexplained: float

    @property
    def exact(self) -> bool:
        """Whether nothing but rounding is left."""
        return self.unexplained <= EXACT

    @property
    def equation(self) -> str:
        """``activation = a + b - 0.5 c``."""
        terms = [_term(weight, part) for weight, part in zip(self.weights, self.parts, strict=True)]
        if self.intercept:
            terms.append(f"{'+' if self.intercept > 0 else '-'} {abs(self.intercept):.3g}")
        text = " ".join(terms)
        return f"{self.target} {'=' if self.exact else '≈'} {text.removeprefix('+ ')}"


def _term(weight: float, part: str) -> str:
    size = f"{abs(weight):.3g}"
    return f"{'+' if weight > 0 else '-'} {'' if size == '1' else size + ' '}{part}"


def correlations(targets: Table) -> dict[tuple[str, str], float]:
    """Pearson's r of every pair of targets over the wells that have both; NaN under three wells or without spread."""
    names = list(targets)
    result = {}
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            both = ~np.isnan(targets[first]) & ~np.isnan(targets[second])
            a, b = targets[first][both], targets[second][both]
            defined = both.sum() >= 3 and np.ptp(a) > 0 and np.ptp(b) > 0
            result[first, second] = float(np.corrcoef(a, b)[0, 1]) if defined else float("nan")
    return result


def combinations(targets: Table) -> list[Combination]:
    """Targets that are (nearly) a linear combination of the others, one equation for each that is superfluous.

    When four targets obey one equation, each of them is a combination of the other three; the equation is given once,
    in the form with the plainest weights (all +1, then the fewest parts). Its target is then set aside and the rest
    is searched again. Wells with every target count.

    Returns
    -------
    list of Combination
        Empty when there are fewer wells than three times the targets, or nothing is redundant.
    """
    complete = ~np.isnan(np.array(list(targets.values()))).any(axis=0) if targets else np.zeros(0, dtype=bool)
    left = {name: values[complete] for name, values in targets.items()}
    left = {name: values for name, values in left.items() if values.size and np.ptp(values) > 0}
    found: list[Combination] = []
    while len(left) >= 2 and complete.sum() >= 3 * len(left):
        candidates = [_combination(name, left) for name in left]
        redundant = [candidate for candidate in candidates if candidate.unexplained <= 1 - NEAR]
        if not redundant:
            break
        found.append(min(redundant, key=_plainness))
        del left[found[-1].target]
    return found


def _combination(target: str, table: Table) -> Combination:
    parts = [name for name in table if name != target]
    y = table[target]
    X = np.stack([table[name] for name in parts], axis=1)
    spread = X.std(axis=0)
    weights = np.linalg.lstsq((X - X.mean(axis=0)) / spread, y - y.mean(), rcond=None)[0] / spread
    # What adds under a thousandth of the target's spread is not part of the equation.
    kept = np.flatnonzero(np.abs(weights) * spread > 1e-3 * y.std())
    weights = weights[kept]
    intercept = float(y.mean() - X[:, kept].mean(axis=0) @ weights)
    intercept = 0.0 if abs(intercept) < 1e-3 * y.std() else intercept
    rest = y - intercept - X[:, kept] @ weights
    names = tuple(parts[place] for place in kept)
    return Combination(target, names, tuple(weights.tolist()), intercept, float(rest.var() / y.var()))


def _plainness(combination: Combination) -> tuple[bool, bool, int, float]:
    ones = all(abs(weight - 1) < 1e-2 for weight in combination.weights)
    return (not combination.exact, not ones, len(combination.parts), combination.unexplained)


def thresholded(label: NDArray[np.float64], score: NDArray[np.float64]) -> tuple[str, float] | None:
    """Whether the label is a score above or below some value: (``">"`` or ``"<"``, the middle of the gap), or None."""
    both = ~np.isnan(label) & ~np.isnan(score)
    positive, negative = score[both & (label == 1)], score[both & (label == 0)]
    if not (positive.size and negative.size):
        return None
    if positive.min() > negative.max():
        return ">", float((positive.min() + negative.max()) / 2)
    if positive.max() < negative.min():
        return "<", float((positive.max() + negative.min()) / 2)
    return None


def is_function_of(label: NDArray[np.float64], codes: Codes) -> bool:
    """Whether every level of a grouping has one label, with both labels and a level of several wells present."""
    used = ~np.isnan(label) & (codes != MISSING)
    if not used.any() or np.ptp(label[used]) == 0:
        return False
    _, place = np.unique(codes[used], return_inverse=True)
    size = np.bincount(place)
    mean = np.bincount(place, weights=label[used]) / size
    return bool(np.isin(mean, (0.0, 1.0)).all() and size.max() > 1 and size.size < used.sum() / 2)
