"""The whole network: scaler, encoder, latent, and heads that are all linear in the latent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpf.config.settings import ModelSettings
from dpf.model.dropout import Noise, drop
from dpf.model.encoder import Attention, reset_parameters, torch_attention
from dpf.model.induced import build_encoder
from dpf.model.initial_regression import InitialRegression, RegressionShape

#: What calls the encoder: of its forward's arguments, its result (`dpf.model.compiled`).
Encode = Callable[[Tensor, torch.dtype, Noise | None, Attention], Tensor]


@dataclass(frozen=True)
class TargetLayout:
    """Which heads a network has: the names of its scores, of its label and of its activation score, if any."""

    scores: tuple[str, ...]
    label: str | None
    activation: str | None


class Prediction(NamedTuple):
    """The network's predictions for B wells, in float32.

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
    ``w_a`` is the activation axis of the latent space. With an initial regression
    (`dpf.model.initial_regression`), ``z = MLP(h) + s(x)``: s, of each target on expression, is fitted before the
    training and fixed. Its module is called `start`, as in model files.

    The scaler is part of the model: `gene_mean` and `gene_std` (population standard deviation) of the member's
    training wells are buffers; with `zscore` every input goes through ``(x - mean)/(std + 1e-8)`` first.
    """

    gene_mean: Tensor
    gene_std: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self,
        genes: int,
        layout: TargetLayout,
        settings: ModelSettings,
        zscore: bool,
        regression: RegressionShape | None = None,
    ) -> None:
        super().__init__()
        self.layout, self.settings, self.zscore = layout, settings, zscore
        self.encode: Encode | None = None  # replaces the encoder, where it has been compiled
        width, latent = settings.width, settings.latent
        self.encoder = build_encoder(genes, settings)
        self.latent_in = nn.Linear(width, width)
        self.latent_out = nn.Linear(width, latent)
        self.start = None if regression is None else InitialRegression(regression)
        self.scores = nn.Linear(latent, len(layout.scores)) if layout.scores else None
        self.label = nn.Linear(latent, 1) if layout.label else None
        self.activation = nn.Linear(latent, 1) if layout.activation else None
        self.register_buffer("gene_mean", torch.zeros(genes))
        self.register_buffer("gene_std", torch.ones(genes))
        # Scores first, then the activation: one entry for each standardised target.
        self.register_buffer("target_mean", torch.zeros(len(layout.scores) + 1))
        self.register_buffer("target_std", torch.ones(len(layout.scores) + 1))

    def scale(self, x: Tensor) -> Tensor:
        """Expression on the scale the encoder sees; (B, G) float32.

        With `zscore`, a gene that does not vary in the member's training wells is 0 in every well: divided by 1e-8, the
        first well that expresses it would be a hundred million deviations away.
        """
        if not self.zscore:
            return x
        varies = self.gene_std > 1e-6 * self.gene_mean.abs()
        return torch.where(varies, (x - self.gene_mean) / (self.gene_std + 1e-8), 0.0)

    def forward(
        self,
        x: Tensor,
        dtype: torch.dtype = torch.float32,
        noise: Noise | None = None,
        attention: Attention = torch_attention,
        start: Tensor | None = None,
    ) -> Prediction:
        """Prediction from *scaled* expression `x` of shape (B, G); the encoder runs in `dtype`, the rest in float32.

        `start`, of shape (B, L), is added to the latent in the place of the initial regression's values for `x`.
        """
        pooled = (self.encode or self.encoder)(x, dtype, noise, attention)  # (B, D)
        hidden = drop(F.relu(self.latent_in(pooled)), noise)  # (B, D)
        latent = self.latent_out(hidden)  # (B, L)
        if start is not None:
            latent = latent + start  # (B, L)
        elif self.start is not None:
            latent = latent + self.in_latent(self.start(x))  # (B, L)
        return self.read(latent)

    def in_latent(self, values: Tensor) -> Tensor:
        """The initial regression's values (B, T) as the first T dimensions of a latent (B, L) that is 0 elsewhere."""
        return F.pad(values, (0, self.settings.latent - values.shape[1]))

    def read(self, latent: Tensor) -> Prediction:
        """The heads' predictions from latents of shape (B, L)."""
        return Prediction(
            latent,
            self.scores(latent) if self.scores is not None else latent.new_empty(len(latent), 0),  # (B, S)
            self.label(latent)[:, 0] if self.label is not None else None,  # (B,)
            self.activation(latent)[:, 0] if self.activation is not None else None,  # (B,)
        )

    @property
    def moving(self) -> Tensor:
        """Dimensions of the latent that differ between wells, (L,) bool.

        Where the Transformer adds nothing these are the dimensions of the initial regression, and a head's weights for
        the others have no effect.
        """
        moves = self.latent_out.weight.any(dim=1)
        if self.start is not None:
            moves[: len(self.start.bias)] = True
        return moves

    def predict(
        self, x: Tensor, dtype: torch.dtype = torch.float32, attention: Attention = torch_attention
    ) -> Prediction:
        """Prediction from expression `x` as it stands in the project; targets on the scale of the user's tables."""
        return self._on_table_scale(self(self.scale(x), dtype, attention=attention))

    def predict_start(self, x: Tensor) -> Prediction:
        """As `predict`, by the initial regression alone, without the Transformer."""
        assert self.start is not None
        return self._on_table_scale(self.read(self.in_latent(self.start(self.scale(x)))))

    def _on_table_scale(self, prediction: Prediction) -> Prediction:
        latent, scores, logit, activation = prediction
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


def empty_network(
    genes: int, layout: TargetLayout, settings: ModelSettings, zscore: bool, regression: RegressionShape | None = None
) -> PerturbFormer:
    """A network on the CPU whose weights are yet to be filled in; its buffers are those of an identity scaler."""
    # Constructing nn.Linear draws from the global generator; on the meta device it draws nothing.
    with torch.device("meta"):
        network = PerturbFormer(genes, layout, settings, zscore, regression)
    network = network.to_empty(device="cpu")
    for name, buffer in network.named_buffers():
        buffer.fill_(1.0 if name.endswith("std") else 0.0)
    return network
