"""Retrieval and silhouette say what a representation keeps together, and what chance would give."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, silhouette_samples, silhouette_score

from dpf.analysis.evaluation.latent_quality import chance_precision, latent_quality


def draw(spread=0.2, compounds=20, classes=4, controls=12, seed=0):
    """Two wells a compound, compounds around the centre of their class, controls around 0."""
    rng = np.random.default_rng(seed)
    kind = np.arange(compounds) % classes
    place = 3 * rng.normal(size=(classes, 6))[kind] + rng.normal(size=(compounds, 6))
    x = np.concatenate([np.repeat(place, 2, axis=0), np.zeros((controls, 6))])
    group = np.concatenate([np.repeat(np.arange(compounds), 2), np.arange(controls) + compounds])
    control = np.arange(len(x)) >= 2 * compounds
    names = [f"k{k}" for k in np.repeat(kind, 2)] + [None] * controls
    return x + spread * rng.normal(size=x.shape), group, control, names


def test_a_good_representation_beats_chance_and_noise_does_not():
    x, group, control, names = draw()
    good = latent_quality(x, group, control, classes=names)
    noise = latent_quality(np.random.default_rng(1).normal(size=x.shape), group, control, classes=names)
    for what in ("replicates", "compounds", "classes", "controls"):
        kept, lost = getattr(good, what), getattr(noise, what)
        assert kept.mean_ap > 0.7 > kept.chance
        assert lost.mean_ap == pytest.approx(lost.chance, abs=0.1)
        assert kept.wells == (12 if what == "controls" else 40)
    assert min(good.silhouette_compounds, good.silhouette_classes, good.silhouette_controls) > 0.2
    assert max(noise.silhouette_compounds, noise.silhouette_classes, noise.silhouette_controls) < 0.1


def test_the_numbers_are_those_of_sklearn():
    x, group, control, names = draw(spread=1.5)
    got = latent_quality(x, group, control, classes=names)
    centred = x - x[control].mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    names = np.array(names, dtype=object)
    replicate, among, kind = [], [], []
    for i in np.flatnonzero(~control):
        others = np.arange(len(x)) != i
        for found, positive, candidates in (
            (replicate, group == group[i], control | (group == group[i])),
            (among, group == group[i], ~control),
            (kind, names == names[i], ~control & (group != group[i])),
        ):
            kept = others & candidates
            found.append(average_precision_score(positive[kept], (unit @ unit[i])[kept]))
    assert got.replicates.mean_ap == pytest.approx(np.mean(replicate))
    assert got.compounds.mean_ap == pytest.approx(np.mean(among))
    assert got.classes.mean_ap == pytest.approx(np.mean(kind))
    treated = ~control
    assert got.silhouette_compounds == pytest.approx(silhouette_score(x[treated], group[treated]))
    assert got.silhouette_classes == pytest.approx(silhouette_score(x[treated], names[treated].astype(str)))
    assert got.silhouette_controls == pytest.approx(silhouette_samples(x, control)[control].mean())


@pytest.mark.parametrize(("positives", "negatives"), [(1, 1), (1, 40), (5, 8), (9, 3), (1, 0)])
def test_chance_is_the_mean_over_all_rankings(positives, negatives):
    rankings = itertools.combinations(range(1, positives + negatives + 1), positives)
    precision = [np.mean(np.arange(1, positives + 1) / np.array(ranks)) for ranks in rankings]
    assert chance_precision(positives, negatives) == pytest.approx(np.mean(precision), rel=1e-12)


def test_scale_order_and_rotation_change_nothing():
    x, group, control, names = draw(spread=1.0)
    rng = np.random.default_rng(0)
    order, rotation = rng.permutation(len(x)), np.linalg.qr(rng.normal(size=(6, 6)))[0]
    one = latent_quality(x, group, control, classes=names)
    moved = latent_quality(
        (5 * x @ rotation + 9)[order], group[order], control[order], classes=[names[i] for i in order]
    )
    assert moved.replicates.mean_ap == pytest.approx(one.replicates.mean_ap)
    assert moved.classes.mean_ap == pytest.approx(one.classes.mean_ap)
    assert moved.controls.mean_ap == pytest.approx(one.controls.mean_ap)
    assert moved.silhouette_classes == pytest.approx(one.silhouette_classes)


def test_what_is_not_there_is_nan():
    x, group, control, _ = draw()
    no_classes = latent_quality(x, group, control)
    assert math.isnan(no_classes.classes.mean_ap)
    assert math.isnan(no_classes.silhouette_classes)
    single = latent_quality(x, np.arange(len(x)), control)
    assert (single.replicates.wells, single.compounds.wells) == (0, 0)
    assert math.isnan(single.silhouette_compounds)
    no_controls = latent_quality(x, group, np.zeros(len(x), dtype=bool))
    assert math.isnan(no_controls.replicates.mean_ap)
    assert math.isnan(no_controls.silhouette_controls)
    only_controls = latent_quality(x, group, np.ones(len(x), dtype=bool))
    assert math.isnan(only_controls.controls.mean_ap)
