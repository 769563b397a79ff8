"""Induced attention is the Set Transformer's ISAB, on every path, and costs linear memory.

Tolerances, norm of the difference over the norm. Float32: 1e-5, outputs and gradients. bf16 (8 bits, 2^-8 = 0.4% an
operation; no hidden unit near 0, where it would be on one side of the ReLU here and on the other there): outputs 1%,
gradients 4%.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dpf.config.settings import ModelSettings
from dpf.model.checkpoint import ControlWells, TrainedModel, load_model, save_model
from dpf.model.dropout import Noise
from dpf.model.encoder import reset_parameters, torch_attention
from dpf.model.induced import InducedEncoder, build_encoder
from dpf.model.native.attention import NativeAttention
from dpf.model.native.build import CannotBuildError
from tests.support import tiny
from tests.support.drawn_encoders import expression, redrawn, require_gradients

CPU = torch.device("cpu")
#: Genes, width, heads, layers, feed-forward, points: one of each; more points than genes; nothing that comes out even.
SHAPES = [(1, 8, 1, 1, 8, 1), (5, 16, 4, 2, 32, 9), (97, 24, 3, 3, 10, 7), (300, 64, 2, 2, 64, 50)]


def drawn(genes=40, width=16, heads=4, layers=2, feed_forward=32, points=6, seed=0):
    """An encoder whose every weight counts: biases and norms too are drawn."""
    return redrawn(InducedEncoder(genes, width, heads, layers, feed_forward, points), seed)


def decide_units(encoder):
    """Put every hidden unit far to one side of the ReLU, half of them to either."""
    with torch.no_grad():
        for name, bias in encoder.named_parameters():
            if name.endswith("feed_forward_in.bias"):
                bias.copy_(torch.where(torch.arange(len(bias)) % 2 == 0, 6.0, -6.0))


class Mab(nn.Module):
    """The paper's equations 6 and 7 out of PyTorch's own modules."""

    def __init__(self, width, heads, feed_forward):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(nn.Linear(width, feed_forward), nn.ReLU(), nn.Linear(feed_forward, width))

    def forward(self, x, y):
        z = self.first_norm(x + self.attention(x, y, y, need_weights=False)[0])
        return self.second_norm(z + self.feed_forward(z))


class Plain(nn.Module):
    """The same network written down from the paper, with the same weights."""

    def __init__(self, ours):
        super().__init__()
        width, hidden = ours.tokens.gene.shape[1], ours.layers[0].feed_forward_in.out_features
        self.value = nn.Linear(1, width)
        self.gene = nn.Parameter(ours.tokens.gene.detach().clone())
        self.value.load_state_dict(ours.tokens.value.state_dict())
        self.gather = nn.ModuleList(Mab(width, layer.heads, hidden) for layer in ours.layers)
        self.spread = nn.ModuleList(Mab(width, layer.heads, hidden) for layer in ours.layers)
        self.points = nn.ParameterList(layer.points.detach().clone() for layer in ours.layers)
        with torch.no_grad():
            for layer, gather, spread in zip(ours.layers, self.gather, self.spread, strict=True):
                # Queries of the points and keys and values of the genes; the other way round.
                self.fill(gather, layer.point_layer, layer.point_layer.qkv, layer.qkv)
                self.fill(spread, layer, layer.qkv, layer.point_layer.qkv)

    @staticmethod
    def fill(mab, layer, queries, keys_and_values):
        width = queries.in_features
        for kind in ("weight", "bias"):
            joint = torch.cat([getattr(queries, kind)[:width], getattr(keys_and_values, kind)[width:]])
            getattr(mab.attention, f"in_proj_{kind}").copy_(joint)
        mab.attention.out_proj.load_state_dict(layer.attention_out.state_dict())
        mab.first_norm.load_state_dict(layer.attention_norm.state_dict())
        mab.feed_forward[0].load_state_dict(layer.feed_forward_in.state_dict())
        mab.feed_forward[2].load_state_dict(layer.feed_forward_out.state_dict())
        mab.second_norm.load_state_dict(layer.feed_forward_norm.state_dict())

    def forward(self, x):
        tokens = self.value(x[..., None]) + self.gene
        for points, gather, spread in zip(self.points, self.gather, self.spread, strict=True):
            found = gather(points.expand(len(x), *points.shape), tokens)
            tokens = spread(tokens, found)
        return tokens.mean(1)

    def gradients(self):
        """Our names of every weight, with this one's gradients."""
        found = {"tokens.value.weight": self.value.weight.grad, "tokens.value.bias": self.value.bias.grad}
        found["tokens.gene"] = self.gene.grad
        for index, (points, gather, spread) in enumerate(zip(self.points, self.gather, self.spread, strict=True)):
            name = f"layers.{index}"
            found[f"{name}.points"] = points.grad
            for kind in ("weight", "bias"):
                one, other = (getattr(mab.attention, f"in_proj_{kind}").grad for mab in (gather, spread))
                width = other.shape[0] // 3
                found[f"{name}.point_layer.qkv.{kind}"] = torch.cat([one[:width], other[width:]])
                found[f"{name}.qkv.{kind}"] = torch.cat([other[:width], one[width:]])
                for mab, prefix in ((gather, f"{name}.point_layer"), (spread, name)):
                    parts = {
                        "attention_out": mab.attention.out_proj,
                        "attention_norm": mab.first_norm,
                        "feed_forward_in": mab.feed_forward[0],
                        "feed_forward_out": mab.feed_forward[2],
                        "feed_forward_norm": mab.second_norm,
                    }
                    for ours, theirs in parts.items():
                        found[f"{prefix}.{ours}.{kind}"] = getattr(theirs, kind).grad
        return found


