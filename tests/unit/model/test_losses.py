"""The losses are those of a plain implementation, well by well, whatever is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpf.model.losses import LossSums, TargetBatch, loss_sums, observed_counts, part_weights
from dpf.model.network import Prediction


def draw(wells=17, scores=3, seed=0, missing=0.3):
    rng = np.random.default_rng(seed)

    def some(*shape):
        return torch.from_numpy(rng.normal(scale=3, size=shape).astype(np.float32))

    prediction = Prediction(some(wells, 4), some(wells, scores), some(wells), some(wells))
    targets = TargetBatch(some(wells, scores), (some(wells) > 0).float(), some(wells))
    for part in targets:
        part[torch.from_numpy(rng.random(part.shape) < missing)] = torch.nan
    return prediction, targets


def plain(prediction, targets):
    """(mse, bce, reg) and how many entries each saw, in Python's own floats."""
    sums, counts = [0.0] * 3, [0] * 3

    def add(part, value):
        sums[part] += value
        counts[part] += 1

    for well in range(len(targets.label)):
        for f, y in zip(prediction.scores[well].tolist(), targets.scores[well].tolist(), strict=True):
            if not math.isnan(y):
                add(0, (f - y) ** 2)
        f, y = float(prediction.label_logit[well]), float(targets.label[well])
        if not math.isnan(y):
            # log(1 + exp(f)) - y f, written so that it cannot overflow
            add(1, max(f, 0) + math.log1p(math.exp(-abs(f))) - y * f)
        f, y = float(prediction.activation[well]), float(targets.activation[well])
        if not math.isnan(y):
            add(2, (f - y) ** 2)
    return sums, counts


@given(st.integers(1, 20), st.integers(0, 4), st.integers(0, 10**6), st.sampled_from([0.0, 0.3, 0.9, 1.0]))
@settings(max_examples=60, deadline=None)
def test_parts_are_those_of_a_plain_implementation(wells, scores, seed, missing):
    prediction, targets = draw(wells, scores, seed, missing)
    got = loss_sums(prediction, targets)
    sums, counts = plain(prediction, targets)
    assert got.counts.tolist() == counts
    assert got.sums.tolist() == pytest.approx(sums, rel=1e-5, abs=1e-6)
    means = [value / count if count else 0.0 for value, count in zip(sums, counts, strict=True)]
    assert got.means().tolist() == pytest.approx(means, rel=1e-5, abs=1e-6)
    assert observed_counts(targets).tolist() == [max(count, 1) for count in counts]


def test_bce_is_pytorchs_where_nothing_is_missing():
    prediction, targets = draw(missing=0.0)
    got = loss_sums(prediction, targets).means()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(prediction.label_logit, targets.label)
    torch.testing.assert_close(got[1], expected)
    torch.testing.assert_close(got[0], torch.nn.functional.mse_loss(prediction.scores, targets.scores))


@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_a_sure_and_wrong_logit_costs_what_it_should_and_no_more(logit):
    prediction = Prediction(torch.zeros(1, 1), torch.zeros(1, 0), torch.tensor([logit]), None)
    targets = TargetBatch(torch.zeros(1, 0), torch.tensor([float(logit < 0)]), torch.tensor([torch.nan]))
    assert loss_sums(prediction, targets).sums.tolist() == [0.0, 1e4, 0.0]


def test_a_short_last_batch_does_not_count_as_a_full_one():
    prediction, targets = draw(wells=33)
    whole = loss_sums(prediction, targets).means()
    total = LossSums(torch.zeros(3), torch.zeros(3))
    per_batch = []
    for wells in torch.arange(33).split(32):  # 32 wells, then 1
        part = loss_sums(Prediction(*(value[wells] for value in prediction)), targets.rows(wells))
        total = LossSums(total.sums + part.sums, total.counts + part.counts)
        per_batch.append(part.means())
    torch.testing.assert_close(total.means(), whole)
    assert not torch.allclose(torch.stack(per_batch).mean(0), whole, rtol=0.01)  # the mistake it guards against


def test_a_missing_target_leaves_no_gradient_and_no_nan():
    prediction, targets = draw(missing=0.4)
    leaves = [part.requires_grad_() for part in prediction[1:]]
    loss_sums(prediction, targets).sums.sum().backward()
    for leaf, target in zip(leaves, targets, strict=True):
        assert leaf.grad.isfinite().all()
        assert not leaf.grad[target.isnan()].any()
        assert bool((leaf.grad[~target.isnan()] != 0).all())


def test_heads_that_are_not_there_cost_nothing():
    targets = draw()[1]
    prediction = Prediction(torch.zeros(17, 4), targets.scores.nan_to_num(), None, None)
    got = loss_sums(prediction, targets)
    assert got.means().tolist() == [0.0, 0.0, 0.0]
    assert got.counts.tolist()[1:] == [0.0, 0.0]


def test_rows_and_weights():
    targets = draw()[1]
    for part, whole in zip(targets.rows(torch.tensor([3, 1])), targets, strict=True):
        torch.testing.assert_close(part, torch.stack([whole[3], whole[1]]), equal_nan=True, rtol=0, atol=0)
    assert part_weights(0.25, torch.device("cpu")).tolist() == [1.0, 1.0, 0.25]
