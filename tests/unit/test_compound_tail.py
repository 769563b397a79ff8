"""Extrapolated p-values of compounds: below the floor for what lies beyond it, unchanged elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from dpf.analysis.compound_tail import extrapolated_p_values
from dpf.analysis.nulls import compound_p_values
from dpf.errors import DataError


def screen(controls, compounds=20):
    rng = np.random.default_rng(3)
    group = np.r_[np.full(controls, -1), np.repeat(np.arange(compounds), 2)]
    t = rng.normal(size=len(group))
    t[group == 0] += 6
    t[group == 1] += 9
    return t, group, np.zeros(len(group), dtype=np.int64), rng


def test_what_ties_at_the_floor_is_told_apart():
    t, group, strata, rng = screen(40)
    p = compound_p_values(t, group, 20, group < 0, rng=rng).p
    assert p[0] == p[1] == pytest.approx(1 / 861)
    found = extrapolated_p_values(t, group, p, group < 0, strata, rng)
    assert found.p[1] < found.p[0] < 1 / 861
    assert found.extrapolated[:2].all()
    assert (found.p[~found.extrapolated] == p[~found.extrapolated]).all()
    assert 0 < found.worst_fit < 0.5


def test_few_controls_have_no_tail():
    t, group, strata, rng = screen(12)
    p = np.full(20, 0.5)
    with pytest.raises(DataError, match=r"too few control wells to fit a tail(.|\n)*66 sets(.|\n)*at least 300"):
        extrapolated_p_values(t, group, p, group < 0, strata, rng)
