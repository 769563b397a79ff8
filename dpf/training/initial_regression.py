"""The initial regression of a network: of each target, fitted before training; the Transformer adds to it.

Published deep models of perturbation lost to linear baselines once somebody looked (Ahlmann-Eltze et al., Nature
Methods 2025). A network that *begins* as the best of them only departs from it where held-back wells reward that.

The wells a regression was fitted to have smaller residuals than any other well will have, so a Transformer trained on
these would learn from what is not left to learn. While it trains, each of the member's wells therefore has the value
that a fit without the well's own compound gives it (cross-fitting; Chernozhukov et al. 2018).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from dpf.model.initial_regression import InitialRegression
from dpf.model.losses import TargetBatch
from dpf.model.network import PerturbFormer
from dpf.regression.linear_models import platt
from dpf.regression.stacking import Stacked, stack
from dpf.splits.grouping import Index
from dpf.training.data import ScaledWells

#: Each holds some products of wells in memory.
_FITS_AT_A_TIME = 8
#: It is fitted to no more wells than this, whole groups at random: a few for each gene are enough, and all of a large
#: screen would not fit into memory.
MOST_WELLS = 20_000


def fit_initial_regression(
    network: PerturbFormer,
    expression: Tensor | ScaledWells,
    targets: TargetBatch,
    groups: Index,
    learned: Index,
    seed: int,
) -> tuple[Tensor, tuple[str, ...]]:
    """Fit the initial regression and set the heads that read it; the Transformer's own contribution begins at zero.

    Latent dimension t is the regression of target t (scores, then label as −1/+1, then activation); its head reads it
    off with weight 1, the label's with the slope and the intercept that make a probability of it (Platt 1999).

    Parameters
    ----------
    network
        On the CPU, its other weights freshly drawn.
    expression, targets
        All wells: scaled expression (N, G) and scaled targets.
    groups
        (N,): wells of one group (replicates) stay together in every fold.
    learned
        All wells that the member may learn from or choose by: those that the regression is fitted to, or of more than
        20,000 so many of them.
    seed
        Deals the folds.

    Returns
    -------
    tuple
        The regression's part of the latent, (N, L) float32, for the wells in `learned` by fits without their own
        groups; and what the regression of each target is made of.
    """
    columns, heads = _columns(network, targets)
    fitted = _wells_to_fit(learned, groups, seed)
    found = stack(
        _rows(expression, fitted).double().numpy(), columns[fitted], groups[fitted], seed,
        only_ridge=network.settings.start == "ridge", threads=min(torch.get_num_threads(), _FITS_AT_A_TIME),
    )  # fmt: skip
    network.start = InitialRegression.from_stacked(found)
    with torch.no_grad():
        network.latent_out.weight.zero_()
        network.latent_out.bias.zero_()
        for dimension, (head, row) in enumerate(heads):
            slope, intercept = 1.0, 0.0
            if head is network.label:
                slope, intercept = _probable(found, columns[fitted, dimension], dimension)
            # Other targets' dimensions begin without influence; the free ones keep their random weights, so that the
            # Transformer has somewhere to write.
            head.weight[row, : len(heads)] = 0.0
            head.weight[row, dimension] = slope
            head.bias[row] = intercept
        parts = np.split(np.arange(len(groups)), range(MOST_WELLS, len(groups), MOST_WELLS))
        values = torch.cat([network.start(_rows(expression, part)) for part in parts])  # (N, T)
        values[torch.from_numpy(fitted)] = torch.from_numpy(found.out_of_fold).to(torch.float32)
        return network.in_latent(values), found.parts


def _wells_to_fit(learned: Index, groups: Index, seed: int) -> Index:
    """The wells of `learned`, or of more than `MOST_WELLS` those of whole groups at random, in order.

    The fit has then not seen the groups of the others, so that its values for these are out of fold as well.
    """
    if len(learned) <= MOST_WELLS:
        return learned
    _, place, size = np.unique(groups[learned], return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(size.size)
    used = np.zeros(size.size, dtype=bool)
    used[order] = np.cumsum(size[order]) <= MOST_WELLS
    return learned[used[place]]


def _rows(expression: Tensor | ScaledWells, wells: Index) -> Tensor:
    return expression[torch.from_numpy(wells).to(expression.device)].cpu()


def _columns(network: PerturbFormer, targets: TargetBatch) -> tuple[np.ndarray, list[tuple[nn.Linear, int]]]:
    """The regressions' targets, float64 (N, T), and for each the head and its row that read it."""
    columns = [targets.scores]
    heads = [(network.scores, index) for index in range(targets.scores.shape[1]) if network.scores is not None]
    if network.label is not None:
        columns.append(2.0 * targets.label[:, None] - 1.0)
        heads.append((network.label, 0))
    if network.activation is not None:
        columns.append(targets.activation[:, None])
        heads.append((network.activation, 0))
    return torch.cat(columns, 1).double().numpy(), heads


def _probable(found: Stacked, sign: np.ndarray, column: int) -> tuple[float, float]:
    """Slope and intercept that turn the regression of the label into a logit, by its out-of-fold values."""
    known = ~np.isnan(sign)
    label = (sign[known] + 1.0) / 2.0
    if not len(label):
        return 1.0, 0.0
    return platt(found.out_of_fold[known, column], label)
