"""Baselines learn what is there to learn, from training wells alone, and nothing crosses a compound split."""

from __future__ import annotations

import numpy as np
import pytest

from dpf.analysis.evaluation import baseline_fits, metrics
from dpf.analysis.evaluation.baselines import (
    BASELINES,
    Evaluation,
    baseline_predictions,
    evaluation_of,
    other_replicate,
    standardised,
)
from dpf.errors import DataError
from dpf.regression import selection
from dpf.regression.linear_models import squared_distances
from dpf.splits.grouping import group_wells
from dpf.splits.parts import Part, make_splits

LEARNERS = ("ridge", "kernel ridge", "pls")


class Screen:
    """60 compounds × 2 wells and 12 controls; the score is linear in three programs of 40 genes."""

    def __init__(self, seed=0, compounds=60, noise=0.3, genes=40):
        rng = np.random.default_rng(seed)
        self.compound = [f"c{i}" for i in range(compounds) for _ in range(2)] + ["DMSO"] * 12
        self.control = np.array([name == "DMSO" for name in self.compound])
        n = len(self.compound)
        state = np.repeat(rng.normal(size=(compounds, 3)), 2, axis=0) + 0.2 * rng.normal(size=(2 * compounds, 3))
        state = np.concatenate([state, 0.2 * rng.normal(size=(12, 3))])
        self.X = (state @ rng.normal(size=(3, genes)) + 0.5 * rng.normal(size=(n, genes)) + 8).astype(np.float32)
        self.scores = state[:, :2] + noise * rng.normal(size=(n, 2))
        self.label = (state[:, 2] > 0.3).astype(float)
        self.groups = group_wells("compound", self.compound, self.control, None)
        self.rng = rng

    def split(self, rule="compound", folds=3, seed=0):
        return make_splits(
            rule,
            compound=self.compound,
            is_control=self.control,
            label=self.label,
            plate=None,
            folds=folds,
            seed=seed,
        )

    def predict(self, parts=None, **changes):
        arguments = {"expression": self.X, "scores": self.scores, "label": self.label, "groups": self.groups}
        evaluation = evaluation_of(self.split() if parts is None else parts)
        return baseline_predictions(**{**arguments, "evaluation": evaluation, "seed": 0, **changes})


def test_what_can_be_learned_is_learned_out_of_fold():
    screen = Screen()
    design = np.eye(4)[screen.rng.integers(0, 4, len(screen.X))]
    predictions = screen.predict(position=design)
    assert tuple(predictions) == BASELINES
    r2 = {name: metrics.per_score(metrics.r2, screen.scores, p.scores) for name, p in predictions.items()}
    auroc = {name: metrics.auroc(screen.label, p.probability) for name, p in predictions.items()}
    for name in LEARNERS:
        assert (r2[name] > 0.7).all()
        assert auroc[name] > 0.9
    for name in ("mean", "position"):
        assert (r2[name] < 0.05).all()
        assert auroc[name] < 0.6
    compounds = ~screen.control
    replicate = predictions["other replicate"]
    assert np.isnan(replicate.scores[screen.control]).all()
    assert metrics.r2(screen.scores[compounds, 0], replicate.scores[compounds, 0]) > 0.6
    for prediction in predictions.values():
        known = prediction.probability[compounds]
        assert ((known > 0) & (known < 1)).all()


def test_position_alone_predicts_a_confounded_design():
    screen = Screen()
    column = screen.rng.integers(0, 6, len(screen.X))
    scores = screen.rng.normal(size=6)[column][:, None] + 0.1 * screen.rng.normal(size=(len(column), 1))
    label = (column < 3).astype(float)
    screen.label = label
    got = screen.predict(scores=scores, position=np.eye(6)[column], names=("position", "mean"))["position"]
    assert metrics.r2(scores[:, 0], got.scores[:, 0]) > 0.9
    assert metrics.auroc(label, got.probability) > 0.98


@pytest.mark.parametrize("name", LEARNERS)
def test_a_gene_that_encodes_the_compound_does_not_help_across_a_compound_split(name):
    """One-hot compound genes: a well split gives the compound's value away, a compound split cannot."""
    screen = Screen(compounds=40)
    n = len(screen.compound)
    leak = np.eye(n)[np.where(screen.control, n - 1, screen.groups)] * 5
    value = screen.rng.normal(size=n)[screen.groups]
    leaky = {"expression": np.column_stack([screen.rng.normal(size=(n, 20)), leak]), "scores": value[:, None]}
    treated = ~screen.control

    def r2(rule, groups):
        got = screen.predict(screen.split(rule, folds=5), **leaky, groups=groups, names=(name,))[name]
        return metrics.r2(value[treated], got.scores[treated, 0])

    assert r2("well", np.arange(n)) > 0.3
    assert r2("compound", screen.groups) < 0.1


