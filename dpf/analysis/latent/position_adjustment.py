"""Adjusting a latent for plate, row and column, whose effects are estimated on wells of weak compounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: One well's worth of shrinkage for each plate, row and column, as in `position_prediction`.
PENALTY = 1.0
#: Fits, each on wells chosen after the last; the choice hardly changes after the second.
ROUNDS = 3


def one_hot(factors: Sequence[Codes]) -> Floats:
    """Levels of several factors as columns of 0 and 1, shape (N, levels); a code of −1 (not known) has none."""
    columns = [(codes[:, None] == np.unique(codes[codes >= 0])[None, :]).astype(np.float64) for codes in factors]
    return np.concatenate(columns, axis=1)


def adjust_latent(latent: Floats, design: Floats, group: Codes, is_control: Mask, fit: Mask) -> Floats:
    r"""Latents (N, L) less what the covariates explain: :math:`z - (x - \bar x) B`, B a ridge.

    B is fitted on the control wells of `fit` and on the wells of those compounds in `fit` that do little: the nearer
    half of them by the mean distance from the controls' mean, chosen anew after each of three fits, the first of which
    takes all wells of `fit`. The half is chosen *after* adjustment, so that a column in which everything lies far out
    keeps its wells.

    A compound that is not in `fit` has no part in its own adjustment: with `fit` the training wells of a member, what
    a held-out compound does is never taken off, however its replicates are placed. What cannot be repaired: a factor
    that coincides with a class of active compounds takes part of their effect with it, and a level with few wells of
    `fit` is shrunk towards no effect.

    Parameters
    ----------
    latent
        (N, L) of one member.
    design
        (N, levels), from `one_hot`.
    group
        (N,) compound codes, −1 for controls.
    is_control, fit
        (N,) bool; `fit` holds at least one control.
    """
    chosen = fit.copy()
    adjusted = latent
    for _ in range(ROUNDS):
        center, slope = _ridge(design[chosen], latent[chosen])
        adjusted = latent - (design - center) @ slope
        chosen = fit & (is_control | _low_effect(adjusted, group, is_control, fit))
    return adjusted


def _ridge(design: Floats, latent: Floats) -> tuple[Floats, Floats]:
    center = design.mean(axis=0)
    x, y = design - center, latent - latent.mean(axis=0)
    slope: Floats = np.linalg.solve(x.T @ x + PENALTY * np.eye(x.shape[1]), x.T @ y)
    return center, slope


def _low_effect(latent: Floats, group: Codes, is_control: Mask, fit: Mask) -> Mask:
    """(N,) bool: the wells of the half of the compounds of `fit` that lie nearest to its controls."""
    distance = np.linalg.norm(latent - latent[fit & is_control].mean(axis=0), axis=1)
    rows = np.flatnonzero(fit & (group >= 0))
    if not len(rows):
        return np.zeros(len(group), dtype=bool)
    size = int(group.max()) + 1
    counts = np.bincount(group[rows], minlength=size)
    mean = np.full(size, np.inf)
    np.divide(np.bincount(group[rows], weights=distance[rows], minlength=size), counts, out=mean, where=counts > 0)
    near = mean <= np.median(mean[counts > 0])
    return np.asarray((group >= 0) & near[group])
