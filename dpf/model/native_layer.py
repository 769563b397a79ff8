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
        total = found @ low[0].t()
        middle, stats = kernels.add_norm(rows, total, b_join, Norm(n_first, c_first, first), drops[0])
        hidden = middle @ low[1].t()  # (R, F)
        kernels.drop_relu(hidden, b_in, drops[1])
        last = hidden @ low[2].t()
        out, last_stats = kernels.add_norm(middle, last, b_out, Norm(n_second, c_second, second), drops[2])
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

        def of_weight(index: int, grad: Tensor, x: Tensor) -> Tensor | None:
            if not wanted[index]:
                return None
            # The same product either way; the kernels are a fifth faster with the longer side last.
            long = grad.shape[1] > x.shape[1]
            return (x.t() @ grad).t().float() if long else (grad.t() @ x).float()

        grad = grads[0].reshape(last.shape).contiguous()
        grad, mixed, (g_second, h_second, g_out) = kernels.add_norm_grad(
            grad, last, last_stats, n_second, third._replace(bits=bits[1])
        )
        hidden_grad = mixed @ out  # (R, F)
        w_out = of_weight(6, mixed, hidden)
        g_in = kernels.drop_relu_grad(hidden, hidden_grad, second.gain)
        grad.addmm_(hidden_grad, into)  # of the middle, through the feed-forward too
        w_in = of_weight(4, hidden_grad, middle)
        grad, mixed, (g_first, h_first, g_join) = kernels.add_norm_grad(
            grad, total, stats, n_first, first._replace(bits=bits[0])
        )
        w_join = of_weight(0, mixed, found)
        return (
            grad.view(tokens_shape), (mixed @ join).view(heads_shape), None,
            w_join, g_join, g_first, h_first, w_in, g_in,
            w_out, g_out, g_second, h_second,
        )  # fmt: skip
