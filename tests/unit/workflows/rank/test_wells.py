"""The distance of every well, as the ranking takes it: from latents to T, and whose controls are too few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from dpf.config.settings import LatentSettings
from dpf.errors import DataError
from dpf.splits.parts import Part
from dpf.workflows.rank.rows import compound_rows
from dpf.workflows.rank.wells import rank_wells
from tests.support.ranked_screens import Planted, make_screen


def ranked(outputs, inputs, **settings):
    return rank_wells(outputs, inputs, compound_rows(inputs, by_dose=False).codes, LatentSettings(**settings), "none")


def test_t_written_out():
    inputs, outputs = make_screen(Planted(controls=40, members=5, on={0: 3.0}))
    control, part = inputs.is_control, outputs.parts
    ratio = np.full(part.shape, np.nan)
    for m, z in enumerate(outputs.latent):
        training = np.flatnonzero(control & (part[m] == Part.TRAIN))
        own = [np.linalg.norm(z[i] - z[training[training != i]].mean(axis=0)) for i in training]
        ratio[m] = np.linalg.norm(z - z[training].mean(axis=0), axis=1) / np.median(own)
    held_out = part == Part.HELD_OUT
    reference = ratio[held_out & control]
    expected = (ratio - np.median(reference)) / (1.4826 * median_abs_deviation(reference))
    found = ranked(outputs, inputs).t
    np.testing.assert_allclose(found.value, np.where(held_out, expected, 0).sum(axis=0))
    assert found.held_out
    assert (found.used == held_out).all()
    assert found.statement == (
        "160 of 160 wells: measured by members that never saw them, in the spread of 40 held-out control values "
        "pooled over members.",
    )


def test_a_member_trained_on_too_few_controls_is_named():
    inputs, outputs = make_screen(Planted(controls=40))
    parts = outputs.parts.copy()
    few = np.flatnonzero(inputs.is_control & (parts[3] == Part.TRAIN))[1:]
    parts[3, few] = Part.VALIDATION
    with pytest.raises(DataError, match=r"member 3: one control well is too few"):
        ranked(replace(outputs, parts=parts), inputs)


def test_a_plate_without_training_controls_is_named():
    inputs, outputs = make_screen(Planted(controls=40, plates=2))
    on_second = np.array([plate == "P2" for plate in inputs.texts("plate")])
    parts = outputs.parts.copy()
    parts[0, inputs.is_control & on_second & (parts[0] == Part.TRAIN)] = Part.VALIDATION
    with pytest.raises(DataError, match=r"member 0: a centre per plate(.|\n)*plate P2"):
        ranked(replace(outputs, parts=parts), inputs, center="plate")
