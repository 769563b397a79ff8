"""What follows attention in an encoder layer, in bf16 on the CPU, as one step of autograd.

PyTorch's matrix products with the kernels of `dpf.model.native.rows` between them: what `torch_attention.finish` of
`dpf.model.encoder` computes, without the copies, zeroed buffers and separate sums that autograd would need to do the
same one operation at a time. Each weight's gradient is float32 but for the rounding of its own product.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dpf.model.dropout import CHUNK_BITS, CHUNK_WORDS, Bits, Noise
from dpf.model.encoder import EncoderLayer
from dpf.model.native.rows import Drop, Given, NativeRows, Norm, Normed, words_of

#: Rows that go through together: 2 MiB of 512 hidden units, which stay in the caches of two cores.
_ROWS = 2048


class _Plan(NamedTuple):
    """What is no tensor that has a gradient."""

    kernels: NativeRows
    norms: tuple[float, float]  # eps of both
    # Of the heads' join, of the hidden units, of the feed-forward's output; none without dropout.
    bits: tuple[Bits, ...]
    drop: Drop  # without bits


def finish_layer(
    kernels: NativeRows, layer: EncoderLayer, tokens: Tensor, heads: Tensor, noise: Noise | None
) -> Tensor:
    """The layer's output (B, G, D) in bf16, of its tokens (B, G, D) and of what its heads found (B, G, H, K)."""
    bits: tuple[Bits, ...] = ()
    drop = Drop()
    if noise is not None and noise.p != 0.0:
        hidden = tokens.new_empty(1, dtype=torch.bool).expand(*tokens.shape[:2], layer.feed_forward_in.out_features)
        bits = tuple(noise.bits(like) for like in (tokens, hidden, tokens))
        drop = Drop(None, noise.threshold, noise.gain)
    plan = _Plan(kernels, (layer.attention_norm.eps, layer.feed_forward_norm.eps), bits, drop)
    parts = (layer.attention_out, layer.attention_norm, layer.feed_forward_in, layer.feed_forward_out)
    weights = [weight for part in (*parts, layer.feed_forward_norm) for weight in (part.weight, part.bias)]
    out: Tensor = _Finish.apply(tokens, heads, plan, *weights)  # type: ignore[no-untyped-call]
    return out


def _drawn(plan: _Plan, rows: slice, widths: Sequence[int]) -> list[Drop]:
    """What of dropout falls on these rows of tensors of these widths: drawn in one go, to be used from a cache."""
    if not plan.bits:
        return [plan.drop for _ in widths]
    ranges = [(rows.start * width, rows.stop * width) for width in widths]
    found = [bits.chunks(*some) for bits, some in zip(plan.bits, ranges, strict=True)]
    chunks = sum(len(states) for states, _ in found)
    words = plan.kernels.draw(np.concatenate([states for states, _ in found]), chunks * CHUNK_WORDS)
    drawn, drops, begin = torch.from_numpy(words.view(np.uint16)), [], 0
    for (states, skipped), (start, stop) in zip(found, ranges, strict=True):
        first = begin + skipped
        drops.append(plan.drop._replace(bits=drawn[first : first + stop - start]))
        begin += len(states) * CHUNK_BITS
    return drops