@pytest.mark.parametrize("name", [n for n in BASELINES if n != "other replicate"])
def test_a_prediction_depends_on_nothing_of_the_other_test_wells_nor_on_its_own_target(name):
    screen = Screen(compounds=20)
    parts = screen.split(folds=1)
    design = screen.rng.normal(size=(len(screen.X), 3))
    before = screen.predict(parts, position=design, names=(name,))[name]
    tested = np.flatnonzero(parts[0] == Part.VALIDATION)
    well, others = tested[0], tested[1:]
    X, D, scores, label = screen.X.copy(), design.copy(), screen.scores.copy(), screen.label.copy()
    X[others] += 100
    D[others] -= 50
    scores[tested] = 1e3
    label[tested] = 1 - label[tested]
    after = screen.predict(parts, expression=X, position=D, scores=scores, label=label, names=(name,))[name]
    np.testing.assert_allclose(after.scores[well], before.scores[well], rtol=1e-9)
    assert after.probability[well] == pytest.approx(before.probability[well], rel=1e-9)


@pytest.mark.parametrize("name", LEARNERS)
def test_inner_folds_hold_out_whole_compounds(name):
    """Where only the compound's own genes predict, the inner folds must choose the strongest shrinkage."""
    screen = Screen(compounds=40)
    n = len(screen.compound)
    X = np.eye(n)[screen.groups] * 5
    value = screen.rng.normal(size=n)[screen.groups][:, None]
    task = baseline_fits.Task(X, X[:2], value, np.full(n, np.nan), screen.groups, 0)
    folds = baseline_fits.inner_folds(task)
    assert all(np.unique(folds[screen.groups == g]).size == 1 for g in np.unique(screen.groups))
    fit = {"ridge": baseline_fits.ridge, "kernel ridge": baseline_fits.kernel_ridge, "pls": baseline_fits.pls}[name]
    # Learning the training compounds by heart would give ±2; shrunk to the mean it stays near it.
    if name != "pls":  # one component is the least that PLS can choose
        np.testing.assert_allclose(fit(task).scores[:, 0], value.mean(), atol=0.3)
    assert np.isnan(fit(task).probability).all()


@pytest.mark.parametrize("name", LEARNERS)
def test_missing_targets_are_masked_one_by_one(name):
    """A hole in one score changes neither the other score nor is it filled with anything."""
    screen = Screen(compounds=30)
    holes = screen.scores.copy()
    holes[::3, 1] = np.nan
    full, holed = (screen.predict(scores=s, names=(name,))[name] for s in (screen.scores, holes))
    np.testing.assert_allclose(holed.scores[:, 0], full.scores[:, 0], rtol=1e-6)
    assert np.isfinite(holed.scores).all()
    # What stood in the holes is of no consequence: fitting on the observed wells alone is the same.
    parts = screen.split(folds=1)
    kept = np.arange(len(holes)) % 3 > 0
    train = (parts == Part.TRAIN) & kept
    evaluation = Evaluation(train, (parts == Part.VALIDATION))
    column = {"scores": holes[:, 1:], "names": (name,), "label": None}
    some = screen.predict(**{**column, "evaluation": evaluation})[name]
    observed = np.isfinite(some.scores[:, 0])
    np.testing.assert_array_equal(observed, evaluation.test[0])


def test_odd_targets_are_predicted_by_their_mean_and_absent_ones_not_at_all():
    screen = Screen(compounds=12)
    n = len(screen.X)
    one_group = np.full(n, np.nan)
    one_group[:2] = 1.0, 2.0
    scores = np.column_stack([np.full(n, 0.1), np.full(n, np.nan), one_group])
    parts = screen.split(folds=1)
    parts[0, :2] = Part.TRAIN
    for name in LEARNERS:
        got = screen.predict(parts, scores=scores, label=np.zeros(n), names=(name,))[name]
        tested = parts[0] == Part.VALIDATION
        np.testing.assert_allclose(got.scores[tested, 0], 0.1)
        assert np.isnan(got.scores[:, 1]).all()
        np.testing.assert_allclose(got.scores[tested, 2], 1.5)
        assert (got.probability[tested] < 0.1).all()
        assert np.isnan(got.probability[~tested]).all()


def test_a_label_class_in_a_single_compound_is_no_reason_to_fail():
    screen = Screen(compounds=20)
    label = np.zeros(len(screen.X))
    label[:2] = 1
    parts = screen.split(folds=1)
    parts[0, :2] = Part.TRAIN
    for name in LEARNERS:
        got = screen.predict(parts, label=label, names=(name,))[name]
        assert np.isfinite(got.probability[parts[0] == Part.VALIDATION]).all()


def test_the_same_seed_gives_the_same_numbers_and_the_settings_are_told():
    screen = Screen(compounds=20)
    first, second = screen.predict(names=("ridge",))["ridge"], screen.predict(names=("ridge",))["ridge"]
    np.testing.assert_array_equal(first.scores, second.scores)
    assert len(first.settings) == 3
    assert first.settings[0][0].startswith("penalty ")
    assert first.settings[0][2].startswith("logistic penalty ")


