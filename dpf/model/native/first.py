"""The first layer's tokens, queries, keys and values on the CPU: affine in one number a gene, and so no matrix product.

A token is ``base[g] + x[i, g] slope``, and what a linear layer makes of it is affine in the same number
(`dpf.model.encoder.Origin`). Where no weight is trained (Gradient x Input), attention's gradient is wanted for that
number alone, which takes two of its five products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dpf.model.encoder import EncoderLayer, Origin, torch_attention

if TYPE_CHECKING:
    from dpf.model.native.attention import NativeAttention


def embed(kernel: NativeAttention, origin: Origin, dtype: torch.dtype) -> Tensor:
    """The tokens (B, G, D) in `dtype`."""
    tokens: Tensor = _Embed.apply(*origin, kernel, dtype)  # type: ignore[no-untyped-call]
    return tokens


def attend_first(kernel: NativeAttention, layer: EncoderLayer, origin: Origin, dtype: torch.dtype) -> Tensor:
    """Exact attention of a first layer, to (B, G, H, K)."""
    projected = origin.through(layer.qkv, slice(None), dtype)
    mixed: Tensor = _FirstAttention.apply(*projected, kernel, layer, dtype)  # type: ignore[no-untyped-call]
    return mixed


def _values(kernel: NativeAttention, x: Tensor, slope: Tensor, base: Tensor, dtype: torch.dtype) -> Tensor:
    if kernel.rows is None or dtype != torch.bfloat16:
        return torch_attention.embed(Origin(x, slope, base), dtype)
    return kernel.rows.embed(x.contiguous(), slope.contiguous(), base.to(dtype).contiguous())


def _gradients(
    kernel: NativeAttention, x: Tensor, slope: Tensor, grad: Tensor, wanted: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """Of x (B, G), slope (W,) and base (G, W), from the gradient (B, G, W); those that are wanted."""
    if kernel.rows is not None and grad.dtype == torch.bfloat16 and any(wanted[1:]):
        return kernel.rows.embed_grad(x.contiguous(), slope.contiguous(), grad.contiguous(), of_x=wanted[0])
    return (
        (grad @ slope.to(grad.dtype)).to(x.dtype) if wanted[0] else None,
        (x[:, None] @ grad.to(x.dtype)).sum((0, 1)) if wanted[1] else None,
        grad.sum(0, dtype=torch.float32) if wanted[2] else None,
    )


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, slope: Tensor, base: Tensor, kernel: NativeAttention, dtype: torch.dtype
    ) -> Tensor:
        ctx.save_for_backward(x, slope)
        ctx.kernel, ctx.base = kernel, base.dtype
        return _values(kernel, x, slope, base, dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, slope = ctx.saved_tensors
        of_x, of_slope, of_base = _gradients(ctx.kernel, x, slope, grads[0], ctx.needs_input_grad[:3])
        return of_x, of_slope, None if of_base is None else of_base.to(ctx.base), None, None


class _FirstAttention(torch.autograd.Function):
    """Keeps what attention keeps, and x."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        x, slope, base, kernel, layer, dtype = inputs
        qkv = layer.split(_values(kernel, x, slope, base, dtype), 3)
        out, log_sum = kernel.forward(*qkv.unbind(2))
        ctx.save_for_backward(x, slope, qkv, out, log_sum)
        ctx.kernel, ctx.base = kernel, base.dtype
        return out  # type: ignore[no-any-return]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, slope, qkv, out, log_sum = ctx.saved_tensors
        kernel, grad_out, wanted = ctx.kernel, grads[0].contiguous(), ctx.needs_input_grad[:3]
        if not any(wanted[1:]):
            return kernel.backward_affine(qkv.unbind(2), out, log_sum, grad_out, slope), *[None] * 5
        grad = torch.empty_like(qkv)
        kernel.backward(qkv.unbind(2), out, log_sum, grad_out, grad.unbind(2))
        of_x, of_slope, of_base = _gradients(kernel, x, slope, grad.flatten(2), wanted)
        return of_x, of_slope, None if of_base is None else of_base.to(ctx.base), None, None, None
