"""Principal components: of expression and of a latent space."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpf.tables.storage import fits_in_memory, wells_in_blocks

_FITTED_CELLS = 1 << 25

Floats = NDArray[np.float64]


class Components(NamedTuple):
    """Scores (N, k), the axes (k, G) they are scores on, and each axis's share of the variance (k,)."""

    places: Floats
    axes: Floats
    explained: Floats


def principal_components(
    x: NDArray[np.floating], count: int, fit: NDArray[np.bool_] | None = None, rng: np.random.Generator | None = None
) -> Components:
    """The first `count` principal components of N rows, fewer where they hold all the variance (scikit-learn's PCA).

    The largest coefficient of each axis is positive, so that equal rows give equal scores.

    Parameters
    ----------
    x
        Shape (N, G), finite.
    fit
        Shape (N,): the rows that mean and axes are of; all where None.
    rng
        Randomised (Halko, Martinsson & Tropp 2011, ten extra directions, four rounds): for many rows and columns. Of a
        matrix that does not fit into memory, mean and axes are those of 2²⁵ cells' worth of rows at random.
    """
    from sklearn.decomposition import PCA  # imported here: it costs more than the rest of this module

    if fit is None and rng is not None and not fits_in_memory(*x.shape):
        fit = np.zeros(len(x), dtype=bool)
        some = rng.spawn(1)[0].choice(len(x), min(len(x), max(1, _FITTED_CELLS // x.shape[1])), replace=False)
        fit[some] = True
    rows = x if fit is None else x[fit]
    if not len(rows) or np.ptp(rows, axis=0).max(initial=0) == 0:
        return Components(np.zeros((len(x), 0)), np.zeros((0, x.shape[1])), np.zeros(0))
    few = min(count, *rows.shape)
    if rng is None:
        pca = PCA(few, svd_solver="full")
    else:
        seed = int(rng.integers(2**31))
        pca = PCA(few, svd_solver="randomized", n_oversamples=10, iterated_power=4, random_state=seed)
    if fit is None:
        places = pca.fit_transform(rows)
    else:
        pca.fit(rows)
        places = np.concatenate([pca.transform(x[wells]) for wells in wells_in_blocks(x)])
    singular = pca.singular_values_
    kept = singular > singular[0] * max(rows.shape) * np.finfo(singular.dtype).eps
    found = (places[:, kept], pca.components_[kept], pca.explained_variance_ratio_[kept])
    return Components(*(np.asarray(part, dtype=np.float64) for part in found))


def latent_pca(latent: Floats, controls: NDArray[np.bool_]) -> Components:
    """The first two principal components of latents (N, L), for a map with the controls' mean at the origin.

    The components are those of all wells about their own mean; moving the origin to the controls changes no
    distance. Where there is no second component, its scores, axis and share are 0.
    """
    places, axes, explained = principal_components(latent, 2)
    absent = 2 - len(explained)
    places = np.pad(places, ((0, 0), (0, absent)))
    if controls.any():
        places = places - places[controls].mean(axis=0)
    return Components(places, np.pad(axes, ((0, absent), (0, 0))), np.pad(explained, (0, absent)))
