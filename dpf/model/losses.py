"""The multi-task loss: MSE of the scores + BCE of the label + lambda x MSE of the activation, missing values masked."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dpf.model.network import Prediction


class TargetBatch(NamedTuple):
    """The targets of B wells, float32, NaN where missing; scores and activation standardised."""

    scores: Tensor  # (B, S)
    label: Tensor  # (B,)
    activation: Tensor  # (B,)

    def rows(self, index: Tensor | slice) -> TargetBatch:
        """The targets of some of the wells."""
        return TargetBatch(self.scores[index], self.label[index], self.activation[index])


class LossSums(NamedTuple):
    """Each part of the loss as a sum over observed entries, and how many were observed; tensors of shape (3,).

    Order: scores (mse), label (bce), activation (reg). Sums and counts add over the parts of a batch and over the
    batches of an epoch; only then are they divided, so a short last batch does not count as a full one.
    """

    sums: Tensor
    counts: Tensor

    def means(self) -> Tensor:
        """(mse, bce, reg); a part with nothing observed is 0."""
        return self.sums / self.counts.clamp(min=1)


PARTS = ("mse", "bce", "reg")


def loss_sums(prediction: Prediction, targets: TargetBatch) -> LossSums:
    """The parts of the loss of some wells, as sums over what was observed."""
    absent = (torch.zeros((), device=prediction.latent.device),) * 2
    logit, activation = prediction.label_logit, prediction.activation
    parts = [
        _squared(prediction.scores, targets.scores),
        absent if logit is None else _cross_entropy(logit, targets.label),
        absent if activation is None else _squared(activation, targets.activation),
    ]
    return LossSums(torch.stack([part[0] for part in parts]), torch.stack([part[1] for part in parts]))


def well_losses(prediction: Prediction, targets: TargetBatch, weights: Tensor) -> Tensor:
    """What each of B wells adds to the total loss of these wells together; shape (B,), their sum is the total."""
    counts = observed_counts(targets)
    parts = [(prediction.scores - targets.scores).square().nan_to_num().sum(1) * (weights[0] / counts[0])]
    if prediction.label_logit is not None:
        known = targets.label.nan_to_num()
        loss = F.binary_cross_entropy_with_logits(prediction.label_logit, known, reduction="none")
        parts.append(torch.where(targets.label.isnan(), 0.0, loss) * (weights[1] / counts[1]))
    if prediction.activation is not None:
        squared = (prediction.activation - targets.activation).square().nan_to_num()
        parts.append(squared * (weights[2] / counts[2]))
    return torch.stack(parts).sum(0)


def _squared(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    observed = ~target.isnan()
    error = torch.where(observed, predicted - target.nan_to_num(), 0.0)
    return error.square().sum(), observed.sum().to(torch.float32)


def _cross_entropy(logit: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    observed = ~target.isnan()
    loss = F.binary_cross_entropy_with_logits(logit, target.nan_to_num(), reduction="none")
    return torch.where(observed, loss, 0.0).sum(), observed.sum().to(torch.float32)


def observed_counts(targets: TargetBatch) -> Tensor:
    """How many entries each part of the loss has in these wells; shape (3,), at least 1 each."""
    counts = [(~part.isnan()).sum() for part in targets]
    return torch.stack(counts).to(torch.float32).clamp(min=1)


def part_weights(activation_weight: float, device: torch.device) -> Tensor:
    """(1, 1, lambda): what each part weighs in the total."""
    return torch.tensor([1.0, 1.0, activation_weight], device=device)
