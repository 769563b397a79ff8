"""Encoders whose every weight counts, and their gradients held against another implementation's."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dpf.model.encoder import Encoder, reset_parameters


def redrawn(encoder: Encoder, seed: int) -> Encoder:
    """The encoder with every weight drawn, biases and norms too."""
    generator = torch.Generator().manual_seed(seed)
    reset_parameters(encoder, generator)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if weight.ndim == 1:
                weight += 0.3 * torch.randn(weight.shape, generator=generator)
            assert weight.abs().sum() > 0, name
    return encoder


def expression(wells: int, genes: int, seed: int = 1) -> Tensor:
    """Standard normal expression."""
    return torch.randn(wells, genes, generator=torch.Generator().manual_seed(seed))


def require_gradients(ours: nn.Module, theirs: dict[str, Tensor], limit: float) -> None:
    """Every weight's gradient is theirs, norm over norm."""
    assert sorted(theirs) == sorted(name for name, _ in ours.named_parameters())
    norm = max(float(value.norm()) for value in theirs.values())
    for name, weight in ours.named_parameters():
        # Some gradients are 0 in theory (the keys' bias): a hundredth of the largest is the least scale.
        scale = max(float(theirs[name].norm()), norm / 100)
        assert weight.grad is not None
        assert float((weight.grad.cpu() - theirs[name]).norm()) < limit * scale, name
