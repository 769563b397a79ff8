"""Baselines learn what is there to learn, from training wells alone, and nothing crosses a compound split."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from scipy.special import expit
from sklearn.cross_decomposition import PLSRegression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import KernelCenterer

from dpf.analysis.evaluation import metrics
from dpf.analysis.evaluation.baselines import (
    BASELINES,
    FITTED,
    KERNEL_WIDTHS,
    Evaluation,
    baseline_predictions,
    evaluation_of,
    inner_folds,
    other_replicate,
    standardised,
)
from dpf.errors import DataError
from dpf.regression import learners, selection
from dpf.regression.learners import PENALTIES
from dpf.regression.linear_models import squared_distances
from dpf.splits.grouping import group_wells
from dpf.splits.parts import Part, make_splits

LEARNERS = ("ridge", "kernel ridge", "pls")


def r2_of(measured, predicted):
    return np.array([metrics.r2(y, f) for y, f in zip(measured.T, predicted.T, strict=True)])


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
    predictions = screen.predict(position=design, depth=screen.rng.normal(size=(len(screen.X), 1)))
    assert tuple(predictions) == BASELINES
    r2 = {name: r2_of(screen.scores, p.scores) for name, p in predictions.items()}
    auroc = {name: metrics.auroc(screen.label, p.probability) for name, p in predictions.items()}
    for name in LEARNERS:
        assert (r2[name] > 0.7).all()
        assert auroc[name] > 0.9
    for name in ("mean", "position", "depth"):
        assert (r2[name] < 0.05).all()
        assert auroc[name] < 0.6
    compounds = ~screen.control
    replicate = predictions["other replicate"]
    assert np.isnan(replicate.scores[screen.control]).all()
    assert metrics.r2(screen.scores[compounds, 0], replicate.scores[compounds, 0]) > 0.6
    for prediction in predictions.values():
        known = prediction.probability[compounds]
        assert ((known > 0) & (known < 1)).all()


def search(models, X, y, groups, label, new, loss):
    """The best of some models by the inner folds, fitted to all training wells: values of new wells."""
    folds = inner_folds(groups, label, 0)
    errors = []
    for model in models:
        out = [(k, model(X[folds != k], y[folds != k], X[folds == k])) for k in np.unique(folds)]
        errors.append(sum(loss(y[folds == k], values).sum() for k, values in out))
    return models[int(np.argmin(errors))](X, y, new)


def sklearn_ridge(penalty):
    def fit(X, y, new):
        return Ridge(alpha=penalty * np.square(X - X.mean(0)).sum() / len(X)).fit(X, y).predict(new)

    return fit


def sklearn_logistic(penalty):
    def fit(X, y, new):
        C = len(X) / (penalty * np.square(X - X.mean(0)).sum())
        return LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(X, y).decision_function(new)

    return fit


def sklearn_kernel_ridge(gamma, penalty):
    def fit(X, y, new):
        centre = KernelCenterer().fit(rbf_kernel(X, gamma=gamma))
        K, cross = centre.transform(rbf_kernel(X, gamma=gamma)), centre.transform(rbf_kernel(new, X, gamma=gamma))
        model = KernelRidge(alpha=penalty * np.trace(K) / len(X), kernel="precomputed")
        return model.fit(K, y - y.mean()).predict(cross) + y.mean()

    return fit


def squared(y, f):
    return np.square(y - f)


def log_loss(y, f):
    return np.logaddexp(0, np.where(y == 1, -f, f))


@pytest.mark.parametrize("genes", [40, 200])
def test_what_is_chosen_and_fitted_is_what_scikit_learn_would(genes):
    """From the screen to the score of every test well, with more and with fewer genes than training wells."""
    screen = Screen(compounds=30, genes=genes)
    parts = screen.split(folds=1)
    got = screen.predict(parts, scores=screen.scores[:, :1])
    train = parts[0] != Part.VALIDATION
    X = standardised(screen.X.astype(float), train)
    given = (X[train], screen.scores[train, 0], screen.groups[train], screen.label[train], X[~train])
    distances = pdist(X[train], "sqeuclidean")
    models = {
        "ridge": [sklearn_ridge(penalty) for penalty in PENALTIES],
        "kernel ridge": [
            sklearn_kernel_ridge(width / np.median(distances), penalty)
            for width in KERNEL_WIDTHS
            for penalty in PENALTIES
        ],
        "pls": [
            lambda X, y, new, k=k: PLSRegression(k + 1, scale=False).fit(X, y).predict(new).ravel()
            for k in range(learners.PLS_COMPONENTS)
        ],
    }
    for name, family in models.items():
        expected = search(family, *given, squared)
        np.testing.assert_allclose(got[name].scores[~train, 0], expected, rtol=1e-5, atol=1e-5)
    family = [sklearn_logistic(penalty) for penalty in learners.LOGISTIC_PENALTIES]
    expected = search(family, X[train], screen.label[train], *given[2:], log_loss)
    np.testing.assert_allclose(got["ridge"].probability[~train], expit(expected), atol=1e-4)


def test_position_alone_predicts_a_confounded_design():
    screen = Screen()
    column = screen.rng.integers(0, 6, len(screen.X))
    scores = screen.rng.normal(size=6)[column][:, None] + 0.1 * screen.rng.normal(size=(len(column), 1))
    label = (column < 3).astype(float)
    screen.label = label
    got = screen.predict(scores=scores, position=np.eye(6)[column])["position"]
    assert metrics.r2(scores[:, 0], got.scores[:, 0]) > 0.9
    assert metrics.auroc(label, got.probability) > 0.98


def test_a_gene_that_encodes_the_compound_does_not_help_across_a_compound_split():
    """One-hot compound genes: a well split gives the compound's value away, a compound split cannot."""
    screen = Screen(compounds=40)
    n = len(screen.compound)
    leak = np.eye(n)[np.where(screen.control, n - 1, screen.groups)] * 5
    value = screen.rng.normal(size=n)[screen.groups]
    leaky = {"expression": np.column_stack([screen.rng.normal(size=(n, 20)), leak]), "scores": value[:, None]}
    treated = ~screen.control

    def r2(rule, groups):
        got = screen.predict(screen.split(rule, folds=5), **leaky, groups=groups)
        return {name: metrics.r2(value[treated], got[name].scores[treated, 0]) for name in LEARNERS}

    by_well, by_compound = r2("well", np.arange(n)), r2("compound", screen.groups)
    assert min(by_well.values()) > 0.3
    assert max(by_compound.values()) < 0.1


