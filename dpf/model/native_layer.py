"""What follows attention in an encoder layer, in bf16 on the CPU, as one step of autograd.

PyTorch's matrix products with the kernels of `dpf.model.native_rows` between them: what `torch_attention.finish` of
`dpf.model.encoder` computes, without the copies, zeroed buffers and separate sums that autograd would need to do the
same one operation at a time. Each weight's gradient is float32 but for the rounding of its own product.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dpf.model.dropout import Noise
from dpf.model.encoder import EncoderLayer
from dpf.model.native_rows import Drop, NativeRows, Norm

#: Rows that go through together: 4 MiB of 512 hidden units, which stay in a cache of some MiB a core.
_ROWS = 4096


class _Plan(NamedTuple):
    """What is no tensor that has a gradient."""

    kernels: NativeRows
    norms: tuple[float, float]  # eps of both
    drops: tuple[Drop, Drop, Drop]  # of the heads' join, of the hidden units, of the feed-forward's output


def finish_layer(
    kernels: NativeRows, layer: EncoderLayer, tokens: Tensor, heads: Tensor, noise: Noise | None
) -> Tensor:
    """The layer's output (B, G, D) in bf16, of its tokens (B, G, D) and of what its heads found (B, G, H, K)."""
    hidden = tokens.new_empty(1, dtype=torch.bool).expand(*tokens.shape[:2], layer.feed_forward_in.out_features)
    drops = [_drop(kernels, like, noise) for like in (tokens, hidden, tokens)]
    plan = _Plan(
        kernels,
        (layer.attention_norm.eps, layer.feed_forward_norm.eps),
        (drops[0], drops[1], drops[2]),
    )
    parts = (layer.attention_out, layer.attention_norm, layer.feed_forward_in, layer.feed_forward_out)
    weights = [weight for part in (*parts, layer.feed_forward_norm) for weight in (part.weight, part.bias)]
    out: Tensor = _Finish.apply(tokens, heads, plan, *weights)  # type: ignore[no-untyped-call]
    return out


def _drop(kernels: NativeRows, like: Tensor, noise: Noise | None) -> Drop:
    if noise is None or noise.p == 0.0:
        return Drop()
    return Drop(noise.words(like, kernels.draw), noise.threshold, noise.gain)


class _Finish(torch.autograd.Function):
    """Keeps its inputs, both sums before the norms, two numbers a row for each, the hidden units and dropout's bits."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, heads: Tensor, plan: _Plan, *weights: Tensor) -> Tensor:
        kernels, (first, second), drops = plan
        w_join, b_join, n_first, c_first, w_in, b_in, w_out, b_out, n_second, c_second = weights
        low = [weight.to(tokens.dtype) for weight in (w_join, w_in, w_out)]
        rows = tokens.reshape(-1, tokens.shape[-1]).contiguous()  # (R, D)
        found = heads.reshape(len(rows), -1)  # (R, D)
        total, middle, last, out = (torch.empty_like(rows) for _ in range(4))
        hidden = rows.new_empty(len(rows), len(w_in))  # (R, F)
        stats, last_stats = torch.empty(len(rows), 2), torch.empty(len(rows), 2)
        for some in _slices(len(rows)):
            torch.mm(found[some], low[0].t(), out=total[some])
            into = (middle[some], stats[some])
            norm = Norm(n_first, c_first, first)
            kernels.add_norm(rows[some], total[some], b_join, norm, _cut(drops[0], some, rows), into)
            torch.mm(middle[some], low[1].t(), out=hidden[some])
            kernels.drop_relu(hidden[some], b_in, _cut(drops[1], some, hidden))
            torch.mm(hidden[some], low[2].t(), out=last[some])
            into = (out[some], last_stats[some])
            norm = Norm(n_second, c_second, second)
            kernels.add_norm(middle[some], last[some], b_out, norm, _cut(drops[2], some, rows), into)
        ctx.save_for_backward(
            found, total, stats, middle, hidden, last, last_stats, *low, n_first, n_second, drops[0].bits, drops[2].bits
        )
        ctx.kernels, ctx.drops = kernels, [drop._replace(bits=None) for drop in drops]
        ctx.shapes = tokens.shape, heads.shape
        return out.view(tokens.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        found, total, stats, middle, hidden, last, last_stats, join, into, out, n_first, n_second, *bits = (
            ctx.saved_tensors
        )
        kernels, (first, second, third) = ctx.kernels, ctx.drops
        tokens_shape, heads_shape = ctx.shapes
        wanted = ctx.needs_input_grad[3:]
        sizes = {0: join, 4: into, 6: out}
        products = {index: torch.zeros_like(low, dtype=torch.float32) for index, low in sizes.items() if wanted[index]}

        def add_product(index: int, grad: Tensor, x: Tensor) -> None:
            if index in products:
                # The same product either way; the kernels are a fifth faster with the longer side last.
                long = grad.shape[1] > x.shape[1]
                products[index] += (x.t() @ grad).t() if long else grad.t() @ x

        whole = grads[0].reshape(last.shape).contiguous()
        of_tokens, of_found = torch.empty_like(last), torch.empty_like(last)
        norms = torch.zeros(2, 3, last.shape[1])
        g_in = torch.zeros(hidden.shape[1])
        hidden_grad = torch.empty_like(hidden[_slices(len(hidden))[0]])
        drops = [first._replace(bits=bits[0]), third._replace(bits=bits[1])]
        for some in _slices(len(last)):
            here = hidden_grad[: some.stop - some.start]
            drop = _cut(drops[1], some, last)
            grad, mixed, sums = kernels.add_norm_grad(whole[some], last[some], last_stats[some], n_second, drop)
            norms[1] += sums
            torch.mm(mixed, out, out=here)  # (R, F)
            add_product(6, mixed, hidden[some])
            g_in += kernels.drop_relu_grad(hidden[some], here, second.gain)
            add_product(4, here, middle[some])
            grad.addmm_(here, into)  # of the middle, through the feed-forward too
            drop = _cut(drops[0], some, last)
            grad, mixed, sums = kernels.add_norm_grad(grad, total[some], stats[some], n_first, drop)
            norms[0] += sums
            add_product(0, mixed, found[some])
            torch.mm(mixed, join, out=of_found[some])
            of_tokens[some] = grad
        (g_first, h_first, g_join), (g_second, h_second, g_out) = norms
        return (
            of_tokens.view(tokens_shape), of_found.view(heads_shape), None,
            products.get(0), g_join, g_first, h_first, products.get(4), g_in,
            products.get(6), g_out, g_second, h_second,
        )  # fmt: skip


def _slices(rows: int) -> list[slice]:
    """Rows that go through together: their hidden units stay in the cache from one operation to the next."""
    return [slice(start, min(start + _ROWS, rows)) for start in range(0, rows, _ROWS)]


def _cut(drop: Drop, rows: slice, like: Tensor) -> Drop:
    """What of dropout falls on these rows of `like`."""
    if drop.bits is None:
        return drop
    width = like.shape[1]
    return drop._replace(bits=drop.bits[rows.start * width : rows.stop * width])
