"""Targets read from the wells table: what is missing stays missing, what cannot be learnt is refused by name."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dpf.config.settings import TargetSettings
from dpf.errors import DataError, ProjectError, UsageError
from dpf.model.network import TargetLayout
from dpf.workflows.explain import find_target
from dpf.workflows.project.inputs import read_measured

WELLS = pl.DataFrame(
    {
        "well_id": ["a", "b", "c"],
        "one": [1.0, None, 3.0],
        "two": [1, 2, 3],
        "three": [0.5, 0.5, None],
        "label": [0, 1, None],
        "same": [1, 1, None],
        "text": ["x", "y", "z"],
        "nothing": pl.Series([None, None, None], dtype=pl.Float64),
        "wild": [1.0, float("inf"), 2.0],
    }
)


def test_missing_values_are_nan():
    found = read_measured(WELLS, TargetSettings(("one",), "label", ""), "here")
    np.testing.assert_array_equal(found.scores[:, 0], [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(found.label, [0.0, 1.0, np.nan])
    assert found.activation_name is None
    assert np.isnan(found.activation).all()


def test_three_scores_make_an_activation_where_none_is_named():
    found = read_measured(WELLS, TargetSettings(("one", "two", "three"), "", "auto"), "here")
    assert (found.activation_name, found.activation_source) == ("activation", "sum of one, two, three")
    assert found.activation_is_derived
    np.testing.assert_array_equal(found.activation, [2.5, np.nan, np.nan])
    for scores in (("one",), ("one", "two")):
        assert read_measured(WELLS, TargetSettings(scores, "", "auto"), "here").activation_name is None
    assert read_measured(WELLS, TargetSettings(("one", "two", "three"), "", ""), "here").activation_name is None


def test_an_activation_column_is_taken_as_it_is():
    found = read_measured(WELLS, TargetSettings((), "", "two"), "here")
    assert found.scores.shape == (3, 0)
    assert not found.activation_is_derived
    assert found.activation.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        (TargetSettings(("oen",)), ProjectError, r"oen \(nearest: one\)"),
        (TargetSettings(("text",)), DataError, "'text' is not numeric"),
        (TargetSettings(("nothing",)), DataError, "'nothing' has no value at all"),
        (TargetSettings(("wild",)), DataError, "infinite values[^$]*wells b"),
        (TargetSettings((), "same"), DataError, "needs two classes[^$]*values 1"),
        (TargetSettings((), "two"), DataError, "needs two classes[^$]*values 1, 2, 3"),
        (TargetSettings(()), ProjectError, "no target to learn"),
    ],
)
def test_what_cannot_be_learnt_is_refused(settings, error, text):
    with pytest.raises(error, match=text):
        read_measured(WELLS, settings, "here")


def test_targets_to_explain_by_name():
    full = TargetLayout(("s1", "s2"), "hit", "act")
    assert find_target("", full, 4)[0] == "act"
    assert find_target("", TargetLayout(("s1",), "hit", None), 4)[0] == "hit"
    assert find_target("", TargetLayout(("s1", "s2"), None, None), 4)[0] == "s1"
    assert find_target("latent_3", full, 4)[0] == "latent_3"
    for name in ("latent_4", "latent_x", "s3"):
        with pytest.raises(UsageError, match=r"one of s1, s2, hit, act, latent_0 ... latent_3"):
            find_target(name, full, 4)
