"""Softmax attention on CPUs with AVX-512: the encoders' attention by the kernel in `native/attention.cpp`.

It computes what `dpf.model.encoder.torch_attention` computes, of genes over all genes (exact attention) and of one set
over another (induced attention), in memory linear in genes as well, with less work around the products. bf16 inputs are
multiplied as they are and summed in float32; weights and score gradients are rounded to bf16 before the second product,
as PyTorch's own bf16 kernel does. With float32 inputs everything is float32.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dpf.errors import DeviceError
from dpf.model.native.build import load_library

#: The widest head the kernel has been built for.
WIDEST = 128

_SIZES = [ctypes.c_long] * 7
_FLAGS = [ctypes.c_int] * 2


class NativeAttention:
    """Softmax attention of every gene over all genes, or of some tokens over others, with its gradient.

    The result is the same, bit for bit, for every number of threads.

    Parameters
    ----------
    dtype
        bf16 or float32; a kernel for bf16 takes float32 too.
    log
        Called with a line where it has to be compiled first.

    Raises
    ------
    CannotBuildError
        It cannot run here.
    """

    def __init__(self, dtype: torch.dtype, log: Callable[[str], None] = lambda _: None) -> None:
        library = load_library(bf16=dtype == torch.bfloat16, log=log)
        pointer = ctypes.c_void_p
        self._forward = library.dpf_attention_forward
        self._forward.argtypes = [*_SIZES, *_FLAGS, *[pointer] * 5]
        self._backward = library.dpf_attention_backward
        self._backward.argtypes = [*_SIZES, *_FLAGS, *[pointer] * 9]

    def __call__(self, qkv: Tensor) -> Tensor:
        """Attention of queries, keys and values that lie side by side, as the joint projection leaves them.

        (B, G, 3, H, K) to (B, G, H, K).

        Raises
        ------
        DeviceError
            The heads are wider than `WIDEST`.
        """
        require_width(qkv.shape[-1])
        mixed: Tensor = _SelfAttention.apply(qkv, self)  # type: ignore[no-untyped-call]
        return mixed

    def cross(self, q: Tensor, kv: Tensor) -> Tensor:
        """Attention of queries (B, Q, H, K) over the keys and values (B, P, 2, H, K) of others, to (B, Q, H, K).

        Raises
        ------
        DeviceError
            The heads are wider than `WIDEST`.
        """
        require_width(q.shape[-1])
        mixed: Tensor = _CrossAttention.apply(q, kv, self)  # type: ignore[no-untyped-call]
        return mixed

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and the scores' log-sum-exp to base 2, float32 of shape (B, H, Q).

        Each gene's heads must lie side by side; genes may be apart, keys as far as values.
        """
        wells, queries, heads, width = q.shape
        out = q.new_empty(wells, queries, heads, width)
        log_sum = torch.empty(wells, heads, queries)
        self._run(self._forward, q, k, v, out, log_sum)
        return out, log_sum

    def backward(self, parts: _Parts, out: Tensor, log_sum: Tensor, grad_out: Tensor, grads: _Parts) -> None:
        """Write the gradients of `parts` (queries, keys, values) to `grads`, which must lie in memory as they do."""
        self._run(self._backward, *parts, out, log_sum, grad_out, *grads)

    def _run(self, function: Any, q: Tensor, k: Tensor, v: Tensor, *others: Tensor) -> None:
        wells, queries, heads, width = q.shape
        for tensor in (q, k, v, *others):
            assert tensor.device.type == "cpu"
            assert tensor.ndim != 4 or (tensor.stride(3) == 1 and tensor.stride(2) == width)
            assert tensor.ndim != 4 or tensor.stride(0) == tensor.stride(1) * tensor.shape[1]
        assert k.stride() == v.stride()
        assert {q.dtype} <= {torch.float32, torch.bfloat16}
        code = function(
            wells, queries, k.shape[1], heads, width, q.stride(1), k.stride(1),
            q.dtype == torch.bfloat16, torch.get_num_threads(),
            *(tensor.data_ptr() for tensor in (q, k, v, *others)),
        )  # fmt: skip
        if code:
            raise MemoryError("the native attention kernel got no memory")


_Parts = tuple[Tensor, Tensor, Tensor]


def require_width(width: int) -> None:
    """Make sure that the kernel has heads of this width."""
    if width > WIDEST:
        raise DeviceError(
            "the native attention kernel has no heads this wide",
            found=f"model.width / model.heads = {width}",
            expected=f"at most {WIDEST}",
            hint="--set compute.attention_kernel=torch",
        )


class _SelfAttention(torch.autograd.Function):
    """The kernel for autograd: keeps queries, keys, values, the output and one number a gene and head."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, kernel: NativeAttention) -> Tensor:
        qkv = qkv.contiguous()
        out, log_sum = kernel.forward(*qkv.unbind(2))
        ctx.save_for_backward(qkv, out, log_sum)
        ctx.kernel = kernel
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        qkv, out, log_sum = ctx.saved_tensors
        grad = torch.empty_like(qkv)
        ctx.kernel.backward(qkv.unbind(2), out, log_sum, grads[0].contiguous(), grad.unbind(2))
        return grad, None


class _CrossAttention(torch.autograd.Function):
    """The same for queries that are not the keys' own."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, kv: Tensor, kernel: NativeAttention) -> Tensor:
        q, kv = q.contiguous(), kv.contiguous()
        out, log_sum = kernel.forward(q, *kv.unbind(2))
        ctx.save_for_backward(q, kv, out, log_sum)
        ctx.kernel = kernel
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        q, kv, out, log_sum = ctx.saved_tensors
        grad_q, grad_kv = torch.empty_like(q), torch.empty_like(kv)
        into = (grad_q, *grad_kv.unbind(2))
        ctx.kernel.backward((q, *kv.unbind(2)), out, log_sum, grads[0].contiguous(), into)
        return grad_q, grad_kv, None
