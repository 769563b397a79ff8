"""Attention that costs linear time in genes: induced set attention. A different model, not another way to compute it.

Each layer is the ISAB of the Set Transformer (Lee et al., ICML 2019, arXiv:1810.00825, section 3.1, equations 6-10).
With m learned points I of the layer, X the gene tokens, and MAB the post-norm Transformer layer whose keys and values
are another's tokens,

    MAB(X, Y) = LN(Z + FFN(Z)),   Z = LN(X + MHA(X, Y, Y))
    H = MAB(I, X),   out = MAB(X, H)

so the genes reach each other through m points: 2 m G scores a head instead of G². Both MABs have layer norms, a ReLU
feed-forward of the same width and, while training, dropout on both sublayers' outputs and inside the feed-forward, as
the exact layer has. As in the paper's equations (and unlike the authors' code, whose residual is the projected query)
the residual is X itself. Points are drawn from a standard normal law like the gene embeddings, so that they are as far
apart as the tokens; the authors draw them from a uniform one that shrinks with m.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpf.config.settings import ModelSettings
from dpf.model.dropout import Noise
from dpf.model.encoder import Attention, Encoder, EncoderLayer, torch_attention


class InducedLayer(EncoderLayer):
    """The points attend to the genes, then the genes to the points.

    Two exact layers whose keys and values change places. This one's `qkv` makes queries of the genes, for
    ``out = MAB(X, H)``, and keys and values of the genes, for ``H = MAB(I, X)``; `point_layer.qkv` makes queries of the
    points, and keys and values of what they have become.
    """

    def __init__(self, width: int, heads: int, feed_forward: int, points: int) -> None:
        super().__init__(width, heads, feed_forward)
        self.points = nn.Parameter(torch.empty(points, width))
        self.point_layer = EncoderLayer(width, heads, feed_forward)

    def forward(self, tokens: Tensor, noise: Noise | None = None, attention: Attention = torch_attention) -> Tensor:
        """(B, G, D) to (B, G, D); dropout is on exactly when `noise` is given."""
        width, gather = tokens.shape[2], self.point_layer
        queries, others = slice(width), slice(width, None)
        points = self.points.to(tokens.dtype).expand(len(tokens), -1, -1)  # (B, P, D)
        asking = gather.split(_project(points, gather.qkv, queries), 1)  # (B, P, H, K)
        asked = self.split(_project(tokens, self.qkv, others), 2)  # (B, G, 2, H, K)
        points = gather.finish(points, attention.cross(asking, asked), noise)  # (B, P, D)
        asking = self.split(_project(tokens, self.qkv, queries), 1)  # (B, G, H, K)
        asked = gather.split(_project(points, gather.qkv, others), 2)  # (B, P, 2, H, K)
        return self.finish(tokens, attention.cross(asking, asked), noise)


def _project(x: Tensor, layer: nn.Linear, rows: slice) -> Tensor:
    """Some of the outputs of `layer(x)`, in x's precision."""
    return F.linear(x, layer.weight[rows].to(x.dtype), layer.bias[rows].to(x.dtype))


class InducedEncoder(Encoder):
    """The encoder with induced instead of exact attention."""

    def __init__(self, genes: int, width: int, heads: int, layers: int, feed_forward: int, points: int) -> None:
        super().__init__(genes, width, heads, 0, feed_forward)
        self.layers = nn.ModuleList(InducedLayer(width, heads, feed_forward, points) for _ in range(layers))


def build_encoder(genes: int, settings: ModelSettings) -> Encoder:
    """The encoder that `settings.attention` names."""
    sizes = (genes, settings.width, settings.heads, settings.layers, settings.feed_forward)
    return InducedEncoder(*sizes, settings.induced_points) if settings.attention == "induced" else Encoder(*sizes)
