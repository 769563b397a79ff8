"""`dpf rank` on planted screens: the table, what it refuses, what it says, and what stands beside it."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dpf.errors import DataError, UsageError
from dpf.figures import ranking, volcano
from dpf.tables.storage import read_about, read_table
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.rank import rank_project
from dpf.workflows.rank.verdicts import HITS, Verdict, verdicts
from tests.support import ranked_screens
from tests.support.ranked_screens import Planted, make_screen, pretend_model, single_run, stored_project

ACTING = Planted(compounds=30, on={0: 9.0, 1: -9.0}, across={2: 9.0})


@pytest.fixture
def rank(tmp_path, monkeypatch):
    """Rank a planted screen, changed first by `change(inputs, outputs)`."""

    def run(planted=ACTING, change=None, **choices):
        inputs, outputs = make_screen(planted)
        if change is not None:
            inputs, outputs = change(inputs, outputs)
        project = stored_project(tmp_path / "p", inputs)
        pretend_model(monkeypatch, outputs)
        monkeypatch.setattr("dpf.workflows.rank.rank.draw_ranking", lambda *given: ())
        return rank_project(project, choices=RankChoices(**choices))

    return run


def row(result, compound):
    return result.table.row(by_predicate=pl.col("compound") == compound, named=True)


def said(result):
    return "\n".join(result.statements)


def with_wells(**columns):
    return lambda inputs, outputs: (replace(inputs, wells=inputs.wells.with_columns(**columns)), outputs)


def test_the_table_says_what_was_planted(rank):
    result = rank()
    first = {name: row(result, f"drug {code}") for name, code in (("up", 0), ("down", 1), ("across", 2), ("inert", 9))}
    assert [first[name]["verdict"] for name in first] == [
        "activating hit", "suppressing hit", "off-axis hit", "not distinguishable",
    ]  # fmt: skip
    assert (first["up"]["direction"], first["down"]["direction"]) == ("activation", "suppression")
    assert first["up"]["pattern_cosine"] > 0.9
    assert first["down"]["pattern_cosine"] < -0.9
    assert abs(first["across"]["pattern_cosine"]) < 0.5
    assert first["up"]["on_axis"] > 0.7 > 0.3 > first["across"]["on_axis"]
    assert first["up"]["activation_p"] < 0.01 < first["inert"]["activation_p"]
    assert first["up"]["t_low"] < first["up"]["t"] < first["up"]["t_high"]
    assert first["up"]["rank_low"] <= first["up"]["rank"] <= first["up"]["rank_high"]
    assert first["up"]["replicates_agree"] is True
    assert first["up"]["size_predicted_shift"] == pytest.approx(9.0)
    assert first["up"]["size_measured_shift"] == pytest.approx(9.0, abs=0.4)
    assert result.table.get_column("held_out").all()
    assert {"distance_cosine_z", "distance_mahalanobis_z", "norm_mean", "norm_std", "replicate_map_p"} <= set(
        result.table.columns
    )
    assert result.power.startswith("power: smallest attainable p 0.0012 (1/861) for 30 of 30 compounds")


def test_the_footer_knows_the_choices(rank):
    about = read_about(rank(fdr=0.1).path, "ranking")
    assert about["choices"]["fdr"] == 0.1
    assert about["choices"]["null"] == "exchange"
    assert about["power"].startswith("power:")
    assert about["statements"][0].endswith("control values pooled over members.")


def test_the_same_answer_twice(rank):
    assert rank().table.equals(rank().table)


def test_the_verdict_rule():
    rows = [  # q, activation, its p, cosine
        (0.01, 4.0, 0.1, 0.71, "activating hit"),
        (0.05, -4.0, 0.01, -0.71, "suppressing hit"),
        (0.01, 4.0, 0.01, 0.70, "off-axis hit"),
        (0.01, 4.0, 0.11, 0.99, "off-axis hit"),
        (0.01, 4.0, 0.01, -0.99, "off-axis hit"),
        (0.01, 4.0, 0.01, np.nan, "off-axis hit"),
        (0.06, 4.0, 0.01, 0.99, "not distinguishable"),
        (0.01, 4.0, np.nan, 0.99, "hit"),
        (np.nan, 4.0, 0.01, 0.99, None),
    ]
    q, activation, p, cosine, expected = map(list, zip(*rows, strict=True))
    assert verdicts(*map(np.array, (q, activation, p, cosine)), 0.05) == expected
    assert verdicts(np.array(q[:1]), None, None, None, 0.05) == ["hit"]
    assert set(HITS) == set(Verdict) - {Verdict.NOT_DISTINGUISHABLE, Verdict.NOT_MEASURED}


def a_dimension_a_target(inputs, outputs):
    """A latent as a start's, in which five targets follow one state and the axis is the last of them."""
    rng = np.random.default_rng(0)
    members, wells = outputs.latent.shape[:2]
    apart = 9.0 * (inputs.wells.get_column("compound") == "drug 2").to_numpy()
    state = np.column_stack([outputs.scores[0, :, 0], apart]) + 0.5 * rng.normal(size=(members, wells, 2))
    latent = np.repeat(state, [5, 1], axis=2) + 0.3 * rng.normal(size=(members, wells, 6))
    return inputs, replace(outputs, latent=latent, axis=np.tile(np.eye(6)[4], (members, 1)))


