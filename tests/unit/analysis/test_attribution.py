"""Gradient x Input agrees with autograd well by well and with finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dpf.analysis.attribution import gradient_times_input, summing_device
from dpf.model.encoder import torch_attention
from dpf.model.native.attention import NativeAttention
from dpf.model.native.build import CannotBuildError
from tests.support import tiny

CPU = torch.device("cpu")
WELLS = 23
CONTROLS = np.arange(WELLS) % 5 == 0

TARGETS = {
    "activation": lambda prediction: prediction.activation,
    "label": lambda prediction: prediction.label_logit,
    "score": lambda prediction: prediction.scores[:, 1],
    "latent": lambda prediction: prediction.latent[:, 3],
    "distance": lambda prediction: (prediction.latent - 0.3).norm(dim=1),
}


def attribute(network, x, target="activation", wells_at_once=6, **options):
    found = gradient_times_input(
        network, x, CONTROLS, TARGETS[target], device=CPU, wells_at_once=wells_at_once, **options
    )
    parts = (found.importance, found.signed, found.control_importance, found.control_signed, found.gradient)
    return np.stack(parts)


def naive(network, x, target):
    """One well at a time, one product at a time."""
    scaled = x
    if network.zscore:
        scaled = (x - network.gene_mean.numpy()) / (network.gene_std.numpy() + np.float32(1e-8))
    baseline = scaled[CONTROLS].astype(np.float64).mean(0)
    plain, centred, gradients = [], [], []
    for row in scaled:
        point = torch.from_numpy(row[None]).requires_grad_()
        TARGETS[target](network(point))[0].backward()
        gradient = point.grad[0].numpy().astype(np.float64)
        plain.append(row * gradient)
        centred.append((row - baseline) * gradient)
        gradients.append(gradient)
    means = [np.abs(plain).mean(0), np.mean(plain, 0), np.abs(centred).mean(0), np.mean(centred, 0)]
    return np.stack([*means, np.mean(gradients, 0)])


@pytest.mark.parametrize("zscore", [True, False])
@pytest.mark.parametrize("target", list(TARGETS))
def test_it_is_autograds_well_by_well(target, zscore):
    network, x = tiny.network(zscore=zscore), tiny.expression(WELLS)
    expected = naive(network, x, target)
    got = attribute(network, x, target)
    assert got.shape == (5, tiny.GENES)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("target", list(TARGETS))
def test_it_is_what_finite_differences_say(target):
    network, x = tiny.network(), tiny.expression(WELLS)
    scaled = network.scale(torch.from_numpy(x)).numpy()
    step = 0.01
    gradient = np.empty(x.shape)
    with torch.inference_mode():
        for gene in range(tiny.GENES):
            high, low = scaled.copy(), scaled.copy()
            high[:, gene] += step
            low[:, gene] -= step
            values = [TARGETS[target](network(torch.from_numpy(moved))).double().numpy() for moved in (high, low)]
            gradient[:, gene] = (values[0] - values[1]) / (2 * step)
    expected = np.stack([np.abs(scaled * gradient).mean(0), (scaled * gradient).mean(0)])
    # ReLUs bend within a step here and there: half a percent of the largest.
    np.testing.assert_allclose(attribute(network, x, target)[:2], expected, atol=0.005 * expected.max())


@pytest.mark.parametrize("wells_at_once", [1, 4, 22, 23, 1000])
def test_how_wells_are_cut_into_passes_changes_nothing(wells_at_once):
    network, x = tiny.network(), tiny.expression(WELLS)
    done = []
    got = attribute(network, x, wells_at_once=wells_at_once, progress=done.append)
    np.testing.assert_allclose(got, attribute(network, x), rtol=1e-4, atol=1e-7)
    assert sum(done) == WELLS


def test_with_zscore_the_units_of_a_gene_do_not_matter():
    network, x = tiny.network(), tiny.expression(WELLS)
    before = attribute(network, x)
    factor = np.float32(4)  # a power of two: no rounding
    network.gene_mean *= 4
    network.gene_std *= 4
    np.testing.assert_allclose(attribute(network, x * factor), before, rtol=1e-4, atol=1e-7)


def test_a_gene_at_its_baseline_has_no_attribution():
    network, x = tiny.network(), tiny.expression(WELLS)
    x[:, 2] = 1.5
    got = attribute(network, x)
    assert got[0, 2] > 0
    assert got[2:4, 2] == pytest.approx(0, abs=1e-7)


def test_the_native_kernel_finds_the_same():
    try:
        native = NativeAttention(torch.float32)
    except CannotBuildError as error:
        pytest.skip(f"no native kernel: {error}")
    genes = 131  # more than two panels of queries, and nothing that comes out even
    network = tiny.network(genes=genes, width=24, heads=2, layers=2)
    x = tiny.expression(4, genes)
    controls = np.arange(4) == 0
    found = {
        name: gradient_times_input(
            network, x, controls, TARGETS["latent"], device=CPU, wells_at_once=3, attention=program
        )
        for name, program in (("torch", torch_attention), ("native", native))
    }
    inputs = network.scale(torch.from_numpy(x)).requires_grad_()
    (expected,) = torch.autograd.grad(network(inputs).latent[:, 3].sum(), inputs)
    for program in found.values():
        scale = np.abs(found["torch"].gradient).max()
        np.testing.assert_allclose(program.gradient, expected.double().mean(0), rtol=0, atol=1e-5 * scale)
        np.testing.assert_allclose(program.importance, found["torch"].importance, rtol=1e-4, atol=1e-7)


def test_sums_are_taken_where_there_is_float64():
    assert summing_device(torch.device("mps")) == CPU
    for name in ("cpu", "cuda:1"):
        assert summing_device(torch.device(name)) == torch.device(name)


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_it_was(fails):
    network, x = tiny.network(), tiny.expression(WELLS)
    network.latent_in.weight.requires_grad_(False)
    flags = [weight.requires_grad for weight in network.parameters()]
    before = tiny.digest(network.state_dict())
    if fails:
        with pytest.raises(ZeroDivisionError):
            gradient_times_input(network, x, CONTROLS, lambda _: 1 / 0, device=CPU, wells_at_once=5)
    else:
        attribute(network, x)
    assert [weight.requires_grad for weight in network.parameters()] == flags
    assert tiny.digest(network.state_dict()) == before
    assert all(weight.grad is None for weight in network.parameters())
