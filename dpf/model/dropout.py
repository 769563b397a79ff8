"""Dropout whose noise is a function of the step of the training, not of a generator's state.

The noise of a pass is drawn from the key (seed, member, epoch, step, part of the batch), so a run that was stopped and
resumed draws what it would have drawn, with no generator state to save. On the CPU the bits are those of NumPy's SFC64,
16 for every element, ten times faster than `Tensor.bernoulli_`, whose generator is serial. Every mask is cut into
chunks with a generator each, so that a process that computes some wells of a pass draws little more than their noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_LEVELS = 1 << 16
_BF16_ONE = np.uint16(0x3F80)
#: How noise is drawn and applied: a run with other noise cannot be resumed bit for bit.
NOISE = "SFC64 by chunks of 32,768 words, masks by PyTorch"
_CHUNK_WORDS = 1 << 15  # words of 64 bits that one generator makes
_CHUNK_ELEMENTS = 4 * _CHUNK_WORDS
_THROWN_AWAY = 12  # words of a new generator, as NumPy's own seeding does


def _draw(states: NDArray[np.uint64], elements: int) -> NDArray[np.uint16]:
    """16 bits for each of so many elements, from consecutive chunks' generators; the last chunk may be short.

    `states` (chunks, 4) are the generators', each with its counter at 1.
    """
    out, generator = np.empty(-(-elements // 4), np.uint64), np.random.SFC64(0)
    for chunk, state in enumerate(states):
        generator.state = {"bit_generator": "SFC64", "state": {"state": state}, "has_uint32": 0, "uinteger": 0}
        generator.random_raw(_THROWN_AWAY, output=False)
        part = out[chunk * _CHUNK_WORDS : (chunk + 1) * _CHUNK_WORDS]
        part[:] = generator.random_raw(len(part))
    return out.view(np.uint16)[:elements]


class Rows(NamedTuple):
    """Some wells of a pass: those from number `first` on of its `whole`."""

    first: int
    whole: int


class Noise:
    """A stream of dropout masks for one forward pass; `Noise(p, key)` gives the same masks for the same key.

    Parameters
    ----------
    p
        Probability that an element is zeroed. On the CPU it is rounded to a multiple of 2^-16.
    key
        Whole numbers, 0 or more, that name the pass.
    rows
        Where only some wells of the pass are computed here: which. Masks, of shape (wells, ...), are then drawn for
        the whole pass and cut, so that a well's noise is what it is where all are computed together. On the CPU the
        chunks that these wells do not touch are not drawn.
    """

    def __init__(self, p: float, key: Sequence[int], device: torch.device, rows: Rows | None = None) -> None:
        self.p = p
        self.rows = rows
        self._key, self._count = list(key), 0
        self._generator = None
        if device.type != "cpu":
            self._generator = torch.Generator(device)
            seed = np.random.SeedSequence(self._key).generate_state(1, np.uint64)[0]
            self._generator.manual_seed(int(seed >> 1))

    @property
    def gain(self) -> float:
        """What kept elements are multiplied by, 1/(1-p), so that the expectation stays."""
        return 1.0 / (1.0 - self.p)

    def mask(self, like: Tensor) -> Tensor:
        """A tensor of `like`'s shape and type, 1 where an element is kept, 0 where it is not."""
        if self._generator is not None:
            start, stop, drawn = self._span(like)
            mask = like.new_empty(drawn).bernoulli_(1.0 - self.p, generator=self._generator)[start:stop]
            # A copy of the rows: what else was drawn need not wait for the backward pass.
            return (mask if self.rows is None else mask.clone()).view(like.shape)
        kept = self._bits(like) >= round(self.p * _LEVELS)
        if like.dtype != torch.bfloat16:
            return torch.from_numpy(kept).to(like.dtype).view(like.shape)
        # A 1 in bf16 by its bits: PyTorch's conversion from bool takes twice the time of everything else here.
        return torch.from_numpy(kept * _BF16_ONE).view(torch.bfloat16).view(like.shape)

    def _bits(self, like: Tensor) -> NDArray[np.uint16]:
        """16 random bits for each element of `like`; chunks that none of them is in are not drawn."""
        start, stop, _ = self._span(like)
        chunks = -(-stop // _CHUNK_ELEMENTS)
        seed = np.random.SeedSequence(self._key, spawn_key=(self._count,))
        self._count += 1
        states = np.ones((chunks, 4), np.uint64)
        states[:, :3] = seed.generate_state(3 * chunks, np.uint64).reshape(chunks, 3)
        first = start // _CHUNK_ELEMENTS
        skipped = first * _CHUNK_ELEMENTS
        return _draw(states[first:], stop - skipped)[start - skipped :]

    def _span(self, like: Tensor) -> tuple[int, int, int]:
        """Where the elements of `like` begin and end among those that are drawn, and how many these are."""
        if self.rows is None:
            return 0, like.numel(), like.numel()
        well = like[0].numel()
        start = self.rows.first * well
        return start, start + like.numel(), self.rows.whole * well


def drop(x: Tensor, noise: Noise | None) -> Tensor:
    """Zero each element of `x` with probability p and scale the rest by the gain; without noise, `x` itself."""
    return x if noise is None or noise.p == 0.0 else x * noise.mask(x) * noise.gain


# Large tensors are read and written once: where x comes out of a linear layer the gain is put on the layer's weights,
# and what is left of dropout is part of what happens to x next.


def drop_and_add(residual: Tensor, x: Tensor, noise: Noise | None) -> Tensor:
    """``residual + drop(x)`` of an `x` that has its gain already."""
    return residual + x if noise is None or noise.p == 0.0 else torch.addcmul(residual, x, noise.mask(x))


def drop_relu(x: Tensor, noise: Noise | None) -> Tensor:
    """``drop(relu(x))`` of an `x` that has its gain already."""
    if noise is None or noise.p == 0.0:
        return F.relu(x)
    dropped: Tensor = _DropRelu.apply(x, noise.mask(x))  # type: ignore[no-untyped-call]
    return dropped


class _DropRelu(torch.autograd.Function):
    """ReLU times a mask; the result, which the next layer keeps anyway, is all that the backward needs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor) -> Tensor:
        out = F.relu(x).mul_(mask)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grads[0], out, 0), None  # the gradient where out > 0, else 0
