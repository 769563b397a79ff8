"""Prediction from position alone: the ridge is scikit-learn's, compounds do not leak, chance is chance."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from dpf.analysis.design.position_prediction import (
    auroc_of_rows,
    auroc_within,
    groups_with_controls_as_one,
    predict_from_position,
    r2_of_rows,
    r2_within,
    ridge_out_of_fold,
)
from dpf.analysis.design.wells import DesignInput, compound_units, locate
from dpf.analysis.evaluation import metrics

ROWS, COLUMNS = np.divmod(np.tile(np.arange(96), 2), 12)


def design(compound: list[str], is_control: np.ndarray | None = None) -> DesignInput:
    return DesignInput(
        compound=compound,
        is_control=np.zeros(192, dtype=bool) if is_control is None else is_control,
        plate=["p1"] * 96 + ["p2"] * 96,
        row=["ABCDEFGH"[number] for number in ROWS],
        column=COLUMNS + 1,
    )


def groups_of(screen: DesignInput) -> np.ndarray:
    return groups_with_controls_as_one(compound_units(screen), screen.is_control)


def one_hot_ridge(X: np.ndarray, Y: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The ridge written out on the one-hot matrix X (n, p), for Y (n, k)."""
    predicted = np.empty_like(Y)
    for held_out in np.unique(fold):
        test = fold == held_out
        x_mean, y_mean = X[~test].mean(axis=0), Y[~test].mean(axis=0)
        centred = X[~test] - x_mean
        gram = centred.T @ centred + np.eye(X.shape[1])
        predicted[test] = y_mean + (X[test] - x_mean) @ np.linalg.solve(gram, centred.T @ (Y[~test] - y_mean))
    return predicted


