"""Gene embeddings that begin as what the training wells say of which genes go together."""

from __future__ import annotations

import torch
from torch import Tensor

from dpf.model.network import PerturbFormer


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
