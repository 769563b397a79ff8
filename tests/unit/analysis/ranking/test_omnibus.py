"""All lines of evidence under the same exchanges: each line's p, the p of all, and its level whatever they share."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dpf.analysis.ranking.omnibus import Line, omnibus_among, omnibus_test
from dpf.analysis.ranking.p_values import compound_p_values


def design(compounds: int, wells: int, controls: int) -> tuple[np.ndarray, np.ndarray]:
    group = np.r_[np.full(controls, -1), np.repeat(np.arange(compounds), wells)]
    return group, group < 0


def by_definition(lines: dict[str, np.ndarray], own: list[int], controls: list[int]) -> tuple[dict[str, float], float]:
    """Every set of as many wells, one by one: squared lengths of differences of means, shares, sums of 1/p."""
    pool = [*controls, *own]
    sets = list(itertools.combinations(pool, len(own)))
    at = sets.index(tuple(own))
    p = {}
    for name, values in lines.items():
        lengths = [
            np.linalg.norm(values[list(one)].mean(axis=0) - values[[w for w in pool if w not in one]].mean(axis=0))
            for one in sets
        ]
        p[name] = np.array([np.mean([other >= length - 1e-9 for other in lengths]) for length in lengths])
    together = sum(1 / values for values in p.values())
    return {name: float(values[at]) for name, values in p.items()}, float(np.mean(together >= together[at] - 1e-9))


@pytest.mark.parametrize("seed", range(5))
def test_every_set_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group, control = design(3, 3, 7)
    values = {"a": rng.normal(size=(16, 2)), "b": rng.normal(size=(16, 1))}
    values["a"][group == 1] += 1.5
    found = omnibus_test({k: Line(v) for k, v in values.items()}, group, 3, control, None, rng)
    for compound in range(3):
        own, pool = np.flatnonzero(group == compound).tolist(), np.flatnonzero(control).tolist()
        lines, together = by_definition(values, own, pool)
        assert found.p[compound] == pytest.approx(together, abs=1e-12)
        for name in values:
            assert found.line_p[name][compound] == pytest.approx(lines[name], abs=1e-12)
            expected = np.linalg.norm(values[name][own].mean(axis=0) - values[name][pool].mean(axis=0))
            assert found.values[name][compound] == pytest.approx(expected)
    np.testing.assert_allclose(found.floor, 1 / 120)


@pytest.mark.parametrize(("wells", "controls"), [(2, 20), (4, 40), (1, 25)])
def test_one_line_is_the_test_of_that_line(wells: int, controls: int) -> None:
    rng = np.random.default_rng(3)
    group, control = design(12, wells, controls)
    strata = np.arange(len(group)) % 2 if wells % 2 == 0 else np.zeros(len(group), dtype=np.int64)
    values = rng.normal(size=(len(group), 5))
    values[group == 2] += 1
    mine = omnibus_test({"x": Line(values, energy=True)}, group, 12, control, strata, np.random.default_rng(7))
    np.testing.assert_allclose(mine.p, mine.line_p["x"])
    distance = np.abs(values[:, :1]) + 10.0  # one-sided from far away: mean and squared difference agree in order
    far = omnibus_test({"x": Line(distance)}, group, 12, control, strata, np.random.default_rng(7))
    one_sided = compound_p_values(distance[:, 0], group, 12, control, strata, rng=np.random.default_rng(7))
    np.testing.assert_allclose(far.floor, one_sided.floor)


def test_inert_compounds_keep_their_level_whatever_the_lines_share() -> None:
    """Independent, equal and noisy copies of one another; heavy tails; 60 screens of 20 compounds."""
    rng = np.random.default_rng(5)
    p = []
    for _ in range(60):
        group, control = design(20, 2, 20)
        base = rng.standard_t(3, size=(60, 4))
        lines = {
            "a": Line(base, energy=True),
            "b": Line(base[:, :2] + 0.1 * rng.normal(size=(60, 2))),
            "c": Line(rng.normal(size=(60, 3))),
        }
        p.append(omnibus_test(lines, group, 20, control, None, rng).p)
    values = np.concatenate(p)
    for level in (0.01, 0.05, 0.2, 0.5):
        share = np.mean(values <= level)
        # compounds of a screen share controls: three standard errors of screens, not of compounds
        error = np.std([np.mean(one <= level) for one in p]) / np.sqrt(len(p))
        assert share <= level + 3 * error, level
        assert share >= level - 4 * error - 0.006, level


def test_what_one_line_sees_is_found_though_the_others_see_nothing() -> None:
    rng = np.random.default_rng(6)
    group, control = design(30, 4, 40)
    seen = rng.normal(size=(160, 2))
    seen[(group >= 0) & (group < 5)] += 3
    lines = {"a": Line(seen), "b": Line(rng.normal(size=(160, 10)), energy=True), "c": Line(rng.normal(size=(160, 1)))}
    found = omnibus_test(lines, group, 30, control, None, rng)
    assert (found.p[:5] < 0.005).all()


def test_a_compound_without_values_in_a_line_is_compared_in_the_others() -> None:
    rng = np.random.default_rng(7)
    group, control = design(3, 2, 12)
    gaps = rng.normal(size=(18, 1))
    gaps[group == 1] = np.nan
    found = omnibus_test({"a": Line(rng.normal(size=(18, 2))), "b": Line(gaps)}, group, 3, control, None, rng)
    assert np.isnan(found.line_p["b"][1])
    assert found.p[1] == pytest.approx(found.line_p["a"][1])
    only = omnibus_test({"b": Line(gaps)}, group, 3, control, None, rng)
    assert np.isnan(only.p[1])
    assert np.isfinite(only.p[[0, 2]]).all()


def test_a_line_that_does_not_vary_says_nothing() -> None:
    group, control = design(3, 2, 12)
    found = omnibus_test({"a": Line(np.zeros((18, 2)))}, group, 3, control, None, np.random.default_rng(0))
    np.testing.assert_array_equal(found.p, 1.0)


def among_by_definition(lines: dict[str, np.ndarray], own: list[int], pool: list[int]) -> float:
    """`by_definition` with all wells of the library as the pool."""
    return by_definition(lines, own, [well for well in pool if well not in own])[1]


def test_the_library_as_reference_by_hand() -> None:
    rng = np.random.default_rng(8)
    group, _ = design(6, 2, 5)
    values = {"a": rng.normal(size=(17, 2)), "b": rng.normal(size=(17, 1))}
    values["a"][group == 1] += 2
    values["a"][group < 0] += 100  # controls take no part
    p, floor = omnibus_among({k: Line(v) for k, v in values.items()}, group, 6, np.zeros(17, dtype=np.int64), rng)
    pool = np.flatnonzero(group >= 0).tolist()
    for compound in range(6):
        expected = among_by_definition(values, np.flatnonzero(group == compound).tolist(), pool)
        assert p[compound] == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(floor, 1 / 66)


@pytest.mark.parametrize("wells", [2, 4])
def test_the_library_as_reference_is_the_controls_test_with_the_others_as_controls(wells: int) -> None:
    """Of one compound, on draws: within what 10,000 of them differ by; in strata, with an E-distance."""
    rng = np.random.default_rng(9)
    group, _ = design(40, wells, 0)
    strata = np.arange(len(group)) % 2
    lines = {"a": Line(rng.normal(size=(len(group), 4)), energy=True), "b": Line(rng.normal(size=(len(group), 2)))}
    p, _ = omnibus_among(lines, group, 40, strata, rng)
    for compound in (0, 5, 11):
        alone = np.where(group == compound, 0, -1)
        found = omnibus_test(lines, alone, 1, alone < 0, strata, rng)
        assert p[compound] == pytest.approx(found.p[0], abs=0.02)


def test_inert_compounds_are_uniform_against_the_library_though_the_controls_differ() -> None:
    rng = np.random.default_rng(10)
    library, controls = [], []
    for _ in range(40):
        group, control = design(30, 2, 20)
        base = rng.standard_t(3, size=(80, 3))
        base[control] += 1.5
        lines = {"a": Line(base, energy=True), "b": Line(rng.normal(size=(80, 2)))}
        strata = np.zeros(80, dtype=np.int64)
        library.append(omnibus_among(lines, group, 30, strata, rng)[0])
        controls.append(omnibus_test(lines, group, 30, control, strata, rng).p)
    values = np.concatenate(library)
    for level in (0.01, 0.05, 0.2, 0.5, 0.8):
        assert np.mean(values <= level) == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / len(values)))
    assert np.mean(np.concatenate(controls) <= 0.05) > 0.2


def test_of_a_library_with_gaps_each_compound_is_compared_by_the_lines_it_has() -> None:
    rng = np.random.default_rng(11)
    group, _ = design(8, 2, 0)
    whole, gaps = rng.normal(size=(16, 2)), rng.normal(size=(16, 1))
    gaps[group == 1] = np.nan
    strata, pool = np.zeros(16, dtype=np.int64), list(range(16))
    p, _ = omnibus_among({"a": Line(whole), "b": Line(gaps)}, group, 8, strata, rng)
    assert p[1] == pytest.approx(among_by_definition({"a": whole}, [2, 3], pool))
    there = [well for well in pool if well not in (2, 3)]
    assert p[0] == pytest.approx(among_by_definition({"a": whole, "b": gaps}, [0, 1], there))
    assert np.isnan(omnibus_among({"b": Line(gaps)}, group, 8, strata, rng)[0][1])
    alone = np.where(group == 0, 0, -1)
    assert omnibus_among({"a": Line(whole)}, alone, 1, strata, rng)[0].tolist() == [1.0]
