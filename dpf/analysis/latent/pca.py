"""Principal components of a latent space, for drawing it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class LatentPca(NamedTuple):
    """Scores (N, 2), the axes (2, L) they are scores on, and each axis's share of the variance (2,)."""

    places: Floats
    axes: Floats
    explained: Floats


def latent_pca(latent: Floats, controls: NDArray[np.bool_]) -> LatentPca:
    """The first two principal components of latents (N, L), the controls' mean at the origin.

    The components are those of all wells about their own mean; moving the origin to the controls changes no
    distance. Signs are fixed (each component's largest coefficient is positive), so that equal latents give equal
    maps. Of a latent space of one dimension the second component is 0.
    """
    centred = latent - latent.mean(0)
    _, singular, axes = np.linalg.svd(centred, full_matrices=False)
    variance = np.square(singular)
    if len(axes) < 2:
        axes = np.vstack([axes, np.zeros((2 - len(axes), latent.shape[1]))])
        variance = np.append(variance, 0.0)
    axes = axes[:2] * np.sign(axes[[0, 1], np.abs(axes[:2]).argmax(1)] + 1e-300)[:, None]
    origin = latent[controls].mean(0) if controls.any() else latent.mean(0)
    total = variance.sum()
    explained = variance[:2] / total if total > 0 else np.zeros(2)
    return LatentPca((latent - origin) @ axes.T, axes, explained)
