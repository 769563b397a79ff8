"""The encoder: one token a gene, post-norm Transformer layers, exact attention without a G x G matrix.

    t[i, g] = x[i, g] · w + b + E[g]
    Z = LN(T + MHSA(T)),   H = LN(Z + FFN(Z))

The layer is `torch.nn.TransformerEncoderLayer(norm_first=False, activation="relu")`, with one difference while
training: dropout falls on both sublayers' outputs and inside the feed-forward, not on the attention weights.
Dropping attention weights would need the G x G matrix, which at 2,541 genes and batch 32 is 3.3 GB a layer; without it
`scaled_dot_product_attention` runs in memory linear in G on every device.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dpf.model.dropout import Noise, drop_and_add, drop_relu


class Attention(Protocol):
    """A program that computes softmax attention: `torch_attention`, or `dpf.model.native.attention`."""

    def __call__(self, qkv: Tensor) -> Tensor:
        """Of every gene over all genes: queries, keys and values (B, G, 3, H, K) to (B, G, H, K)."""

    def cross(self, q: Tensor, kv: Tensor) -> Tensor:
        """Of queries (B, Q, H, K) over the keys and values (B, P, 2, H, K) of others, to (B, Q, H, K)."""


class TorchAttention:
    """Attention as PyTorch ships it, on every device."""

    def __call__(self, qkv: Tensor) -> Tensor:
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, G, K): a view, each gene's heads stay side by side
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)  # (B, G, H, K)

    def cross(self, q: Tensor, kv: Tensor) -> Tensor:
        k, v = kv.permute(2, 0, 3, 1, 4)  # each (B, H, P, K)
        return F.scaled_dot_product_attention(q.transpose(1, 2), k, v).transpose(1, 2)  # (B, Q, H, K)


#: Attention as PyTorch ships it, on every device.
torch_attention: Attention = TorchAttention()


def affine(x: Tensor, layer: nn.Linear, gain: float = 1.0) -> Tensor:
    """`gain · layer(x)` in x's precision: the weights are kept in float32 and rounded on use."""
    weight: Tensor = layer.weight
    bias: Tensor = layer.bias
    if gain != 1.0:
        weight, bias = weight * gain, bias * gain
    return F.linear(x, weight.to(x.dtype), bias.to(x.dtype))


