"""Wells to compounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dpf.analysis.ranking.compounds import descending_rank, group_std, rank_compounds, replicate_agreement


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(614)


def slow_agreement(x, group, used, within, measure):
    values = {int(c): [] for c in np.unique(group[group >= 0])}
    for m in range(len(x)):
        for i, j in itertools.permutations(range(len(group)), 2):
            if group[i] >= 0 and group[j] >= 0 and used[m, i] and used[m, j] and (group[i] == group[j]) == within:
                values[int(group[i])].append(measure(x[m, i], x[m, j]))
    return [np.mean(v) if v else np.nan for v in values.values()]


def test_agreement_is_the_mean_over_all_pairs(rng):
    x, group = rng.normal(size=(3, 14, 5)), np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, -1, -1, 4, 4])
    used = rng.random((3, 14)) < 0.7
    ours = replicate_agreement(x, group, 5, used)

    def cosine(a, b):
        return a @ b / np.linalg.norm(a) / np.linalg.norm(b)

    def pearson(a, b):
        return np.corrcoef(a, b)[0, 1]

    for measure, within, between in (
        (cosine, ours.cosine, ours.cosine_between),
        (pearson, ours.pearson, ours.pearson_between),
    ):
        assert np.allclose(within, slow_agreement(x, group, used, True, measure), equal_nan=True)
        assert np.allclose(between, slow_agreement(x, group, used, False, measure), equal_nan=True)
    assert np.isnan(ours.cosine[3])


def test_cosine_agreement_survives_a_rotation(rng):
    x, group = rng.normal(size=(12, 5)), np.repeat(np.arange(4), 3)
    rotation, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    assert np.allclose(replicate_agreement(x, group, 4).cosine, replicate_agreement(3 * x @ rotation, group, 4).cosine)


def test_profiles_without_direction_form_no_pair(rng):
    x = rng.normal(size=(4, 3))
    x[1] = 0
    x[3] = 2.5
    agreement = replicate_agreement(x, [0, 0, 1, 1], 2)
    assert np.isnan(agreement.cosine[0])
    assert np.isfinite(agreement.cosine[1])
    assert np.isnan(agreement.pearson).all()


def test_the_table_by_hand():
    scores = {
        "norm": np.array([1.0, 3.0, 5.0, 9.0]),
        "t": np.array([1.0, 2.0, 4.0, 9.0]),
        "activation": np.array([1.0, -3.0, 2.0, 9.0]),
        "on_axis": np.array([0.5, np.nan, 0.25, 0.9]),
    }
    table = rank_compounds([0, 0, 1, -1], 2, **scores)
    assert table["n"].tolist() == [2, 1]
    assert table["norm_mean"].tolist() == [2, 5]
    assert table["norm_std"][0] == pytest.approx(np.sqrt(2))
    assert np.isnan(table["norm_std"][1])
    assert table["t"].tolist() == [1.5, 4]
    assert table["rank"].tolist() == [2, 1]
    assert table["activation"].tolist() == [-1, 2]
    assert table["direction"].tolist() == ["suppression", "activation"]
    assert table["on_axis"].tolist() == [0.5, 0.25]


def test_without_an_axis_there_is_no_direction():
    table = rank_compounds([0, 1], 2, np.ones(2), np.ones(2))
    assert "direction" not in table
    assert table["rank"].tolist() == [1.5, 1.5]


def test_permuting_the_wells_changes_nothing(rng):
    group, x = rng.permutation(np.repeat(np.arange(10), 3)), rng.normal(size=(30, 4))
    order = rng.permutation(30)
    a = rank_compounds(group, 10, *x.T, replicate_agreement(x, group, 10))
    b = rank_compounds(group[order], 10, *x[order].T, replicate_agreement(x[order], group[order], 10))
    for name in a:
        assert np.array_equal(a[name], b[name]) or np.allclose(a[name], b[name]), name


def test_a_spread_far_from_zero_keeps_its_digits():
    assert group_std([1e9 + 1, 1e9 + 3], [0, 0], 1)[0] == pytest.approx(np.sqrt(2))


def test_ranks_along_the_last_axis():
    assert descending_rank([[1.0, 3.0, 3.0], [2.0, 1.0, 0.0]]).tolist() == [[3, 1.5, 1.5], [1, 2, 3]]


def test_failures():
    with pytest.raises(ValueError, match="codes run from 0 to 5"):
        rank_compounds([0, 5], 2, np.ones(2), np.ones(2))