def test_other_replicate_by_hand():
    group = np.array([0, 0, 0, 1, 1, 2])
    scores = np.array([[1.0], [3.0], [np.nan], [5.0], [7.0], [9.0]])
    label = np.array([1.0, 1.0, 0.0, 0.0, np.nan, 1.0])
    test = np.array([[True] * 3 + [False] * 3, [False, False, False, True, False, True]])
    got = other_replicate(scores, label, group, test)
    np.testing.assert_allclose(got.scores[:, 0], [3, 1, 2, 7, np.nan, np.nan])
    share = 3 / 5
    np.testing.assert_allclose(
        got.probability, [(1 + share) / 3, (1 + share) / 3, (2 + share) / 3, np.nan, np.nan, np.nan]
    )


def test_evaluation_masks():
    folds = np.array([[0, 1, 2, 2], [2, 2, 0, 1]], dtype=np.int8)
    train, test = evaluation_of(folds)
    np.testing.assert_array_equal(test, folds == Part.HELD_OUT)
    np.testing.assert_array_equal(train, ~test)
    classic = np.array([[0, 1, 0, 0]], dtype=np.int8)
    np.testing.assert_array_equal(evaluation_of(classic).test, classic == Part.VALIDATION)


def test_scaling_is_fitted_on_the_training_wells_and_constant_genes_become_0():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(5, 2, 50), np.full(50, 0.1), rng.normal(size=50)])
    train = np.arange(50) < 30
    X[~train, 1] = 7
    Z = standardised(X, train)
    np.testing.assert_allclose(Z[train][:, [0, 2]].mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(Z[train][:, [0, 2]].std(axis=0), 1)
    np.testing.assert_array_equal(Z[:, 1], 0)


def test_choosing_settings_on_a_part_of_a_large_screen(monkeypatch):
    monkeypatch.setattr(selection, "SELECTION_WELLS", 40)
    screen = Screen()
    task = baseline_fits.Task(screen.X, screen.X, screen.scores, screen.label, screen.groups, 0)
    folds = baseline_fits.inner_folds(task)
    assert 30 < (folds >= 0).sum() <= 40
    assert set(folds) == {-1, 0, 1, 2, 3, 4}
    got = screen.predict(names=LEARNERS)
    for name in LEARNERS:
        assert (metrics.per_score(metrics.r2, screen.scores, got[name].scores) > 0.6).all()


def test_bad_requests_say_why():
    screen = Screen(compounds=8)
    everything = np.ones((1, len(screen.X)), dtype=bool)
    with pytest.raises(DataError, match=r"trained on(.|\n)*member 0(.|\n)*28 wells in both"):
        screen.predict(evaluation=Evaluation(everything, everything))
    with pytest.raises(DataError, match=r"too few compounds(.|\n)*1 group"):
        screen.predict(evaluation=Evaluation(everything & (screen.groups == 0), everything & (screen.groups == 1)))
    with pytest.raises(DataError, match=r"unknown baseline(.|\n)*boosting"):
        screen.predict(names=("boosting",))
    X = screen.X.copy()
    X[2, 1] = np.nan
    with pytest.raises(DataError, match="well number 3, gene number 2"):
        screen.predict(expression=X)
    with pytest.raises(ValueError, match=r"\(N, S\)"):
        screen.predict(scores=screen.scores[:, 0])


def test_with_every_well_a_landmark_the_kernel_ridge_is_what_it_was(monkeypatch):
    screen = Screen(compounds=40)
    exact = screen.predict(names=("kernel ridge",))["kernel ridge"]
    monkeypatch.setattr(baseline_fits, "EXACT_WELLS", 10)
    sparse = screen.predict(names=("kernel ridge",))["kernel ridge"]
    assert all("landmarks" in text for member in sparse.settings for text in member)
    # The widths are of the same wells, and so the same; the penalties' unit is what m landmarks can express.
    np.testing.assert_allclose(sparse.scores, exact.scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(sparse.probability, exact.probability, atol=1e-3)


def test_with_fewer_landmarks_the_kernel_ridge_predicts_nearly_as_well(monkeypatch):
    screen = Screen(compounds=150)
    exact = screen.predict(names=("kernel ridge",))["kernel ridge"]
    monkeypatch.setattr(baseline_fits, "EXACT_WELLS", 10)
    monkeypatch.setattr(selection, "SELECTION_WELLS", 120)
    sparse = screen.predict(names=("kernel ridge",))["kernel ridge"]
    r2 = [metrics.per_score(metrics.r2, screen.scores, one.scores) for one in (exact, sparse)]
    assert np.abs(r2[0] - r2[1]).max() < 0.05
    assert not np.allclose(sparse.scores, exact.scores, atol=1e-3)


def test_no_kernel_is_larger_than_wells_by_landmarks(monkeypatch):
    """What makes the difference between gigabytes and megabytes: no product of all wells with all wells."""
    screen = Screen(compounds=150)
    monkeypatch.setattr(baseline_fits, "EXACT_WELLS", 10)
    monkeypatch.setattr(selection, "SELECTION_WELLS", 60)
    sizes = []

    def measured(a, b):
        sizes.append(len(a) * len(b))
        return squared_distances(a, b)

    monkeypatch.setattr(baseline_fits, "squared_distances", measured)
    screen.predict(names=("kernel ridge",))
    assert 0 < max(sizes) <= len(screen.X) * 60
