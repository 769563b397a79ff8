"""The encoder is `torch.nn.TransformerEncoder` to the letter, and never holds a G x G matrix."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from dpf.model.dropout import Noise
from dpf.model.encoder import Encoder, affine, normalise, reset_parameters, torch_attention
from dpf.model.native.attention import NativeAttention
from dpf.model.native.build import CannotBuildError
from tests.support.drawn_encoders import expression, redrawn, require_gradients

CPU = torch.device("cpu")


def drawn(genes=40, width=16, heads=4, layers=2, feed_forward=32, seed=0):
    """An encoder whose every weight counts: biases and norms too are drawn."""
    return redrawn(Encoder(genes, width, heads, layers, feed_forward), seed)


#: PyTorch's names of a layer's weights, and ours.
THEIR_NAMES = {
    "self_attn.in_proj_weight": "qkv.weight",
    "self_attn.in_proj_bias": "qkv.bias",
    "self_attn.out_proj.weight": "attention_out.weight",
    "self_attn.out_proj.bias": "attention_out.bias",
    "linear1.weight": "feed_forward_in.weight",
    "linear1.bias": "feed_forward_in.bias",
    "linear2.weight": "feed_forward_out.weight",
    "linear2.bias": "feed_forward_out.bias",
    "norm1.weight": "attention_norm.weight",
    "norm1.bias": "attention_norm.bias",
    "norm2.weight": "feed_forward_norm.weight",
    "norm2.bias": "feed_forward_norm.bias",
}


class Plain(nn.Module):
    """PyTorch's own post-norm encoder over the same tokens, with the same weights."""

    def __init__(self, ours, dropout=0.0):
        super().__init__()
        self.value = nn.Linear(1, ours.tokens.gene.shape[1])
        self.gene = nn.Parameter(ours.tokens.gene.detach().clone())
        self.value.load_state_dict(ours.tokens.value.state_dict())
        first = ours.layers[0]
        layer = nn.TransformerEncoderLayer(
            first.qkv.in_features,
            first.heads,
            first.feed_forward_in.out_features,
            dropout=dropout,
            activation="relu",
            batch_first=True,
            norm_first=False,
        )
        self.encoder = nn.TransformerEncoder(layer, len(ours.layers), enable_nested_tensor=False)
        weights = ours.layers.state_dict()
        for index, part in enumerate(self.encoder.layers):
            part.load_state_dict({theirs: weights[f"{index}.{our}"] for theirs, our in THEIR_NAMES.items()})

    def forward(self, x):
        tokens = self.value(x[..., None]) + self.gene
        return self.encoder(tokens).mean(1)

    def gradients(self):
        """Our names of every weight, with this one's gradients."""
        found = {"tokens.value.weight": self.value.weight.grad, "tokens.value.bias": self.value.bias.grad}
        found["tokens.gene"] = self.gene.grad
        for index, part in enumerate(self.encoder.layers):
            for name, weight in part.named_parameters():
                found[f"layers.{index}.{THEIR_NAMES[name]}"] = weight.grad
        return found


def relative(ours, theirs):
    """Largest difference over the largest value."""
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())


def run(module, x, probe, **options):
    """Output, and the gradients of the inputs, of `sum(output * probe)`."""
    x = x.clone().requires_grad_()
    out = module(x, **options)
    (out * probe).sum().backward()
    return out.detach(), x.grad


SHAPES = [(1, 8, 1, 1, 8), (40, 16, 4, 2, 32), (97, 24, 3, 3, 10), (300, 32, 4, 2, 64), (1500, 64, 4, 1, 96)]


def path(name, dtype):
    """A device and the program that computes attention there, or a skip that says why not."""
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    try:
        attention = NativeAttention(dtype) if name == "native" else torch_attention
    except CannotBuildError as error:
        pytest.skip(f"no native attention kernel: {error}")
    return torch.device("cuda" if name == "cuda" else "cpu"), attention


def distance(ours, theirs):
    """Norm of the difference over the norm."""
    return float((ours.cpu().double() - theirs.double()).norm() / theirs.double().norm())


