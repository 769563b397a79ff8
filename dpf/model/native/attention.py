"""Softmax attention on CPUs with AVX-512: the encoders' attention by the kernel in `native/attention.cpp`.

It computes what `dpf.model.encoder.torch_attention` computes, of genes over all genes (exact attention) and of one set
over another (induced attention), in memory linear in genes as well, with less work around the products. bf16 inputs are
multiplied as they are and summed in float32; weights and score gradients are rounded to bf16 before the second product,
as PyTorch's own bf16 kernel does. With float32 inputs everything is float32.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from dpf.errors import DeviceError
from dpf.model.dropout import Noise
from dpf.model.encoder import EncoderLayer, Origin, TorchAttention, affine, affine_rows
from dpf.model.native.build import load_library
from dpf.model.native.first import attend_first, embed
from dpf.model.native.layer import finish_layer
from dpf.model.native.linear import linear
from dpf.model.native.rows import WIDEST_ROW, NativeRows

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

    Raises
    ------
    CannotBuildError
        It cannot run here.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        library = load_library(bf16=dtype == torch.bfloat16)
        pointer = ctypes.c_void_p
        self._forward = library.dpf_attention_forward
        self._forward.argtypes = [*_SIZES, *_FLAGS, *[pointer] * 5]
        self._backward = library.dpf_attention_backward
        self._backward.argtypes = [*_SIZES, *_FLAGS, *[pointer] * 9]
        self._backward_affine = library.dpf_attention_backward_affine
        self._backward_affine.argtypes = [*_SIZES, *_FLAGS, *[pointer] * 8]
        #: The kernels between the products; None where this is for float32 only.
        self.rows = NativeRows(library) if dtype == torch.bfloat16 else None

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

    def embed(self, origin: Origin, dtype: torch.dtype) -> Tensor:
        """The tokens (B, G, D)."""
        return embed(self, origin, dtype)

    def project(self, layer: nn.Linear, rows: slice, tokens: Tensor, origin: Origin | None) -> Tensor:
        """Some of the outputs of `layer(tokens)`; of what `origin` says, without the product."""
        if origin is None:
            return affine_rows(tokens, layer, rows, linear)
        return embed(self, origin.through(layer, rows, tokens.dtype), tokens.dtype)

    def attend(self, layer: EncoderLayer, tokens: Tensor, origin: Origin | None) -> Tensor:
        """Exact attention of a layer's tokens (B, G, D), to (B, G, H, K).

        Raises
        ------
        DeviceError
            The heads are wider than `WIDEST`.
        """
        if origin is None:
            return self(layer.split(affine(tokens, layer.qkv, linear=linear), 3))
        require_width(layer.qkv.in_features // layer.heads)
        return attend_first(self, layer, origin, tokens.dtype)

    def finish(self, layer: EncoderLayer, tokens: Tensor, heads: Tensor, noise: Noise | None) -> Tensor:
        """What follows attention: the heads joined, residual and norm; feed-forward, residual and norm."""
        if self.rows is None or tokens.dtype != torch.bfloat16 or tokens.shape[-1] > WIDEST_ROW:
            return _plain.finish(layer, tokens, heads, noise)
        return finish_layer(self.rows, layer, tokens, heads, noise)

    def pool(self, tokens: Tensor) -> Tensor:
        """The mean over genes of tokens (B, G, D), in float32."""
        if self.rows is None or tokens.dtype != torch.bfloat16 or tokens.shape[-1] > WIDEST_ROW:
            return _plain.pool(tokens)
        mean: Tensor = _Pool.apply(tokens, self.rows)  # type: ignore[no-untyped-call]
        return mean

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

    def backward_affine(self, parts: _Parts, out: Tensor, log_sum: Tensor, grad_out: Tensor, slope: Tensor) -> Tensor:
        """The gradient (B, G) of x, where `parts` are ``x[i, g] slope`` (slope: 3·H·K) plus what x is not in."""
        wells, genes, heads, _ = parts[0].shape
        grad_x = torch.empty(wells, heads, genes)
        self._run(self._backward_affine, *parts, out, log_sum, grad_out, slope.contiguous(), grad_x)
        return grad_x.sum(1)

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


#: What the kernels between the products do not do.
_plain = TorchAttention(linear)

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


class _Pool(torch.autograd.Function):
    """A mean that reads its tokens once: PyTorch's makes float32 of them all first, and of their gradients after."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, kernels: NativeRows) -> Tensor:
        ctx.shape = tokens.shape
        return kernels.sum_genes(tokens.contiguous()).div_(tokens.shape[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        of_each = (grads[0] / ctx.shape[1]).to(torch.bfloat16)  # (B, D)
        return of_each[:, None].expand(ctx.shape), None
