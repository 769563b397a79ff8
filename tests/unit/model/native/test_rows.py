"""The native kernels between the products do what PyTorch's operations do one after another, at every odd size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from dpf.model.dropout import CHUNK_WORDS, Noise, Rows, draw_words
from dpf.model.encoder import EncoderLayer, Origin, TorchAttention, reset_parameters, torch_attention
from dpf.model.native import layer as native_layer
from dpf.model.native.attention import NativeAttention
from dpf.model.native.build import CannotBuildError
from dpf.model.native.rows import WIDEST_ROW, Drop, Given, Norm, Normed, words_of

CPU = torch.device("cpu")
#: Rows and width. One element; less than a vector; not a multiple of one; many chunks of rows; the longest row.
SHAPES = [(1, 1), (6, 7), (15, 20), (1400, 128), (4, WIDEST_ROW)]


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


@pytest.fixture(scope="module")
def rows(native):
    return native.rows


def drop_of(like, p):
    """What a kernel is told of dropout, and its mask times its gain."""
    if not p:
        return Drop(), torch.ones_like(like)
    noise = Noise(p, (3, 4), CPU)
    bits = torch.from_numpy(Noise(p, (3, 4), CPU).bits(like).cut(0, like.numel()))
    return Drop(bits, noise.threshold, noise.gain), noise.mask(like).float() * noise.gain


def drawn(shape, seed=0):
    """Residual, what is added to it, its bias, the output's gradient, and a norm's weights."""
    generator = torch.Generator().manual_seed(seed)
    residual, mixed, grad = (torch.randn(shape, generator=generator).bfloat16() for _ in range(3))
    bias, weight, shift = (torch.randn(shape[-1], generator=generator) for _ in range(3))
    return residual, mixed, bias, grad + 0.5, Norm(weight, shift, 1e-5)


def add_norm(rows, inputs, p):
    """Output; gradients of residual, of what is added, of the norm's weight and bias and of the added bias; the sum."""
    residual, mixed, bias, grad, norm = inputs
    total, (drop, _) = mixed.clone(), drop_of(mixed, p)
    keep = torch.empty(len(residual), words_of(residual.shape[1]), dtype=torch.uint16) if p else None
    normed = Normed(torch.empty_like(residual), torch.empty(len(residual), 2), keep)
    rows.add_norm(residual, total, bias, norm, drop, normed)
    of_residual = normed._replace(out=torch.empty_like(residual))
    of_mixed, of_weights = rows.add_norm_grad(Given(grad), total, of_residual, norm.weight, drop.gain)
    return [normed.out, of_residual.out, of_mixed, of_weights, total]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.95])
def test_residual_dropout_and_norm_are_pytorchs_in_float64(rows, shape, p):
    inputs = residual, mixed, bias, grad, norm = drawn(shape)
    out, of_residual, of_mixed, of_weights, total = add_norm(rows, inputs, p)
    _, mask = drop_of(mixed, p)
    torch.testing.assert_close(total.float(), residual + mask * (mixed + bias), rtol=2**-8, atol=1e-3)
    summed = total.double().requires_grad_()  # the sum is kept in bf16
    weight, shift = (value.double().requires_grad_() for value in norm[:2])
    exact = nn.functional.layer_norm(summed, shape[-1:], weight, shift, norm.eps)
    exact.backward(grad.double())
    # bf16 rounds by up to 2^-9 of a value; sums over rows are float32.
    low, high = {"rtol": 2**-8, "atol": 2**-8 * 0.02}, {"rtol": 1e-5, "atol": 1e-4}
    torch.testing.assert_close(out.double(), exact.detach(), **low)
    torch.testing.assert_close(of_weights[0].double(), weight.grad, **high)
    torch.testing.assert_close(of_weights[1].double(), shift.grad, **high)
    if shape[-1] == 1:
        return  # a row of one number has variance 0: 0 times 1/sqrt(eps), all rounding
    kept = summed.grad * mask
    torch.testing.assert_close(of_residual.double(), summed.grad, **low)
    torch.testing.assert_close(of_mixed.double(), kept, **low)
    torch.testing.assert_close(of_weights[2].double(), kept.sum(0), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.95])
@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (2, 33), (1100, 70)], ids=str)
def test_bias_relu_and_dropout_are_pytorchs(rows, shape, p):
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(shape, generator=generator).bfloat16() for _ in range(2))
    bias = torch.randn(shape[1], generator=generator)
    drop, mask = drop_of(x, p)
    hidden = x.clone()
    rows.drop_relu(hidden, bias, drop)
    assert torch.equal(hidden, ((x + bias).relu() * mask).bfloat16())
    expected = torch.where(hidden > 0, grad.float() * drop.gain, 0.0)
    of_bias = rows.drop_relu_grad(hidden, grad, drop.gain)
    assert torch.equal(grad, expected.bfloat16())
    torch.testing.assert_close(of_bias, expected.sum(0), rtol=1e-5, atol=1e-3)


