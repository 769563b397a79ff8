"""The plain implementation that ours is measured against: `torch.nn.TransformerEncoder`, float32, its own dropout."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dpf.config.settings import ModelSettings
from dpf.model.network import TargetLayout


class PlainFormer(nn.Module):
    """The seed's model as one would write it first."""

    def __init__(self, genes: int, layout: TargetLayout, settings: ModelSettings) -> None:
        super().__init__()
        self.value = nn.Linear(1, settings.width)
        self.gene = nn.Embedding(genes, settings.width)
        layer = nn.TransformerEncoderLayer(
            settings.width, settings.heads, settings.feed_forward, settings.dropout, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, settings.layers, enable_nested_tensor=False)
        self.latent = nn.Sequential(
            nn.Linear(settings.width, settings.width),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.width, settings.latent),
        )
        self.scores = nn.Linear(settings.latent, len(layout.scores))
        self.label = nn.Linear(settings.latent, 1)
        self.activation = nn.Linear(settings.latent, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        tokens = self.value(x[..., None]) + self.gene.weight
        latent = self.latent(self.encoder(tokens).mean(1))
        return latent, self.scores(latent), self.label(latent)[:, 0], self.activation(latent)[:, 0]


def plain_loss(model: PlainFormer, x: Tensor, scores: Tensor, label: Tensor, activation: Tensor) -> Tensor:
    """MSE + BCE + 0.2 x MSE."""
    _, predicted, logit, act = model(x)
    bce = nn.functional.binary_cross_entropy_with_logits(logit, label)
    return nn.functional.mse_loss(predicted, scores) + bce + 0.2 * nn.functional.mse_loss(act, activation)


def plain_step(model: PlainFormer, optimizer: torch.optim.Optimizer, *batch: Tensor) -> None:
    """One training step."""
    optimizer.zero_grad(set_to_none=True)
    plain_loss(model, *batch).backward()
    optimizer.step()