def relative(ours, theirs):
    """Norm of the difference over the norm."""
    return float((ours.double() - theirs.double()).norm() / theirs.double().norm())


def run(module, x, probe, **options):
    """Output, and the gradients of the inputs, of `sum(output * probe)`."""
    x = x.clone().requires_grad_()
    out = module(x, **options)
    (out * probe).sum().backward()
    return out.detach(), x.grad


def attention(name, dtype):
    """The program of that name, or a skip that says why not."""
    if name == "torch":
        return torch_attention
    try:
        return NativeAttention(dtype)
    except CannotBuildError as error:
        pytest.skip(f"no native attention kernel: {error}")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kernel", ["torch", "native"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_outputs_and_gradients_are_those_of_the_papers_equations(shape, kernel, dtype):
    program = attention(kernel, dtype)
    ours = drawn(*shape)
    if dtype == torch.bfloat16:
        decide_units(ours)
    plain = Plain(ours)
    x = expression(3, shape[0])
    probe = torch.randn(3, shape[1], generator=torch.Generator().manual_seed(2))
    out, gradient = run(ours, x, probe, dtype=dtype, attention=program)
    expected, expected_gradient = run(plain, x, probe)
    assert out.dtype == gradient.dtype == torch.float32
    limit, gradient_limit = {torch.float32: (1e-5, 1e-5), torch.bfloat16: (0.01, 0.04)}[dtype]
    assert relative(out, expected) < limit
    assert relative(gradient, expected_gradient) < gradient_limit
    assert dtype == torch.float32 or relative(out, expected) > 1e-5  # it did run in bf16
    require_gradients(ours, plain.gradients(), gradient_limit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_both_programs_agree_under_the_same_dropout(dtype):
    native = attention("native", dtype)
    ours = drawn(130, 64, 4, 2, 96, 20)
    x = expression(3, 130)
    results = []
    for program in (torch_attention, native):
        ours.zero_grad()
        out, gradient = run(ours, x, 1.0, dtype=dtype, attention=program, noise=Noise(0.1, (5,), CPU))
        results.append([out, gradient, *(weight.grad.clone() for weight in ours.parameters())])
    limit = {torch.float32: 1e-5, torch.bfloat16: 0.03}[dtype]
    norm = max(float(value.norm()) for value in results[0][2:])
    for one, other in zip(*results, strict=True):
        assert float((one - other).norm()) < limit * max(float(one.norm()), norm / 100)


@given(st.permutations(range(12)))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_genes_changes_nothing_when_their_embeddings_move_with_them(order):
    ours = drawn(12, 8, 2, 2, 16, 5)
    x = expression(3, 12)
    tokens = torch.randn(3, 12, 8, generator=torch.Generator().manual_seed(0))
    order = torch.tensor(order)
    layer = ours.layers[0]
    torch.testing.assert_close(layer(tokens[:, order]), layer(tokens)[:, order], rtol=1e-5, atol=1e-5)
    expected = ours(x).detach()
    with torch.no_grad():
        ours.tokens.gene.copy_(ours.tokens.gene[order].clone())
        torch.testing.assert_close(ours(x[:, order]), expected, rtol=1e-5, atol=1e-5)


def test_the_order_of_the_points_changes_nothing():
    ours = drawn(12, 8, 2, 2, 16, 5)
    x = expression(3, 12)
    expected = ours(x).detach()
    with torch.no_grad():
        for layer in ours.layers:
            layer.points.copy_(layer.points.flip(0).clone())
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


@given(st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_wells_do_not_see_their_batch(wells, seed):
    ours = drawn(12, 8, 2, 2, 16, 5)
    x = expression(wells, 12, seed)
    alone = torch.cat([ours(row[None]) for row in x])
    torch.testing.assert_close(ours(x), alone, rtol=1e-5, atol=1e-5)


def test_genes_reach_each_other_through_the_points_alone():
    ours = drawn(12, 8, 2, 1, 16, 5)
    (layer,) = ours.layers
    tokens = torch.randn(1, 12, 8, generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, 0] += 3
    with torch.no_grad():
        assert relative(layer(changed)[:, 1:], layer(tokens)[:, 1:]) > 1e-3
        layer.point_layer.qkv.weight[8:].zero_()  # what the points have become is nobody's key or value now
        assert torch.equal(layer(changed)[:, 1:], layer(tokens)[:, 1:])


def test_dropout_falls_where_the_exact_layers_does_on_points_and_genes():
    class Counted(Noise):
        def __init__(self):
            super().__init__(0.5, (0,), CPU)
            self.calls = []

        def mask(self, like):
            self.calls.append(tuple(like.shape))
            return super().mask(like)

    ours = drawn(12, 8, 2, 1, 16, 5)
    x = expression(2, 12)
    noisy = ours(x, noise=(noise := Counted()))
    assert noise.calls == [(2, 5, 8), (2, 5, 16), (2, 5, 8), (2, 12, 8), (2, 12, 16), (2, 12, 8)]
    assert torch.equal(noisy, ours(x, noise=Counted()))
    assert not torch.allclose(noisy, ours(x))


def kept_elements(genes, dtype):
    """How many elements a training pass keeps for its backward, all in all."""
    ours = drawn(genes, 8, 2, 2, 16, 5)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        ours(expression(1, genes), dtype, Noise(0.1, (1,), CPU), attention("torch", dtype))
    return sum(kept)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_memory_is_linear_in_genes(dtype):
    small, middle, large = (kept_elements(genes, dtype) for genes in (500, 1000, 2000))
    assert large - middle == pytest.approx(2 * (middle - small), rel=0.02)


def test_weights_come_from_the_generator_alone_and_points_are_as_far_apart_as_genes():
    def draw(seed):
        encoder = InducedEncoder(5, 64, 2, 1, 16, 500)
        reset_parameters(encoder, torch.Generator().manual_seed(seed))
        return encoder

    torch.manual_seed(3)
    first = draw(0)
    torch.manual_seed(4)
    assert tiny.digest(draw(0).state_dict()) == tiny.digest(first.state_dict())
    assert tiny.digest(draw(1).state_dict()) != tiny.digest(first.state_dict())
    (layer,) = first.layers
    assert float(layer.points.detach().std()) == pytest.approx(1, rel=0.03)
    for part in (layer, layer.point_layer):  # as nn.MultiheadAttention draws its joint projection
        assert float(part.qkv.weight.detach().abs().max()) <= (6 / 256) ** 0.5
        assert not part.qkv.bias.any()
        assert not part.attention_out.bias.any()


def test_the_settings_choose_the_encoder():
    exact = build_encoder(9, ModelSettings(width=8, heads=2, feed_forward=16))
    induced = build_encoder(9, ModelSettings(width=8, heads=2, feed_forward=16, attention="induced", induced_points=3))
    assert not isinstance(exact, InducedEncoder)
    assert isinstance(induced, InducedEncoder)
    assert [tuple(layer.points.shape) for layer in induced.layers] == [(3, 8), (3, 8)]


def saved(path, model):
    """A model file with one member of that kind, and the member."""
    network = tiny.network(model=model).eval()
    controls = ControlWells(["c1"], [None], [None], [["train"]], [torch.zeros(1, 5)])
    about = {"settings": {"model": dict(vars(model)), "train": {"zscore": True}}}
    save_model(path, TrainedModel([network], [f"g{n}" for n in range(tiny.GENES)], tiny.LAYOUT, controls, about))
    return network


def test_the_file_says_which_network_it_holds(tmp_path):
    x = torch.from_numpy(tiny.expression())
    for kind in ("exact", "induced"):
        model = ModelSettings(**{**vars(tiny.MODEL), "attention": kind, "induced_points": 3})
        network = saved(tmp_path / kind, model)
        (loaded,) = load_model(tmp_path / kind).members
        assert isinstance(loaded.encoder, InducedEncoder) == (kind == "induced")
        assert torch.equal(loaded.predict(x).latent, network.predict(x).latent)


def test_a_file_from_before_there_was_a_choice_is_exact(tmp_path):
    model = ModelSettings(**vars(tiny.MODEL))
    network = tiny.network(model=model).eval()
    old = {name: value for name, value in vars(model).items() if name not in ("attention", "induced_points")}
    controls = ControlWells(["c1"], [None], [None], [["train"]], [torch.zeros(1, 5)])
    about = {"settings": {"model": old, "train": {"zscore": True}}}
    genes = [f"g{n}" for n in range(tiny.GENES)]
    save_model(tmp_path / "m", TrainedModel([network], genes, tiny.LAYOUT, controls, about))
    (loaded,) = load_model(tmp_path / "m").members
    x = torch.from_numpy(tiny.expression())
    assert not isinstance(loaded.encoder, InducedEncoder)
    assert torch.equal(loaded.predict(x).latent, network.predict(x).latent)
