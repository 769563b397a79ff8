"""A scoreboard as a table of one row a target and method, and as one sentence a target."""

from __future__ import annotations

from typing import Any

import polars as pl

from dpf.analysis.evaluation.baselines import BASELINES
from dpf.analysis.evaluation.metrics import LABEL_METRICS, SCORE_METRICS
from dpf.workflows.evaluate.methods import CEILING, ENSEMBLE, INITIAL, MODEL
from dpf.workflows.evaluate.scoreboard import OVERALL, WITHIN, Scoreboard

#: Each kind of target's first metric: the one that verdicts are given on.
MAIN = ("r2", "auroc")
NAMES = {
    "r2": "R²", "pearson": "Pearson", "spearman": "Spearman", "rmse": "RMSE", "auroc": "AUROC", "auprc": "AUPRC",
    "brier": "Brier score", "ece": "calibration error", "log_loss": "log loss",
}  # fmt: skip
#: Fewer compounds than this make an interval a rough guess.
FEW_COMPOUNDS = 30


def summary_table(board: Scoreboard) -> pl.DataFrame:
    """One row a target and method: the main metric, the verdict on the reference, then the other metrics.

    Columns: `target`, `method`, `metric` (r2 or auroc), `value`, `verdict` (the reference is better, equal or worse
    than this method; "-" for itself), `lower`, `upper`, `within_position` (the same metric), `basis` (what the wells
    were to the method), the other metrics by name (null where they do not apply), `wells`, `compounds`.
    """
    keys = ["target", "method", "basis"]
    main = pl.col("metric").is_in(MAIN)
    whole = board.values.filter(pl.col("member") == ENSEMBLE)
    overall = whole.filter(pl.col("scope") == OVERALL)
    within = whole.filter(main & (pl.col("scope") == WITHIN)).select(*keys, within_position="value")
    verdicts = board.comparisons.filter(main & (pl.col("scope") == OVERALL)).select("target", "method", "verdict")
    others = overall.filter(~main).pivot("metric", index=keys, values="value")
    table = (
        overall.filter(main)
        .join(verdicts, on=["target", "method"], how="left", maintain_order="left")
        .join(within, on=keys, how="left", maintain_order="left")
        .join(others, on=keys, how="left", maintain_order="left")
    )
    itself = pl.col("method") == board.reference
    table = table.with_columns(verdict=pl.when(itself).then(pl.lit("-")).otherwise("verdict"))
    first = ["target", "method", "metric", "value", "verdict", "lower", "upper", "within_position", "basis"]
    rest = [name for name in (*SCORE_METRICS, *LABEL_METRICS) if name in others.columns]
    return table.select(*first, *rest, "wells", "compounds")


def verdict_lines(board: Scoreboard) -> list[str]:
    """One sentence a target: the reference against the best baseline, then the initial regression, position and depth
    alone, and the other replicate.
    """
    targets = board.values.get_column("target").unique(maintain_order=True)
    return [_verdict_line(board, target) for target in targets if board.reference]


def _verdict_line(board: Scoreboard, target: str) -> str:
    main = board.values.filter(
        (pl.col("target") == target)
        & pl.col("metric").is_in(MAIN)
        & (pl.col("scope") == OVERALL)
        & (pl.col("member") == ENSEMBLE)
        & (pl.col("basis") != "train")
    )
    rows = {row["method"]: row for row in main.iter_rows(named=True)}
    others = [
        f"{what} {rows[name]['value']:.2f}"
        for name, what in (
            (INITIAL, "without its Transformer it reaches"),
            ("position", "position alone reaches"),
            ("depth", "depth alone reaches"),
            (CEILING, "the other replicate"),
        )
        if name in rows and rows[name]["value"] is not None
    ]
    text = f"{target}: " + (_against_best(board, target, rows) if MODEL in rows else _best_alone(rows))
    return text + (f"; {', '.join(others)}" if others else "")


def _best_alone(rows: dict[str, dict[str, Any]]) -> str:
    known = [rows[name] for name in BASELINES if name != CEILING and name in rows and rows[name]["value"] is not None]
    if not known:
        return "no baseline can be measured" + _sizes(next(iter(rows.values())))
    best = max(known, key=lambda row: row["value"])
    return f"the best baseline is {best['method']}, {NAMES[best['metric']]} {_estimate(best)}{_sizes(best)}"


def _against_best(board: Scoreboard, target: str, rows: dict[str, dict[str, Any]]) -> str:
    pairs = board.comparisons.filter(
        (pl.col("target") == target)
        & pl.col("metric").is_in(MAIN)
        & (pl.col("scope") == OVERALL)
        & pl.col("method").is_in([name for name in BASELINES if name != CEILING])
        & pl.col("method_value").is_not_null()
    )
    if pairs.is_empty() or rows[MODEL]["value"] is None:
        return "the model cannot be compared" + _sizes(rows[MODEL])
    pair = pairs.sort("method_value", descending=True, maintain_order=True).row(0, named=True)
    metric, name = NAMES[pair["metric"]], pair["method"]
    both = f"({pair['method_value']:.2f} against {pair['reference_value']:.2f})"
    if pair["verdict"] == "worse":
        text = f"{name} is better than the model by {_difference(pair, -1)} {metric} {both}"
    elif pair["verdict"] == "better":
        both = f"({pair['reference_value']:.2f} against {pair['method_value']:.2f})"
        text = f"the model is better than the best baseline, {name}, by {_difference(pair, 1)} {metric} {both}"
    elif pair["verdict"] == "equal":
        text = f"the model and the best baseline, {name}, cannot be told apart: {_difference(pair, 1)} {metric} {both}"
    else:
        text = f"the model against the best baseline, {name}: no verdict {both}"
    return text + _sizes(pair)


def _difference(pair: dict[str, Any], sign: int) -> str:
    low, high = sorted(sign * pair[end] for end in ("lower", "upper"))
    return f"{sign * pair['difference']:.2f} [{low:.2f}, {high:.2f}]"


def _estimate(row: dict[str, Any]) -> str:
    ends = "" if row["lower"] is None else f" [{row['lower']:.2f}, {row['upper']:.2f}]"
    return f"{row['value']:.2f}{ends}"


def _sizes(row: dict[str, Any]) -> str:
    """How many wells a statement rests on, where they are few."""
    few = row["compounds"] < FEW_COMPOUNDS
    return f", on only {row['wells']:,} wells of {row['compounds']:,} compounds" if few else ""
