"""The kernels of `native/rows.cpp`: what stands between the encoder's matrix products in bf16 on the CPU.

Each is what PyTorch's operations do one after another in `dpf.model.encoder` and `dpf.model.dropout`, with the same
dropout, in one reading and one writing. Sums over rows are float32.
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpf.model.dropout import CHUNK_WORDS

#: The longest row that can be normalised.
WIDEST_ROW = 1024
# Rows, and genes, whose gradients are added up together, as in rows.cpp.
_CHUNK, _GENES = 512, 64


class Norm(NamedTuple):
    """A layer norm's weights, in float32."""

    weight: Tensor
    bias: Tensor
    eps: float


class Drop(NamedTuple):
    """Which elements are dropped: those whose 16 random bits are below the threshold; none without bits.

    The others are multiplied by the gain.
    """

    bits: Tensor | None = None
    threshold: int = 0
    gain: float = 1.0


class Normed(NamedTuple):
    """A norm's result (R, W), each row's mean and 1/deviation in float32 (R, 2), and what dropout kept, if any.

    That is a bit an element, 16 of a row in a word: (R, `words_of(W)`).
    """

    out: Tensor
    stats: Tensor
    keep: Tensor | None = None


class Given(NamedTuple):
    """A gradient of which `shared` rows after one another have one: row r's is row ``(first + r) // shared``."""

    rows: Tensor
    first: int = 0
    shared: int = 1


def words_of(width: int) -> int:
    """Words of 16 bits for a row."""
    return -(-width // 16)


class NativeRows:
    """The kernels of a loaded library that takes bf16. Tensors are rows (R, W) without gaps."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, size, flag, number = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_float
        self._add_norm = library.dpf_add_norm_forward
        self._add_norm.argtypes = [size, size, flag, flag, number, number, *[pointer] * 10]
        self._add_norm_grad = library.dpf_add_norm_backward
        self._add_norm_grad.argtypes = [size, size, flag, number, size, size, *[pointer] * 8]
        self._drop_relu = library.dpf_drop_relu
        self._drop_relu.argtypes = [size, size, flag, flag, number, *[pointer] * 3]
        self._drop_relu_grad = library.dpf_drop_relu_grad
        self._drop_relu_grad.argtypes = [size, size, flag, number, *[pointer] * 3]
        self._embed = library.dpf_embed
        self._embed.argtypes = [size, size, size, flag, *[pointer] * 4]
        self._embed_grad = library.dpf_embed_grad
        self._embed_grad.argtypes = [size, size, size, flag, *[pointer] * 6]
        self._sum_genes = library.dpf_sum_genes
        self._sum_genes.argtypes = [size, size, size, flag, pointer, pointer]
        self._draw = library.dpf_draw
        self._draw.argtypes = [size, size, size, flag, pointer, pointer]

    def add_norm(self, residual: Tensor, mixed: Tensor, bias: Tensor, norm: Norm, drop: Drop, into: Normed) -> None:
        """``norm(residual + drop(mixed + bias))``; `mixed` becomes the sum."""
        rows, width = residual.shape
        self._add_norm(
            rows, width, torch.get_num_threads(), drop.threshold, drop.gain, norm.eps,
            *map(_pointer, (residual, mixed, bias, drop.bits, norm.weight, norm.bias, mixed, *into)),
        )  # fmt: skip

    def add_norm_grad(
        self, grad: Given, total: Tensor, normed: Normed, weight: Tensor, gain: float
    ) -> tuple[Tensor, Tensor]:
        """Gradients of mixed, and (3, W) of the norm's weight, of its bias and of mixed's bias.

        That of the residual is written where `normed` has the result.
        """
        rows, width = total.shape
        grad_mixed = torch.empty_like(total)
        partial = torch.empty(-(-rows // _CHUNK), 3, width)
        residual, stats, keep = normed
        self._add_norm_grad(
            rows, width, torch.get_num_threads(), gain, grad.first, grad.shared,
            *map(_pointer, (grad.rows, total, keep, weight, stats, residual, grad_mixed, partial)),
        )  # fmt: skip
        return grad_mixed, partial.sum(0)

    def drop_relu(self, x: Tensor, bias: Tensor, drop: Drop) -> None:
        """Put ``drop(relu(x + bias))`` in the place of `x`."""
        sizes = (*x.shape, torch.get_num_threads(), drop.threshold, drop.gain)
        self._drop_relu(*sizes, *map(_pointer, (x, bias, drop.bits)))

    def drop_relu_grad(self, hidden: Tensor, grad: Tensor, gain: float) -> Tensor:
        """Put the gradient of what `hidden` was made from in the place of its own; the bias's, (W,), is returned."""
        rows, width = hidden.shape
        partial = torch.empty(-(-rows // _CHUNK), width)
        self._drop_relu_grad(rows, width, torch.get_num_threads(), gain, *map(_pointer, (hidden, grad, partial)))
        return partial.sum(0)

    def embed(self, x: Tensor, slope: Tensor, base: Tensor) -> Tensor:
        """``base[g] + x[i, g] slope``, (B, G, W) in bf16: x (B, G) and slope (W,) in float32, base (G, W) in bf16."""
        (wells, genes), width = x.shape, len(slope)
        tokens = base.new_empty(wells, genes, width)
        sizes = (wells, genes, width, torch.get_num_threads())
        self._embed(*sizes, *map(_pointer, (x, slope, base, tokens)))
        return tokens

    def embed_grad(self, x: Tensor, slope: Tensor, grad: Tensor, *, of_x: bool) -> tuple[Tensor | None, Tensor, Tensor]:
        """Gradients of x, where asked for, of slope and of base, in float32."""
        (wells, genes), width = x.shape, len(slope)
        grad_x = torch.empty_like(x) if of_x else None
        grad_base, partial = torch.empty(genes, width), torch.empty(-(-genes // _GENES), width)
        sizes = (wells, genes, width, torch.get_num_threads())
        self._embed_grad(*sizes, *map(_pointer, (x, slope, grad, grad_x, grad_base, partial)))
        return grad_x, partial.sum(0), grad_base

    def sum_genes(self, tokens: Tensor) -> Tensor:
        """The sum (B, W) in float32 over the genes of `tokens`, (B, G, W) in bf16."""
        wells, genes, width = tokens.shape
        out = torch.empty(wells, width)
        self._sum_genes(wells, genes, width, torch.get_num_threads(), *map(_pointer, (tokens, out)))
        return out

    def draw(self, states: NDArray[np.uint64], words: int) -> NDArray[np.uint64]:
        """What `dpf.model.dropout.draw_words` draws."""
        out, states = np.empty(words, np.uint64), np.ascontiguousarray(states)
        self._draw(len(states), CHUNK_WORDS, words, torch.get_num_threads(), states.ctypes.data, out.ctypes.data)
        return out


def _pointer(tensor: Tensor | None) -> int | None:
    if tensor is None:
        return None
    assert tensor.device.type == "cpu"
    assert tensor.is_contiguous()
    return tensor.data_ptr()
