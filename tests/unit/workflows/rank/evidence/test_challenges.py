"""Hits that are challenged: what each challenge compares, and what fails it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from dpf.analysis.ranking.omnibus import Line, omnibus_test
from dpf.errors import UsageError
from dpf.tables.storage import read_table
from dpf.workflows.project.inputs import Inputs, Measured
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.evidence.challenges import challenge_hits
from dpf.workflows.rank.evidence.library import compare_with_library
from dpf.workflows.rank.evidence.lines import weigh_evidence
from dpf.workflows.rank.rank import rank_project
from dpf.workflows.rank.rows import compound_rows
from tests.support.ranked_screens import Planted, make_screen, pretend_model, stored_project

CONTROLS, GENES = 60, 40
STRONG, ONE_WELL, SHALLOW, INERT = 0, 1, 2, 3


def screen(seed: int = 0, *, compounds: int = 30, wells: int = 4, plates: int = 2) -> Inputs:
    """Depth moves ten genes; one compound acts on genes, one has shallow wells only, as few controls have."""
    rng = np.random.default_rng(seed)
    total = CONTROLS + compounds * wells
    compound = np.r_[np.full(CONTROLS, -1), np.repeat(np.arange(compounds), wells)]
    depth = 10 ** rng.normal(5, 0.25, size=total)
    depth[:10] = 10 ** rng.normal(4.0, 0.05, size=10)
    depth[compound == SHALLOW] = 10 ** rng.normal(4.0, 0.05, size=wells)
    values = rng.normal(size=(total, GENES))
    values[:, :10] -= 4 * (np.log10(depth) - 5)[:, None]
    values[compound == STRONG, 10:25] += 3
    spot = rng.permutation(total)
    frame = pl.DataFrame(
        {
            "well_id": [f"w{i}" for i in range(total)],
            "compound": ["DMSO" if one < 0 else f"c{one}" for one in compound],
            "is_control": compound < 0,
            "plate": [f"P{i % plates}" for i in range(total)],
            "row": ["ABCDEFGHIJKLMNOP"[at // 20] for at in spot],
            "column": (spot % 20 + 1).astype(np.int64),
            "library_size": depth,
        }
    )
    single = values.astype(np.float32)
    return Inputs(frame, [f"G{i}" for i in range(GENES)], lambda: single, compound < 0, "e" * 64, "i" * 64)


def scores(inputs: Inputs, seed: int = 5) -> Measured:
    """One score: the acting compound moves it, and one compound by one well, whose others lie a little to its side."""
    code = inputs.wells["compound"].to_numpy()
    size = np.random.default_rng(seed).normal(size=len(code))
    size[code == "c0"] += 4
    size[np.flatnonzero(code == "c1")] = [1.0, 9.0, 1.2, 1.0]
    unknown = np.full(len(code), np.nan)
    return Measured(("size",), size[:, None], None, unknown, None, unknown, None)


def challenged(inputs: Inputs, fdr: float = 0.05, measured: Measured | None = None, **choices):
    rows = compound_rows(inputs, False)
    evidence = weigh_evidence(inputs, measured, None, rows, RankChoices(**choices), np.random.default_rng(1))
    return evidence, rows, challenge_hits(evidence, inputs, rows, fdr, np.random.default_rng(2))


def test_what_was_planted_survives_or_fails_the_challenge_meant_for_it() -> None:
    inputs = screen()
    evidence, _, found = challenged(inputs, measured=scores(inputs))
    assert (evidence.q[[STRONG, ONE_WELL, SHALLOW]] <= 0.05).all()
    survives, challenges, fails = (found.columns[name].to_list() for name in ("survives", "challenges", "fails"))
    assert survives[STRONG] == challenges[STRONG] == 10  # depth twice, position, 4 wells, 2 plates, no expression
    assert fails[STRONG] is None
    outlier = inputs.well_ids[int(np.flatnonzero(inputs.wells["compound"] == "c1")[1])]
    assert f"without well {outlier}" in fails[ONE_WELL]
    assert {"depth-matched controls", "depth taken off"} <= set(fails[SHALLOW].split(", "))
    hits = evidence.q <= 0.05
    assert [one is None for one in survives] == (~hits).tolist()
    whole = sum(one == of for one, of in zip(survives, challenges, strict=True) if one is not None)
    assert found.statements[0].startswith(f"challenged: {whole} of {hits.sum()} hits survive every challenge")
    table = found.table
    for row in np.flatnonzero(hits).tolist():
        own = table.filter(compound=f"c{row}")
        assert own["survives"].sum() == survives[row]
        assert own["survives"].count() == challenges[row]
        assert own.filter(~pl.col("survives"))["challenge"].to_list() == (fails[row] or "").split(", ") * bool(
            fails[row]
        )


def test_each_challenge_is_the_test_of_what_it_says() -> None:
    inputs = screen()
    evidence, rows, found = challenged(inputs, match="screen")
    line, own = evidence.lines["expression"], rows.wells(STRONG)
    depth = np.log10(inputs.wells["library_size"].to_numpy())
    plate = inputs.wells["plate"].to_numpy()
    letters, column = inputs.wells["row"].to_list(), inputs.wells["column"].to_numpy()
    place = np.column_stack([["ABCDEFGHIJ".index(one) for one in letters], column]).astype(float)

    def nearest(values):
        apart = (
            np.abs(values[:, None] - values[own])
            if values.ndim == 1
            else np.linalg.norm(values[:, None] - values[own], axis=2)
        )
        order = sorted(np.flatnonzero(inputs.is_control), key=lambda well: apart[well].min())
        return np.isin(np.arange(len(depth)), order[: CONTROLS // 3])

    about = depth - depth.mean()
    slope = np.polyfit(about[inputs.is_control], line.values[inputs.is_control], 1)[0]
    expected = {
        "depth-matched controls": (nearest(depth), own, line.values),
        "position-matched controls": (nearest(place), own, line.values),
        f"without well w{own[2]}": (inputs.is_control, np.delete(own, 2), line.values),
        "without plate P1": (inputs.is_control & (plate != "P1"), own[plate[own] != "P1"], line.values),
        "depth taken off": (inputs.is_control, own, line.values - about[:, None] * slope),
    }
    table = found.table.filter(compound="c0")
    for name, (control, wells, values) in expected.items():
        one = table.row(by_predicate=pl.col("challenge") == name, named=True)
        group = np.where(np.isin(np.arange(len(depth)), wells), 0, -1)
        test = omnibus_test({"x": Line(values, energy=True)}, group, 1, control, None, np.random.default_rng(0))
        assert (one["n"], one["controls"]) == (len(wells), control.sum())
        assert one["p"] == pytest.approx(test.p[0], abs=0.003)
    others = evidence.q <= 0.05
    assert table["level"].min() == pytest.approx(max(0.05 * others.sum() / 30, 1 / 10_001))


def test_lines_of_evidence_are_taken_away_one_at_a_time() -> None:
    rng = np.random.default_rng(4)
    inputs = screen()
    rows = compound_rows(inputs, False)
    evidence = weigh_evidence(inputs, scores(inputs), None, rows, RankChoices(), np.random.default_rng(1))
    noise = rng.normal(size=(len(rows.codes), 2))
    noise[rows.codes == STRONG] += 5
    both = replace(evidence, lines=evidence.lines | {"predicted": Line(noise)})
    found = challenge_hits(both, inputs, rows, 0.05, rng)
    fails = found.columns["fails"].to_list()
    assert fails[STRONG] is None
    assert "without the expression" in fails[SHALLOW].split(", ")
    assert "without the model" not in fails[SHALLOW].split(", ")
    assert {"without the model", "without the expression"} <= set(found.table["challenge"])


def test_what_cannot_be_made_is_shown_and_not_counted() -> None:
    """Two wells and few controls: neither one well alone nor a third of the controls can reach 0.05."""
    inputs = screen(plates=1, wells=2)
    few = np.flatnonzero(~inputs.is_control | (np.arange(len(inputs.is_control)) < 12))
    wells = inputs.wells[few].drop("library_size", "row", "plate")
    small = Inputs(wells, inputs.genes, lambda: inputs.expression[few], inputs.is_control[few], "", "")
    evidence, _, found = challenged(small, fdr=0.6)
    assert np.nanmin(evidence.p) == pytest.approx(1 / 91)
    assert found.columns["challenges"].drop_nulls().unique().to_list() == [0]
    assert found.table["p"].null_count() == found.table.height == 2 * (evidence.q <= 0.6).sum()
    assert "could not be challenged (too few wells or controls)" in found.statements[0]
    assert found.statements[0].startswith("challenged: 0 of ")


def test_depths_beyond_all_controls_have_no_match() -> None:
    inputs = screen()
    deep = pl.when(pl.col("compound") == "c0").then(1e9).otherwise(pl.col("library_size"))
    _, _, found = challenged(replace(inputs, wells=inputs.wells.with_columns(library_size=deep)))
    one = found.table.row(
        by_predicate=(pl.col("compound") == "c0") & pl.col("challenge").str.starts_with("depth-m"), named=True
    )
    assert (one["p"], one["survives"], one["controls"]) == (None, None, 0)


def test_without_hits_there_is_nothing_to_challenge() -> None:
    _, _, found = challenged(screen(), fdr=1e-9)
    assert found.statements == ["no hits to challenge"]
    assert found.table.height == 0
    assert found.columns["survives"].null_count() == 30


def test_a_leaving_out_that_is_another_one_again_is_made_once() -> None:
    """Each replicate on a plate of its own, plate by plate: without the plate is without the well."""
    inputs = screen(plates=4)
    _, _, found = challenged(inputs, match="plate")
    names = found.table.filter(compound="c0")["challenge"].to_list()
    assert sum(name.startswith("without well") for name in names) == 4
    assert not any(name.startswith("without plate") for name in names)


def test_controls_that_differ_from_the_whole_library_are_told() -> None:
    inputs = screen(compounds=40)
    inputs.expression[~inputs.is_control, 30:] += 3
    rows = compound_rows(inputs, False)
    evidence = weigh_evidence(inputs, None, None, rows, RankChoices(), np.random.default_rng(1))
    assert (evidence.q <= 0.05).sum() > 30
    columns, lines = compare_with_library(evidence, 0.05, np.random.default_rng(3))
    assert (columns["q_library"] <= 0.05).sum() <= 5
    assert columns["q_library"][STRONG] <= 0.05
    assert any("against the controls cannot be distinguished from the rest of the library" in line for line in lines)


def test_a_small_library_is_no_reference() -> None:
    inputs = screen(compounds=10)
    rows = compound_rows(inputs, False)
    evidence = weigh_evidence(inputs, None, None, rows, RankChoices(), np.random.default_rng(1))
    columns, lines = compare_with_library(evidence, 0.05, np.random.default_rng(3))
    assert columns == {}
    assert lines == [
        "not compared with the library: 10 rows can be tested, and it takes 20 for most of them to be inert"
    ]


@pytest.mark.parametrize("with_model", [True, False])
@pytest.mark.parametrize("by_dose", [True, False])
def test_the_ranking_and_its_tables(tmp_path, monkeypatch, with_model: bool, by_dose: bool) -> None:
    inputs, outputs = make_screen(Planted(compounds=30, wells=4, on={0: 9.0}, doses=(1.0, 10.0)))
    project = stored_project(tmp_path / "p", inputs)
    if with_model:
        pretend_model(monkeypatch, outputs)
        monkeypatch.setattr("dpf.workflows.rank.rank.draw_ranking", lambda *given: ())
    plain = rank_project(project, choices=RankChoices(by_dose=by_dose))
    result = rank_project(project, choices=RankChoices(by_dose=by_dose, challenge=True, reference="library"))
    added = ["p_library", "q_library", "survives", "challenges", "fails"]
    assert [name for name in result.table.columns if name not in plain.table.columns] == added
    assert result.table.drop(added).equals(plain.table)
    table = read_table(result.path.with_name("challenges.parquet"), "challenges")
    assert ("concentration" in table.columns) == by_dose
    assert result.path.with_name("challenges.parquet") in result.files
    assert any(name.startswith("without the") for name in table["challenge"])
    assert "survive every challenge" in "\n".join(result.statements)
    assert "against the rest of the library" in "\n".join(result.statements)
    best = result.table.row(0, named=True)
    assert best["compound"] == "drug 0"
    assert best["survives"] > 0
    assert best["q_library"] <= 0.05


@pytest.mark.parametrize(
    ("choice", "flag"), [({"challenge": True}, "--challenge"), ({"reference": "library"}, "--ref")]
)
def test_without_p_values_neither_can_be_asked_for(choice, flag) -> None:
    with pytest.raises(UsageError, match="there are no p-values to compare") as caught:
        RankChoices(null="none", **choice)
    assert caught.value.found.startswith(f"--null none with {flag}")
