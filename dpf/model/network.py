"""The whole network: scaler, encoder, latent, and heads that are all linear in the latent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpf.config import ModelSettings
from dpf.model.dropout import Noise, drop
from dpf.model.encoder import Attention, reset_parameters, torch_attention
from dpf.model.induced import build_encoder


@dataclass(frozen=True)
class TargetLayout:
    """Which heads a network has: the names of its scores, of its label and of its activation score, if any."""

    scores: tuple[str, ...]
    label: str | None
    activation: str | None


class Prediction(NamedTuple):
    """What the network says of B wells, in float32.

    Inside training the scores and the activation are standardised (mean 0, variance 1 of the training wells);
    `PerturbFormer.predict` gives them on the scale of the user's tables.
    """

    latent: Tensor  # (B, L)
    scores: Tensor  # (B, S)
    label_logit: Tensor | None  # (B,)
    activation: Tensor | None  # (B,)

    def cpu(self) -> Prediction:
        """The same on the CPU."""
        logit = None if self.label_logit is None else self.label_logit.cpu()
        activation = None if self.activation is None else self.activation.cpu()
        return Prediction(self.latent.cpu(), self.scores.cpu(), logit, activation)


class PerturbFormer(nn.Module):
    """Multi-task Transformer over genes.

    ``h = mean over genes of Encoder(x)``, ``z = MLP(h)`` (D to D, ReLU, dropout, D to L), and every head is linear in
    z: scores ``W z + b``, label logit ``w·z + b``, activation ``w_a·z + b``. So the losses train the latent itself, and
    ``w_a`` is the activation axis of the latent space. With `linear_path`, ``z = MLP(h) + W x``, W fixed at the ridge
    regression of the member's training wells (`dpf.training.linear_start`).

    The scaler is part of the model: `gene_mean` and `gene_std` (population standard deviation) of the member's
    training wells are buffers; with `zscore` every input goes through ``(x - mean)/(std + 1e-8)`` first.
    """

    gene_mean: Tensor
    gene_std: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, genes: int, layout: TargetLayout, settings: ModelSettings, zscore: bool) -> None:
        super().__init__()
        self.layout, self.settings, self.zscore = layout, settings, zscore
        width, latent = settings.width, settings.latent
        self.encoder = build_encoder(genes, settings)
        self.latent_in = nn.Linear(width, width)
        self.latent_out = nn.Linear(width, latent)
        self.linear = nn.Linear(genes, latent, bias=False) if settings.linear_path else None
        if self.linear is not None:
            self.linear.weight.requires_grad_(False)  # stays the ridge regression it is set to
        self.scores = nn.Linear(latent, len(layout.scores)) if layout.scores else None
        self.label = nn.Linear(latent, 1) if layout.label else None
        self.activation = nn.Linear(latent, 1) if layout.activation else None
        self.register_buffer("gene_mean", torch.zeros(genes))
        self.register_buffer("gene_std", torch.ones(genes))
        # Scores first, then the activation: one entry for each standardised target.
        self.register_buffer("target_mean", torch.zeros(len(layout.scores) + 1))
        self.register_buffer("target_std", torch.ones(len(layout.scores) + 1))

    def scale(self, x: Tensor) -> Tensor:
        """Expression on the scale the encoder sees; (B, G) float32."""
        return (x - self.gene_mean) / (self.gene_std + 1e-8) if self.zscore else x

    def forward(
        self,
        x: Tensor,
        dtype: torch.dtype = torch.float32,
        noise: Noise | None = None,
        attention: Attention = torch_attention,
    ) -> Prediction:
        """Prediction from *scaled* expression `x` of shape (B, G); the encoder runs in `dtype`, the rest in float32."""
        pooled = self.encoder(x, dtype, noise, attention)  # (B, D)
        hidden = drop(F.relu(self.latent_in(pooled)), noise)  # (B, D)
        latent = self.latent_out(hidden)  # (B, L)
        if self.linear is not None:
            latent = latent + self.linear(x)  # (B, L)
        return Prediction(
            latent,
            self.scores(latent) if self.scores is not None else latent.new_empty(len(latent), 0),  # (B, S)
            self.label(latent)[:, 0] if self.label is not None else None,  # (B,)
            self.activation(latent)[:, 0] if self.activation is not None else None,  # (B,)
        )

    def predict(
        self, x: Tensor, dtype: torch.dtype = torch.float32, attention: Attention = torch_attention
    ) -> Prediction:
        """Prediction from expression `x` as it stands in the project; targets on the scale of the user's tables."""
        latent, scores, logit, activation = self(self.scale(x), dtype, attention=attention)
        scores = scores * self.target_std[:-1] + self.target_mean[:-1]
        if activation is not None:
            activation = activation * self.target_std[-1] + self.target_mean[-1]
        return Prediction(latent, scores, logit, activation)


def build_network(
    genes: int, layout: TargetLayout, settings: ModelSettings, zscore: bool, generator: torch.Generator
) -> PerturbFormer:
    """A network on the CPU with freshly drawn weights; the same generator state gives the same weights."""
    network = empty_network(genes, layout, settings, zscore)
    reset_parameters(network, generator)
    return network


def empty_network(genes: int, layout: TargetLayout, settings: ModelSettings, zscore: bool) -> PerturbFormer:
    """A network on the CPU whose weights are yet to be filled in; its buffers are those of an identity scaler."""
    # Constructing nn.Linear draws from the global generator; on the meta device it draws nothing.
    with torch.device("meta"):
        network = PerturbFormer(genes, layout, settings, zscore)
    network = network.to_empty(device="cpu")
    for name, buffer in network.named_buffers():
        buffer.fill_(1.0 if name.endswith("std") else 0.0)
    return network
