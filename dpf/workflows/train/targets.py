"""Tables become tensors: targets with NaN where a value is missing, and the statistics that scale them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpf.tables.matrix import gene_moments


@dataclass(frozen=True)
class TargetArrays:
    """The targets of N wells on the user's scale, NaN where missing.

    Attributes
    ----------
    scores
        float64 array of shape (N, S).
    label, activation
        float64 arrays of shape (N,), all NaN when there is no such target.
    """

    scores: NDArray[np.float64]
    label: NDArray[np.float64]
    activation: NDArray[np.float64]


@dataclass(frozen=True)
class Scaling:
    """Mean and population standard deviation of the training wells, for genes (G,) and targets (S + 1,).

    Targets: the scores, then the activation. A gene or target that does not vary has standard deviation 0 for genes
    (the z-score's 1e-8 then keeps it at 0) and 1 for targets.
    """

    gene_mean: Tensor
    gene_std: Tensor
    target_mean: Tensor
    target_std: Tensor


def fit_scaling(
    expression: NDArray[np.float32],
    targets: TargetArrays,
    train: NDArray[np.bool_],
    *,
    scores: bool,
    activation: bool,
    center: NDArray[np.bool_] | None = None,
) -> Scaling:
    """Fit on the training wells alone; scores or the activation are left as they are (0, 1) unless asked for.

    The genes' mean is that of the training wells among `center`, shape (N,), where that is given.

    Sums are taken in float64: VST values sit far from 0, where float32 loses the variance.
    """
    gene_mean, gene_std = gene_moments(expression, train)
    if center is not None:
        gene_mean = gene_moments(expression, train & center)[0]
    columns = np.column_stack([targets.scores, targets.activation])[train]
    chosen = np.array([scores] * targets.scores.shape[1] + [activation])
    mean, std = np.zeros(len(chosen)), np.ones(len(chosen))
    for column in np.flatnonzero(chosen):
        observed = columns[:, column][~np.isnan(columns[:, column])]
        # Not "where std is 0": rounding leaves equal values such as 0.1, 0.1, 0.1 a deviation of 1e-17.
        if len(observed) and observed.min() < observed.max():
            mean[column], std[column] = observed.mean(), observed.std()
        elif len(observed):
            mean[column] = observed[0]
    return Scaling(*(torch.from_numpy(part.astype(np.float32)) for part in (gene_mean, gene_std, mean, std)))


def scaled_targets(targets: TargetArrays, scaling: Scaling) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (N, S), label (N,), activation (N,) as float32 tensors on the scale of the losses."""
    mean, std = scaling.target_mean.double().numpy(), scaling.target_std.double().numpy()
    scores = (targets.scores - mean[:-1]) / std[:-1]
    activation = (targets.activation - mean[-1]) / std[-1]
    return (
        torch.from_numpy(scores.astype(np.float32)),
        torch.from_numpy(targets.label.astype(np.float32)),
        torch.from_numpy(activation.astype(np.float32)),
    )