def test_a_prediction_depends_on_nothing_of_the_other_test_wells_nor_on_its_own_target():
    screen = Screen(compounds=20)
    parts = screen.split(folds=1)
    design = screen.rng.normal(size=(len(screen.X), 3))
    before = screen.predict(parts, position=design, depth=design)
    tested = np.flatnonzero(parts[0] == Part.VALIDATION)
    well, others = tested[0], tested[1:]
    X, D, scores, label = screen.X.copy(), design.copy(), screen.scores.copy(), screen.label.copy()
    X[others] += 100
    D[others] -= 50
    scores[tested] = 1e3
    label[tested] = 1 - label[tested]
    after = screen.predict(parts, expression=X, position=D, depth=D, scores=scores, label=label)
    for name in FITTED:
        np.testing.assert_allclose(after[name].scores[well], before[name].scores[well], rtol=1e-9)
        assert after[name].probability[well] == pytest.approx(before[name].probability[well], rel=1e-9)


def test_inner_folds_hold_out_whole_compounds():
    """Where only the compound's own genes predict, the inner folds must choose the strongest shrinkage."""
    screen = Screen(compounds=40)
    n = len(screen.compound)
    X = np.eye(n)[screen.groups] * 5
    value = screen.rng.normal(size=n)[screen.groups][:, None]
    folds = inner_folds(screen.groups, np.full(n, np.nan), 0)
    assert all(np.unique(folds[screen.groups == g]).size == 1 for g in np.unique(screen.groups))
    parts = np.full((1, n), Part.TRAIN)
    parts[0, screen.control] = Part.VALIDATION
    got = screen.predict(parts, expression=X, scores=value, label=None)
    # Learning the training compounds by heart would give ±2; shrunk to the mean it stays near it. (PLS chooses one
    # component at the least.)
    for name in ("ridge", "kernel ridge"):
        np.testing.assert_allclose(got[name].scores[screen.control, 0], value[~screen.control].mean(), atol=0.3)
        assert np.isnan(got[name].probability).all()


