"""The control centre, and every control's deviation from the centre of the others."""

from __future__ import annotations

import numpy as np
import pytest

from dpf.analysis.latent.centers import centered, control_centers
from dpf.errors import DataError


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(614)


def test_centers_per_plate_are_the_means_of_that_plates_controls(rng):
    z, plate = rng.normal(size=(20, 3)), np.repeat([0, 1], 10)
    mask = np.tile([True, False], 10)
    centers = control_centers(z, mask, plate)
    assert np.allclose(centers.centers[1], z[mask & (plate == 1)].mean(axis=0))
    assert centers.counts.tolist() == [5, 5]


@pytest.mark.parametrize("per_plate", [False, True])
def test_a_control_is_compared_with_the_mean_of_the_others(rng, per_plate):
    z = rng.normal(size=(30, 4))
    mask = rng.random(30) < 0.5
    plate = np.tile([0, 1, 2], 10)
    deviation = centered(z, mask, control_centers(z, mask, plate if per_plate else None))
    for i in range(30):
        same = plate == plate[i] if per_plate else np.ones(30, dtype=bool)
        others = mask & same & (np.arange(30) != i)
        assert np.allclose(deviation[i], z[i] - z[others].mean(axis=0))


def test_no_controls_is_said(rng):
    with pytest.raises(DataError, match=r"no control well to measure distances from(.|\n)*0 of 5 wells"):
        control_centers(rng.normal(size=(5, 2)), np.zeros(5, dtype=bool))


def test_a_plate_without_controls_is_named(rng):
    with pytest.raises(DataError, match=r"where: plate P2(.|\n)*found: 0 control wells(.|\n)*at least 2"):
        control_centers(rng.normal(size=(4, 2)), [True, True, False, False], [0, 0, 1, 1], ["P1", "P2"])
    with pytest.raises(DataError, match=r"where: plate P2(.|\n)*found: 1 control wells"):
        control_centers(rng.normal(size=(5, 2)), [True, True, False, True, False], [0, 0, 0, 1, 1], ["P1", "P2"])


def test_one_control_cannot_be_its_own_centre(rng):
    z, mask = rng.normal(size=(3, 2)), np.array([True, False, False])
    with pytest.raises(DataError, match="one control well is too few"):
        control_centers(z, mask)


def test_latents_that_are_not_finite_are_named_by_row(rng):
    z = rng.normal(size=(4, 2))
    z[2, 1] = np.nan
    with pytest.raises(DataError, match="rows 2"):
        control_centers(z, np.ones(4, dtype=bool))
