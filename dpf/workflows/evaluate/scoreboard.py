"""Every method on every target, by every metric, overall, plate by plate and within position; and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.design.position import within_position
from dpf.analysis.evaluation.bootstrap import draw_compounds, interval, resampled, verdict
from dpf.analysis.evaluation.metrics import LABEL_METRICS, METRICS, SCORE_METRICS
from dpf.tables.schemas.registry import polars_schema
from dpf.workflows.evaluate.methods import ENSEMBLE, MEAN, MODEL, UNCALIBRATED, Method, Truth
from dpf.workflows.evaluate.wells import EvaluatedWells

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]

OVERALL, WITHIN = "overall", "within_position"
#: Metrics of a label within position: without the mean of their plate column, probabilities are none any more.
_WITHIN_LABEL = ("auroc",)
#: Metrics of association: undefined for the mean, whose predictions differ between folds only.
_OF_ORDER = frozenset({"pearson", "spearman", "auroc", "auprc"})


@dataclass(frozen=True)
class Scoreboard:
    """The two tables of an evaluation, long.

    Attributes
    ----------
    values
        One row a target, metric, method, member and scope: `value` with the ends of its 95% bootstrap interval over
        compounds (null for single members, plates and wells that were trained on), on so many `wells` of so many
        `compounds`; `basis` is what the wells were to the method. A value is null where the metric is not defined.
    comparisons
        One row a target, metric, scope and method: `difference` = `reference_value` − `method_value` on the wells
        that both predict, and the `verdict` on the reference: better, equal (these compounds show no difference),
        worse, unknown.
    reference
        The method that all others are compared with.
    """

    values: pl.DataFrame
    comparisons: pl.DataFrame
    reference: str


class _Scope(NamedTuple):
    name: str
    wells: Mask
    cells: Index | None = None  # within these
    drawn: bool = True  # with intervals


class _Target(NamedTuple):
    name: str
    is_label: bool
    measured: Floats
    predicted: Callable[[Method], Floats]

    def metrics(self, scope: _Scope) -> Sequence[str]:
        if self.is_label:
            return _WITHIN_LABEL if scope.cells is not None else tuple(LABEL_METRICS)
        return tuple(SCORE_METRICS)


class _Compared(NamedTuple):
    """The wells that are compared, with the measured values and each method's predictions, in one order."""

    wells: Index
    measured: Floats
    predicted: list[Floats]
    stratum: Index | None


@dataclass(frozen=True)
class _Bootstrap:
    """Draws over compounds, the same for the same wells; each method's metric is computed once."""

    groups: Index
    seed: int
    kept: dict[tuple[object, ...], Floats] = field(default_factory=dict)

    def values(self, metric: str, method: Method, compared: _Compared, place: int) -> Floats:
        content = (compared.wells, compared.measured, compared.predicted[place])
        key = (metric, method.name, compared.stratum is None, *(values.tobytes() for values in content))
        if key not in self.kept:
            draws = draw_compounds(self.groups[compared.wells], np.random.default_rng(self.seed))
            predicted = _for_metric(metric, method, compared.predicted[place])
            self.kept[key] = resampled(METRICS[metric], draws, compared.measured, predicted, compared.stratum)
        return self.kept[key]


def scoreboard(truth: Truth, methods: Sequence[Method], wells: EvaluatedWells, *, seed: int) -> Scoreboard:
    """Measure and compare.

    Parameters
    ----------
    methods
        From `dpf.workflows.evaluate.methods`. With the model among them all are compared with it, else with the ridge.
    seed
        Of the bootstrap's draws.
    """
    bootstrap = _Bootstrap(wells.groups, seed)
    main = [m for m in methods if m.member == ENSEMBLE and m.basis != "train"]
    reference = next((m for m in main if m.name == MODEL), next((m for m in main if m.name == "ridge"), None))
    values: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    for target in _targets(truth):
        for method in methods:
            if target.is_label or method.name != UNCALIBRATED:
                values += _measure(target, method, wells, bootstrap)
        if reference is not None:
            others = [m for m in main if m is not reference and (target.is_label or m.name != UNCALIBRATED)]
            for scope in _scopes(wells, wells.tested, plates=False):
                for other in others:
                    comparisons += _compare(target, scope, reference, other, bootstrap)
    return Scoreboard(
        pl.DataFrame(values, schema=polars_schema("scoreboard"), orient="row").fill_nan(None),
        pl.DataFrame(comparisons, schema=polars_schema("comparisons"), orient="row").fill_nan(None),
        "" if reference is None else reference.name,
    )


