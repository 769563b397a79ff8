"""Masked-gene pretraining: the encoder learns what a gene's expression says of another's before it sees any target.

Of every well some genes are hidden and predicted from the others (BERT, Devlin et al. 2019; for expression scGPT, Cui
et al. 2024, and Geneformer, Theodoris et al. 2023). No target is needed, so wells without one teach too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dpf.model.dropout import Noise
from dpf.model.network import PerturbFormer
from dpf.training.compute.device import Compute, gradient_scaler, memory_errors
from dpf.training.data import ScaledWells
from dpf.training.schedule import learning_rate


def embed_loadings(network: PerturbFormer, expression: Tensor) -> None:
    """Set E[g] to gene g's loadings on the leading principal components of the training wells.

    With ``X − mean = U S Vᵀ`` of the scaled expression (n, G), ``E = V S`` of the first D components, scaled to the
    mean square of 1 that random embeddings have: genes that rise and fall together begin with similar embeddings. Where
    there are fewer components than D, the rest stays random, at the scale of the last one.

    Parameters
    ----------
    network
        On the CPU, its weights freshly drawn.
    expression
        Scaled, of the member's training wells alone, float32 (n, G).
    """
    x = expression.double()
    x = x - x.mean(0)
    _, values, axes = torch.linalg.svd(x, full_matrices=False)
    kept = min(network.settings.width, int((values > values[0] * 1e-9).sum()))
    if kept == 0:
        return  # no gene varies
    loadings = (values[:kept, None] * axes[:kept]).T  # (G, kept): V S, largest first
    with torch.no_grad():
        gene = network.encoder.tokens.gene.double()
        gene[:, kept:] *= loadings[:, -1].square().mean().sqrt()
        gene[:, :kept] = loadings
        network.encoder.tokens.gene.copy_((gene / gene.square().mean().sqrt()).float())


#: The share of a well's genes that is hidden.
HIDDEN = 0.15
_RATE = 1e-3
# Keeps the draws of pretraining apart from those of training, which begin at epoch 0.
_EPOCHS_FROM = 1 << 20


class MaskedGenes(nn.Module):
    """What pretraining needs beside the encoder: the token of a hidden value, and a reader of tokens.

    A hidden gene's token is ``m + b + E[g]`` in the place of ``x·w + b + E[g]``; its expression is predicted as
    ``u·H[g] + E[g]·A h + c[g]`` from its token H[g] after the last layer and from the mean h of all tokens, which is
    what the latent is made from: so h has to say of a well which genes go together in it.
    """

    def __init__(self, genes: int, width: int) -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.zeros(width))
        self.read = nn.Parameter(torch.zeros(width))
        self.decode = nn.Parameter(torch.zeros(width, width))
        self.level = nn.Parameter(torch.zeros(genes))

    def forward(self, network: PerturbFormer, x: Tensor, hidden: Tensor, compute: Compute, noise: Noise) -> Tensor:
        """Predicted expression (B, G), float32, of wells `x` (B, G) of which `hidden` (B, G, bool) is not seen."""
        tokens: Tensor = network.encoder.tokens(x.masked_fill(hidden, 0.0), compute.dtype)
        tokens = tokens + hidden[..., None].to(compute.dtype) * self.mask.to(compute.dtype)
        for layer in network.encoder.layers:
            tokens = layer(tokens, noise, compute.attention)
        own: Tensor = (tokens @ self.read.to(compute.dtype)).float()  # (B, G)
        shared = tokens.mean(1, dtype=torch.float32) @ self.decode @ network.encoder.tokens.gene.T  # (B, G)
        return own + shared + self.level


def pretrain(
    network: PerturbFormer,
    expression: Tensor | ScaledWells,
    wells: Tensor,
    epochs: int,
    batch_size: int,
    compute: Compute,
    key: tuple[int, int],
    report: Callable[[int, float], None] | None = None,
) -> None:
    """Train the network's encoder to fill in hidden genes; everything else of the network stays as it is.

    Parameters
    ----------
    network
        On the device.
    expression
        Scaled, float32 (N, G), on the device.
    wells
        Indices of the wells to learn from: the member's training wells, with or without targets. Never others: a
        held-out well has to be one that the member has not seen in any way.
    key
        Names the run, as in training: order, hidden genes and dropout are functions of it.
    report
        Called after each epoch with its number and its loss: the mean squared error of hidden genes, of which the
        genes' own variance is about 1.
    """
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([*key, _EPOCHS_FROM]).generate_state(1)[0]))
    head = MaskedGenes(expression.shape[1], network.settings.width).to(compute.device)
    bound = network.settings.width**-0.5
    with torch.no_grad():
        for weight in (head.mask, head.read, head.decode):
            weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=generator))
    weights = [*network.encoder.parameters(), *head.parameters()]
    fused = compute.device.type in ("cpu", "cuda")
    optimizer = torch.optim.AdamW(weights, lr=_RATE, weight_decay=0.01, fused=fused)
    scaler = gradient_scaler(compute)
    network.train()
    size = compute.wells_at_once(expression.shape[1])
    for epoch in range(epochs):
        rng = np.random.default_rng([*key, _EPOCHS_FROM + epoch])
        batches = wells[torch.from_numpy(rng.permutation(len(wells))).to(wells.device)].split(batch_size)
        # Of the whole epoch at once: a copy to a GPU waits for all that it has still to compute.
        drawn = _draw_hidden(rng, [len(batch) for batch in batches], expression.shape[1])
        hidden_genes = torch.from_numpy(drawn).to(compute.device).split(batch_size)
        counts = [int(part.sum()) for part in np.split(drawn, range(batch_size, len(drawn), batch_size))]
        total = torch.zeros((), device=compute.device)
        for step, (batch, hidden, observed) in enumerate(zip(batches, hidden_genes, counts, strict=True)):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(_RATE, "one-cycle", 0.0, (epoch + step / len(batches)) / epochs)
            optimizer.zero_grad(set_to_none=True)
            for part, (some, out) in enumerate(zip(batch.split(size), hidden.split(size), strict=True)):
                noise = Noise(network.settings.dropout, (*key, _EPOCHS_FROM + epoch, step, part), compute.device)
                with memory_errors(compute, expression.shape[1]):
                    x = expression[some]
                    # Not indexed by the hidden genes: a GPU would have to be asked how many there are.
                    error = torch.where(out, head(network, x, out, compute, noise) - x, 0.0).square().sum()
                    scaler.scale(error / observed).backward()
                total += error.detach()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            scaler.step(optimizer)
            scaler.update()
        if report:
            report(epoch + 1, float(total) / sum(counts))


def _draw_hidden(rng: np.random.Generator, wells: list[int], genes: int) -> NDArray[np.bool_]:
    """Which genes are hidden in an epoch's wells, (sum of `wells`, genes); in every well at least one."""
    drawn = np.empty((sum(wells), genes), dtype=bool)
    start = 0
    for count in wells:  # a batch at a time: the numbers that are drawn take eight times what is kept
        part = drawn[start : start + count]
        part[:] = rng.random(part.shape) < HIDDEN
        start += count
    drawn[:, 0] |= ~drawn.any(1)
    return drawn