def test_what_is_not_a_number_is_not_hidden(rows):
    x = torch.tensor([[1.0, -1.0, math.nan, -math.nan, math.inf, -math.inf, -0.0]]).bfloat16()
    for drop in (Drop(), Drop(torch.zeros(7, dtype=torch.uint16), 1, 1.0)):
        hidden = x.clone()
        rows.drop_relu(hidden, torch.zeros(7), drop)
        assert hidden.isnan().tolist() == [[False, False, True, True, False, False, False]]
    residual, mixed, bias, _, norm = drawn((3, 20))
    mixed[1, 4] = math.nan
    found = torch.empty_like(residual)
    rows.add_norm(residual, mixed, bias, norm, Drop(), Normed(found, torch.empty(3, 2)))
    assert found[1].isnan().all()
    assert found[[0, 2]].isfinite().all()


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 70, 20), (8, 65, 64)], ids=str)
def test_embedded_values_and_their_gradients_are_those_of_the_formula(native, sizes):
    wells, genes, width = sizes
    generator = torch.Generator().manual_seed(0)
    x, slope, base = (torch.randn(shape, generator=generator) for shape in ((wells, genes), (width,), (genes, width)))
    probe = torch.randn(wells, genes, width, generator=generator).bfloat16()
    exact = [part.double().requires_grad_() for part in (x, slope, base)]
    ours = [part.clone().requires_grad_() for part in (x, slope, base)]
    (exact[2] + exact[0][..., None] * exact[1]).backward(probe.double())
    out = native.embed(Origin(*ours), torch.bfloat16)
    torch.testing.assert_close(out.float(), base + x[..., None] * slope, rtol=2**-7, atol=0.01)
    out.backward(probe)
    for mine, theirs in zip(ours, exact, strict=True):
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-4, atol=1e-4)


def test_a_gradient_that_rows_share_is_theirs(rows):
    inputs = _, mixed, _, _, norm = drawn((21, 20))
    keep = torch.from_numpy(np.random.default_rng(0).integers(0, 1 << 16, (21, 2), dtype=np.uint16))
    stats, shared = torch.rand(21, 2), drawn((5, 20), seed=1)[3]
    for first in (0, 3):  # rows of wells of seven genes; from the fourth gene of the first well on
        whole = shared.repeat_interleave(7, 0)[first : first + 21]
        found = []
        for given in (Given(whole), Given(shared, first, 7)):
            normed = Normed(torch.empty_like(mixed), stats, keep)
            found.append([*rows.add_norm_grad(given, inputs[1], normed, norm.weight, 1.1), normed.out])
        assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.parametrize("sizes", [(1, 1, 1), (3, 70, 20), (2, 300, 128)], ids=str)
def test_the_mean_over_genes_and_its_gradient_are_pytorchs(native, sizes):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(sizes, generator=generator).bfloat16()
    probe = torch.randn(sizes[0], sizes[2], generator=generator)
    found = []
    for pool in (native.pool, torch_attention.pool):
        given = tokens.clone().requires_grad_()
        out = pool(given)
        out.backward(probe)
        assert out.dtype == torch.float32
        found.append((out.detach(), given.grad))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[0][1].float(), found[1][1].float(), rtol=2**-7, atol=0)


@pytest.mark.parametrize("rows_of", [None, Rows(1, 4)], ids=["alone", "part"])
def test_a_layer_in_slices_drops_what_the_mask_of_the_whole_does(native, monkeypatch, rows_of):
    """Slices that begin and end within chunks, and masks of wells that are a part of a pass."""
    monkeypatch.setattr(native_layer, "_ROWS", 1000)
    layer = EncoderLayer(20, 2, 70)
    reset_parameters(layer, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    tokens, heads, probe = (torch.randn(2, 1700, 20, generator=generator).bfloat16() for _ in range(3))
    found = []
    for program in (native, torch_attention):
        given = tokens.clone().requires_grad_()
        out = program.finish(layer, given, heads.view(2, 1700, 2, 10), Noise(0.5, (7,), CPU, rows_of))
        layer.zero_grad()
        out.backward(probe)
        found.append([out.detach(), given.grad, *(part.grad for part in layer.parameters() if part.grad is not None)])
    assert len(found[0]) == 12  # all but the queries, keys and values
    for one, other in zip(*found, strict=True):
        assert float((one.float() - other.float()).norm()) < 0.03 * float(other.float().norm())


@pytest.mark.parametrize("words", [0, 1, 7, 9, CHUNK_WORDS, CHUNK_WORDS + 1, 9 * CHUNK_WORDS + 5])
def test_words_are_numpys(rows, words):
    chunks = -(-words // CHUNK_WORDS)
    states = np.random.default_rng(0).integers(0, 1 << 63, (chunks, 4), dtype=np.uint64)
    assert np.array_equal(rows.draw(states, words), draw_words(states, words))


def test_the_number_of_threads_changes_no_bit(rows):
    inputs = drawn((2433, 40))
    states = np.random.default_rng(0).integers(0, 1 << 63, (20, 4), dtype=np.uint64)

    def everything():
        hidden, grad = inputs[0].clone(), inputs[3].clone()
        rows.drop_relu(hidden, inputs[2], Drop())
        means = rows.sum_genes(inputs[0][:2400].view(8, 300, 40))
        of_x = rows.embed_grad(x, slope, inputs[0][:600].view(3, 200, 40), of_x=True)
        drawn_words = torch.from_numpy(rows.draw(states, 20 * CHUNK_WORDS).view(np.int64))
        return [*add_norm(rows, inputs, 0.1), rows.drop_relu_grad(hidden, grad, 1.0), *of_x, means, drawn_words]

    x, slope = torch.linspace(-1, 1, 600).view(3, 200), torch.linspace(0, 2, 40)
    torch.set_num_threads(1)
    first = everything()
    for threads in (2, 5):
        torch.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(everything(), first, strict=True))


def test_rows_that_are_too_long_and_float32_go_to_pytorch(native, monkeypatch):
    asked = []
    monkeypatch.setattr(TorchAttention, "finish", lambda *given: asked.append(given) or "PyTorch's")
    for width, dtype in ((WIDEST_ROW + 1, torch.bfloat16), (20, torch.float32)):
        layer, tokens = EncoderLayer(width, 1, 3), torch.zeros(1, 3, width, dtype=dtype)
        assert native.finish(layer, tokens, tokens[:, :, None], None) == "PyTorch's"
    assert len(asked) == 2