class _Finish(torch.autograd.Function):
    """Keeps its inputs, both sums before the norms, two numbers a row for each, the hidden units, what dropout kept."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, heads: Tensor, plan: _Plan, *weights: Tensor) -> Tensor:
        kernels, (first, second), bits, _ = plan
        w_join, b_join, n_first, c_first, w_in, b_in, w_out, b_out, n_second, c_second = weights
        low = [weight.to(tokens.dtype) for weight in (w_join, w_in, w_out)]
        rows = tokens.reshape(-1, tokens.shape[-1]).contiguous()  # (R, D)
        found = heads.reshape(len(rows), -1)  # (R, D)
        total, last = torch.empty_like(rows), torch.empty_like(rows)
        middle, out = _normed(rows, bool(bits)), _normed(rows, bool(bits))
        hidden = rows.new_empty(len(rows), len(w_in))  # (R, F)
        widths = (rows.shape[1], hidden.shape[1], rows.shape[1])
        for some in _slices(len(rows)):
            drops = _drawn(plan, some, widths)
            torch.mm(found[some], low[0].t(), out=total[some])
            kernels.add_norm(
                rows[some], total[some], b_join, Norm(n_first, c_first, first), drops[0], _cut(middle, some)
            )
            torch.mm(middle.out[some], low[1].t(), out=hidden[some])
            kernels.drop_relu(hidden[some], b_in, drops[1])
            torch.mm(hidden[some], low[2].t(), out=last[some])
            norm = Norm(n_second, c_second, second)
            kernels.add_norm(middle.out[some], last[some], b_out, norm, drops[2], _cut(out, some))
        ctx.save_for_backward(found, total, *middle, hidden, last, out.stats, out.keep, *low, n_first, n_second)
        ctx.kernels, ctx.gain = kernels, plan.drop.gain
        ctx.shapes = tokens.shape, heads.shape
        return out.out.view(tokens.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        found, total, middle, stats, keep, hidden, last, last_stats, last_keep, join, into, out, n_first, n_second = (
            ctx.saved_tensors
        )
        kernels, gain = ctx.kernels, ctx.gain
        tokens_shape, heads_shape = ctx.shapes
        wanted = ctx.needs_input_grad[3:]
        sizes = {0: join, 4: into, 6: out}
        products = {index: torch.zeros_like(low, dtype=torch.float32) for index, low in sizes.items() if wanted[index]}

        def add_product(index: int, grad: Tensor, x: Tensor) -> None:
            if index in products:
                # The same product either way; the kernels are a fifth faster with the longer side last.
                long = grad.shape[1] > x.shape[1]
                products[index] += (x.t() @ grad).t() if long else grad.t() @ x

        of_tokens, of_found = torch.empty_like(last), torch.empty_like(last)
        norms = torch.zeros(2, 3, last.shape[1])
        g_in = torch.zeros(hidden.shape[1])
        rows = min(_ROWS, len(last))
        hidden_grad, middle_grad = hidden.new_empty(rows, hidden.shape[1]), last.new_empty(rows, last.shape[1])
        before = Normed(of_tokens, stats, keep)
        for some in _slices(len(last)):
            here, grad = (part[: some.stop - some.start] for part in (hidden_grad, middle_grad))
            given = _given(grads[0], some)
            after = Normed(grad, last_stats[some], None if last_keep is None else last_keep[some])
            mixed, sums = kernels.add_norm_grad(given, last[some], after, n_second, gain)
            norms[1] += sums
            torch.mm(mixed, out, out=here)  # (R, F)
            add_product(6, mixed, hidden[some])
            g_in += kernels.drop_relu_grad(hidden[some], here, gain)
            add_product(4, here, middle[some])
            grad.addmm_(here, into)  # of the middle, through the feed-forward too
            mixed, sums = kernels.add_norm_grad(Given(grad), total[some], _cut(before, some), n_first, gain)
            norms[0] += sums
            add_product(0, mixed, found[some])
            torch.mm(mixed, join, out=of_found[some])
        (g_first, h_first, g_join), (g_second, h_second, g_out) = norms
        return (
            of_tokens.view(tokens_shape), of_found.view(heads_shape), None,
            products.get(0), g_join, g_first, h_first, products.get(4), g_in,
            products.get(6), g_out, g_second, h_second,
        )  # fmt: skip


def _slices(rows: int) -> list[slice]:
    """Rows that go through together: their hidden units stay in the cache from one operation to the next."""
    return [slice(start, min(start + _ROWS, rows)) for start in range(0, rows, _ROWS)]


def _normed(rows: Tensor, dropped: bool) -> Normed:
    """Room for a norm's results."""
    keep = torch.empty(len(rows), words_of(rows.shape[1]), dtype=torch.uint16) if dropped else None
    return Normed(torch.empty_like(rows), torch.empty(len(rows), 2), keep)


def _cut(normed: Normed, rows: slice) -> Normed:
    return Normed(normed.out[rows], normed.stats[rows], None if normed.keep is None else normed.keep[rows])


def _given(grad: Tensor, rows: slice) -> Given:
    """These rows of a gradient (B, G, D) as (B * G, D), where all genes of a well may have the same."""
    if grad.stride(1) == 0 and grad.shape[1] > 1 and grad.shape[0]:
        return Given(grad[:, 0].contiguous(), rows.start, grad.shape[1])
    return Given(grad.reshape(-1, grad.shape[-1])[rows].contiguous())