def test_targets_that_move_together_are_one_direction(rank):
    found = rank(change=a_dimension_a_target)
    up, down, across = (row(found, f"drug {code}") for code in range(3))
    assert (up["verdict"], down["verdict"]) == ("activating hit", "suppressing hit")
    assert across["verdict"] == "off-axis hit"
    assert up["on_axis"] == pytest.approx(1 / 5, abs=0.05)  # its share on the one dimension that the head reads
    assert (up["pattern_cosine"], down["pattern_cosine"]) == pytest.approx((1, -1), abs=0.02)
    assert abs(across["pattern_cosine"]) < 0.3


def test_no_p_values_of_the_model_where_nothing_was_held_out_unless_asked_for(rank):
    def alone(inputs, outputs):
        return inputs, single_run(outputs)

    result = rank(change=alone)
    for name in ("t_p", "replicate_cosine_p", "replicate_map_p", "replicates_agree", "activation_p"):
        assert result.table.get_column(name).null_count() == result.table.height, name
    assert "predicted_p" not in result.table.columns
    assert result.table.get_column("p").null_count() == 0  # of what was measured
    assert "predictions are not compared: the model was trained on some of the wells" in said(result)
    assert "no p-values: no compound was held out by any member" in said(result)
    assert "--in-sample" in said(result)
    asked = rank(change=alone, in_sample=True)
    assert asked.table.get_column("t_p").null_count() == 0
    assert "predicted_p" not in asked.table.columns  # in-sample predictions never enter p
    assert "in-sample p-values: the model was trained on these wells, and they prove nothing" in said(asked)


def test_genes_that_compounds_chose_leave_the_model_without_p_values(rank, tmp_path, monkeypatch):
    before = rank()
    write = ranked_screens.write_table

    def chosen(path, table, kind):
        write(path, table.with_columns(most_perturbed=True) if kind == "genes" else table, kind)

    monkeypatch.setattr(ranked_screens, "write_table", chosen)
    result = rank()
    for name in ("t_p", "replicate_cosine_p", "replicate_map_p", "activation_p"):
        assert before.table.get_column(name).null_count() == 0, name
        assert result.table.get_column(name).null_count() == result.table.height, name
    assert "predicted_p" not in result.table.columns
    assert result.table.get_column("expression_p").equals(before.table.get_column("expression_p"))
    assert result.table.get_column("p").null_count() == 0
    assert row(result, "drug 0")["verdict"] == "hit"  # without activation_p nothing says to which side
    assert "the model's genes were chosen by what the compounds do to them (--top-perturbed)" in said(result)
    assert "--null none" not in said(result)
    asked = rank(in_sample=True)
    assert asked.table.get_column("t_p").null_count() == 0
    assert "predicted_p" not in asked.table.columns
    assert "--top-perturbed" in said(asked)


def test_no_p_values_when_none_are_wanted(rank):
    result = rank(null="none")
    assert result.table.get_column("p").null_count() == result.table.height
    assert result.table.get_column("replicate_map_p").null_count() == result.table.height
    assert result.table.get_column("replicate_map").null_count() == 0
    assert "no p-values: --null none" in said(result)