def _targets(truth: Truth) -> Iterator[_Target]:
    for place, name in enumerate(truth.names):
        yield _Target(name, False, truth.values[:, place], lambda method, place=place: method.values[:, place])  # type: ignore[misc]
    if truth.label_name:
        yield _Target(truth.label_name, True, truth.label, lambda method: method.probability)


def _scopes(wells: EvaluatedWells, used: Mask, *, plates: bool) -> Iterator[_Scope]:
    yield _Scope(OVERALL, used)
    if wells.cells is not None:
        yield _Scope(WITHIN, used & (wells.cells >= 0), wells.cells)
    if plates and wells.plates is not None:
        names = sorted({name for name in wells.plates if name})
        for name in names if len(names) > 1 else []:
            yield _Scope(f"plate:{name}", used & np.array([plate == name for plate in wells.plates]), drawn=False)


def _measure(target: _Target, method: Method, wells: EvaluatedWells, bootstrap: _Bootstrap) -> list[dict[str, Any]]:
    scopes: list[_Scope]
    if method.member == ENSEMBLE and method.basis != "train":
        scopes = list(_scopes(wells, wells.tested, plates=True))
    else:
        scopes = [_Scope(OVERALL, np.ones_like(wells.tested), drawn=False)]  # wherever it predicts
    rows = []
    for scope in scopes:
        compared = _compared(target, scope, [method])
        for metric in target.metrics(scope) if compared.wells.size or scope.name == OVERALL else ():
            drawn = bootstrap.values(metric, method, compared, 0) if scope.drawn else np.empty(0)
            low, high = interval(drawn)
            rows.append(
                {
                    "target": target.name, "metric": metric, "method": method.name, "member": method.member,
                    "scope": scope.name, "basis": method.basis, "value": _value(metric, method, compared, 0),
                    "lower": low, "upper": high, **_size(compared, bootstrap),
                }
            )  # fmt: skip
    return rows


def _compare(
    target: _Target, scope: _Scope, reference: Method, other: Method, bootstrap: _Bootstrap
) -> Iterator[dict[str, Any]]:
    compared = _compared(target, scope, [reference, other])
    for metric in target.metrics(scope):
        ours, theirs = (_value(metric, m, compared, place) for place, m in enumerate((reference, other)))
        low = high = float("nan")
        if np.isfinite(ours - theirs):
            first, second = (bootstrap.values(metric, m, compared, place) for place, m in enumerate((reference, other)))
            low, high = interval(first - second)
        yield {
            "target": target.name, "metric": metric, "scope": scope.name, "reference": reference.name,
            "method": other.name, "reference_value": ours, "method_value": theirs, "difference": ours - theirs,
            "lower": low, "upper": high, "verdict": verdict(low, high, METRICS[metric].lower_is_better),
            **_size(compared, bootstrap),
        }  # fmt: skip


def _compared(target: _Target, scope: _Scope, methods: Sequence[Method]) -> _Compared:
    """The wells that were measured and that every method predicts; within position, less the mean of their cell."""
    predicted = [target.predicted(method) for method in methods]
    wells = scope.wells & np.isfinite(target.measured) & np.logical_and.reduce([np.isfinite(f) for f in predicted])
    measured = target.measured
    if scope.cells is not None and not target.is_label:
        measured, *predicted = (
            within_position(np.where(wells, values, np.nan), scope.cells) for values in (target.measured, *predicted)
        )
        wells = np.isfinite(measured)
    index = np.flatnonzero(wells)
    stratum = scope.cells[index] if scope.cells is not None and target.is_label else None
    return _Compared(index, measured[index], [f[index] for f in predicted], stratum)


def _value(metric: str, method: Method, compared: _Compared, place: int) -> float:
    predicted = _for_metric(metric, method, compared.predicted[place])
    return METRICS[metric](compared.measured, predicted, compared.stratum)


def _for_metric(metric: str, method: Method, predicted: Floats) -> Floats:
    """Predictions as a metric takes them: of the mean's, the differences between folds do not rank wells."""
    return np.zeros_like(predicted) if method.name == MEAN and metric in _OF_ORDER else predicted


def _size(compared: _Compared, bootstrap: _Bootstrap) -> dict[str, int]:
    return {"wells": compared.wells.size, "compounds": np.unique(bootstrap.groups[compared.wells]).size}
