"""Scaling is fitted in float64 on the training wells alone, and is undone by the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpf.workflows.train.targets import TargetArrays, fit_scaling, scaled_targets
from tests.support import tiny


def arrays(scores, activation=None):
    scores = np.asarray(scores, float).reshape(len(scores), -1)
    empty = np.full(len(scores), np.nan)
    return TargetArrays(scores, empty, empty if activation is None else np.asarray(activation, float))


def fit(expression=None, targets=None, train=None, scores=True, activation=True):
    targets = targets or tiny.target_arrays()
    wells = len(targets.label)
    expression = tiny.expression(wells) if expression is None else expression
    train = np.ones(wells, bool) if train is None else train
    return fit_scaling(expression, targets, train, scores=scores, activation=activation)


def test_it_is_numpys_mean_and_population_deviation_of_the_training_wells():
    targets, x = tiny.target_arrays(200), tiny.expression(200)
    train = np.arange(200) % 3 != 0
    got = fit(x, targets, train)
    np.testing.assert_allclose(got.gene_mean, x[train].astype(np.float64).mean(0), rtol=1e-6)
    np.testing.assert_allclose(got.gene_std, x[train].astype(np.float64).std(0, ddof=0), rtol=1e-6)
    columns = np.column_stack([targets.scores, targets.activation])[train]
    np.testing.assert_allclose(got.target_mean, np.nanmean(columns, 0), rtol=1e-6)
    np.testing.assert_allclose(got.target_std, np.nanstd(columns, 0), rtol=1e-6)
    assert {part.dtype for part in vars(got).values()} == {torch.float32}


def test_other_wells_do_not_matter():
    targets, x = tiny.target_arrays(40), tiny.expression(40)
    train = np.arange(40) < 30
    before = fit(x, targets, train)
    x[30:] = 1e6
    targets.scores[30:] = -1e6
    targets.activation[30:] = np.nan
    after = fit(x, targets, train)
    assert all(torch.equal(a, b) for a, b in zip(vars(before).values(), vars(after).values(), strict=True))


def test_genes_far_from_zero_keep_their_variance():
    # Summed in float32, values of 10,000 with deviation 0.1 have no variance left.
    rng = np.random.default_rng(0)
    x = (10_000 + 0.1 * rng.normal(size=(500, 4))).astype(np.float32)
    got = fit(x, tiny.target_arrays(500))
    np.testing.assert_allclose(got.gene_std, x.astype(np.float64).std(0), rtol=1e-5)


@given(
    st.floats(-1e6, 1e6).filter(lambda value: value == 0 or abs(value) > 1e-3),
    st.integers(1, 40),
)
@settings(max_examples=80, deadline=None)
def test_a_target_that_does_not_vary_is_put_on_zero(value, wells):
    # The deviation of equal values is often 1e-17 and not 0: dividing by it gave targets of 1e8.
    targets = arrays(np.full(wells, value))
    scaling = fit(np.zeros((wells, 2), np.float32), targets)
    scores, _, _ = scaled_targets(targets, scaling)
    assert scaling.target_std[0] == 1.0
    assert float(scores.abs().max()) <= 1e-7 * max(1.0, abs(value))


@given(st.floats(-100, 100, width=32), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_a_gene_that_does_not_vary_is_put_on_zero(value, wells):
    x = np.full((wells, 1), value, np.float32)
    scaling = fit(x, arrays(np.zeros(wells)))
    network = tiny.network(genes=1)
    network.gene_mean.copy_(scaling.gene_mean)
    network.gene_std.copy_(scaling.gene_std)
    assert not network.scale(torch.from_numpy(x)).any()


def test_missing_values_stay_missing_and_change_nothing():
    targets = arrays([1.0, np.nan, 3.0, np.nan, 5.0])
    scaling = fit(np.zeros((5, 1), np.float32), targets)
    scores, label, activation = scaled_targets(targets, scaling)
    np.testing.assert_allclose(scores[:, 0], (np.array([1, np.nan, 3, np.nan, 5]) - 3) / np.std([1, 3, 5]), rtol=1e-6)
    assert label.isnan().all()
    assert activation.isnan().all()
    assert (scaling.target_mean[1], scaling.target_std[1]) == (0.0, 1.0)  # nothing observed


@pytest.mark.parametrize(("scores", "activation"), [(True, False), (False, True), (False, False)])
def test_what_is_not_to_be_scaled_is_left_as_it_is(scores, activation):
    targets = tiny.target_arrays(50)
    scaling = fit(tiny.expression(50), targets, scores=scores, activation=activation)
    got_scores, label, got_activation = scaled_targets(targets, scaling)
    if not scores:
        np.testing.assert_array_equal(got_scores, targets.scores.astype(np.float32))
    if not activation:
        np.testing.assert_array_equal(got_activation, targets.activation.astype(np.float32))
    np.testing.assert_array_equal(label, targets.label.astype(np.float32))
    assert bool(scaling.target_std[0] != 1) == scores
    assert bool(scaling.target_std[-1] != 1) == activation


def test_the_model_undoes_the_scaling_of_its_targets():
    targets = tiny.target_arrays(missing=0.0)
    scaling = fit(targets=targets)
    network = tiny.network(zscore=False)
    network.target_mean.copy_(scaling.target_mean)
    network.target_std.copy_(scaling.target_std)
    scores, _, activation = scaled_targets(targets, scaling)
    with torch.inference_mode():
        x = torch.from_numpy(tiny.expression())
        inside, outside = network(x), network.predict(x)
    # What is missed by e on the scale of the losses is missed by e deviations on the user's.
    std = scaling.target_std.numpy()
    missed = outside.scores.numpy() - targets.scores
    np.testing.assert_allclose(missed, (inside.scores - scores).numpy() * std[:2], atol=1e-5)
    missed = outside.activation.numpy() - targets.activation
    np.testing.assert_allclose(missed, (inside.activation - activation).numpy() * std[2], atol=1e-5)


def test_without_scores_only_the_activation_is_scaled():
    targets = TargetArrays(np.empty((4, 0)), np.array([0.0, 1, 0, 1]), np.array([1.0, 2, 3, 4]))
    scaling = fit(np.zeros((4, 1), np.float32), targets)
    assert scaling.target_mean.tolist() == [2.5]
    assert scaled_targets(targets, scaling)[0].shape == (4, 0)