def test_missing_targets_are_masked_one_by_one():
    """A hole in one score changes neither the other score nor is it filled with anything."""
    screen = Screen(compounds=30)
    holes = screen.scores.copy()
    holes[::3, 1] = np.nan
    full, holed = (screen.predict(scores=s) for s in (screen.scores, holes))
    # What stood in the holes is of no consequence: fitting on the observed wells alone is the same.
    parts = screen.split(folds=1)
    kept = np.arange(len(holes)) % 3 > 0
    evaluation = Evaluation((parts == Part.TRAIN) & kept, parts == Part.VALIDATION)
    alone = screen.predict(scores=holes[:, 1:], label=None, evaluation=evaluation)
    both = screen.predict(parts, scores=holes[:, 1:], label=None)
    tested = parts[0] == Part.VALIDATION
    for name in LEARNERS:
        np.testing.assert_allclose(holed[name].scores[:, 0], full[name].scores[:, 0], rtol=1e-6)
        assert np.isfinite(holed[name].scores).all()
        np.testing.assert_array_equal(np.isfinite(alone[name].scores[:, 0]), tested)
        # The genes are standardised on other wells, and the folds dealt anew: near, not equal.
        assert np.corrcoef(alone[name].scores[tested, 0], both[name].scores[tested, 0])[0, 1] > 0.98


def test_odd_targets_are_predicted_by_their_mean_and_absent_ones_not_at_all():
    screen = Screen(compounds=12)
    n = len(screen.X)
    one_group = np.full(n, np.nan)
    one_group[:2] = 1.0, 2.0
    scores = np.column_stack([np.full(n, 0.1), np.full(n, np.nan), one_group])
    parts = screen.split(folds=1)
    parts[0, :2] = Part.TRAIN
    predictions = screen.predict(parts, scores=scores, label=np.zeros(n))
    tested = parts[0] == Part.VALIDATION
    for got in (predictions[name] for name in LEARNERS):
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
    got = screen.predict(parts, label=label)
    for name in LEARNERS:
        assert np.isfinite(got[name].probability[parts[0] == Part.VALIDATION]).all()


def test_the_same_seed_gives_the_same_numbers_and_every_fit_is_counted():
    screen, fits = Screen(compounds=20), []
    first, second = screen.predict(on_fit=lambda: fits.append(1)), screen.predict()
    for name in BASELINES:
        if name not in ("position", "depth"):
            np.testing.assert_array_equal(first[name].scores, second[name].scores)
    assert len(fits) == 3 * (len(FITTED) - 2)


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
    folds = inner_folds(screen.groups, screen.label, 0)
    assert 30 < (folds >= 0).sum() <= 40
    assert set(folds) == {-1, 0, 1, 2, 3, 4}
    got = screen.predict()
    for name in LEARNERS:
        assert (r2_of(screen.scores, got[name].scores) > 0.6).all()


def test_bad_requests_say_why():
    screen = Screen(compounds=8)
    everything = np.ones((1, len(screen.X)), dtype=bool)
    with pytest.raises(DataError, match=r"trained on(.|\n)*member 0(.|\n)*28 wells in both"):
        screen.predict(evaluation=Evaluation(everything, everything))
    with pytest.raises(DataError, match=r"too few compounds(.|\n)*1 group"):
        screen.predict(evaluation=Evaluation(everything & (screen.groups == 0), everything & (screen.groups == 1)))
    X = screen.X.copy()
    X[2, 1] = np.nan
    with pytest.raises(DataError, match="well number 3, gene number 2"):
        screen.predict(expression=X)
    with pytest.raises(ValueError, match=r"\(N, S\)"):
        screen.predict(scores=screen.scores[:, 0])


def test_with_many_wells_no_kernel_is_larger_than_wells_by_landmarks(monkeypatch):
    """What makes the difference between gigabytes and megabytes: no product of all wells with all wells."""
    screen = Screen(compounds=150)
    monkeypatch.setattr(learners, "EXACT_WELLS", 10)
    monkeypatch.setattr(selection, "SELECTION_WELLS", 60)
    sizes = []

    def measured(a, b):
        sizes.append(len(a) * len(b))
        return squared_distances(a, b)

    monkeypatch.setattr(learners, "squared_distances", measured)
    screen.predict(screen.split(folds=1))
    assert 0 < max(sizes) <= len(screen.X) * 60
