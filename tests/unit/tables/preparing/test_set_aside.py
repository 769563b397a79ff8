"""Wells that take no part: which, why, and that nothing is computed from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from dpf.errors import DataError
from dpf.tables.genes.set_scores import Signature
from dpf.tables.genes.table import describe_genes
from dpf.tables.preparing.options import Preparation
from dpf.tables.preparing.prepare import prepare
from dpf.tables.preparing.set_aside import _medians_of_others, proposed
from dpf.tables.screen import Screen, Targets, summarise

LOG_CPM = Preparation(normalize="log-cpm")


def screen(seed: int = 0, *, wells: int = 96, controls: int = 24, depth: float = 2000.0, genes: int = 300) -> Screen:
    """Inert compounds on two plates of equal depth, negative binomial counts with a dispersion of 0.1."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(genes, 0.5))
    library = depth * np.exp(rng.normal(0, 0.3, size=(wells, 1)))
    counts = rng.negative_binomial(10, 10 / (10 + shares * library)).astype(np.float32)
    frame = pl.DataFrame(
        {
            "well_id": [f"w{i}" for i in range(wells)],
            "compound": ["DMSO"] * controls + [f"c{i % 24}" for i in range(wells - controls)],
            "is_control": [i < controls for i in range(wells)],
            "plate": [f"p{i % 2}" for i in range(wells)],
            "score": rng.normal(size=wells),
        }
    )
    return Screen(frame, describe_genes([f"G{i}" for i in range(genes)])[0], counts, Targets(scores=("score",)))


def aside(prepared: Screen) -> dict[str, str]:
    if "set_aside" not in prepared.wells.columns:
        return {}
    return dict(prepared.wells.filter(pl.col("set_aside").is_not_null()).select("well_id", "set_aside").iter_rows())


def emptied(before: Screen, wells: list[int], share: float = 0.04) -> Screen:
    rng = np.random.default_rng(1)
    counts = before.expression.copy()
    counts[wells] = rng.binomial(counts[wells].astype(int), share)
    return replace(before, expression=counts)


def test_sound_wells_all_take_part() -> None:
    found = [len(aside(prepare(screen(seed), LOG_CPM)[0])) for seed in range(20)]
    assert sum(found) <= 4  # of 1,920 wells


def test_wells_without_rna_are_set_aside_with_their_counts_and_nothing_is_computed_from_them() -> None:
    dead = [3, 20, 30, 31, 77]
    before = emptied(screen(), dead)
    signature = Signature("s", ("G0", "G1", "G2"))
    options = replace(LOG_CPM, signatures=(signature,), top_variable=50)
    after, fitted = prepare(before, options)
    found = aside(after)
    assert sorted(found) == sorted(f"w{i}" for i in dead)
    counts = before.expression[3].sum()
    assert found["w3"].startswith(f"too few counts ({counts:,.0f} of at least ")
    assert after.wells.height == 96
    assert after.wells["well_id"].to_list()[-5:] == [f"w{i}" for i in dead]
    assert after.wells.tail(5)["s"].null_count() == 5
    kept = np.setdiff1d(np.arange(96), dead)
    without, same = prepare(
        replace(before, wells=before.wells[kept.tolist()], expression=before.expression[kept]), options
    )
    np.testing.assert_array_equal(fitted.depth_share, same.depth_share)
    np.testing.assert_allclose(after.wells.head(91)["s"].to_numpy(), without.wells["s"].to_numpy())
    assert after.genes.filter("in_model")["gene"].to_list() == without.genes.filter("in_model")["gene"].to_list()
    assert any("5 wells set aside, out of everything that follows: too few counts 5" in n.text for n in after.notes)


def test_a_third_of_failed_wells_does_not_hide_them() -> None:
    dead = list(range(24, 56))
    assert sorted(aside(prepare(emptied(screen(), dead), LOG_CPM)[0])) == sorted(f"w{i}" for i in dead)


def test_each_plate_has_a_threshold_of_its_own() -> None:
    before = screen()
    shallow = np.array([name == "p1" for name in before.wells["plate"]])
    counts = before.expression.copy()
    counts[shallow] = np.random.default_rng(2).binomial(counts[shallow].astype(int), 0.2)
    assert aside(prepare(replace(before, expression=counts), LOG_CPM)[0]) == {}


