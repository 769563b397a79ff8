"""Linear layers in float32 on x86 CPUs through oneDNN, where PyTorch has it: it uses AVX-512 on whatever CPU has that.

PyTorch gives float32 products to MKL, which uses AVX-512 on Intel's CPUs alone: on an AMD EPYC oneDNN takes half of its
time. In bf16 PyTorch goes to oneDNN by itself.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# PyTorch has it for its compiler, without a gradient; of a build without oneDNN it is not part.
_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What `torch.nn.functional.linear` computes."""
    if _ONEDNN is None or x.dtype != torch.float32 or x.numel() == 0:
        return F.linear(x, weight, bias)
    out: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    assert _ONEDNN is not None
    found: Tensor = _ONEDNN(x.contiguous(), weight.contiguous(), bias, "none", [], "")
    return found


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        grad = grads[0].contiguous()
        rows = grad.flatten(0, -2)
        return (
            _product(grad, weight.t(), None) if of_x else None,
            rows.t() @ x.flatten(0, -2) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )
