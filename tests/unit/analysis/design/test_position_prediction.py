"""Prediction from position alone: the ridge is scikit-learn's, compounds do not leak, chance is chance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict

from dpf.analysis.design.position_prediction import (
    auroc_of_columns,
    auroc_within,
    groups_with_controls_as_one,
    predict_from_position,
    r2_of_columns,
    r2_within,
    ridge_out_of_fold,
    ridge_out_of_fold_moved,
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


def test_ridge_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    X, Y, fold = rng.integers(0, 2, size=(60, 9)).astype(float), rng.normal(size=(60, 3)), rng.integers(0, 4, size=60)
    expected = cross_val_predict(Ridge(alpha=1.0), X, Y, cv=PredefinedSplit(fold))
    np.testing.assert_allclose(ridge_out_of_fold(X, Y, fold), expected, rtol=1e-9, atol=1e-12)


def test_moved_wells_take_their_folds_along() -> None:
    rng = np.random.default_rng(0)
    X, y, fold = rng.integers(0, 2, size=(60, 9)).astype(float), rng.normal(size=60), rng.integers(0, 4, size=60)
    orders = np.array([rng.permutation(60) for _ in range(7)])
    expected = [ridge_out_of_fold(X, y[order, None], fold[order])[:, 0] for order in orders]
    found = ridge_out_of_fold_moved(X, y, fold, orders)
    np.testing.assert_allclose(found, np.transpose(expected), rtol=1e-9, atol=1e-12)


def test_metrics_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    y, f = rng.normal(size=(50, 4)), rng.normal(size=(50, 4)).round(1)
    label = (y > 0.2).astype(float)
    for k in range(4):
        assert r2_of_columns(y, f)[k] == pytest.approx(r2_score(y[:, k], f[:, k]))
        assert auroc_of_columns(label, f)[k] == pytest.approx(roc_auc_score(label[:, k], f[:, k]))


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
        assert r2_within(y, f, plate)[k] == pytest.approx(r2_score(*less))
        assert auroc_within(label, f, plate)[k] == pytest.approx(metrics.auroc(label[:, k], f[:, k], plate))
    assert np.isnan(auroc_within((plate == 1).astype(float)[:, None], f[:, :1], plate)[0])


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