def test_one_replicate_has_a_p_and_that_is_all(rank):
    result = rank(Planted(compounds=30, wells=1, on={0: 9.0}))
    assert row(result, "drug 0")["p"] == pytest.approx(1 / 41)
    for name in ("replicate_map", "replicate_cosine", "t_low"):
        assert result.table.get_column(name).null_count() == 30
    assert "30 of 30 rows have one well" in said(result)


def test_replicates_held_out_by_different_members_are_not_compared(rank):
    def by_well(inputs, outputs):
        parts = np.zeros_like(outputs.parts)
        parts[np.arange(parts.shape[1]) % 5, np.arange(parts.shape[1])] = 2
        return inputs, replace(outputs, parts=parts)

    result = rank(change=by_well)
    assert result.table.get_column("replicate_map").null_count() == 30
    assert result.table.get_column("p").null_count() == 0
    assert "no two wells of a compound" in said(result)


def test_a_model_from_elsewhere_measures_everything_held_out(rank):
    def foreign(inputs, outputs):
        return inputs, replace(outputs, parts=np.full_like(outputs.parts, 2))

    result = rank(change=foreign)
    assert row(result, "drug 0")["verdict"] == "activating hit"
    assert row(result, "drug 9")["verdict"] == "not distinguishable"


def test_constant_latents_are_named(rank):
    with pytest.raises(DataError, match=r"member 0: (.|\n)*same latent(.|\n)*collapsed"):
        rank(change=lambda inputs, outputs: (inputs, replace(outputs, latent=np.ones_like(outputs.latent))))


def test_activation_that_differs_by_rounding_in_one_member_is_left_out(rank):
    def still(inputs, outputs):
        latent = outputs.latent.copy()
        unit = outputs.axis[1] / np.linalg.norm(outputs.axis[1])
        latent[1] -= np.outer(latent[1] @ unit, unit)  # zero along the axis, but for the last bits
        return inputs, replace(outputs, latent=latent)

    result = rank(change=still)
    assert "the controls do not differ in activation: left out" in said(result)
    assert not {"activation", "activation_p", "pattern_cosine", "on_axis"} & set(result.table.columns)
    assert {row(result, f"drug {number}")["verdict"] for number in (0, 1, 2)} == {"hit"}


def test_a_control_under_another_name_is_pointed_at(rank):
    renamed = pl.when(pl.col("compound") == "drug 4").then(pl.lit("dmso (old)")).otherwise(pl.col("compound"))
    result = rank(change=with_wells(compound=renamed))
    assert "not taken as controls, though they look like it: dmso (old) (2)" in said(result)
    assert "run dpf init again with --control" in said(result)


def test_members_that_differ_are_said(rank):
    def shifted(inputs, outputs):
        latent = outputs.latent.copy()
        held_out = outputs.parts[0] == 2
        latent[0, held_out] *= 4
        return inputs, replace(outputs, latent=latent)

    assert "the held-out controls of the members differ" in said(rank(change=shifted))
    assert "the held-out controls of the members differ" not in said(rank())


def test_few_controls_a_member_are_said(rank):
    result = rank(Planted(compounds=30, controls=10, members=5))
    assert "replicate agreement: the smallest p is" in said(result)


@pytest.mark.parametrize("adjust", ["plate", "position"])
def test_an_adjustment_says_what_it_cannot_do(rank, adjust):
    result = rank(replace(ACTING, plates=2), adjust=adjust)
    assert f"latents adjusted for {adjust}" in said(result)
    assert "cannot part position from biology" in said(result)
    assert row(result, "drug 0")["verdict"] == "activating hit"


def test_adjusting_for_what_is_not_known_is_refused(rank):
    with pytest.raises(DataError, match=r"the plate of the wells is not known, or all wells share it"):
        rank(adjust="plate")


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ({"null": "permute"}, "wrong value for --null(.|\n)*one of exchange, none"),
        ({"match": "scren"}, "wrong value for --match(.|\n)*did you mean screen"),
        ({"fdr": 1.5}, "wrong value for --fdr(.|\n)*less than 1"),
        ({"by_dose": True, "group_column": "pathway"}, "do not count as many compounds"),
        ({"sort": "nothing"}, "no such column to sort by"),
        ({"group_column": "nothing"}, "no such column of the wells table"),
    ],
)
def test_what_makes_no_sense_is_refused(rank, choices, text):
    with pytest.raises(UsageError, match=text):
        rank(**choices)


