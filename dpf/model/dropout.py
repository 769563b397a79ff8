"""Dropout whose noise is a function of where training stands, not of a hidden generator.

The noise of a pass is drawn from the key (seed, member, epoch, step, part of the batch), so a run that was stopped and
resumed draws what it would have drawn, with no generator state to save. On the CPU the bits come from NumPy's SFC64,
which makes 16 of them for every element about ten times faster than `Tensor.bernoulli_`, whose generator is serial.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_LEVELS = 1 << 16


class Noise:
    """A stream of dropout masks for one forward pass; `Noise(p, key)` gives the same masks for the same key.

    Parameters
    ----------
    p
        Probability that an element is zeroed. On the CPU it is rounded to a multiple of 2^-16.
    key
        Whole numbers, 0 or more, that name the pass.
    """

    def __init__(self, p: float, key: Sequence[int], device: torch.device) -> None:
        self.p = p
        seed = np.random.SeedSequence(list(key))
        if device.type == "cpu":
            self._bits = np.random.SFC64(seed)
            self._generator = None
        else:
            self._generator = torch.Generator(device)
            self._generator.manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))

    def mask(self, like: Tensor) -> Tensor:
        """A boolean tensor of `like`'s shape, true where an element is kept."""
        if self._generator is not None:
            return torch.empty(like.shape, dtype=torch.bool, device=like.device).bernoulli_(
                1.0 - self.p, generator=self._generator
            )
        words = self._bits.random_raw(-(-like.numel() // 4)).view(np.uint16)[: like.numel()]
        return torch.from_numpy(words >= round(self.p * _LEVELS)).view(like.shape)


class _Drop(torch.autograd.Function):
    """Multiply by a kept/dropped mask and 1/(1-p), keeping one byte an element for the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return x * mask * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return grads[0] * mask * ctx.scale, None, None


def drop(x: Tensor, noise: Noise | None) -> Tensor:
    """Zero each element of `x` with probability p and scale the rest by 1/(1-p); without noise, `x` itself."""
    if noise is None or noise.p == 0.0:
        return x
    dropped: Tensor = _Drop.apply(x, noise.mask(x), 1.0 / (1.0 - noise.p))  # type: ignore[no-untyped-call]
    return dropped
