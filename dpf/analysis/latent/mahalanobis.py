"""Mahalanobis distances from the controls, with a shrunken covariance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.latent.centers import ControlCenters, checked_latent
from dpf.errors import DataError

Floats = NDArray[np.float64]

#: A spread below this share of the latents' size is rounding error.
_ROUNDING = 1e-6


def mahalanobis_distance(
    latent: ArrayLike, deviation: ArrayLike, center_mask: ArrayLike, centers: ControlCenters
) -> Floats:
    """√((z − μ)ᵀ Σ⁻¹ (z − μ)) of shape (N,), Σ the Ledoit–Wolf covariance of the controls about their centres.

    With centres per plate, Σ is pooled over plates: residuals about the plate's own centre, with the P − 1 degrees
    of freedom that the further centres cost given back by the factor (n−1)/(n−P).

    A control well is left out of *both* its centre and its covariance. Leaving it out of the centre alone would not
    do: a well that helps to estimate Σ bounds its own distance, d² ≤ (n−1)²/n however far out it lies, so that
    controls would look closer than compounds. The estimate is made anew for each control (n of them, O(n·L²) each).

    Raises
    ------
    DataError
        The control latents do not vary: a distance in units of their spread is not defined.
    """
    z, mask = checked_latent(latent), np.asarray(center_mask, dtype=bool)
    deviation = np.asarray(deviation, dtype=np.float64)
    controls, group = z[mask], centers.of_well[mask]
    residual = controls - centers.centers[group]
    _require_spread(residual, controls)
    distance = np.full(len(z), np.nan)
    freedom = len(controls) - len(np.unique(group))
    distance[~mask] = _whitened_norm(deviation[~mask], _pooled_covariance(residual, freedom))
    if freedom < 2:
        return distance
    for row, index in enumerate(np.flatnonzero(mask)):
        others = np.delete(residual, row, axis=0)
        # Without the well, the centre of its plate moves by its residual/(n_p − 1).
        same = np.delete(group, row) == group[row]
        others[same] += residual[row] / (centers.counts[group[row]] - 1)
        if _varies(others, controls):
            distance[index] = _whitened_norm(deviation[index][None, :], _pooled_covariance(others, freedom - 1))[0]
    return distance


def ledoit_wolf(residual: ArrayLike) -> tuple[Floats, float]:
    """Covariance (L, L) of centred rows, shrunk towards a multiple of the identity, and the shrinkage in [0, 1].

    Σ = (1−ρ)·S + ρ·(tr S/L)·I with S = XᵀX/n and the ρ of Ledoit & Wolf (2004), lemma 3.3. The rows are taken as
    centred already; scikit-learn's `LedoitWolf(assume_centered=True)` gives the same numbers.
    """
    x = np.asarray(residual, dtype=np.float64)
    n, width = x.shape
    sample = x.T @ x / n
    mean_variance = float(np.trace(sample)) / width
    squares = float((sample**2).sum())
    delta = squares - width * mean_variance**2  # ‖S − (tr S/L)·I‖²
    beta = (float((np.einsum("nl,nl->n", x, x) ** 2).sum()) / n - squares) / n  # estimation error of S
    shrinkage = 1.0 if delta <= 0 else float(np.clip(beta / delta, 0.0, 1.0))
    covariance = (1 - shrinkage) * sample
    covariance[np.diag_indices(width)] += shrinkage * mean_variance
    return covariance, shrinkage


def _pooled_covariance(residual: Floats, freedom: int) -> Floats:
    return ledoit_wolf(residual)[0] * ((len(residual) - 1) / freedom if len(residual) > 1 else 1.0)


def _whitened_norm(deviation: Floats, covariance: Floats) -> Floats:
    # An eigendecomposition, not a Cholesky factor: two identical controls among many others can leave Σ singular
    # to rounding, and the pseudo-inverse would then call the missing directions near. Floor them instead.
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, values[-1] * np.finfo(np.float64).eps * len(values))
    result: Floats = np.sqrt((((deviation @ vectors) ** 2) / values).sum(axis=1))
    return result


def _varies(residual: Floats, controls: Floats) -> bool:
    return float(np.abs(residual).max(initial=0.0)) > _ROUNDING * float(np.abs(controls).max(initial=0.0))


def _require_spread(residual: Floats, controls: Floats) -> None:
    if not _varies(residual, controls):
        raise DataError(
            "the control wells all have the same latent: there is no spread to measure distances by",
            where=f"latent of {len(controls):,} control wells",
            found=f"largest deviation from their mean {np.abs(residual).max():.3g}",
            expected="control wells that differ from each other",
            hint="if dpf check finds genes that do not vary, look at the table the project was made from; else "
            "the model has collapsed: train with z-score, a lower learning rate, or more epochs",
        )
