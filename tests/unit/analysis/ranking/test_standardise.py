"""Standardised distances: which members, which controls, and what is said about it."""

from __future__ import annotations

import numpy as np
import pytest

from dpf.analysis.latent.distances import latent_distances
from dpf.analysis.ranking.p_values import compound_p_values
from dpf.analysis.ranking.standardise import standardise
from dpf.errors import DataError
from dpf.splits.parts import Part

CONTROLS = 40


def folded(n_wells: int = 120, members: int = 5, controls: int = CONTROLS):
    """(part (M, N), is_control (N,)): every well held out once, every ninth of the rest a validation well."""
    part = np.zeros((members, n_wells), dtype=int)
    part[:, ::9] = Part.VALIDATION
    part[np.arange(n_wells) % members, np.arange(n_wells)] = Part.HELD_OUT
    return part, np.arange(n_wells) < controls


def latents(rng, part, width=6):
    """A random basis and scale for each member; trained wells drawn towards their mean, as networks do."""
    members, n = part.shape
    shared = rng.normal(size=(n, width))
    z = np.empty((members, n, width))
    for m in range(members):
        basis, _ = np.linalg.qr(rng.normal(size=(width, width)))
        z[m] = (shared * np.where(part[m] == Part.HELD_OUT, 1.0, 0.5)[:, None]) @ basis * rng.uniform(0.1, 10)
    return z


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(614)


def measured(z, part, control):
    """Distances from each member's training controls, as `dpf rank` takes them, through `standardise`."""
    rows = [
        latent_distances(latent, None, control & (row == Part.TRAIN)).d_euc for latent, row in zip(z, part, strict=True)
    ]
    return standardise(np.stack(rows), part, control)


def test_bases_and_scales_of_the_members_do_not_matter(rng):
    part, control = folded()
    z = latents(rng, part)
    other = np.empty_like(z)
    for m in range(5):
        rotation, _ = np.linalg.qr(rng.normal(size=(6, 6)))
        other[m] = 100 ** rng.normal() * (z[m] @ rotation) + rng.normal()
    assert np.allclose(measured(z, part, control).value, measured(other, part, control).value)


def test_permuting_the_wells_permutes_the_values(rng):
    part, control = folded()
    z, order = latents(rng, part), rng.permutation(120)
    a = measured(z, part, control)
    b = measured(z[:, order], part[:, order], control[order])
    assert np.allclose(a.value[order], b.value)


def test_a_well_held_out_twice_is_averaged_over_both_members(rng):
    part, control = folded()
    part[0, 101] = Part.HELD_OUT
    result = measured(latents(rng, part), part, control)
    assert result.used[:, 101].nonzero()[0].tolist() == [0, 1]
    assert result.value[101] == pytest.approx(result.by_member[[0, 1], 101].mean())


def test_controls_and_inert_compounds_are_alike_out_of_fold_but_not_in_sample(rng):
    part, control = folded()
    trained_controls = part.copy()
    trained_controls[:, control] = Part.TRAIN
    fair, unfair = [], []
    for _ in range(40):
        t = measured(latents(rng, part), part, control).value
        fair.append(t[~control].mean() - t[control].mean())
        t = measured(latents(rng, trained_controls), trained_controls, control).value
        unfair.append(t[~control].mean() - t[control].mean())
    assert abs(np.mean(fair)) < 0.15
    assert np.mean(unfair) > 1


def test_a_single_split_uses_validation_wells_and_says_so(rng):
    part = np.where(np.arange(60) % 5 == 0, Part.VALIDATION, Part.TRAIN)[None]
    control = np.arange(60) < 30
    result = measured(rng.normal(size=(1, 60, 4)), part, control)
    assert not result.held_out
    assert (result.basis == part[0]).all()
    assert "the spread of 6 validation control values" in result.statement[0]
    assert "the spread of 24 training control values" in result.statement[1]
    assert "chose the epoch" in result.statement[0]
    assert "no p-value may rest on them" in result.statement[1]


def test_too_few_validation_controls_fall_to_the_training_controls_and_it_is_said(rng):
    part = np.where(np.arange(60) % 5 == 0, Part.VALIDATION, Part.TRAIN)[None]
    control = np.arange(60) < 8
    result = measured(rng.normal(size=(1, 60, 4)), part, control)
    assert (result.basis == Part.TRAIN).all()
    assert "12 of them were not trained on, but too few controls were left out" in result.statement[0]


def test_signed_values_keep_their_sign(rng):
    part, control = folded()
    values = rng.normal(size=part.shape)
    values[:, 100] = -50
    assert standardise(values, part, control).value[100] < -10


def test_a_member_without_held_out_controls_shares_the_pool(rng):
    part, control = folded()
    part[4, control & (part[4] == Part.HELD_OUT)] = Part.TRAIN
    part[0, 4] = Part.HELD_OUT
    part[0, np.arange(9, CONTROLS, 5)] = Part.HELD_OUT
    result = measured(latents(rng, part), part, control)
    assert np.isfinite(result.value).all()
    assert f"the spread of {CONTROLS} held-out control values" in result.statement[0]


def test_controls_without_spread_are_refused(rng):
    part, control = folded()
    values = rng.random(part.shape) + 1
    values[:, control] = 2.5
    with pytest.raises(DataError, match=r"controls do not differ(.|\n)*held-out controls(.|\n)*deviation 0 of 40"):
        standardise(values, part, control)
    values[0, control] = 0
    with pytest.raises(DataError, match="median distance 0"):
        standardise(values, part, control)


def test_two_controls_are_too_few(rng):
    control = np.arange(120) < 2
    with pytest.raises(DataError, match=r"too few control wells(.|\n)*2 in all members(.|\n)*at least 3"):
        standardise(rng.random((1, 120)), np.zeros((1, 120)), control)


def test_a_model_from_elsewhere_is_scaled_by_the_controls_it_measures(rng):
    _, control = folded()
    part = np.full((5, 120), Part.HELD_OUT)
    values = rng.random(part.shape) * np.arange(1, 6)[:, None]
    scale = np.median(values[:, control], axis=1)[:, None]
    expected = standardise(values / scale, part, control)
    assert np.allclose(standardise(values, part, control).value, expected.value)


def test_values_that_are_not_finite_are_named_by_row(rng):
    part, control = folded()
    values = rng.random(part.shape)
    values[2, 17] = np.inf
    with pytest.raises(DataError, match="rows 17"):
        standardise(values, part, control)


def test_p_values_hold_their_level_out_of_fold_but_not_with_trained_controls():
    """Inert pairs, both replicates in one fold as a split by compound has them, random bases and scales a member."""
    small = {"fair": [], "unfair": []}
    part, control = folded(n_wells=140)
    trained = part.copy()
    trained[:, control] = Part.TRAIN
    # wells 40-49, 50-59, ...: i and i + 5 are held out by the same member
    group = np.where(control, -1, (np.arange(140) - CONTROLS) // 10 * 5 + np.arange(140) % 5)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        for name, split in (("fair", part), ("unfair", trained)):
            t = measured(latents(rng, split), split, control).value
            p = compound_p_values(t, group, 50, control, rng=rng).p
            small[name].append([(p <= 0.05).mean(), (p <= 0.005).mean()])
    fair, unfair = (np.mean(small[name], axis=0) for name in ("fair", "unfair"))
    assert fair == pytest.approx([0.05, 0.005], rel=0.5)
    assert unfair[0] > 0.5
