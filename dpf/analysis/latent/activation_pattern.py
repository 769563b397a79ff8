"""The direction in which wells move when their activation changes, and how near to it a compound moved."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.latent.distances import activation_position
from dpf.errors import DataError

Floats = NDArray[np.float64]

#: A spread below this share of the latent's size is rounding error.
_ROUNDING = 1e-12


class NoPatternError(DataError):
    """Activation is the same in every well."""


def activation_pattern(latent: ArrayLike, axis: ArrayLike) -> Floats:
    """How the latent differs, on average, per unit of activation: p = cov(z, a)/var(a) over the wells, (L,).

    Here a = z·w_a/‖w_a‖ is the place on the activation axis. w_a is a *filter*: it reads activation out of a latent,
    and needs no weight on a dimension that is redundant with another. The *pattern* is the direction that wells move in
    when activation changes: cov(z)·w_a but for its length. The two are parallel only where the latent's dimensions have
    equal variance and no correlation, unlike those of an initial regression (one a target). p moves with the latent:
    for z' = Az, read by the filter A⁻ᵀw, it has the direction of Ap, whatever the invertible A; and w_a·p = ‖w_a‖.

    Parameters
    ----------
    latent
        (N, L) latents of one member, all wells (over controls alone, the pattern would be that of their noise).
    axis
        (L,) weight w_a of the linear activation head.

    Raises
    ------
    DataError
        The axis has length 0 or is not finite.
    NoPatternError
        Activation is the same in every well, or there is one well only.

    References
    ----------
    Haufe et al., On the interpretation of weight vectors of linear models in multivariate neuroimaging, NeuroImage
    2014, 87:96-110, theorem 1.
    """
    z = np.asarray(latent, dtype=np.float64)
    centred = z - z.mean(axis=0) if len(z) else z
    a = activation_position(centred, axis)
    squares = float(a @ a)
    if not np.sqrt(squares) > _ROUNDING * np.linalg.norm(z):
        raise NoPatternError(
            "activation does not vary: no direction of the latent space goes with it",
            where="the activation pattern",
            found=f"{len(z):,} wells whose places on the activation axis are equal",
            expected="wells that differ in activation",
            hint="dpf evaluate shows whether the model learnt anything",
        )
    pattern: Floats = a @ centred / squares  # (L,)
    return pattern


def pattern_cosine(
    deviation: ArrayLike, pattern: ArrayLike, used: ArrayLike, group: ArrayLike, n_groups: int
) -> Floats:
    """Cosine between a compound's displacement and the activation pattern, (C,) in [−1, 1].

    1: the compound moved the cells as they move when activation rises; −1: as when it falls; 0: across. It is taken of
    the *mean* displacement of the compound's wells, member by member (bases differ between members), and averaged over
    members, weighted by how many of the compound's wells each is used for. NaN where no mean has a direction.

    Parameters
    ----------
    deviation
        (M, N, L) deviations z − μ from the control centre.
    pattern
        (M, L): `activation_pattern` of each member.
    used
        (M, N) bool: the members that each well is predicted by.
    group, n_groups
        (N,) compound codes 0 ... C − 1, −1 for controls; C.
    """
    d, p = np.asarray(deviation, dtype=np.float64), np.asarray(pattern, dtype=np.float64)
    codes, mask = np.asarray(group, dtype=np.int64), np.asarray(used, dtype=bool)
    if d.shape[:2] != mask.shape or p.shape != (d.shape[0], d.shape[2]) or codes.shape != d.shape[1:2]:
        raise ValueError(f"deviation {d.shape}, pattern {p.shape}, used {mask.shape}, group {codes.shape} do not fit")
    sums = np.zeros((2, n_groups))
    for member, direction, own in zip(d, p, mask, strict=True):
        rows = np.flatnonzero(own & (codes >= 0))
        count = np.bincount(codes[rows], minlength=n_groups).astype(np.float64)
        total = np.zeros((n_groups, d.shape[2]))
        np.add.at(total, codes[rows], member[rows])
        length = np.linalg.norm(total, axis=1)  # of n times the mean, whose direction is the same
        # The sum of opposite wells is a rounding error, not a direction.
        size = np.bincount(codes[rows], weights=np.linalg.norm(member[rows], axis=1), minlength=n_groups)
        known = length > _ROUNDING * size
        unit = direction / np.linalg.norm(direction)
        sums[0, known] += count[known] * (total[known] @ unit / length[known])
        sums[1, known] += count[known]
    cosine = np.full(n_groups, np.nan)
    np.divide(sums[0], sums[1], out=cosine, where=sums[1] > 0)
    result: Floats = np.clip(cosine, -1.0, 1.0)
    return result
