"""Where a well lies in the latent space, seen from the controls: distances, norm, place on the activation axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.latent.centers import centered, checked_latent, control_centers
from dpf.analysis.latent.mahalanobis import mahalanobis_distance
from dpf.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LatentDistances:
    """What `latent_distances` returns: one value a well, all float64 of shape (N,) but the first.

    Attributes
    ----------
    deviation
        (N, L): z − μ, μ the centre that the well is compared with.
    d_euc
        ‖z − μ‖, in latent units.
    d_cos
        1 − z·μ/(‖z‖‖μ‖), between 0 (same direction) and 2. NaN where ‖z‖ or ‖μ‖ is 0: a zero vector has no direction.
    d_maha
        √((z − μ)ᵀ Σ⁻¹ (z − μ)), in standard deviations of the controls. NaN for a control well where the other
        controls do not suffice to estimate Σ (one of two controls, or the others identical).
    norm
        s = ‖z‖.
    activation
        a = (z − μ)·w_a/‖w_a‖, in latent units; positive is towards activation. None without an axis.
    on_axis
        a²/‖z − μ‖², between 0 and 1. NaN where z = μ. None without an axis.
    """

    deviation: Floats
    d_euc: Floats
    d_cos: Floats
    d_maha: Floats
    norm: Floats
    activation: Floats | None
    on_axis: Floats | None


def latent_distances(
    latent: ArrayLike,
    axis: ArrayLike | None,
    center_mask: ArrayLike,
    plate: ArrayLike | None = None,
    plate_names: Sequence[str] | None = None,
) -> LatentDistances:
    """Distances, norm and activation of every well of one member.

    A well of `center_mask` is compared with the centre of the other wells of the mask (leave-one-out), for all the
    distances; every other well, control or not, with the centre of all of them.

    Parameters
    ----------
    latent
        (N, L) latents of one member.
    axis
        (L,) weight w_a of the linear activation head, or None where the model has none.
    center_mask
        (N,) bool: the control wells the centre is made of.
    plate
        (N,) plate codes 0, 1, ... for one centre a plate; None for one centre.
    plate_names
        The names behind the codes, for error messages.

    Raises
    ------
    DataError
        No control wells, one only, a plate with fewer than two, latents that are not finite, control latents that
        do not vary, or an axis of length 0.

    References
    ----------
    Ledoit & Wolf, A well-conditioned estimator for large-dimensional covariance matrices, J Multivar Anal 2004.
    """
    z, mask = checked_latent(latent), np.asarray(center_mask, dtype=bool)
    centers = control_centers(z, mask, plate, plate_names)
    deviation = centered(z, mask, centers)
    reference = z - deviation  # (N, L): μ, leave-one-out for the controls
    d_euc = np.linalg.norm(deviation, axis=1)
    activation = on_axis = None
    if axis is not None:
        activation = activation_position(deviation, axis)
        on_axis = on_axis_share(activation, d_euc)
    return LatentDistances(
        deviation=deviation,
        d_euc=d_euc,
        d_cos=cosine_distance(z, reference),
        d_maha=mahalanobis_distance(z, deviation, mask, centers),
        norm=np.linalg.norm(z, axis=1),
        activation=activation,
        on_axis=on_axis,
    )


def activation_position(deviation: ArrayLike, axis: ArrayLike) -> Floats:
    """Position on the activation axis: a = (z − μ)·w_a/‖w_a‖, (N,), in latent units; positive is activation.

    Raises
    ------
    DataError
        The axis has length 0 or is not finite.
    """
    w = np.asarray(axis, dtype=np.float64)
    length = float(np.linalg.norm(w))
    if not np.isfinite(length) or length == 0:
        raise DataError(
            "the activation axis has no direction",
            where="the weight of the activation head",
            found=f"length {length}",
            expected="a finite length above 0",
            hint="train the model again with an activation target (see `history.parquet` for a loss that diverged)",
        )
    result: Floats = np.asarray(deviation, dtype=np.float64) @ (w / length)
    return result


def on_axis_share(activation: ArrayLike, d_euc: ArrayLike) -> Floats:
    """Share of the squared displacement on the activation axis, a²/‖z − μ‖², (N,) in [0, 1]; NaN where z = μ."""
    a, d = np.asarray(activation, dtype=np.float64), np.asarray(d_euc, dtype=np.float64)
    share = np.full(a.shape, np.nan)
    np.divide(a, d, out=share, where=d > 0)
    result: Floats = np.minimum(share**2, 1.0)
    return result


def cosine_distance(latent: ArrayLike, reference: ArrayLike) -> Floats:
    """1 − x·y/(‖x‖‖y‖), row by row, (N,) in [0, 2]; NaN where either vector is 0."""
    x, y = np.asarray(latent, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    # Each norm by itself: the product of two tiny norms can be 0 where neither is.
    cosine = np.einsum("nl,nl->n", unit_rows(x, np.nan), unit_rows(y, np.nan))
    result: Floats = 1.0 - np.clip(cosine, -1.0, 1.0)
    return result


def unit_rows(x: Floats, zero: float = 0.0) -> Floats:
    """Rows scaled to length 1; one of length 0 is `zero` throughout."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(np.divide(x, length, out=np.full_like(x, zero), where=length > 0))
