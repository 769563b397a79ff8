"""The initial regression: a stacked regression of each target, fixed before training, that the latent begins as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpf.regression.stacking import Stacked


class RegressionShape(NamedTuple):
    """The sizes of an initial regression: T targets, G genes, R components, n landmarks, J kernels."""

    targets: int
    genes: int
    components: int = 0
    landmarks: int = 0
    kernels: int = 0

    @classmethod
    def of(cls, weights: Mapping[str, Tensor]) -> RegressionShape | None:
        """The shape of the initial regression among a network's weights, or None where it has none."""
        if "start.weight" not in weights:
            return None
        targets, genes = weights["start.weight"].shape
        kernels, landmarks, _ = weights["start.alpha"].shape
        return cls(targets, genes, weights["start.projection"].shape[1], landmarks, kernels)


class InitialRegression(nn.Module):
    """``s_t(x) = weight_t·x + bias_t + Σ_j Σ_i alpha[j, i, t]·exp(−width_j·|p − landmarks_i|²)``.

    Here ``p = x·projection − offset``, and kernel j uses its first `components[j]` entries. Fitted by
    `dpf.regression.stacking` to the member's wells, it is not trained any further, and it is differentiable in x.
    """

    weight: Tensor
    bias: Tensor
    projection: Tensor
    offset: Tensor
    landmarks: Tensor
    components: Tensor
    width: Tensor
    alpha: Tensor

    def __init__(self, shape: RegressionShape) -> None:
        super().__init__()
        targets, genes, components, landmarks, kernels = shape
        sizes = {
            "weight": (targets, genes), "bias": (targets,), "projection": (genes, components), "offset": (components,),
            "landmarks": (landmarks, components), "width": (kernels,), "alpha": (kernels, landmarks, targets),
        }  # fmt: skip
        for name, size in sizes.items():
            self.register_buffer(name, torch.zeros(size))
        self.register_buffer("components", torch.zeros(kernels, dtype=torch.int64))

    @classmethod
    def from_stacked(cls, found: Stacked) -> InitialRegression:
        """The module of a fitted regression."""
        kernels, landmarks, targets = found.alpha.shape
        module = cls(RegressionShape(targets, found.weight.shape[1], found.projection.shape[1], landmarks, kernels))
        for name in ("weight", "bias", "projection", "offset", "landmarks", "alpha"):
            getattr(module, name).copy_(torch.from_numpy(getattr(found, name)))
        module.width.copy_(torch.tensor([kernel.width for kernel in found.kernels]))
        module.components.copy_(torch.tensor([kernel.components for kernel in found.kernels], dtype=torch.int64))
        return module

    def forward(self, x: Tensor) -> Tensor:
        """(B, T) of scaled expression (B, G), in float32."""
        values = F.linear(x, self.weight, self.bias)  # (B, T)
        place = x @ self.projection - self.offset  # (B, R)
        for kernel, count in enumerate(self.components.tolist()):
            p, landmarks = place[:, :count], self.landmarks[:, :count]
            # |p − l|² by its parts: cdist has no derivative where two points meet.
            squared = p.square().sum(1, keepdim=True) + landmarks.square().sum(1) - 2 * p @ landmarks.T  # (B, n)
            values = values + torch.exp(-self.width[kernel] * squared) @ self.alpha[kernel]
        return values