def test_the_thresholds_can_be_set() -> None:
    before = screen()
    library = before.expression.sum(axis=1)
    after, _ = prepare(before, replace(LOG_CPM, min_counts=1800))
    assert sorted(aside(after)) == sorted(f"w{i}" for i in np.flatnonzero(library < 1800))
    detected = (before.expression > 0).sum(axis=1)
    few = int(np.sort(detected)[5])
    after, _ = prepare(before, replace(LOG_CPM, min_counts=0, min_genes=few))
    assert sorted(aside(after)) == sorted(f"w{i}" for i in np.flatnonzero(detected < few))
    dead = emptied(before, [30])
    assert aside(prepare(dead, replace(LOG_CPM, min_counts=0, min_genes=0))[0]) == {}


def test_wells_that_are_kept_all_the_same_keep_their_reason() -> None:
    before = emptied(screen(), [30, 40])
    after, _ = prepare(before, replace(LOG_CPM, keep_flagged=True))
    assert after.wells["well_id"].to_list() == before.wells["well_id"].to_list()
    assert sorted(aside(after)) == ["w30", "w40"]
    assert any("2 wells to be set aside, used if they hold cells (--keep-flagged)" in n.text for n in after.notes)


def test_a_control_that_is_none_is_set_aside() -> None:
    before = screen()
    counts = before.expression.copy()
    counts[4] = np.random.default_rng(3).permutation(counts[4])
    found = aside(prepare(replace(before, expression=counts), LOG_CPM)[0])
    assert found == {"w4": "unlike the other controls of its plate"}
    values = np.log2(1e6 * counts / counts.sum(axis=1, keepdims=True) + 1).astype(np.float32)
    normalised, _ = prepare(replace(before, expression=values), Preparation())
    assert aside(normalised) == {"w4": "unlike the other controls of its plate"}
    assert any("the depth of the wells is not known" in note.text for note in normalised.notes)


def test_normalised_values_are_judged_by_the_genes_that_they_have() -> None:
    before = emptied(screen(), [30], 0.01)
    counts = before.expression
    values = np.log2(1e6 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) + 1).astype(np.float32)
    found = aside(prepare(replace(before, expression=values), Preparation())[0])
    assert list(found) == ["w30"]
    assert found["w30"].startswith("too few genes (")


def test_compounds_without_a_usable_well_are_named() -> None:
    before = screen()
    lone = before.wells.with_columns(
        compound=pl.when(pl.col("well_id") == "w30").then(pl.lit("lone")).otherwise("compound")
    )
    after, _ = prepare(emptied(replace(before, wells=lone), [30]), LOG_CPM)
    assert any("1 compound without a usable well, not measured: lone" in note.text for note in after.notes)
    summary = summarise(after)
    assert (summary.wells, summary.set_aside) == (95, {"too few counts": 1})


def test_all_controls_or_all_compounds_set_aside_is_an_error() -> None:
    with pytest.raises(DataError, match="every control well is set aside") as caught:
        prepare(emptied(screen(), list(range(24))), LOG_CPM)
    assert "--keep-flagged" in str(caught.value)
    names = screen().wells.with_columns(compound=pl.when("is_control").then("compound").otherwise(pl.lit("empty")))
    with pytest.raises(DataError, match="every compound well is set aside"):
        prepare(replace(screen(), wells=names), LOG_CPM)


def test_what_init_would_set_aside_is_proposed_for_a_project_that_has_the_measures() -> None:
    after, _ = prepare(emptied(screen(), [30, 40]), LOG_CPM)
    reasons = proposed(after.wells.drop("set_aside"))
    assert after.wells.filter(reasons.is_not_null())["well_id"].to_list() == ["w30", "w40"]
    assert proposed(after.wells.select("well_id", "compound", "is_control")).null_count() == 96


def test_few_controls_are_not_compared_and_a_small_plate_takes_the_median_of_all() -> None:
    before = screen(controls=8)
    counts = before.expression.copy()
    counts[4] = np.random.default_rng(3).permutation(counts[4])
    assert aside(prepare(replace(before, expression=counts), LOG_CPM)[0]) == {}  # 4 controls a plate
    plates = before.wells.with_columns(plate=pl.when(pl.col("well_id") == "w30").then(pl.lit("p9")).otherwise("plate"))
    assert list(aside(prepare(emptied(replace(before, wells=plates), [30]), LOG_CPM)[0])) == ["w30"]


@pytest.mark.parametrize("k", [2, 3, 6, 7, 30])
def test_medians_of_the_others_are_those_without_each_row(k: int) -> None:
    profiles = np.random.default_rng(k).integers(0, 5, size=(k, 40)).astype(float)
    expected = [np.median(np.delete(profiles, at, axis=0), axis=0) for at in range(k)]
    np.testing.assert_array_equal(_medians_of_others(profiles), expected)
