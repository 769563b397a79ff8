"""Every metric as scikit-learn has it, every difference as the plain bootstrap has it, every verdict in plain words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as oracle

from dpf.analysis.evaluation.baselines import Evaluation
from dpf.analysis.evaluation.bootstrap import DRAWS
from dpf.workflows.evaluate.methods import ENSEMBLE, IN_SAMPLE, MODEL, UNCALIBRATED, Method, Truth
from dpf.workflows.evaluate.scoreboard import OVERALL, WITHIN, scoreboard
from dpf.workflows.evaluate.scoreboard_text import summary_table, verdict_lines
from dpf.workflows.evaluate.wells import EvaluatedWells
from tests.support.plain_metrics import PLAIN

COMPOUNDS, SEED = 40, 614


def setting(seed=0, error=(0.5, 0.8), cells=True):
    """80 wells of 40 compounds on two plates; the model and the ridge differ in how far they are off."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(COMPOUNDS), 2)
    n = groups.size
    y = rng.normal(size=COMPOUNDS)[groups] + 0.2 * rng.normal(size=n)
    label = (y + 0.5 * rng.normal(size=n) > 0).astype(float)
    truth = Truth(("score",), y[:, None], "active", label)

    def method(name, off, member=ENSEMBLE, basis="held_out"):
        said = y + off * rng.normal(size=n)
        return Method(name, member, basis, said[:, None], 1 / (1 + np.exp(-2 * said)))

    mean = Method(
        "mean", ENSEMBLE, "held_out", np.where(groups < 20, 0.1, -0.1)[:, None], np.where(groups < 20, 0.6, 0.5)
    )
    methods = [method(MODEL, error[0]), method("ridge", error[1]), mean]
    everything = np.ones((1, n), dtype=bool)
    wells = EvaluatedWells(
        "held_out", np.full((1, n), 2, dtype=np.int8), everything, Evaluation(~everything, everything), groups, groups,
        ["P1", "P2"] * COMPOUNDS, None, None, np.arange(n) % 8 if cells else None,
    )  # fmt: skip
    return truth, methods, wells


def row(table, **where):
    found = table.filter(**where)
    assert found.height == 1, found
    return found.row(0, named=True)


def test_values_agree_with_scikit_learn():
    truth, methods, wells = setting()
    table = scoreboard(truth, methods, wells, seed=SEED).values
    y, f, label, p = truth.values[:, 0], methods[0].values[:, 0], truth.label, methods[0].probability
    expected = {
        ("score", "r2"): oracle.r2_score(y, f),
        ("score", "rmse"): oracle.root_mean_squared_error(y, f),
        ("score", "pearson"): np.corrcoef(y, f)[0, 1],
        ("active", "auroc"): oracle.roc_auc_score(label, p),
        ("active", "auprc"): oracle.average_precision_score(label, p),
        ("active", "brier"): oracle.brier_score_loss(label, p),
        ("active", "log_loss"): oracle.log_loss(label, p),
    }
    for (target, metric), value in expected.items():
        found = row(table, target=target, metric=metric, method=MODEL, scope=OVERALL)
        assert found["value"] == pytest.approx(value, abs=1e-12), metric
        assert found["lower"] <= value <= found["upper"]
        assert (found["wells"], found["compounds"]) == (80, 40)


@pytest.mark.parametrize(("target", "metric"), [("score", "r2"), ("score", "spearman"), ("active", "auroc")])
def test_comparisons_agree_with_the_plain_bootstrap(target, metric):
    truth, methods, wells = setting()
    found = row(scoreboard(truth, methods, wells, seed=SEED).comparisons, target=target, metric=metric, scope=OVERALL,
                method="ridge")  # fmt: skip
    y = truth.values[:, 0] if target == "score" else truth.label
    a, b = ((m.values[:, 0] if target == "score" else m.probability) for m in methods[:2])
    plain, rng = PLAIN[metric], np.random.default_rng(SEED)
    compounds = [np.flatnonzero(wells.groups == group) for group in np.unique(wells.groups)]
    differences = []
    for _ in range(DRAWS):
        drawn = np.concatenate([compounds[c] for c in rng.integers(0, len(compounds), len(compounds))])
        differences.append(plain(y[drawn], a[drawn]) - plain(y[drawn], b[drawn]))
    low, high = np.quantile(differences, [0.025, 0.975])
    assert found["reference"] == MODEL
    assert found["verdict"] == ("better" if low > 0 else "worse" if high < 0 else "equal")
    got = [found[name] for name in ("reference_value", "method_value", "difference", "lower", "upper")]
    assert got == pytest.approx([plain(y, a), plain(y, b), plain(y, a) - plain(y, b), low, high], abs=1e-10)


def test_within_position_no_effect_of_a_cell_counts():
    truth, methods, wells = setting()
    lift = 5.0 * (np.arange(80) % 8)  # a gradient over the cells, which every method knows
    shifted = replace(truth, values=truth.values + lift[:, None])
    knowing = [replace(m, values=m.values + lift[:, None]) for m in methods]
    before = scoreboard(truth, methods, wells, seed=SEED).values
    after = scoreboard(shifted, knowing, wells, seed=SEED).values
    for name in ("model", "ridge"):
        key = {"target": "score", "metric": "r2", "method": name}
        assert row(after, scope=WITHIN, **key)["value"] == pytest.approx(row(before, scope=WITHIN, **key)["value"])
        assert row(after, scope=OVERALL, **key)["value"] > 0.9 > row(before, scope=OVERALL, **key)["value"]
    label = before.filter((pl.col("target") == "active") & (pl.col("scope") == WITHIN))
    assert set(label["metric"]) == {"auroc"}