#: Norm of the difference over the norm: of outputs; of gradients. bf16 has 8 bits, 2^-8 = 0.4% an operation, and a unit
#: near 0 may be on one side of the ReLU here and on the other there.
LIMITS = {torch.float32: (1e-6, 2e-6), torch.bfloat16: (0.01, 0.04)}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["torch", "native", "cuda"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_outputs_and_gradients_are_those_of_pytorchs_encoder(shape, name, dtype):
    device, attention = path(name, dtype)
    ours = drawn(*shape)
    plain = Plain(ours)
    x = expression(3, shape[0])
    probe = torch.randn(3, shape[1], generator=torch.Generator().manual_seed(2))
    expected, expected_gradient = run(plain, x, probe)
    ours = ours.to(device)
    out, gradient = run(ours, x.to(device), probe.to(device), dtype=dtype, attention=attention)
    limit, gradient_limit = LIMITS[dtype]
    assert out.dtype == gradient.dtype == torch.float32
    assert distance(out, expected) < limit
    assert distance(gradient, expected_gradient) < gradient_limit
    assert dtype == torch.float32 or distance(out, expected) > 1e-5  # it did run in bf16
    require_gradients(ours, plain.gradients(), gradient_limit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_layer_norms_gradients_are_whole_over_as_many_genes_as_a_real_pass_has(dtype):
    """PyTorch's own bf16 kernel adds them up in bf16, and loses most of what 20,000 like-minded rows say."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8, 2541, 16, generator=generator).to(dtype)
    grad = (torch.randn(16, generator=generator) + 0.3 * torch.randn(8, 2541, 16, generator=generator)).to(dtype)
    results = []
    for norm, rows, gradient in ((nn.LayerNorm(16), x, grad), (nn.LayerNorm(16), x.double(), grad.double())):
        with torch.no_grad():
            norm.weight.copy_(torch.linspace(-1, 2, 16))
            norm.bias.copy_(torch.linspace(3, 1, 16))
        rows = rows.clone().requires_grad_()
        out = normalise(rows, norm.to(gradient.dtype) if gradient.dtype == torch.float64 else norm)
        out.backward(gradient)
        results.append([out.detach(), rows.grad, norm.weight.grad, norm.bias.grad])
    assert results[0][2].dtype == torch.float32
    for ours, exact in zip(*results, strict=True):
        assert distance(ours, exact) < {torch.float32: 1e-5, torch.bfloat16: 0.005}[dtype]


def test_a_norm_that_is_not_trained_passes_the_gradient_on_alone():
    norm = nn.LayerNorm(16).requires_grad_(False)
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    normalise(x, norm)[:, 0].sum().backward()
    assert x.grad.any()
    assert norm.weight.grad is None


class Largest(TorchDispatchMode):
    """The most elements that any tensor of any operation had."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_no_matrix_of_all_genes_by_all_genes_is_made_or_kept(dtype, dropout):
    genes = 400
    ours = drawn(genes, 8, 2, 2, 16)
    kept = []

    def pack(tensor):
        kept.append(tensor.numel())
        return tensor

    x = expression(2, genes).requires_grad_()
    with Largest() as largest:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = ours(x, dtype, Noise(dropout, (1, 2), CPU))
        out.sum().backward()
    assert kept
    assert max(kept) < genes * genes
    assert largest.elements < genes * genes


def test_the_check_above_would_see_such_a_matrix():
    genes = 400
    ours = drawn(genes, 8, 2, 1, 16)
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
    )
    with sdpa_kernel(SDPBackend.MATH), Largest() as largest, hooks:
        ours(expression(1, genes).requires_grad_())
    assert largest.elements >= 2 * genes * genes
    assert max(kept) >= 2 * genes * genes


@given(st.permutations(range(12)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_genes_changes_nothing_when_their_embeddings_move_with_them(order):
    ours = drawn(12, 8, 2, 2, 16)
    x = expression(3, 12)
    expected = ours(x).detach()
    order = torch.tensor(order)
    with torch.no_grad():
        ours.tokens.gene.copy_(ours.tokens.gene[order].clone())
    torch.testing.assert_close(ours(x[:, order]), expected, rtol=1e-5, atol=1e-6)


def test_genes_are_told_apart_by_their_embeddings_alone():
    ours = drawn(12, 8, 2, 2, 16)
    x = expression(3, 12)
    flipped = x.flip(1)
    assert relative(ours(flipped).detach(), ours(x).detach()) > 1e-3
    with torch.no_grad():
        ours.tokens.gene.copy_(ours.tokens.gene[:1].expand(12, 8).clone())
    torch.testing.assert_close(ours(flipped), ours(x), rtol=1e-5, atol=1e-6)


@given(st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_wells_do_not_see_their_batch(wells, seed):
    ours = drawn(12, 8, 2, 2, 16)
    x = expression(wells, 12, seed)
    alone = torch.cat([ours(row[None]) for row in x])
    torch.testing.assert_close(ours(x), alone, rtol=1e-5, atol=1e-6)


def test_dropout_falls_on_both_sublayers_and_inside_the_feed_forward():
    class Everything(Noise):
        """Noise that drops all elements of one of the three places of a layer."""

        def __init__(self, place):
            super().__init__(0.5, (0,), CPU)
            self.place, self.calls = place, []

        def mask(self, like):
            self.calls.append(tuple(like.shape))
            return torch.full_like(like, len(self.calls) - 1 != self.place)

    ours = drawn(12, 8, 2, 1, 16)
    (layer,) = ours.layers
    tokens = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(0))
    without_attention = layer(tokens, noise := Everything(0))
    assert noise.calls == [(2, 12, 8), (2, 12, 16), (2, 12, 8)]
    with torch.no_grad():
        first = layer.attention_norm(tokens)  # the attention's share is gone, the residual is not
        hidden = torch.relu(layer.feed_forward_in(first)) * 2  # kept elements are scaled by 1/(1-p)
        torch.testing.assert_close(
            without_attention, layer.feed_forward_norm(first + layer.feed_forward_out(hidden) * 2)
        )
        heads = torch_attention(layer.split(layer.qkv(tokens), 3))
        attended = affine(heads.flatten(2), layer.attention_out, 2.0)
        first = layer.attention_norm(tokens + attended)
        torch.testing.assert_close(layer(tokens, Everything(2)), layer.feed_forward_norm(first))
        bias = layer.feed_forward_out.bias * 2
        torch.testing.assert_close(layer(tokens, Everything(1)), layer.feed_forward_norm(first + bias))


def test_weights_are_drawn_as_pytorchs_layers_draw_them():
    width, hidden = 64, 128
    encoder = Encoder(3000, width, 4, 2, hidden)
    reset_parameters(encoder, torch.Generator().manual_seed(0))
    encoder.requires_grad_(False)
    layer = encoder.layers[1]
    bounds = {
        layer.qkv.weight: (6 / (width + 3 * width)) ** 0.5,
        layer.attention_out.weight: width**-0.5,
        layer.feed_forward_in.weight: width**-0.5,
        layer.feed_forward_in.bias: width**-0.5,
        layer.feed_forward_out.weight: hidden**-0.5,
        encoder.tokens.value.weight: 1.0,
    }
    for weight, bound in bounds.items():
        assert float(weight.abs().max()) <= bound
        # A uniform law's standard deviation is bound/sqrt(3); six standard errors of its estimate.
        assert float(weight.std()) == pytest.approx(bound / 3**0.5, rel=6 * 0.45 / weight.numel() ** 0.5)
    assert not layer.qkv.bias.any()
    assert not layer.attention_out.bias.any()
    assert bool((layer.attention_norm.weight == 1).all())
    assert not layer.attention_norm.bias.any()
    gene = encoder.tokens.gene
    assert float(gene.mean()) == pytest.approx(0, abs=6 / gene.numel() ** 0.5)
    assert float(gene.std()) == pytest.approx(1, abs=6 / (2 * gene.numel()) ** 0.5)


def test_weights_come_from_the_generator_alone():
    def draw(seed):
        encoder = Encoder(5, 8, 2, 1, 16)
        reset_parameters(encoder, torch.Generator().manual_seed(seed))
        return torch.cat([weight.flatten() for weight in encoder.parameters()])

    torch.manual_seed(3)
    first = draw(0)
    torch.manual_seed(4)
    assert torch.equal(draw(0), first)
    assert not torch.equal(draw(1), first)
