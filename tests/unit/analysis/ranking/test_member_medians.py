"""Members that see their held-out controls at different distances are noticed, equal ones are not."""

from __future__ import annotations

import numpy as np
import pytest

from dpf.analysis.ranking.standardise import members_differ, standardise
from dpf.splits.parts import Part


def found(shift, controls=40, members=4, seed=0):
    rng = np.random.default_rng(seed)
    n = controls + 60
    parts = np.full((members, n), Part.TRAIN)
    fold = np.arange(n) % members
    parts[fold, np.arange(n)] = Part.HELD_OUT
    values = 5 + rng.normal(size=(members, n))
    values[0, fold == 0] += shift
    control = np.arange(n) < controls
    return members_differ(standardise(values, parts, control), control)


def test_a_member_that_stands_apart():
    differing = found(4.0)
    assert differing is not None
    assert differing.p < 0.01
    assert differing.medians[0] > differing.medians[1:].max() + 1
    assert len(differing.medians) == 4
    few = found(9.0, controls=24)  # six in each member
    assert few is not None
    assert len(few.medians) == 4


def test_members_alike_are_rarely_said_to_differ():
    assert np.mean([found(0.0, seed=seed) is not None for seed in range(200)]) == pytest.approx(0.01, abs=0.025)


def test_one_member_differs_from_nobody():
    assert found(0.0, members=1) is None