def test_scopes_members_and_what_was_trained_on():
    truth, methods, wells = setting()
    some = np.where(np.arange(80) < 30, methods[0].values[:, 0], np.nan)
    extra = [
        Method(MODEL, "0", "held_out", some[:, None], np.full(80, np.nan)),
        Method(IN_SAMPLE, ENSEMBLE, "train", methods[0].values, methods[0].probability),
    ]
    board = scoreboard(truth, [methods[0], *extra, *methods[1:]], wells, seed=SEED)
    table = board.values.filter((pl.col("target") == "score") & (pl.col("metric") == "r2"))
    plate = row(table, method=MODEL, scope="plate:P2")
    assert plate["wells"] == 40
    assert plate["lower"] is None
    member = row(table, member="0")
    assert (member["wells"], member["scope"]) == (30, OVERALL)
    seen = table.filter(pl.col("basis") == "train")
    assert seen.height == 1
    assert "train" not in " ".join(verdict_lines(board))
    assert board.comparisons.filter(pl.col("target") == "score")["method"].unique().sort().to_list() == [
        "mean",
        "ridge",
    ]
    shown = summary_table(board).filter((pl.col("target") == "score") & pl.col("method").str.starts_with(MODEL))
    assert shown["verdict"].to_list() == ["-", None]


def test_the_mean_has_no_order():
    """Its folds' means differ; a correlation with that would be one with the folds."""
    table = scoreboard(*setting(), seed=SEED).values.filter((pl.col("method") == "mean") & (pl.col("scope") == OVERALL))
    values = dict(table.select("metric", "value").iter_rows())
    assert values["auroc"] == 0.5
    assert values["pearson"] is None
    assert values["spearman"] is None
    assert values["r2"] is not None


def test_wells_that_a_method_leaves_out_are_compared_with_nobody():
    truth, methods, wells = setting()
    half = np.where(np.arange(80) < 50, methods[1].values[:, 0], np.nan)
    board = scoreboard(truth, [methods[0], replace(methods[1], values=half[:, None])], wells, seed=SEED)
    pair = row(board.comparisons, target="score", metric="r2", scope=OVERALL)
    assert (pair["wells"], pair["compounds"]) == (50, 25)
    y, f = truth.values[:50, 0], methods[0].values[:50, 0]
    assert pair["reference_value"] == pytest.approx(oracle.r2_score(y, f))
    assert row(board.values, target="score", metric="r2", scope=OVERALL, method=MODEL)["wells"] == 80


def test_uncalibrated_probabilities_stand_beside_the_label_only():
    truth, methods, wells = setting()
    raw = replace(methods[0], name=UNCALIBRATED, values=np.full((80, 1), np.nan))
    board = scoreboard(truth, [*methods, raw], wells, seed=SEED)
    for table in (board.values, board.comparisons):
        assert set(table.filter(pl.col("method") == UNCALIBRATED)["target"]) == {"active"}


def test_verdicts_in_words():
    better = verdict_lines(scoreboard(*setting(error=(0.3, 1.2)), seed=SEED))[0]
    assert better.startswith("score: the model is better than the best baseline, ")
    worse = verdict_lines(scoreboard(*setting(error=(1.2, 0.3)), seed=SEED))[0]
    assert worse.startswith("score: ridge is better than the model by ")
    numbers = [float(part) for part in worse.split("by ")[1].split(" R²")[0].replace("[", "").replace("]", "").replace(
        ",", "").split()]  # fmt: skip
    assert numbers[1] <= numbers[0] <= numbers[2]
    assert numbers[1] > 0
    equal = verdict_lines(scoreboard(*setting(error=(0.5, 0.5)), seed=SEED))
    assert "cannot be told apart" in equal[0]
    assert len(equal) == 2
    truth, methods, wells = setting()
    alone = verdict_lines(scoreboard(truth, methods[1:], wells, seed=SEED))
    assert alone[0].startswith("score: the best baseline is ridge, R² ")
    assert alone[1].startswith("active: the best baseline is ridge, AUROC ")


def test_what_was_not_measured_has_no_verdict():
    truth, methods, wells = setting()
    nothing = replace(truth, values=np.full((80, 1), np.nan))
    board = scoreboard(nothing, methods, wells, seed=SEED)
    assert verdict_lines(board)[0] == "score: the model cannot be compared, on only 0 wells of 0 compounds"
    assert summary_table(board).filter(pl.col("target") == "score")["value"].null_count() == 3
    one = replace(truth, values=np.where(wells.groups == 3, truth.values[:, 0], np.nan)[:, None])
    assert "no verdict" in verdict_lines(scoreboard(one, methods, wells, seed=SEED))[0]
    constant = replace(truth, label=np.ones(80))
    assert verdict_lines(scoreboard(constant, methods, wells, seed=SEED))[1] == "active: the model cannot be compared"


def test_the_same_seed_gives_the_same_tables():
    first, second = (scoreboard(*setting(), seed=SEED) for _ in range(2))
    assert first.values.equals(second.values)
    assert first.comparisons.equals(second.comparisons)
