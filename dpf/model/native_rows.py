"""What stands between the encoder's matrix products in bf16 on the CPU, by the kernels in `native/rows.cpp`.

Each is what PyTorch's operations do one after another in `dpf.model.encoder` and `dpf.model.dropout`, with the same
dropout, in one reading and one writing. Sums over rows are float32.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from dpf.model.dropout import Noise

#: The longest row the kernels have room for.
WIDEST_ROW = 1024
_CHUNK = 512  # rows whose gradients are added up together, as in rows.cpp


class NativeRows:
    """The kernels of a loaded library that takes bf16."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, size, flag = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
        self._forward = library.dpf_add_norm_forward
        self._forward.argtypes = [size, size, flag, flag, ctypes.c_float, *[pointer] * 8]
        self._backward = library.dpf_add_norm_backward
        self._backward.argtypes = [size, size, flag, flag, *[pointer] * 8]
        self._drop_relu = library.dpf_drop_relu
        self._drop_relu.argtypes = [size, flag, flag, pointer, pointer]

    def add_norm(self, residual: Tensor, mixed: Tensor, layer: nn.LayerNorm, noise: Noise | None) -> Tensor:
        """``layer(residual + drop(mixed))`` of a `mixed` that has its gain already."""
        out: Tensor = _AddNorm.apply(  # type: ignore[no-untyped-call]
            residual, mixed, layer.weight, layer.bias, layer.eps, _words(mixed, noise), _threshold(noise), self
        )
        return out

    def drop_relu(self, x: Tensor, noise: Noise | None) -> Tensor:
        """``drop(relu(x))``, written over an `x` that has its gain already."""
        out: Tensor = _DropRelu.apply(x, _words(x, noise), _threshold(noise), self)  # type: ignore[no-untyped-call]
        return out

    def forward(self, parts: tuple[Tensor, ...], bits: Tensor | None, threshold: int, eps: float) -> tuple[Tensor, ...]:
        """The output, the sum, and each row's mean and 1/deviation, from residual, mixed, weight and bias."""
        residual, mixed, weight, bias = parts
        width = residual.shape[-1]
        rows = residual.numel() // width
        total, out, stats = torch.empty_like(residual), torch.empty_like(residual), torch.empty(rows, 2)
        self._forward(
            rows, width, torch.get_num_threads(), threshold, eps, residual.data_ptr(), mixed.data_ptr(), _pointer(bits),
            weight.data_ptr(), bias.data_ptr(), total.data_ptr(), out.data_ptr(), stats.data_ptr(),
        )  # fmt: skip
        return out, total, stats

    def backward(
        self, grad: Tensor, total: Tensor, stats: Tensor, weight: Tensor, bits: Tensor | None, threshold: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of residual, of mixed, and (2, D) of weight and bias."""
        width = total.shape[-1]
        rows = total.numel() // width
        grad_residual, grad_mixed = torch.empty_like(total), torch.empty_like(total)
        partial = torch.empty(-(-rows // _CHUNK), 2, width)
        self._backward(
            rows, width, torch.get_num_threads(), threshold, grad.data_ptr(), total.data_ptr(), _pointer(bits),
            weight.data_ptr(), stats.data_ptr(), grad_residual.data_ptr(), grad_mixed.data_ptr(), partial.data_ptr(),
        )  # fmt: skip
        return grad_residual, grad_mixed, partial.sum(0)

    def relu(self, x: Tensor, bits: Tensor | None, threshold: int) -> None:
        """ReLU and dropout over `x` itself."""
        self._drop_relu(x.numel(), torch.get_num_threads(), threshold, x.data_ptr(), _pointer(bits))


def _words(like: Tensor, noise: Noise | None) -> Tensor | None:
    return None if noise is None or noise.p == 0.0 else noise.words(like)


def _threshold(noise: Noise | None) -> int:
    return 0 if noise is None else noise.threshold


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class _AddNorm(torch.autograd.Function):
    """For autograd: keeps the sum, two numbers a row, and the random bits."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        residual, mixed, weight, bias, eps, bits, threshold, kernels = inputs
        parts = (residual.contiguous(), mixed.contiguous(), weight, bias)
        assert all(part.device.type == "cpu" for part in parts)
        out, total, stats = kernels.forward(parts, bits, threshold, eps)
        ctx.save_for_backward(total, stats, weight, bits)
        ctx.kernels, ctx.threshold = kernels, threshold
        return out  # type: ignore[no-any-return]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        total, stats, weight, bits = ctx.saved_tensors
        found = ctx.kernels.backward(grads[0].contiguous(), total, stats, weight, bits, ctx.threshold)
        grad_residual, grad_mixed, (grad_weight, grad_bias) = found
        return grad_residual, grad_mixed, grad_weight, grad_bias, None, None, None, None


class _DropRelu(torch.autograd.Function):
    """In place; the result, which the next layer keeps anyway, is all that the backward needs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: Tensor | None, threshold: int, kernels: NativeRows) -> Tensor:
        assert x.is_contiguous()
        kernels.relu(x, bits, threshold)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (out,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grads[0], out, 0), None, None, None
