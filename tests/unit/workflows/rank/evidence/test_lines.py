"""Lines of evidence: their definitions, their level where blocks differ, what they find and what not."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.spatial.distance import cdist

from dpf.errors import DataError
from dpf.workflows.project.inputs import Inputs, Measured
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.evidence.blocks import every_blocks
from dpf.workflows.rank.evidence.lines import COMPONENTS, components, weigh_evidence
from dpf.workflows.rank.rows import compound_rows


def screen(
    rng: np.random.Generator, *, compounds: int = 40, wells: int = 4, controls: int = 32, batches: int = 4,
    batch_sd: float = 0.0, moved: int = 0, effect: float = 3.0, genes: int = 60,
) -> Inputs:  # fmt: skip
    """Every compound once in each batch, as many controls in each; the first `moved` compounds move ten genes."""
    total = controls + compounds * wells
    batch = np.arange(total) % batches
    shifts = rng.normal(0, batch_sd, size=(batches, genes))
    values = rng.normal(size=(total, genes)) + shifts[batch]
    compound = np.repeat(np.arange(compounds), wells)
    values[controls:][compound < moved, :10] += effect
    frame = pl.DataFrame(
        {
            "well_id": [f"w{i}" for i in range(total)],
            "compound": ["DMSO"] * controls + [f"c{i}" for i in compound],
            "is_control": [i < controls for i in range(total)],
            "batch": [f"b{i}" for i in batch],
        }
    )
    is_control = frame["is_control"].to_numpy()
    single = values.astype(np.float32)
    return Inputs(frame, [f"G{i}" for i in range(genes)], lambda: single, is_control, "", "")


def results_of(inputs: Inputs, choices: RankChoices | None = None, seed: int = 0):
    rows = compound_rows(inputs, False)
    return weigh_evidence(inputs, None, None, rows, choices or RankChoices(), np.random.default_rng(seed)), rows


def test_the_distance_is_that_of_all_pairs() -> None:
    inputs = screen(np.random.default_rng(0), compounds=5, batches=1)
    tests, rows = results_of(inputs)
    places = components(inputs, np.zeros(inputs.wells.height, dtype=np.int64), np.random.default_rng(0))
    assert places.shape[1] == COMPONENTS
    np.testing.assert_allclose(places.mean(axis=0), 0, atol=1e-5)
    controls = places[inputs.is_control]
    for row in range(rows.count):
        own = places[rows.wells(row)]
        delta, inside, outside = (cdist(a, b, "sqeuclidean") for a, b in ((own, controls), (own, own), (controls,) * 2))
        n, k = len(own), len(controls)
        expected = 2 * delta.mean() - inside.sum() / (n * (n - 1)) - outside.sum() / (k * (k - 1))
        assert tests.distance["expression"][row] == pytest.approx(expected, rel=1e-8)


def test_p_values_of_inert_compounds_keep_their_level_where_batches_explain_nine_tenths() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(12):
        inputs = screen(rng, batch_sd=3.0)
        controls = inputs.expression[inputs.is_control]
        batch = inputs.wells.filter("is_control")["batch"].to_numpy()
        means = np.stack([controls[batch == name].mean(axis=0) for name in batch])
        assert means.var(axis=0).sum() / controls.var(axis=0).sum() > 0.85
        found.append(results_of(inputs)[0].p)
    p = np.concatenate(found)  # 480
    assert abs(np.mean(p <= 0.05) - 0.05) < 3 * np.sqrt(0.05 * 0.95 / len(p))
    assert np.mean(p <= 0.5) == pytest.approx(0.5, abs=3 * np.sqrt(0.25 / len(p)))


def test_compounds_that_move_are_found_within_batches() -> None:
    inputs = screen(np.random.default_rng(2), batch_sd=3.0, moved=8, effect=2.0)
    within, _ = results_of(inputs)
    assert set(np.flatnonzero(within.q <= 0.05)) >= set(range(8))
    assert np.sum(within.q <= 0.05) <= 10


def test_single_wells_are_ranked_among_the_controls() -> None:
    inputs = screen(np.random.default_rng(3), wells=1, compounds=10, controls=40, batches=1, moved=1, effect=6.0)
    tests, _ = results_of(inputs)
    assert tests.p[0] == pytest.approx(1 / 41)
    assert np.isfinite(tests.distance["expression"]).all()
    np.testing.assert_allclose(tests.floor, 1 / 41)


def test_without_p_values_and_without_variance() -> None:
    inputs = screen(np.random.default_rng(4), compounds=3)
    none, _ = results_of(inputs, RankChoices(null="none"))
    assert np.isnan(none.p).all()
    assert np.isfinite(none.distance["expression"]).all()
    inputs.expression[:] = 1.0
    flat, _ = results_of(inputs)
    assert np.isnan(flat.p).all()
    assert flat.statements == ("no gene varies within a stratum: no distance in expression",)


def with_columns(inputs: Inputs, **columns) -> Inputs:
    wells = inputs.wells.drop("batch").with_columns(**{name: pl.Series(values) for name, values in columns.items()})
    return Inputs(wells, inputs.genes, lambda: inputs.expression, inputs.is_control, "", "")


def test_blocks_are_what_columns_make_together_and_each_once() -> None:
    inputs = screen(np.random.default_rng(5), compounds=4)
    n = inputs.wells.height
    plate, batch = [f"p{i % 4}" for i in range(n)], [f"b{i % 2}" for i in range(n)]
    nested = every_blocks(with_columns(inputs, plate=plate, batch=batch))
    assert [(one.text, len(one.names)) for one in nested] == [("plates", 4), ("batches", 2)]
    crossed = every_blocks(with_columns(inputs, plate=plate, donor=[f"d{i % 3}" for i in range(n)]))
    assert [(one.text, len(one.names)) for one in crossed] == [("plates x donors", 12), ("plates", 4), ("donors", 3)]
    assert crossed[0].names[0] == "p0, d0"
    alike = every_blocks(with_columns(inputs, plate=plate, batch=plate))
    assert [one.text for one in alike] == ["plates"]
    assert every_blocks(with_columns(inputs, plate=["p"] * n)) == []
    gap = every_blocks(with_columns(inputs, plate=[None, *plate[1:]]))
    assert [(one.text, len(one.names), one.names[0]) for one in gap] == [("plates", 5, "not known")]
    assert every_blocks(with_columns(inputs, plate=[None] * (n - 2) + plate[:2])) == []


def test_auto_leaves_blocks_in_which_most_compounds_have_no_controls() -> None:
    """As a screen of 19 compounds with one control plate of its own for two of them."""
    inputs = screen(np.random.default_rng(6), compounds=19, wells=3, controls=30, batches=1)
    compound = inputs.wells["compound"].to_list()
    plate = ["P1" if name in ("DMSO", "c0", "c1") else "P2" for name in compound]
    tests, _ = results_of(with_columns(inputs, plate=plate))
    assert np.isfinite(tests.p).all()
    assert any("17 of 19 compounds have no controls to change places with" in line for line in tests.statements)
    within, _ = results_of(with_columns(inputs, plate=plate), RankChoices(match="plate"))
    assert np.flatnonzero(np.isfinite(within.p)).tolist() == [0, 1]
    assert any("17 compounds have no (or not enough) controls" in line for line in within.statements)


def test_a_block_that_is_not_known_is_refused() -> None:
    inputs = screen(np.random.default_rng(7), compounds=3)
    with pytest.raises(DataError, match="the donor of every well must be known") as caught:
        results_of(inputs, RankChoices(match="donor"))
    assert caught.value.found == "no donor column, or wells without a donor"
    with pytest.raises(DataError, match="the plate, batch or donor of every well"):
        results_of(with_columns(inputs), RankChoices(match="block"))


def test_lines_are_centred_on_nothing_finer_than_what_wells_are_exchanged_in() -> None:
    """Acting compounds fill most of a plate with few controls: its inert compounds are not moved with them."""
    inert = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        inputs = screen(rng, compounds=48, wells=1, controls=24, batches=1)
        values = inputs.expression
        plate = np.array(["P0"] * 4 + ["P1"] * 20 + ["P0"] * 24 + ["P1"] * 24)
        values[24 : 24 + 18, :10] += 4.0  # three quarters of the compounds on P0
        tests, _ = results_of(with_columns(inputs, plate=plate.tolist()), RankChoices(match="screen"), seed)
        inert.append(tests.p[18:24])
    assert np.mean(np.concatenate(inert) <= 0.05) < 0.2


def test_measured_targets_that_controls_lack_and_wells_lack() -> None:
    rng = np.random.default_rng(8)
    inputs = screen(rng, compounds=6, wells=3, controls=30, batches=1)
    n = inputs.wells.height
    scores = rng.normal(size=(n, 3))
    scores[0, 0] = np.nan  # one control of thirty
    scores[:10, 1] = np.nan  # a third of the controls
    scores[30, 0] = np.nan  # a well of the first compound
    scores[:, 2] = 5.0
    nothing = np.full(n, np.nan)
    measured = Measured(("a", "b", "c"), scores, None, nothing, None, nothing, None)
    rows = compound_rows(inputs, False)
    tests = weigh_evidence(inputs, measured, None, rows, RankChoices(), rng)
    assert np.flatnonzero(np.isnan(tests.line_p["measured"])).tolist() == [0]
    assert np.isfinite(tests.p).all()
    said = " | ".join(tests.statements)
    assert "b not compared as measured: more than a tenth of the controls lack it" in said
    assert "measured scores are not compared of 1 row with a well that lacks one" in said
    assert "c not compared: the same in every well" in said


def test_inert_compounds_keep_their_level_when_adjusted_for_position() -> None:
    """Fitted on all wells alike: a fit that knew the controls gave P(p ≤ .05) = .12 here."""
    found = []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        inputs = screen(rng, compounds=28, wells=3, controls=12, batches=1)
        place = rng.permutation(96)
        rows = ["ABCDEFGH"[at // 12] for at in place]
        placed = with_columns(inputs, row=rows, column=[at % 12 + 1 for at in place])
        found.append(results_of(placed, RankChoices(adjust="position"), seed)[0].p)
    p = np.concatenate(found)  # 420
    assert abs(np.mean(p <= 0.05) - 0.05) < 3 * np.sqrt(0.05 * 0.95 / len(p))
