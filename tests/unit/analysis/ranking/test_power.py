"""The smallest p-values of a design, against the ranking's own null."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dpf.analysis.design.items.power import design_power
from dpf.analysis.ranking.p_values import benjamini_hochberg, compound_p_values
from dpf.analysis.ranking.power import detectable_effect, hits_needed, power_of, smallest_p_values

UNITS = np.r_[np.repeat(np.arange(364), 2), 364 + np.arange(40)]
CONTROL = np.arange(768) >= 728


def test_the_published_numbers() -> None:
    """40 controls, duplicates: 861 pairs of 42 wells, nine of 364 at the floor at 5%."""
    power = design_power(UNITS, CONTROL, None, fdr=0.05)
    assert power is not None
    assert power.typical == pytest.approx(1 / 861)
    assert power.hits_needed == 9


def test_the_floors_are_those_of_the_ranking() -> None:
    rng = np.random.default_rng(0)
    units = np.r_[np.repeat(np.arange(20), 2), np.repeat([20, 21], 3), 100 + np.arange(14)]
    control = units >= 100
    plate = np.r_[np.tile([0, 1], 20), [0, 0, 1, 1, 1, 0], np.repeat([0, 1], 7)]
    group = np.where(control, -1, units)
    for strata in (None, plate):
        ranked = compound_p_values(rng.random(units.size), group, 22, control, strata, rng=rng)
        power = design_power(units, control, strata, 0.05)
        assert power is not None
        np.testing.assert_allclose(power.floors, ranked.floor)


def test_many_controls_are_drawn_from_and_none_cannot_be_tested() -> None:
    units = np.r_[np.zeros(6), 1, 1, 10 + np.arange(30)].astype(np.intp)
    control = units >= 10
    plate = np.r_[np.zeros(6), 1, 1, np.zeros(30)].astype(np.intp)
    power = design_power(units, control, plate, 0.05)
    assert power is not None
    assert power.floors.tolist() == [1 / 10_001, 1.0]
    assert design_power(units[8:], control[8:], None, 0.05) is None


@pytest.mark.parametrize("floor", [1 / 781, 1 / 20, 1 / 7281, 0.049, 0.051])
def test_hits_needed_is_what_benjamini_hochberg_asks_for(floor: float) -> None:
    needed = hits_needed(np.full(364, floor), 0.05)

    def passes(k: int) -> bool:
        return bool((benjamini_hochberg(np.r_[np.full(k, floor), np.ones(364 - k)]) <= 0.05 + 1e-12).any())

    if needed is None:
        assert not passes(364)
    else:
        assert passes(needed)
        assert needed == 1 or not passes(needed - 1)


def test_mixed_floors() -> None:
    assert hits_needed(np.array([0.001, 0.04, 0.04, 0.04]), 0.05) == 1
    assert hits_needed(np.array([0.02, 0.02, 0.5, 0.5]), 0.05) == 2
    assert hits_needed(np.array([0.06, 0.06]), 0.05) is None


@pytest.mark.parametrize(("floor", "needed"), [(1 / 781, 10), (1 / 861, 9)])
def test_the_power_line_of_the_usual_design(floor: float, needed: int) -> None:
    line = power_of(np.full(364, floor), 0.05).statement(0.05)
    assert f"(1/{1 / floor:.0f}) for 364 of 364 compounds" in line
    assert f"at least {needed} must reach their smallest p" in line


def test_an_impossible_design_is_said() -> None:
    assert "none can be called, however strong" in power_of(np.full(20, 0.06), 0.05).statement(0.05)


def test_the_compound_in_the_middle_is_described() -> None:
    power = power_of(np.array([1e-4, *[1 / 455] * 208, *[0.08] * 9]), 0.05)
    assert (power.typical, power.hits_needed) == (1 / 455, 1)
    assert "(1/455) for 209 of 218 compounds" in power.statement(0.05)
    assert "at least 1 must reach" in power.statement(0.05)
    assert power.statement(0.05).endswith("(10 of those with this one)")


def test_a_compound_with_a_stratum_without_controls_cannot_be_tested() -> None:
    group = np.r_[0, 0, 1, 1, np.full(6, -1)]
    control, strata = group < 0, np.r_[0, 1, 0, 0, np.zeros(6)].astype(np.intp)
    assert smallest_p_values(group, 2, control, strata).tolist() == [1.0, 1 / 28]


@pytest.mark.parametrize(
    ("counts", "level"), [([(16, 3)], 0.05), ([(16, 3)], 4.5 / 969), ([(8, 1), (8, 1), (10, 1)], 0.05)]
)
def test_the_detectable_effect_is_found_with_the_power_promised(counts: list[tuple[int, int]], level: float) -> None:
    """By simulation: every exchange of compound and controls within the plates, the plates' own levels arbitrary."""
    shift = detectable_effect(counts, level)
    rng = np.random.default_rng(0)
    picks = [list(itertools.combinations(range(k + n), n)) for k, n in counts]
    sets = list(itertools.product(*picks))
    starts = np.cumsum([0, *(k + n for k, n in counts)])
    member = np.zeros((len(sets), starts[-1]))
    for place, one in enumerate(sets):
        for start, chosen in zip(starts, one, strict=False):
            member[place, start + np.array(chosen)] = 1
    total = sum(n for _, n in counts)
    weights = np.zeros_like(member)  # the compound's mean less that of its plates' controls
    for start, (k, n) in zip(starts, counts, strict=False):
        part = slice(start, start + k + n)
        weights[:, part] = member[:, part] / total - (1 - member[:, part]) * n / (total * k)
    real = weights[0] > 0
    assert member[0].astype(bool).tolist() == real.tolist()
    values = rng.normal(size=(600, starts[-1])) + np.repeat(rng.normal(0, 3, len(counts)), [k + n for k, n in counts])

    def found(effect: float) -> float:
        statistic = np.abs((values + effect * real) @ weights.T)
        p = (statistic >= statistic[:, :1] - 1e-12).mean(axis=1)
        return float((p <= level).mean())

    assert found(0.0) < level + 0.03
    assert found(shift) == pytest.approx(0.8, abs=0.06)


def test_no_effect_is_found_where_no_p_value_is_small_enough() -> None:
    assert detectable_effect([(4, 1)], 0.05) == np.inf  # 1/5
    assert detectable_effect([(0, 3)], 0.05) == np.inf
    assert detectable_effect([(16, 3)], 0.0005) == np.inf
    one, two, three = (detectable_effect([(k, n)], 0.01) for k, n in ((20, 2), (20, 4), (40, 4)))
    assert one > two > three
