"""Which genes a prediction rests on: Gradient x Input, summed over wells without keeping a wells x genes matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpf.model.encoder import Attention, torch_attention
from dpf.model.network import PerturbFormer, Prediction
from dpf.tables.storage import let_go

Target = Callable[[Prediction], Tensor]


@dataclass(frozen=True)
class GradientTimesInput:
    """Attributions of one member over N wells, float64 arrays of shape (G,).

    Attributes
    ----------
    importance
        Mean over wells of ``|x · df/dx|``, x as the network sees it (after its z-score, where it has one): the seed's
        definition. It takes 0 as the baseline: with z-score the mean of the training wells, without it an expression of
        0, which is arbitrary for log values.
    signed
        Mean of ``x · df/dx``: above 0 where the gene's expression pushes f up.
    control_importance, control_signed
        The same with ``(x - mean of the controls) · df/dx``: the baseline is the control wells, and the scale of x
        does not matter.
    gradient
        Mean of ``df/dx``: above 0 where *more* of the gene pushes f up. This is the gene's direction: `signed` is not,
        because it averages to about 0 over wells whose x is centred, whatever the gene does.
    """

    importance: NDArray[np.float64]
    signed: NDArray[np.float64]
    control_importance: NDArray[np.float64]
    control_signed: NDArray[np.float64]
    gradient: NDArray[np.float64]


def gradient_times_input(
    network: PerturbFormer,
    expression: NDArray[np.float32],
    controls: NDArray[np.bool_],
    target: Target,
    *,
    device: torch.device,
    wells_at_once: int,
    attention: Attention = torch_attention,
    progress: Callable[[int], None] | None = None,
) -> GradientTimesInput:
    """Gradient x Input of `target`, a function of the prediction with one value a well, over N wells.

    Gradients are taken in float32 whatever precision the model was trained in, and summed in float64.

    Parameters
    ----------
    expression
        (N, G) in the model's gene order, as it stands in the project.
    controls
        (N,) bool: whose mean is the second baseline.
    target
        What to explain, on `PerturbFormer.forward`'s prediction (targets standardised).

    References
    ----------
    Shrikumar et al., Not just a black box, arXiv:1605.01713 (Gradient x Input).
    """
    network = network.to(device).eval()
    there = summing_device(device)
    sums = torch.zeros(5, expression.shape[1], dtype=torch.float64, device=there)
    scaled_controls = network.scale(torch.from_numpy(expression[controls]).to(device)).to(there)
    baseline = scaled_controls.mean(0, dtype=torch.float64).to(torch.float32)  # (G,)
    with _only_the_input_has_gradients(network):
        for start in range(0, len(expression), wells_at_once):
            rows = torch.from_numpy(expression[start : start + wells_at_once]).to(device)
            x = network.scale(rows).requires_grad_()  # (B, G)
            # Wells do not see each other, so the gradient of the sum holds every well's own gradient.
            (gradient,) = torch.autograd.grad(target(network(x, attention=attention)).sum(), x)  # (B, G)
            x, gradient = x.detach().to(there), gradient.to(there)
            for index, product in ((0, x * gradient), (2, (x - baseline) * gradient)):
                sums[index] += product.abs().sum(0, dtype=torch.float64)
                sums[index + 1] += product.sum(0, dtype=torch.float64)
            sums[4] += gradient.sum(0, dtype=torch.float64)
            let_go(expression)
            if progress:
                progress(len(rows))
    return GradientTimesInput(*(sums / len(expression)).cpu().numpy())


def summing_device(device: torch.device) -> torch.device:
    """Where float64 sums over what `device` computes are taken: there, or on the CPU if it has no float64 (mps)."""
    return torch.device("cpu") if device.type == "mps" else device


@contextmanager
def _only_the_input_has_gradients(network: PerturbFormer) -> Iterator[None]:
    trainable = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in trainable:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trainable:
            weight.requires_grad_(True)
