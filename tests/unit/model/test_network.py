"""The latent is trained, every head is linear in it, and the scaler is part of the model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dpf.model.dropout import Noise
from dpf.model.losses import TargetBatch, loss_sums
from dpf.model.network import TargetLayout, build_network, empty_network
from dpf.training.inference import predict_wells
from tests.support import tiny


def outputs(prediction):
    """Every head's output side by side; (B, S + 2)."""
    return torch.column_stack([prediction.scores, prediction.label_logit, prediction.activation]).detach()


@pytest.mark.parametrize("part", ["scores", "label", "activation"])
def test_every_loss_reaches_the_latent(part):
    # A latent that is a side branch of the hidden layer gets no gradient: a random projection.
    network = tiny.network()
    prediction = network(torch.from_numpy(tiny.expression()))
    targets = TargetBatch(torch.full((30, 2), torch.nan), torch.full((30,), torch.nan), torch.full((30,), torch.nan))
    getattr(targets, part).fill_(1.0)
    loss_sums(prediction, targets).sums.sum().backward()
    for layer in (network.latent_out, network.latent_in, network.encoder.tokens.value):
        assert float(layer.weight.grad.abs().max()) > 1e-6
    others = {"scores", "label", "activation"} - {part}
    assert all(not getattr(network, other).weight.grad.any() for other in others)


def test_every_head_is_linear_in_the_latent():
    # More wells than latent dimensions: were a head not affine in z, least squares would leave a residual.
    prediction = tiny.network()(torch.from_numpy(tiny.expression(200)))
    z = prediction.latent.detach().double().numpy()
    design = np.column_stack([z, np.ones(len(z))])
    heads = outputs(prediction).double().numpy()
    fitted = design @ np.linalg.lstsq(design, heads, rcond=None)[0]
    assert np.abs(heads - fitted).max() < 1e-5 * np.abs(heads).max()
    assert (heads.std(0) > 1e-3).all()


def test_predict_scales_the_input_and_puts_targets_back():
    network = tiny.network()
    x = tiny.expression()
    scaled = (x - network.gene_mean.numpy()) / (network.gene_std.numpy() + 1e-8)
    inside = network(torch.from_numpy(scaled))
    outside = network.predict(torch.from_numpy(x))
    mean, std = network.target_mean, network.target_std
    torch.testing.assert_close(outside.latent, inside.latent)
    torch.testing.assert_close(outside.scores, inside.scores * std[:2] + mean[:2])
    torch.testing.assert_close(outside.activation, inside.activation * std[2] + mean[2])
    torch.testing.assert_close(outside.label_logit, inside.label_logit)


def test_without_zscore_the_scaler_does_nothing():
    network = tiny.network(zscore=False)
    x = torch.from_numpy(tiny.expression())
    assert network.scale(x) is x


def test_a_gene_that_does_not_vary_stays_at_zero():
    network = tiny.network()
    network.gene_std[3] = 0.0
    x = torch.from_numpy(tiny.expression())
    x[:, 3] = network.gene_mean[3]
    assert not network.scale(x)[:, 3].any()
    assert network.scale(x).isfinite().all()


@pytest.mark.parametrize(
    "layout",
    [
        TargetLayout(("a",), None, None),
        TargetLayout((), "l", None),
        TargetLayout((), None, "t"),
        TargetLayout(("a", "b", "c", "d"), "l", "t"),
    ],
)
def test_heads_are_those_of_the_layout(layout):
    prediction = tiny.network(layout=layout).predict(torch.from_numpy(tiny.expression(4)))
    assert prediction.latent.shape == (4, 5)
    assert prediction.scores.shape == (4, len(layout.scores))
    assert (prediction.label_logit is None) == (layout.label is None)
    assert (prediction.activation is None) == (layout.activation is None)
    cpu = prediction.cpu()
    assert torch.equal(cpu.scores, prediction.scores)
    assert (cpu.label_logit is None) == (layout.label is None)


@given(st.integers(1, 9), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_wells_do_not_see_their_batch(wells, seed):
    network = tiny.network()
    x = torch.from_numpy(tiny.expression(wells, seed=seed))
    alone = torch.cat([outputs(network.predict(row[None])) for row in x])
    torch.testing.assert_close(outputs(network.predict(x)), alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("at_once", [1, 7 * 4, 7 * 13, 1 << 20])
def test_how_prediction_is_cut_into_passes_changes_nothing(at_once):
    network, x = tiny.network(), tiny.expression()
    done = []
    compute = type(tiny.CPU)(torch.device("cpu"), "fp32", torch.float32, at_once)
    prediction = predict_wells(network, x, compute, done.append)
    expected = network.predict(torch.from_numpy(x))
    torch.testing.assert_close(outputs(prediction), outputs(expected), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(prediction.latent, expected.latent, rtol=1e-5, atol=1e-5)
    assert sum(done) == tiny.WELLS
    assert max(done) <= max(1, at_once // tiny.GENES)


def test_prediction_is_without_dropout_and_training_with_it():
    network = tiny.network(dropout=0.5)
    x = torch.from_numpy(tiny.expression())
    noisy = network(x, noise=Noise(0.5, (1,), torch.device("cpu")))
    assert torch.equal(outputs(network(x)), outputs(network.train()(x)))  # never a hidden mode
    assert not torch.allclose(outputs(noisy), outputs(network(x)))


def test_losses_and_heads_stay_in_float32_when_the_encoder_runs_in_bf16():
    network = tiny.network()
    x = torch.from_numpy(tiny.expression())
    prediction = network(x, torch.bfloat16)
    assert {part.dtype for part in prediction} == {torch.float32}
    torch.testing.assert_close(outputs(prediction), outputs(network(x)), rtol=0.05, atol=0.05)


def test_building_draws_from_the_generator_given_and_from_no_other():
    state = torch.get_rng_state()
    first = tiny.network(seed=4).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert tiny.digest(tiny.network(seed=4).state_dict()) == tiny.digest(first)
    assert tiny.digest(tiny.network(seed=5).state_dict()) != tiny.digest(first)


def test_an_empty_network_has_the_identity_as_scaler():
    network = empty_network(7, tiny.LAYOUT, tiny.MODEL, zscore=True)
    assert {name: float(buffer.unique()) for name, buffer in network.named_buffers()} == {
        "gene_mean": 0.0,
        "gene_std": 1.0,
        "target_mean": 0.0,
        "target_std": 1.0,
    }


def test_the_default_network_has_the_size_of_the_seeds():
    from dpf.config.settings import ModelSettings

    genes, d, f, latent = 50, 128, 512, 32
    layout = TargetLayout(("a", "b", "c"), "l", "t")
    network = build_network(genes, layout, ModelSettings(), True, torch.Generator().manual_seed(0))
    tokens = 2 * d + genes * d
    layer = (3 * d * d + 3 * d) + (d * d + d) + (f * d + f) + (d * f + d) + 4 * d
    heads = 5 * (latent + 1)
    expected = tokens + 2 * layer + (d * d + d) + (d * latent + latent) + heads
    assert sum(weight.numel() for weight in network.parameters()) == expected
