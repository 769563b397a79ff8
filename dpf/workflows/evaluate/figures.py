"""The figures of an evaluation: the scoreboard, and the reliability of the label's probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.figures.drawing.style import save
from dpf.figures.reliability import reliability
from dpf.figures.scoreboard import Metric
from dpf.figures.scoreboard import scoreboard as draw
from dpf.project.directory import ResultsFolder
from dpf.workflows.evaluate.methods import CEILING, ENSEMBLE, INITIAL, MEAN, MODEL, UNCALIBRATED, Method, Truth
from dpf.workflows.evaluate.scoreboard import OVERALL, WITHIN, Scoreboard
from dpf.workflows.evaluate.scoreboard_text import MAIN, NAMES

#: Methods in the order of the rows: the model, the baselines, the noise ceiling.
_ORDER = (MODEL, INITIAL, "ridge", "kernel ridge", "pls", "position", "depth", MEAN, CEILING)
_CURVES = (UNCALIBRATED, MODEL, "ridge", "kernel ridge", "pls")
_MOST_CURVES = 3
_CHANCE = {"r2": 0.0, "auroc": 0.5}


def draw_scoreboard(folder: ResultsFolder, board: Scoreboard) -> tuple[Path, ...]:
    """`scoreboard` and, where positions are known, `scoreboard_within_position`: a panel a target, its main metric."""
    written: tuple[Path, ...] = ()
    for scope, name in ((OVERALL, "scoreboard"), (WITHIN, "scoreboard_within_position")):
        rows = board.values.filter(
            (pl.col("scope") == scope)
            & (pl.col("member") == ENSEMBLE)
            & (pl.col("basis") != "train")
            & pl.col("metric").is_in(MAIN)
            & pl.col("value").is_not_null()
        )
        present = set(rows.get_column("method"))
        methods = [method for method in _ORDER if method in present]
        if methods:
            metrics = [
                _panel(rows, target, methods) for target in rows.get_column("target").unique(maintain_order=True)
            ]
            written += save(draw(methods, metrics, ours=[MODEL]), folder.figure(name))
    return written


def _panel(rows: pl.DataFrame, target: str, methods: Sequence[str]) -> Metric:
    own = {row["method"]: row for row in rows.filter(pl.col("target") == target).iter_rows(named=True)}
    metric = next(iter(own.values()))["metric"]

    def column(name: str) -> NDArray[np.float64]:
        values = [own[method][name] if method in own else None for method in methods]
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    return Metric(
        f"{target}: {NAMES[metric]}", column("value"), column("lower"), column("upper"), chance=_CHANCE[metric]
    )


def draw_reliability(
    folder: ResultsFolder, board: Scoreboard, truth: Truth, methods: Sequence[Method], tested: NDArray[np.bool_]
) -> tuple[Path, ...]:
    """`reliability`: the model as trained, calibrated, and the ridge; without a model, three baselines."""
    by_name = {method.name: method for method in methods if method.member == ENSEMBLE and method.basis != "train"}
    usable = tested & ~np.isnan(truth.label)
    curves = {
        name: np.where(tested, by_name[name].probability, np.nan)
        for name in _CURVES
        if name in by_name and np.isfinite(by_name[name].probability[usable]).any()
    }
    if truth.label_name is None or not curves:
        return ()
    curves = dict(list(curves.items())[:_MOST_CURVES])
    errors = board.values.filter(
        (pl.col("target") == truth.label_name)
        & (pl.col("metric") == "ece")
        & (pl.col("scope") == OVERALL)
        & (pl.col("member") == ENSEMBLE)
        & (pl.col("basis") != "train")
        & pl.col("value").is_not_null()
    )
    figure = reliability(
        curves,
        np.where(tested, truth.label, np.nan),
        calibration_error=dict(errors.select("method", "value").iter_rows()),
        label=truth.label_name,
    )
    return save(figure, folder.figure("reliability"))
