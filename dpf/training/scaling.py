"""Gradient scaling for float16, whose smallest numbers are larger than many gradients."""

from __future__ import annotations

import torch

from dpf.training.device import Compute


def gradient_scaler(compute: Compute) -> torch.amp.GradScaler:
    """A dynamic loss scale (Micikevicius et al., ICLR 2018) where the encoder runs in float16, else one that is off.

    It begins at 2^16. A step in which any gradient is not finite is skipped and halves it; 2,000 good steps in a row
    double it. Powers of two: scaling rounds nothing.
    """
    scaler = torch.amp.GradScaler(
        compute.device.type, init_scale=2.0**16, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000,
        enabled=compute.dtype == torch.float16,
    )  # fmt: skip
    # Its tensor is made when it first scales something, which a process without a well in the first batch does not.
    scaler.scale(torch.zeros((), device=compute.device))
    return scaler
