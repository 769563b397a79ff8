"""Depth alone: what log counts and plate predict of a score, out of fold by compound, and when that is chance."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score, roc_auc_score

from dpf.analysis.design.depth_prediction import predict_from_depth
from dpf.splits.grouping import deal


class Wells:
    """120 wells of 30 compounds in quadruplicate and 24 controls on two plates."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.units = np.r_[np.repeat(np.arange(30), 4), 30 + np.arange(24)]
        self.groups = np.where(self.units >= 30, -2, self.units)
        self.plate = np.arange(144) % 2
        self.depth = np.exp(self.rng.normal(9, 0.6, 30).repeat(4).tolist() + self.rng.normal(9, 0.6, 24).tolist())

    def predict(self, target, is_label=False, seed=1):
        rng = np.random.default_rng(seed)
        return predict_from_depth(target, self.depth, self.plate, self.groups, self.units, is_label, rng, 199)


def test_a_score_that_follows_depth_is_predicted_as_by_scikit_learn() -> None:
    wells = Wells()
    score = np.log(wells.depth) + 3 * wells.plate + wells.rng.normal(0, 0.6, 144)
    found = wells.predict(score)
    assert found is not None
    fold = deal(wells.groups, np.zeros(144, dtype=np.intp), 5, np.random.default_rng(1))
    logs = np.log(wells.depth)
    X = np.column_stack([(logs - logs.mean()) / logs.std(), np.eye(2)[wells.plate]])
    want, alone = np.empty(144), np.empty(144)
    for k in range(5):
        want[fold == k] = Ridge(alpha=1.0).fit(X[fold != k], score[fold != k]).predict(X[fold == k])
        alone[fold == k] = Ridge(alpha=1.0).fit(X[fold != k, 1:], score[fold != k]).predict(X[fold == k, 1:])
    assert found.score == pytest.approx(r2_score(score, want), rel=1e-9)
    assert found.plate == pytest.approx(r2_score(score, alone), rel=1e-9)
    assert found.score > found.plate + 0.05
    assert found.p_value == 1 / 200
    label = (score > np.median(score)).astype(float)
    found = wells.predict(label, is_label=True)
    assert found is not None
    for k in range(5):
        want[fold == k] = Ridge(alpha=1.0).fit(X[fold != k], label[fold != k]).predict(X[fold == k])
    assert found.score == pytest.approx(roc_auc_score(label, want), rel=1e-9)


def test_by_chance_p_values_are_level_though_replicates_are_alike() -> None:
    p = []
    for seed in range(40):
        wells = Wells(seed)
        score = wells.rng.normal(size=30).repeat(4).tolist() + wells.rng.normal(size=24).tolist()
        found = wells.predict(np.array(score) + wells.rng.normal(0, 0.1, 144))
        assert found is not None
        p.append(found.p_value)
    assert np.mean(np.array(p) <= 0.05) <= 0.125


def test_what_cannot_be_predicted_is_none() -> None:
    wells = Wells()
    score = wells.rng.normal(size=144)
    assert wells.predict(np.where(np.arange(144) < 9, score, np.nan)) is None
    assert wells.predict(np.ones(144)) is None
    assert wells.predict((np.arange(144) == 0).astype(float), is_label=True) is None
    wells.depth = np.full(144, 500.0)
    assert wells.predict(score) is None
    wells.depth = np.where(np.arange(144) < 100, np.nan, wells.rng.uniform(1, 2, 144))
    found = wells.predict(score)
    assert found is not None
    assert found.n_wells == 44
