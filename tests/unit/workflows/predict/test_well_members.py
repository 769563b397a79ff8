"""Which members predict a well, what a model knows of wells by their ids, and how genes are matched."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dpf.config.settings import LatentSettings
from dpf.errors import DataError, ModelError
from dpf.workflows.predict.gene_order import in_model_order
from dpf.workflows.predict.outputs import known_parts
from dpf.workflows.predict.well_members import WellMembers, center_wells, plate_codes
from dpf.workflows.project.inputs import Inputs

TRAIN, HELD_OUT = 0, 2


def inputs(**columns: list[object]) -> Inputs:
    wells = pl.DataFrame({"well_id": ["a", "b", "c", "d"], "is_control": [True, True, True, False]} | columns)
    return Inputs(wells, ["g"], lambda: np.zeros((4, 1), np.float32), wells["is_control"].to_numpy(), "", "")


def test_a_well_is_predicted_by_the_members_that_held_it_out():
    parts = np.array([[0, 2, 0, 1], [1, 2, 0, 0], [2, 0, 0, 0]], dtype=np.int8)
    members = WellMembers.of(parts)
    assert members.part == ["held_out", "held_out", "train", "validation"]
    assert members.names() == ["2", "0,1", "0,1,2", "0"]
    assert members.first().tolist() == [2, 0, 0, 0]


def test_only_the_members_of_a_well_enter_its_mean():
    parts = np.array([[2, 0], [2, 0], [0, 2]], dtype=np.int8)
    members = WellMembers.of(parts)
    values = np.array([[1.0, 100.0], [3.0, 100.0], [100.0, 5.0]])
    assert members.average(values).tolist() == [2.0, 5.0]
    stacked = np.stack([values, 10 * values], axis=-1)
    assert members.average(stacked).tolist() == [[2.0, 20.0], [5.0, 50.0]]


def test_unknown_wells_are_held_out_and_known_ones_are_what_they_were():
    header = {"wells": ["a", "b", "c"], "members": 2, "parts": ["012", "200"]}
    parts, known = known_parts(header, ["c", "new", "a"])
    assert known == 2
    assert parts.tolist() == [[HELD_OUT, HELD_OUT, TRAIN], [TRAIN, HELD_OUT, HELD_OUT]]
    parts, known = known_parts(header, ["x", "y"])
    assert known == 0
    assert (parts == HELD_OUT).all()


def test_genes_are_matched_by_name():
    table = np.array([[1, 2, 3]], dtype=np.float32)
    assert in_model_order(table, {"genes": ["B", "A"]}, ["A", "x", "B"], "t").tolist() == [[3, 1]]
    assert in_model_order(table, {"genes": ["A", "x"]}, ["A", "x", "B"], "t").tolist() == [[1, 2]]
    assert in_model_order(table, {"genes": ["A", "x", "B"]}, ["A", "x", "B"], "t") is table
    with pytest.raises(ModelError, match=r"1 of the model's 2 genes are not in the data\n.*\n.*missing: C"):
        in_model_order(table[:, :1], {"genes": ["A", "C"], "settings": {"train": {}}}, ["A"], "table")


def test_the_centre_is_made_of_controls_of_some_clusters():
    screen = inputs(cluster=["1", "2", "2", "2"])
    assert center_wells(screen, LatentSettings()).tolist() == [True, True, True, False]
    assert center_wells(screen, LatentSettings(control_clusters=("2",))).tolist() == [False, True, True, False]
    with pytest.raises(DataError, match="clusters of controls: 1, 2"):
        center_wells(screen, LatentSettings(control_clusters=("2", "3")))
    with pytest.raises(DataError, match="`cluster` column"):
        center_wells(inputs(), LatentSettings(control_clusters=("2",)))


def test_plates_are_numbered_by_name_or_not_at_all():
    codes, names = plate_codes(["p2", "p1", "p2"])
    assert names == ["p1", "p2"]
    assert codes.tolist() == [1, 0, 1]
    assert plate_codes(None) is None
    assert plate_codes(["p1", None]) is None
