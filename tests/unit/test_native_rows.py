"""The native kernels between the products do what PyTorch's operations do one after another, at every odd size."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dpf.model.dropout import Noise
from dpf.model.encoder import torch_attention
from dpf.model.native_attention import NativeAttention
from dpf.model.native_build import CannotBuildError
from dpf.model.native_rows import WIDEST_ROW

CPU = torch.device("cpu")
#: One element; less than a vector; not a multiple of one; many chunks of rows; the longest row.
SHAPES = [(1, 1, 1), (2, 3, 7), (3, 5, 20), (2, 700, 128), (1, 4, WIDEST_ROW)]


@pytest.fixture(autouse=True)
def _threads_as_they_were():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def native():
    try:
        return NativeAttention(torch.bfloat16)
    except CannotBuildError as error:
        pytest.skip(f"no native kernel: {error}")


def noise(p):
    return None if p is None else Noise(p, (3, 4), CPU)


def drawn(shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    residual, mixed, grad = (torch.randn(shape, generator=generator).bfloat16() for _ in range(3))
    norm = nn.LayerNorm(shape[-1])
    with torch.no_grad():
        norm.weight.copy_(torch.randn(shape[-1], generator=generator))
        norm.bias.copy_(torch.randn(shape[-1], generator=generator))
    return residual, mixed, grad + 0.5, norm


def add_norm(program, inputs, p):
    """Output, and gradients of residual, of what is added, of weight and bias."""
    residual, mixed, grad, norm = inputs
    residual, mixed = residual.clone().requires_grad_(), mixed.clone().requires_grad_()
    norm.zero_grad()
    out = program.add_norm(residual, mixed, norm, noise(p))
    out.backward(grad)
    return [out.detach(), residual.grad, mixed.grad, norm.weight.grad.clone(), norm.bias.grad.clone()]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("p", [None, 0.0, 0.1, 0.95])
def test_residual_dropout_and_norm_are_pytorchs_in_float64(native, shape, p):
    inputs = residual, mixed, grad, norm = drawn(shape)
    found = add_norm(native, inputs, p)
    added = mixed if p is None else mixed * Noise(p, (3, 4), CPU).mask(mixed) if p else mixed
    total = (residual + added).double().requires_grad_()  # the sum is kept in bf16 on every path
    weight, bias = (value.detach().double().requires_grad_() for value in (norm.weight, norm.bias))
    exact = nn.functional.layer_norm(total, shape[-1:], weight, bias, norm.eps)
    exact.backward(grad.double())
    kept = total.grad if not p else total.grad * Noise(p, (3, 4), CPU).mask(mixed)
    expected = [exact.detach(), total.grad, kept, weight.grad, bias.grad]
    for name, ours, theirs in zip(("out", "residual", "mixed", "weight", "bias"), found, expected, strict=True):
        # bf16 rounds by up to 2^-9 of a value; sums over rows are float32.
        rtol, atol = (2**-8, 2**-8 * 0.02) if ours.dtype == torch.bfloat16 else (1e-5, 1e-4)
        if shape[-1] == 1 and name in ("residual", "mixed"):
            continue  # a row of one number has variance 0: 0 times 1/sqrt(eps), all rounding
        torch.testing.assert_close(ours.double(), theirs, rtol=rtol, atol=atol, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("p", [None, 0.0, 0.1, 0.95])
@pytest.mark.parametrize("count", [1, 31, 33, 70_000])
def test_relu_and_dropout_are_pytorchs_bit_for_bit(native, count, p):
    generator = torch.Generator().manual_seed(0)
    start, grad = (torch.randn(count, generator=generator).bfloat16() for _ in range(2))
    start[0] = 0.0
    results = []
    for program in (native, torch_attention):
        x = start.clone().requires_grad_()
        out = program.drop_relu(x * 1, noise(p))
        out.backward(grad)
        results.append((out.detach(), x.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_what_is_not_a_number_is_not_hidden(native):
    x = torch.tensor([1.0, -1.0, math.nan, -math.nan, math.inf, -math.inf, -0.0]).bfloat16()
    out = native.drop_relu(x.clone(), None)
    assert out.isnan().tolist() == [False, False, True, True, False, False, False]
    assert out[[0, 1, 4, 5, 6]].tolist() == [1.0, 0.0, math.inf, 0.0, 0.0]
    residual, mixed, _, norm = drawn((1, 3, 20))
    mixed[0, 1, 4] = math.nan
    found = native.add_norm(residual, mixed, norm, None)
    assert found[0, 1].isnan().all()
    assert found[0, [0, 2]].isfinite().all()


def test_the_number_of_threads_changes_no_bit(native):
    inputs = drawn((3, 811, 40))
    torch.set_num_threads(1)
    first = add_norm(native, inputs, 0.1)
    for threads in (2, 5):
        torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(add_norm(native, inputs, 0.1), first, strict=True))


def test_rows_that_are_too_long_and_float32_go_to_pytorch(native):
    for shape, dtype in (((1, 3, WIDEST_ROW + 1), torch.bfloat16), ((1, 3, 20), torch.float32)):
        residual, mixed, _, norm = drawn(shape)
        residual, mixed = residual.to(dtype), mixed.to(dtype)
        expected = torch_attention.add_norm(residual, mixed, norm, None)
        assert torch.equal(native.add_norm(residual, mixed, norm, None), expected)
        assert torch.equal(native.drop_relu(mixed.clone(), None), torch.relu(mixed))
