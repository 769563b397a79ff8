"""Where a network with a linear path begins: as the ridge regression of its training wells.

Published deep models of perturbation lost to linear baselines once somebody looked (Ahlmann-Eltze et al., Nature
Methods 2025). A network that *starts* as the best of them, with the Transformer's part of the latent at zero, can only
be led away from it by what the validation wells reward.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpf.model.losses import TargetBatch
from dpf.model.network import PerturbFormer

#: Penalties as multiples of the mean eigenvalue of the wells x wells Gram matrix.
_PENALTIES = torch.logspace(-3, 3, 25, dtype=torch.float64)
_FOLDS = 5
#: A ridge on -1/+1 gives values near them; the label's head stretches these to usable logits.
_LOGIT_SCALE = 2.0


def start_from_ridge(network: PerturbFormer, expression: Tensor, targets: TargetBatch, groups: Tensor) -> None:
    """Set the linear path and the heads so that the network predicts what a ridge regression does.

    Latent dimension t is the ridge prediction of target t (scores, then label as -1/+1, then activation); its head
    reads it off with weight 1; the Transformer's own contribution to the latent starts at zero.

    Parameters
    ----------
    network
        On the CPU, with `linear`, its other weights freshly drawn.
    expression, targets
        The member's training wells: scaled expression (n, G) and scaled targets.
    groups
        (n,) whole numbers: wells of one group (replicates) stay together when the penalty is chosen.
    """
    assert network.linear is not None
    x = expression.double()
    columns = [targets.scores[:, index] for index in range(targets.scores.shape[1])]
    heads = [(network.scores, index, 1.0) for index in range(len(columns))]
    if network.label is not None:
        columns.append(2.0 * targets.label - 1.0)
        heads.append((network.label, 0, _LOGIT_SCALE))
    if network.activation is not None:
        columns.append(targets.activation)
        heads.append((network.activation, 0, 1.0))
    folds = group_folds(groups)
    with torch.no_grad():
        network.linear.weight.zero_()
        network.latent_out.weight.zero_()
        network.latent_out.bias.zero_()
        for dimension, (column, (head, row, stretch)) in enumerate(zip(columns, heads, strict=True)):
            assert head is not None
            weights, intercept = ridge(x, column.double(), folds)
            network.linear.weight[dimension] = weights.float()
            # Other targets' dimensions start without influence; the free ones keep their random weights, so that
            # the Transformer has somewhere to write.
            head.weight[row, : len(columns)] = 0.0
            head.weight[row, dimension] = stretch
            head.bias[row] = stretch * intercept


def group_folds(groups: Tensor) -> Tensor:
    """Deal groups into 5 folds in the order of their first well; (n,) whole numbers."""
    _, index = torch.unique(groups, return_inverse=True)
    folds: Tensor = index % _FOLDS
    return folds


def ridge(x: Tensor, y: Tensor, folds: Tensor) -> tuple[Tensor, float]:
    """Ridge regression of y (n,), NaN where missing, on x (n, G): weights (G,) and intercept, in float64.

    Minimises ``|y - Xw - b|² + penalty·|w|²``, solved through the n x n Gram matrix (genes outnumber wells). The
    penalty is the one of 25, from 0.001 to 1,000 times the mean eigenvalue, with the least squared error in 5-fold
    cross-validation over whole groups.
    """
    observed = ~y.isnan()
    x, y, folds = x[observed], y[observed], folds[observed]
    errors = torch.zeros(len(_PENALTIES), dtype=torch.float64)
    for fold in torch.unique(folds):
        out = folds == fold
        if out.all():
            continue  # one group: nothing to validate on, the middle penalty will do
        weights, intercepts = _path(x[~out], y[~out])
        errors += (x[out] @ weights + intercepts - y[out, None]).square().sum(0)
    best = int(errors.argmin()) if errors.any() else len(_PENALTIES) // 2
    weights, intercepts = _path(x, y)
    return weights[:, best], float(intercepts[best])


def _path(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (G, P) and intercepts (P,) for every penalty."""
    center, level = x.mean(0), y.mean()
    centred = x - center
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    values = values.clamp(min=0)
    penalties = _PENALTIES * values.mean().clamp(min=1e-12)
    dual = vectors @ ((vectors.T @ (y - level))[:, None] / (values[:, None] + penalties))  # (n, P)
    weights = centred.T @ dual  # (G, P)
    return weights, level - center @ weights
