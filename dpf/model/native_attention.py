"""Exact attention on CPUs with AVX-512: the encoder's attention by the kernel in `native/attention.cpp`.

It computes what `dpf.model.encoder.torch_attention` computes, in memory linear in genes as well, with less work around
the products. bf16 inputs are multiplied as they are and summed in float32; weights and score gradients are rounded to
bf16 before the second product, as PyTorch's own bf16 kernel does. With float32 inputs everything is float32.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from dpf.errors import DeviceError
from dpf.model.native_build import load_library

#: The widest head the kernel has been built for.
WIDEST = 128

_SIZES = [ctypes.c_long] * 4
_FLAGS = [ctypes.c_int] * 2


class NativeAttention:
    """Softmax attention of every gene over all genes: (B, G, 3, H, K) to (B, G, H, K), with its gradient.

    The result is the same, bit for bit, for every number of threads.

    Parameters
    ----------
    dtype
        bf16 or float32; a kernel for bf16 takes float32 too.

    Raises
    ------
    CannotBuildError
        It cannot run here.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        library = load_library(bf16=dtype == torch.bfloat16)
        pointer = ctypes.c_void_p
        self._forward = library.dpf_attention_forward
        self._forward.argtypes = [*_SIZES, *_FLAGS, pointer, pointer, pointer]
        self._backward = library.dpf_attention_backward
        self._backward.argtypes = [*_SIZES, *_FLAGS, pointer, pointer, pointer, pointer, pointer]

    def __call__(self, qkv: Tensor) -> Tensor:
        """Attention of queries, keys and values that lie side by side in `qkv`, as the joint projection leaves them.

        Raises
        ------
        DeviceError
            The heads are wider than `WIDEST`.
        """
        if qkv.shape[4] > WIDEST:
            raise DeviceError(
                "the native attention kernel has no heads this wide",
                found=f"model.width / model.heads = {qkv.shape[4]}",
                expected=f"at most {WIDEST}",
                hint="--set compute.attention_kernel=torch",
            )
        mixed: Tensor = _Attention.apply(qkv, self)  # type: ignore[no-untyped-call]
        return mixed

    def forward(self, qkv: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and the scores' log-sum-exp to base 2, float32 of shape (B, H, G)."""
        wells, genes, _, heads, width = qkv.shape
        out = qkv.new_empty(wells, genes, heads, width)
        log_sum = torch.empty(wells, heads, genes)
        self._run(self._forward, qkv, out, log_sum)
        return out, log_sum

    def backward(self, qkv: Tensor, out: Tensor, log_sum: Tensor, grad_out: Tensor) -> Tensor:
        """The gradient of `qkv`, from what `forward` took and gave and the gradient of its output."""
        grad = torch.empty_like(qkv)
        self._run(self._backward, qkv, out, log_sum, grad_out, grad)
        return grad

    def _run(self, function: Any, qkv: Tensor, *others: Tensor) -> None:
        tensors = (qkv, *others)
        assert all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in tensors)
        assert qkv.dtype in (torch.float32, torch.bfloat16)
        wells, genes, _, heads, width = qkv.shape
        code = function(
            wells, genes, heads, width, qkv.dtype == torch.bfloat16, torch.get_num_threads(),
            *(tensor.data_ptr() for tensor in tensors),
        )  # fmt: skip
        if code:
            raise MemoryError("the native attention kernel got no memory")


class _Attention(torch.autograd.Function):
    """The kernel for autograd: keeps queries, keys, values, the output and one number a gene and head."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, kernel: NativeAttention) -> Tensor:
        qkv = qkv.contiguous()
        out, log_sum = kernel.forward(qkv)
        ctx.save_for_backward(qkv, out, log_sum)
        ctx.kernel = kernel
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        qkv, out, log_sum = ctx.saved_tensors
        return ctx.kernel.backward(qkv, out, log_sum, grads[0].contiguous()), None
