"""Extrapolated p-values of compounds: below the floor for what lies beyond it, unchanged elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from dpf.analysis.ranking.p_values import compound_p_values
from dpf.analysis.ranking.tail import effective_wells, extrapolated_p_values
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
    assert 15 < found.fewest_wells < 30
    assert found.rejected == 0


def test_sets_rest_on_as_many_wells_as_take_part_evenly():
    assert effective_wells(np.array([[0, 1], [2, 3]])) == pytest.approx(4)
    assert effective_wells(np.array([[0, 1], [0, 2], [0, 3]])) == pytest.approx(3)  # 1/(1/4 + 3/36)
    assert effective_wells(np.array([[7, 7]])) == pytest.approx(1)


def test_a_tail_that_no_pareto_distribution_describes_is_rejected():
    """Controls of two values: their pairs have three means, and no smooth tail."""
    _, group, strata, rng = screen(60)
    t = np.where(np.arange(len(group)) % 3 == 0, 5.0, 0.0)
    p = np.full(20, 0.5)
    found = extrapolated_p_values(t, group, p, group < 0, strata, rng)
    assert found.rejected == 20
    np.testing.assert_array_equal(found.p, p)
    assert not found.extrapolated.any()


def test_few_controls_have_no_tail():
    t, group, strata, rng = screen(12)
    p = np.full(20, 0.5)
    with pytest.raises(DataError, match=r"too few control wells to fit a tail(.|\n)*66 sets(.|\n)*at least 120"):
        extrapolated_p_values(t, group, p, group < 0, strata, rng)