def normalise(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    """`layer(x)` in x's precision; the mean and the variance are taken in float32 inside the kernel."""
    if x.dtype == torch.bfloat16 and x.device.type == "cpu":
        found: Tensor = _Bf16LayerNorm.apply(x, layer.weight, layer.bias, layer.eps)  # type: ignore[no-untyped-call]
        return found
    return F.layer_norm(x, layer.normalized_shape, layer.weight.to(x.dtype), layer.bias.to(x.dtype), layer.eps)


class _Bf16LayerNorm(torch.autograd.Function):
    """Layer norm of bf16 rows on the CPU, with float32 sums where PyTorch's kernel has bf16 ones.

    That kernel adds up the gradients of weight and bias row by row in bf16, where a sum stops growing at 256 times its
    terms: over eight wells of 2,541 genes, 97% of the bias's gradient was missing.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        out, mean, scale = torch.native_layer_norm(x, x.shape[-1:], weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, mean, scale)
        ctx.eps = eps
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight, bias, mean, scale = ctx.saved_tensors
        grad, shape = grads[0].contiguous(), x.shape[-1:]
        grad_x, _, _ = torch.ops.aten.native_layer_norm_backward(
            grad, x, shape, mean, scale, weight, bias, [True, False, False]
        )
        if not ctx.needs_input_grad[1]:
            return grad_x, None, None, None
        normal = F.layer_norm(x, shape, eps=ctx.eps)
        rows = list(range(x.ndim - 1))
        grad_weight = normal.mul_(grad).sum(rows, dtype=torch.float32)
        return grad_x, grad_weight, grad.sum(rows, dtype=torch.float32), None


class GeneTokens(nn.Module):
    """Token of gene g in well i: `x[i, g] · w + b + E[g]` (seed equation 1)."""

    def __init__(self, genes: int, width: int) -> None:
        super().__init__()
        self.value = nn.Linear(1, width)
        self.gene = nn.Parameter(torch.empty(genes, width))

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Tokens of shape (B, G, D) in `dtype` of the float32 expression `x` of shape (B, G)."""
        slope, base = self.value.weight[:, 0], self.gene + self.value.bias  # (D,), (G, D)
        return torch.addcmul(base.to(dtype), x.to(dtype)[..., None], slope.to(dtype))


class EncoderLayer(nn.Module):
    """Multi-head self-attention and feed-forward, each with residual, then layer norm."""

    def __init__(self, width: int, heads: int, feed_forward: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward_in = nn.Linear(width, feed_forward)
        self.feed_forward_out = nn.Linear(feed_forward, width)
        self.feed_forward_norm = nn.LayerNorm(width)

    def split(self, projected: Tensor, parts: int) -> Tensor:
        """Projections side by side, (B, G, parts · D), as heads: (B, G, parts, H, K), without `parts` where it is 1."""
        shape = (parts, self.heads) if parts > 1 else (self.heads,)
        return projected.view(*projected.shape[:2], *shape, -1)

    def finish(self, tokens: Tensor, heads: Tensor, noise: Noise | None) -> Tensor:
        """The layer after attention: heads (B, G, H, K) joined, residual and norm; feed-forward, residual and norm."""
        gain = noise.gain if noise else 1.0
        mixed = affine(heads.flatten(2), self.attention_out, gain)  # (B, G, D)
        tokens = normalise(drop_and_add(tokens, mixed, noise), self.attention_norm)
        hidden = drop_relu(affine(tokens, self.feed_forward_in, gain), noise)  # (B, G, F)
        out = affine(hidden, self.feed_forward_out, gain)  # (B, G, D)
        return normalise(drop_and_add(tokens, out, noise), self.feed_forward_norm)

    def forward(self, tokens: Tensor, noise: Noise | None = None, attention: Attention = torch_attention) -> Tensor:
        """(B, G, D) to (B, G, D); dropout is on exactly when `noise` is given."""
        heads = attention(self.split(affine(tokens, self.qkv), 3))  # (B, G, H, K)
        return self.finish(tokens, heads, noise)


class Encoder(nn.Module):
    """Expression of a well to one vector: tokens, layers, mean over genes."""

    def __init__(self, genes: int, width: int, heads: int, layers: int, feed_forward: int) -> None:
        super().__init__()
        self.tokens = GeneTokens(genes, width)
        self.layers = nn.ModuleList(EncoderLayer(width, heads, feed_forward) for _ in range(layers))

    def forward(
        self,
        x: Tensor,
        dtype: torch.dtype = torch.float32,
        noise: Noise | None = None,
        attention: Attention = torch_attention,
    ) -> Tensor:
        """Float32 vectors of shape (B, D) of the expression `x` (B, G), computed in `dtype` in between."""
        tokens: Tensor = self.tokens(x, dtype)
        for layer in self.layers:
            tokens = layer(tokens, noise, attention)
        return tokens.mean(1, dtype=torch.float32)


def reset_parameters(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight as PyTorch's own layers do, from one explicit generator.

    Linear layers: uniform in ±1/sqrt(fan in), weights and biases; the joint query/key/value projection: Xavier
    uniform, bias 0, and the attention's output bias 0, as `nn.MultiheadAttention`; layer norms: 1 and 0; gene
    embeddings: standard normal, as `nn.Embedding`; inducing points (`dpf.model.induced`): the same, so that they are on
    the scale of the tokens that they meet.
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear):
            bound = 1.0 / math.sqrt(part.in_features)
            nn.init.uniform_(part.weight, -bound, bound, generator=generator)
            if part.bias is not None:
                nn.init.uniform_(part.bias, -bound, bound, generator=generator)
            if name.endswith("qkv"):
                nn.init.xavier_uniform_(part.weight, generator=generator)
            if name.endswith(("qkv", "attention_out")):
                nn.init.zeros_(part.bias)
        elif isinstance(part, GeneTokens):
            nn.init.normal_(part.gene, generator=generator)
        elif isinstance(points := getattr(part, "points", None), nn.Parameter):
            nn.init.normal_(points, generator=generator)
