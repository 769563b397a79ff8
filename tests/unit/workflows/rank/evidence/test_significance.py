"""What `dpf rank`'s p-values promise: uniform for inert compounds, powerful for real ones, discoveries that hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import kstest

from dpf.analysis.ranking.p_values import compound_p_values
from dpf.errors import DataError
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.evidence.significance import run_tests
from dpf.workflows.rank.rows import compound_rows
from dpf.workflows.rank.wells import rank_wells
from tests.support.ranked_screens import SETTINGS, Planted, make_screen, run_planted

INERT = Planted(compounds=40)


def p_values(planted: Planted, seeds: int, choices: RankChoices | None = None) -> np.ndarray:
    return np.stack([run_planted(replace(planted, seed=seed), choices)[0].p for seed in range(seeds)])


def test_inert_compounds_have_uniform_p_values():
    """One compound a screen for the KS test (those of one screen share its controls), all of them for the tail."""
    p = p_values(INERT, 60)
    assert kstest(p[:, 0], "uniform").pvalue > 0.01
    assert np.mean(p <= 0.05) < 0.05 + 3 * p.mean(axis=1).std() / np.sqrt(len(p))
    assert np.mean(p <= 2 / 861) < 3 * 2 / 861


def test_plate_matched_p_values_are_uniform_too():
    p = p_values(Planted(compounds=40, plates=2), 40, RankChoices(match="plate"))
    assert kstest(p[:, 0], "uniform").pvalue > 0.01


def test_trained_on_wells_would_not_be():
    """Compounds that were held out against controls that were trained on: every p is too small. The trap."""
    p = []
    for seed in range(20):
        _, rows, wells = run_planted(Planted(seed=seed, compounds=40))
        seen = np.linalg.norm(wells.deviation, axis=2) / wells.scale[:, None]
        parts = wells.outputs.parts
        t = np.where(
            rows.codes >= 0,
            np.max(np.where(parts == 2, seen, 0), axis=0),
            np.max(np.where(parts == 0, seen, 0), axis=0),
        )
        p.append(compound_p_values(t, rows.codes, rows.count, rows.codes < 0, rng=np.random.default_rng(seed)).p)
    assert kstest(np.array(p)[:, 0], "uniform").pvalue < 1e-3
    assert np.mean(np.array(p) <= 0.05) > 0.3


def test_planted_compounds_are_found_and_discoveries_hold():
    """A third of the compounds acts: those of 5 robust SD are found, and few of those called are inert."""
    found, false, called = [], [], []
    for seed in range(20):
        acting = dict.fromkeys(range(0, 20), 5.0)
        tests, _, _ = run_planted(Planted(seed=seed, compounds=60, on=acting))
        hit = tests.q <= 0.1
        found.append(hit[:20].mean())
        false.append(hit[20:].sum() / max(hit.sum(), 1))
        called.append(hit.sum())
    assert np.mean(found) > 0.85
    assert np.mean(false) <= 0.1 + 2 * np.std(false) / np.sqrt(20)
    assert np.min(called) > 0


def test_power_rises_with_the_effect():
    power = []
    for strength in (0.0, 2.0, 4.0, 8.0):
        acting = dict.fromkeys(range(10), strength)
        p = [run_planted(Planted(seed=seed, compounds=30, on=acting))[0].p[:10] for seed in range(5)]
        power.append(np.mean(np.array(p) <= 0.05))
    assert power == sorted(power)
    assert power[0] < 0.15
    assert power[-1] > 0.95


def test_the_power_line_counts_what_benjamini_hochberg_needs():
    tests, _, _ = run_planted(Planted(compounds=364))
    assert tests.power is not None
    assert tests.power.typical == pytest.approx(1 / 861)
    assert tests.power.hits_needed == 9


def test_too_few_controls_say_how_many_are_needed():
    with pytest.raises(DataError, match=r"no compound could reach 0.05(.|\n)*3 control wells(.|\n)*at least 5"):
        run_planted(Planted(compounds=20, controls=3, members=3, wells=2), RankChoices(match="screen"))


def test_auto_compares_by_plate_where_that_can_call_something_and_says_where_it_cannot():
    plates, _, _ = run_planted(Planted(compounds=30, wells=4, plates=2))
    assert plates.matched == "plates"
    few, _, _ = run_planted(Planted(compounds=60, plates=10))
    assert few.matched == "screen"
    assert "within plates, " in few.statements[0]
    asked, _, _ = run_planted(Planted(compounds=60, plates=10), RankChoices(match="plate"))
    assert asked.matched == "plates"


def test_a_compound_on_a_plate_without_controls_is_not_tested_and_that_is_said():
    inputs, outputs = make_screen(Planted(compounds=20))
    elsewhere = pl.when(pl.col("compound") == "drug 3").then(pl.lit("P9")).otherwise(pl.col("plate"))
    inputs = replace(inputs, wells=inputs.wells.with_columns(plate=elsewhere))
    rows = compound_rows(inputs, False)
    wells = rank_wells(outputs, inputs, rows.codes, SETTINGS.latent, "none")
    tests = run_tests(wells, inputs, rows, RankChoices(match="plate"), np.random.default_rng(0))
    assert np.flatnonzero(np.isnan(tests.p)).tolist() == [3]
    assert any(
        "1 compound has no (or not enough) controls to change places with within plates" in text
        for text in tests.statements
    )


def test_adjusting_for_position_restores_calibration():
    """Columns shift the latent; controls stand in two of them."""
    shifted = Planted(compounds=40, column_shift=4.0, seed=3)
    plain, _, _ = run_planted(shifted)
    adjusted, _, _ = run_planted(shifted, RankChoices(adjust="position"))
    unshifted, _, _ = run_planted(Planted(compounds=40, seed=3))
    assert np.corrcoef(adjusted.p, unshifted.p)[0, 1] > np.corrcoef(plain.p, unshifted.p)[0, 1] + 0.2