def draw(plates: int, wells: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Plates of uneven size, rows, columns and folds at random; the one-hot matrix of all three factors."""
    rng = np.random.default_rng(seed)
    plate = np.r_[np.arange(plates), np.minimum(rng.geometric(0.2, wells - plates) - 1, plates - 1)]
    within = rng.integers(0, [8, 12], size=(wells, 2)).T
    X = np.concatenate([np.eye(codes.max() + 1)[codes] for codes in (plate, *within)], axis=1)
    return plate, within, rng.integers(0, 4, size=wells), X


def test_ridge_agrees_with_scikit_learn() -> None:
    plate, within, fold, X = draw(5, 200, 0)
    Y = np.random.default_rng(0).normal(size=(3, 200)) + 7.0
    expected = cross_val_predict(Ridge(alpha=1.0, solver="cholesky"), X, Y.T, cv=PredefinedSplit(fold))
    np.testing.assert_allclose(ridge_out_of_fold(plate, within, Y, fold[None]), expected.T, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("plates", "wells"), [(1, 40), (2, 30), (7, 400), (60, 90)])
def test_ridge_is_the_one_written_out_with_a_one_hot_matrix(plates: int, wells: int) -> None:
    plate, within, fold, X = draw(plates, wells, plates)
    rng = np.random.default_rng(1)
    Y = rng.normal(size=(4, wells)) + 0.3 * plate
    found = ridge_out_of_fold(plate, within, Y, fold[None])
    np.testing.assert_allclose(found, one_hot_ridge(X, Y.T, fold).T, rtol=1e-12, atol=1e-12)
    alone = ridge_out_of_fold(plate, (), Y, fold[None])
    np.testing.assert_allclose(alone, one_hot_ridge(np.eye(plates)[plate], Y.T, fold).T, rtol=1e-12, atol=1e-12)
    orders = np.array([rng.permutation(wells) for _ in range(7)])
    y = Y[0]
    expected = [one_hot_ridge(X, y[order, None], fold[order])[:, 0] for order in orders]
    moved = ridge_out_of_fold(plate, within, y[orders], fold[orders])
    np.testing.assert_allclose(moved, expected, rtol=1e-12, atol=1e-12)


def test_the_effort_does_not_grow_with_plates_times_wells() -> None:
    """50,000 wells on 521 plates: a one-hot matrix of them would be 26 million numbers a rearrangement."""
    wells = np.arange(50_000)
    plate, row, column = wells // 96, wells % 96 // 12, wells % 12
    rng = np.random.default_rng(2)
    y, fold = rng.normal(size=(2, wells.size)), rng.integers(0, 5, size=(2, wells.size))
    tracemalloc.start()
    found = ridge_out_of_fold(plate, (row, column), y + column, fold)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert r2_of_rows(y + column, found) == pytest.approx([0.92, 0.92], abs=0.02)
    assert peak < 60 * y.nbytes


def test_metrics_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    y, f = rng.normal(size=(50, 4)), rng.normal(size=(50, 4)).round(1)
    label = (y > 0.2).astype(float)
    for k in range(4):
        assert r2_of_rows(y.T, f.T)[k] == pytest.approx(r2_score(y[:, k], f[:, k]))
        assert auroc_of_rows(label.T, f.T)[k] == pytest.approx(roc_auc_score(label[:, k], f[:, k]))


def test_a_gradient_is_predicted_and_noise_is_not() -> None:
    rng = np.random.default_rng(2)
    screen = design([f"c{i}" for i in rng.permutation(np.repeat(np.arange(96), 2))])
    positions, groups = locate(screen), groups_of(screen)
    noise = rng.normal(size=192)
    gradient = predict_from_position(noise + 0.4 * COLUMNS, positions, groups, False, rng)
    assert gradient is not None
    assert gradient.score > 0.5
    assert gradient.p_value == 0.001
    label = (0.5 * noise + 0.4 * COLUMNS > 2.2).astype(float)
    classes = predict_from_position(label, positions, groups, True, rng)
    assert classes is not None
    assert classes.score > 0.85
    assert classes.logistic == pytest.approx(classes.score, abs=0.05)
    chance = predict_from_position(noise, positions, groups, False, rng)
    assert chance is not None
    assert chance.score < 0.05


def test_p_values_are_uniform_when_only_compounds_act() -> None:
    """Replicates in the same well of two plates: the compound must not be recognised by its position."""
    rng = np.random.default_rng(3)
    compound = np.tile(np.arange(96), 2)
    screen = design([f"c{i}" for i in compound])
    positions, groups = locate(screen), groups_of(screen)
    found = []
    for _ in range(120):
        values = rng.normal(size=96)[compound] + 0.3 * rng.normal(size=192)
        result = predict_from_position(values, positions, groups, False, rng, permutations=99)
        assert result is not None
        found.append(result.p_value)
    assert kstest(found, "uniform").pvalue > 0.001


def test_controls_are_one_group() -> None:
    """Controls in one column differ from all else: their column must not be learned from other controls."""
    rng = np.random.default_rng(4)
    control = COLUMNS == 11
    screen = design([f"c{i}" for i in range(192)], control)
    values = 0.1 * rng.normal(size=192) + 5.0 * control
    together = predict_from_position(values, locate(screen), groups_of(screen), False, rng, permutations=9)
    alone = predict_from_position(values, locate(screen), np.arange(192), False, rng, permutations=9)
    assert together is not None
    assert alone is not None
    assert together.score < 0.1
    assert alone.score > 0.9


def test_within_plates_is_what_the_metrics_say_within_a_stratum() -> None:
    rng = np.random.default_rng(5)
    plate = np.repeat([0, 1, 2], 20)
    y, f = rng.normal(size=(60, 3)) + plate[:, None], rng.normal(size=(60, 3)).round(1)
    label = (y > 1).astype(float)
    for k in range(3):
        less = [v - np.array([v[plate == p].mean() for p in plate]) for v in (y[:, k], f[:, k])]
        assert r2_within(y.T, f.T, plate)[k] == pytest.approx(r2_score(*less))
        assert auroc_within(label.T, f.T, plate)[k] == pytest.approx(metrics.auroc(label[:, k], f[:, k], plate))
    assert np.isnan(auroc_within((plate == 1).astype(float)[None], f[:, 0][None], plate)[0])


def test_what_differs_between_plates_is_told_from_what_does_within() -> None:
    rng = np.random.default_rng(6)
    screen = design([f"c{i}" for i in rng.permutation(np.repeat(np.arange(96), 2))])
    positions, groups = locate(screen), groups_of(screen)
    noise, plate = rng.normal(size=192), np.repeat([0.0, 1.0], 96)
    between = predict_from_position(noise + 3 * plate, positions, groups, False, rng)
    assert between is not None
    assert between.plate == pytest.approx(between.score, abs=0.1)
    assert between.score > 0.5
    assert between.within < 0.05 < between.within_p
    inside = predict_from_position(noise + 0.4 * COLUMNS, positions, groups, False, rng)
    assert inside is not None
    assert inside.plate < 0.05
    assert inside.within == pytest.approx(inside.score, abs=0.05)
    assert inside.within_p == 0.001
    label = predict_from_position((noise + 2 * plate > 1.0).astype(float), positions, groups, True, rng)
    assert label is not None
    assert label.plate > 0.7
    assert label.within < 0.6


def test_within_p_keeps_its_level_beside_a_plate_effect() -> None:
    rng = np.random.default_rng(7)
    found = []
    for _ in range(120):
        compound = rng.permutation(np.repeat(np.arange(96), 2))
        screen = design([f"c{i}" for i in compound])
        values = rng.normal(size=96)[compound] + 0.5 * rng.normal(size=192) + 3 * np.repeat([0, 1], 96)
        result = predict_from_position(values, locate(screen), groups_of(screen), False, rng, permutations=99)
        assert result is not None
        found.append(result.within_p)
    assert np.mean(np.array(found) <= 0.05) < 0.12
    assert np.mean(np.array(found) <= 0.5) == pytest.approx(0.5, abs=0.15)


def test_within_p_of_a_label_keeps_its_level_where_plates_differ_in_how_many_have_it() -> None:
    """With labels moved between plates there are more pairs to order, and so a narrower null: 12% of 800 at 5%."""
    rng = np.random.default_rng(7)
    plate, place = np.repeat(np.arange(4), 40), np.concatenate([rng.permutation(96)[:40] for _ in range(4)])
    screen = DesignInput(
        compound=[f"c{i}" for i in range(160)],
        is_control=np.zeros(160, dtype=bool),
        plate=[f"p{number}" for number in plate],
        row=["ABCDEFGH"[number // 12] for number in place],
        column=place % 12 + 1,
    )
    found = []
    for _ in range(300):
        label = (np.array([-2.0, 0.0, 1.0, 3.0])[plate] + rng.normal(size=160) > 1).astype(float)
        result = predict_from_position(label, locate(screen), np.arange(160), True, rng, permutations=99)
        assert result is not None
        found.append(result.within_p)
    assert np.mean(np.array(found) <= 0.05) < 0.085


def test_p_of_a_label_is_uniform_though_its_folds_know_it() -> None:
    """Were the rearranged labels kept in the folds of the real ones, p ≤ 0.2 would come in 24% of 2,000 screens."""
    found = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        place, label = rng.permutation(96)[:40], (rng.random(40) < 0.3).astype(float)
        screen = DesignInput(
            compound=[f"c{i}" for i in range(40)],
            is_control=np.zeros(40, dtype=bool),
            plate=["p"] * 40,
            row=["ABCDEFGH"[number // 12] for number in place],
            column=place % 12 + 1,
        )
        result = predict_from_position(label, locate(screen), np.arange(40), True, rng, permutations=49)
        assert result is not None
        found.append(result.p_value)
    assert np.mean(np.array(found) <= 0.2) == pytest.approx(0.2, abs=0.025)  # 0.233 were they kept


@pytest.mark.parametrize(
    ("values", "is_label"),
    [
        (np.ones(192), False),
        (np.full(192, np.nan), False),
        (np.where(np.arange(192) < 9, 1.0 * np.arange(192), np.nan), False),
        ((np.arange(192) == 0).astype(float), True),
    ],
)
def test_too_little_to_predict_is_none(values: np.ndarray, is_label: bool) -> None:
    screen = design([f"c{i}" for i in range(192)])
    rng = np.random.default_rng(0)
    assert predict_from_position(values, locate(screen), groups_of(screen), is_label, rng, 9) is None


def test_one_compound_cannot_be_held_out() -> None:
    screen = design(["c"] * 192)
    rng = np.random.default_rng(0)
    assert predict_from_position(rng.normal(size=192), locate(screen), groups_of(screen), False, rng, 9) is None


def test_few_positives_in_few_compounds_leave_no_logistic_regression() -> None:
    """Both positive wells are one compound's: the fold that holds it out trains on one class."""
    screen = design([*(["a"] * 2), *(f"c{i}" for i in range(190))])
    label = (np.arange(192) < 2).astype(float)
    result = predict_from_position(label, locate(screen), groups_of(screen), True, np.random.default_rng(0), 9)
    assert result is not None
    assert np.isnan(result.logistic)
