"""Dropout's noise is a function of its key, drops at its rate, and leaves every global generator alone."""

from __future__ import annotations

import hashlib
import itertools
import random

import numpy as np
import pytest
import torch

from dpf.model.dropout import _CHUNK_ELEMENTS, Noise, Rows, drop, drop_and_add, drop_relu

CPU = torch.device("cpu")


def masks(p=0.5, key=(614, 0, 3, 2, 1), shapes=((3, 5), (7,), (2, 3, 4))):
    noise = Noise(p, key, CPU)
    return [noise.mask(torch.empty(shape)) for shape in shapes]


def test_the_same_key_gives_the_same_masks_and_each_place_its_own():
    assert all(torch.equal(a, b) for a, b in zip(masks(), masks(), strict=True))
    first, second = masks(shapes=((1000,), (1000,)))
    assert not torch.equal(first, second)


def test_every_number_of_the_key_counts():
    keys = set(itertools.product((0, 1, 614, 614 + (1 << 32)), (0, 1), (0, 1), (0, 1), (0, 1)))
    drawn = {tuple(Noise(0.5, key, CPU).mask(torch.empty(128)).tolist()) for key in keys}
    assert len(drawn) == len(keys)


def test_masks_of_neighbouring_keys_are_independent():
    a, b = (Noise(0.5, (614, 0, 0, step, 0), CPU).mask(torch.empty(1 << 16)) for step in (0, 1))
    agreement = float((a == b).float().mean())
    assert agreement == pytest.approx(0.5, abs=5 * 0.5 / 256)


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.95])
def test_the_rate_is_right_everywhere_in_the_mask(p):
    mask = Noise(p, (1, 2), CPU).mask(torch.empty(400, 500)).bool()
    for part in (mask, mask[:, ::4], mask[:, 1::4], mask[:, 3::4], mask[:50]):
        error = 5 * (p * (1 - p) / part.numel()) ** 0.5
        assert float((~part).float().mean()) == pytest.approx(p, abs=error + 2**-17)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_mask_is_0_or_1_in_the_type_of_what_it_falls_on(dtype):
    mask = Noise(0.3, (1, 2), CPU).mask(torch.empty(40, 50, dtype=dtype))
    assert mask.dtype == dtype
    assert sorted(mask.unique().tolist()) == [0.0, 1.0]
    assert torch.equal(mask.float(), Noise(0.3, (1, 2), CPU).mask(torch.empty(40, 50)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("first", "wells"), [(0, 2), (1, 3), (4, 1), (0, 5)])
def test_rows_of_a_pass_have_the_noise_of_the_whole_pass(dtype, first, wells):
    shapes = [(5, 3, 7), (5, 2), (5,)]  # of the whole pass
    noise, cut = Noise(0.4, (1, 2), CPU), Noise(0.4, (1, 2), CPU, Rows(first, 5))
    for shape in shapes:
        whole = noise.mask(torch.empty(shape, dtype=dtype))
        assert torch.equal(cut.mask(torch.empty((wells, *shape[1:]), dtype=dtype)), whole[first : first + wells])


@pytest.mark.parametrize(("first", "wells"), [(0, 1), (1, 1), (1, 3), (4, 1)])
def test_rows_that_begin_or_end_within_a_chunk_have_the_noise_of_the_whole_pass(first, wells):
    whole = Noise(0.4, (1, 2), CPU).mask(torch.empty(5, 90_001))
    assert whole.numel() > 3 * _CHUNK_ELEMENTS
    assert torch.equal(Noise(0.4, (1, 2), CPU, Rows(first, 5)).mask(whole[:wells]), whole[first : first + wells])


def test_the_same_seed_has_the_same_noise_in_every_version():
    """Masks of one chunk and a bit, and of two: what changes them needs another `NOISE`."""
    kept = masks(0.1, shapes=((3, 50_000), (7, 30_001)))
    digests = [hashlib.sha256(mask.bool().numpy().tobytes()).hexdigest()[:16] for mask in kept]
    assert digests == ["bafbf72f39ea9e63", "90fde42965131e31"]


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 0), (2, 3, 5)])
def test_any_shape_is_served(shape):
    assert Noise(0.3, (0,), CPU).mask(torch.empty(shape)).shape == shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_is_scaled_so_that_the_mean_stays(dtype):
    x = torch.full((200, 300), 3.0, dtype=dtype).requires_grad_()
    y = drop(x, Noise(0.25, (5,), CPU))
    assert y.dtype == dtype
    kept = Noise(0.25, (5,), CPU).mask(x)
    assert torch.equal(y, 4.0 * kept)
    assert float(y.detach().float().mean()) == pytest.approx(3.0, rel=0.01)
    y.float().sum().backward()
    torch.testing.assert_close(x.grad.float(), kept.float() / 0.75, rtol=0.01, atol=0)


def test_the_gradient_is_that_of_the_product_with_the_mask():
    x = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: drop(t, Noise(0.4, (1,), CPU)), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_forms_are_dropout_of_what_has_its_gain_already(dtype):
    generator = torch.Generator().manual_seed(0)
    x, residual, probe = (torch.randn(30, 40, generator=generator).to(dtype) for _ in range(3))
    noise = Noise(0.2, (1,), CPU)
    mask, gain = Noise(0.2, (1,), CPU).mask(x), noise.gain
    assert gain == pytest.approx(1.25)
    for fused, plain in (
        (lambda t: drop_and_add(residual, t, Noise(0.2, (1,), CPU)), lambda t: residual + t * mask),
        (lambda t: drop_relu(t, Noise(0.2, (1,), CPU)), lambda t: torch.relu(t) * mask),
    ):
        ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        out, expected = fused(ours), plain(theirs)
        assert torch.equal(out, expected)
        (out * probe).sum().backward()
        (expected * probe).sum().backward()
        assert torch.equal(ours.grad, theirs.grad)


def test_the_sum_passes_the_residuals_gradient_through():
    residual = torch.ones(3, 4, requires_grad=True)
    drop_and_add(residual, torch.ones(3, 4), Noise(0.5, (1,), CPU)).sum().backward()
    assert torch.equal(residual.grad, torch.ones(3, 4))


def test_the_fused_relu_keeps_its_result_and_nothing_else():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        out = drop_relu(torch.ones(64, 64, requires_grad=True), Noise(0.1, (1,), CPU))
    assert [tensor.data_ptr() for tensor in kept] == [out.data_ptr()]


def test_without_noise_or_at_rate_0_nothing_happens():
    x = torch.ones(3)
    for noise in (None, Noise(0.0, (1,), CPU)):
        assert drop(x, noise) is x
        assert torch.equal(drop_and_add(x, x, noise), x + x)
        assert torch.equal(drop_relu(-x, noise), torch.zeros(3))


def test_no_global_generator_is_touched():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    masks()
    drop(torch.ones(9, requires_grad=True), Noise(0.5, (1,), CPU)).sum().backward()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_the_same_holds_on_a_gpu():
    device = torch.device("cuda")
    like = torch.empty(400, 500, device=device)
    before = torch.cuda.get_rng_state()
    mask = Noise(0.1, (1, 2), device).mask(like)
    assert torch.equal(mask, Noise(0.1, (1, 2), device).mask(like))
    assert not torch.equal(mask, Noise(0.1, (1, 3), device).mask(like))
    assert float(1 - mask.mean()) == pytest.approx(0.1, abs=5 * (0.09 / mask.numel()) ** 0.5)
    assert torch.equal(torch.cuda.get_rng_state(), before)