def test_sorting(rank):
    table = rank(sort="q").table
    assert table.get_column("q").is_sorted()
    assert rank(sort="activation").table.get_column("activation").is_sorted(descending=True)


def test_the_wells_stand_beside_the_compounds(rank):
    result = rank()
    wells = read_table(result.path.with_name("ranking_wells.parquet"), "ranking_wells")
    own = wells.filter(pl.col("compound") == "drug 0")
    assert row(result, "drug 0")["t"] == pytest.approx(own.get_column("t").mean())
    assert wells.filter("is_control").get_column("average_precision").null_count() == 40


def test_classes_that_hold_the_hits_are_found(rank):
    acting = dict.fromkeys(range(0, 30, 4), 9.0)
    result = rank(replace(ACTING, on=acting, across={}), group_column="pathway")
    classes = read_table(result.path.with_name("classes.parquet"), "classes")
    assert classes.columns[:2] == ["pathway", "n"]
    assert classes.item(0, "pathway") == "class 0"
    assert classes.item(0, "rank_q") < 0.01
    assert classes.item(0, "activation_t") > 5
    assert classes.item(0, "hits") == 8
    assert classes.item(0, "hits_p") < 0.01
    assert classes.get_column("rank_t")[1:].max() < 0


def test_a_class_is_of_a_compound(rank):
    mixed = pl.int_range(pl.len()).cast(pl.String)
    with pytest.raises(DataError, match=r"one class(.|\n)*30 compounds of several"):
        rank(change=with_wells(pathway=mixed), group_column="pathway")


def test_a_class_column_does_not_take_the_place_of_a_result(rank):
    with pytest.raises(UsageError, match=r"has a column of that name itself[\s\S]*found: hits"):
        rank(change=with_wells(hits=pl.col("pathway")), group_column="hits")


def test_compounds_without_a_class_are_counted(rank):
    some = pl.when(pl.col("compound").is_in(["drug 0", "drug 1"])).then(None).otherwise(pl.col("pathway"))
    result = rank(change=with_wells(pathway=some), group_column="pathway")
    assert "pathway: 2 compounds have no class" in said(result)


def test_rank_on_kept_outputs_imports_no_torch():
    code = "import sys\nimport dpf.workflows.rank.rank, dpf.workflows.rank.figures\nassert 'torch' not in sys.modules"
    root = Path(__file__).resolve().parents[4]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_figures_colour_a_hit_as_its_verdict_says(tmp_path, monkeypatch):
    inputs, outputs = a_dimension_a_target(*make_screen(ACTING))
    pretend_model(monkeypatch, outputs)
    sides = []
    for module, name in ((ranking, "ranked_dots"), (volcano, "volcano")):
        draw = getattr(module, name)

        def drawn(names, *numbers, draw=draw, **options):
            sides.append(dict(zip(names, numbers[-1], strict=True)))
            return draw(names, *numbers, **options)

        monkeypatch.setattr(module, name, drawn)
    result = rank_project(stored_project(tmp_path / "p", inputs))
    signs = {"activating hit": 1, "suppressing hit": -1, "off-axis hit": 0}
    found = result.table.select("compound", "verdict").rows()
    hits = {name: signs[verdict] for name, verdict in found if verdict in signs}
    assert set(hits.values()) == {1, -1, 0}
    for side in sides:
        assert {name: np.sign(side[name]) for name in hits} == hits
    texts = {path.name: path.read_text(encoding="utf-8") for path in result.figures if path.suffix == ".svg"}
    assert ">off-axis<" in texts["ranking.svg"]
    assert "hit, off-axis" in texts["ranking_volcano.svg"]


def test_figures_are_drawn(tmp_path, monkeypatch):
    inputs, outputs = make_screen(replace(ACTING, plates=2))
    pretend_model(monkeypatch, outputs)
    result = rank_project(stored_project(tmp_path / "p", inputs))
    names = {path.name for path in result.figures}
    assert names == {
        f"ranking{kind}.{suffix}" for kind in ("", "_volcano", "_map", "_plates") for suffix in ("png", "svg")
    }
    assert all(path.stat().st_size > 1000 for path in result.figures)
    svg = next(path for path in result.figures if path.name == "ranking_volcano.svg").read_text(encoding="utf-8")
    assert "drug 0" in svg
    assert not math.isnan(result.table.item(0, "t"))
