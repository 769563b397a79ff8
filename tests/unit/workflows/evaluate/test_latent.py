"""Four representations are measured on the same wells: those that each member held out."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dpf.analysis.evaluation.latent_quality import latent_quality
from dpf.splits.parts import Part
from dpf.workflows.evaluate.latent import latent_table
from dpf.workflows.evaluate.wells import evaluated_wells
from tests.support.evaluated import folds_of, inputs_of, measured_of, outputs_of, project_of, wells_table


def case(signal=3.0, folds=3, **columns):
    table, strength = wells_table(controls=12, **columns)
    project, inputs = project_of(), inputs_of(table, strength)
    measured = measured_of(project, inputs)
    groups = np.append(np.arange(48) // 2, 24 + np.arange(12))
    parts = folds_of(groups, folds)
    rng = np.random.default_rng(3)
    place = np.concatenate([rng.normal(size=(24, 3))[np.arange(48) // 2], np.zeros((12, 3))])
    latent = signal * place + rng.normal(size=(folds, 60, 3))
    outputs = outputs_of(parts, rng.normal(size=(folds, 60, 2)), None, latent, label=None)
    return outputs, inputs, measured, evaluated_wells(project, inputs, measured, parts)


def test_a_latent_that_knows_the_compounds_beats_one_that_does_not():
    values = {}
    for signal in (0.0, 6.0):
        outputs, inputs, measured, wells = case(signal)
        table = latent_table(outputs, inputs, measured.scores, wells, None)
        mean = table.filter(member="mean", representation="latent", measure="map_compounds").row(0, named=True)
        values[signal] = mean["value"]
    assert values[0.0] < mean["chance"] + 0.15
    assert values[6.0] > values[0.0] + 0.4
    assert mean["wells"] == 48


def test_each_member_is_measured_on_its_own_wells_around_its_training_controls():
    outputs, inputs, measured, wells = case()
    table = latent_table(outputs, inputs, measured.scores, wells, None)
    assert set(table["representation"]) == {"latent", "expression", "predicted scores", "measured scores"}
    assert set(table["member"]) == {"mean", "0", "1", "2"}
    test, train = wells.parts[1] == Part.HELD_OUT, wells.parts[1] == Part.TRAIN
    centre = outputs.latent[1][train & inputs.is_control].mean(0)
    expected = latent_quality(outputs.latent[1][test], wells.groups[test], inputs.is_control[test], centre=centre)
    own = table.filter(member="1", representation="latent")
    found = dict(own.select("measure", "value").iter_rows())
    assert found["map_replicates"] == pytest.approx(expected.replicates.mean_ap)
    assert found["silhouette_compounds"] == pytest.approx(expected.silhouette_compounds)
    assert found["map_classes"] is None
    assert own["dimensions"].to_list() == [3] * own.height
    values = table.filter(representation="latent", measure="map_replicates").select("member", "value")
    by_member = dict(values.iter_rows())
    assert by_member["mean"] == pytest.approx(np.mean([by_member[str(m)] for m in range(3)]))


def test_scores_that_are_not_all_measured_are_left_out():
    outputs, inputs, measured, wells = case(second=pl.Series([None, *np.arange(59.0)]))
    names = latent_table(outputs, inputs, measured.scores, wells, None)
    missing = names.filter(representation="measured scores")
    assert set(missing["member"]) <= {"mean", "0", "1", "2"}
    held = int(np.flatnonzero(wells.member_test[:, 0])[0])
    assert str(held) not in missing["member"].to_list()


def test_classes_are_measured_where_they_are_known():
    outputs, inputs, measured, wells = case()
    classes = [f"class {i // 12}" for i in range(60)]
    table = latent_table(outputs, inputs, measured.scores, wells, classes)
    found = table.filter(member="mean", representation="latent", measure="map_classes")
    assert found["value"][0] is not None
    assert table.filter(member="mean", measure="silhouette_classes")["value"].null_count() == 0
