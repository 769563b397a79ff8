"""Ridge, kernel ridge and PLS on a Gram matrix: every penalty at once, as many genes as you like.

All of it works on n × n products of wells, which do not grow with the genes. The intercept is never penalised:
kernels are centred on the training wells and targets on their training mean. K is the centred kernel of the
training wells, shape (n, n); `cross` that of test against training wells, shape (t, n).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]

_NEWTON_STEPS = 50


def centre_kernel(train: Floats, cross: Floats) -> tuple[Floats, Floats]:
    """Centre raw kernels of shape (n, n) and (t, n) on the training wells, in feature space.

    With `k̄` the means over the training wells: `K_ij − K̄_i − K̄_j + K̄` (Schölkopf et al. 1998).
    """
    column, total = train.mean(axis=0), train.mean()
    return (
        train - column - column[:, None] + total,
        cross - column - cross.mean(axis=1, keepdims=True) + total,
    )


def squared_distances(a: Floats, b: Floats) -> Floats:
    """Squared Euclidean distances between wells of shapes (a, r) and (b, r); shape (a, b)."""
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)
    return np.asarray(np.maximum(squares - 2 * a @ b.T, 0.0))


@dataclass(frozen=True)
class Spectrum:
    """Eigenvectors Q (n, r) and eigenvalues Λ (r,) of a centred kernel, rounding noise left out, largest first."""

    vectors: Floats
    values: Floats

    @classmethod
    def of(cls, kernel: Floats) -> Spectrum:
        """The spectrum of a symmetric positive semidefinite matrix of shape (n, n)."""
        values, vectors = np.linalg.eigh(kernel)  # not SciPy's, which keeps other threads waiting
        kept = values > max(float(values[-1]), 0.0) * values.size * np.finfo(np.float64).eps
        return cls(vectors[:, kept][:, ::-1], values[kept][::-1])

    def coordinates(self, cross: Floats) -> Floats:
        """The principal coordinates `K_t Q Λ^−½` of wells, shape (t, r): their Gram matrix is the kernel."""
        return np.asarray(cross @ self.vectors / np.sqrt(self.values))


def ridge_path(spectrum: Spectrum, cross: Floats, y: Floats, penalties: Floats) -> Floats:
    """Ridge (kernel ridge) predictions for every penalty at once.

    `f(x) = ȳ + k(x)ᵀ (K + λI)⁻¹ (y − ȳ)`, which with the linear kernel is the ridge `min ‖y − b − Xw‖² + λ‖w‖²`.

    Parameters
    ----------
    spectrum
        Of the centred training kernel.
    cross
        Centred kernel of test against training wells, shape (t, n).
    y
        Shape (n, S): targets without missing values.
    penalties
        λ, shape (P,), positive.

    Returns
    -------
    ndarray of shape (P, t, S)
    """
    mean = y.mean(axis=0)
    rotated = spectrum.vectors.T @ (y - mean)  # (r, S)
    basis = cross @ spectrum.vectors  # (t, r)
    return np.stack([mean + basis @ (rotated / (spectrum.values + penalty)[:, None]) for penalty in penalties])


def pls_path(train: Floats, test: Floats, y: Floats, components: int) -> Floats:
    """PLS1 regression (NIPALS; Wold 1975) with 1, 2, ... `components` components.

    Parameters
    ----------
    train, test
        Features centred on the training wells, shapes (n, r) and (t, r). PLS does not change under rotation,
        so principal coordinates do as well as genes.
    y
        Shape (n,): one target without missing values.

    Returns
    -------
    ndarray of shape (components, t)
        Where the covariance with the target is used up, more components change nothing.
    """
    X, T = train.copy(), test.copy()
    residual = y - y.mean()
    predicted = np.full(len(test), y.mean())
    path = np.empty((components, len(test)))
    floor = np.finfo(np.float64).eps * np.sqrt(np.square(X).sum() * np.square(residual).sum()) * len(y)
    for k in range(components):
        w = X.T @ residual
        norm = float(np.sqrt(w @ w))
        if norm > floor:
            w /= norm
            score, test_score = X @ w, T @ w
            length = score @ score
            loading, slope = X.T @ score / length, residual @ score / length
            predicted = predicted + slope * test_score
            residual = residual - slope * score
            X -= np.outer(score, loading)
            T -= np.outer(test_score, loading)
        path[k] = predicted
    return path


def platt(decision: Floats, label: Floats) -> tuple[float, float]:
    """Slope and intercept that turn out-of-fold decision values into logits (Platt 1999, with his targets).

    The slope is never negative: decisions that go against the labels are worth nothing (slope 0, the base rate).
    """
    positive, negative = float(label.sum()), float((1 - label).sum())
    target = np.where(label == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    base = float(np.log(target.mean() / (1 - target.mean())))
    spread = float(decision.std())
    if spread <= 1e-9 * max(1.0, float(np.abs(decision).max())):  # rounding is no spread
        return 0.0, base
    X = np.stack([(decision - decision.mean()) / spread, np.ones_like(decision)], axis=1)
    beta = np.array([0.0, base])
    for _ in range(_NEWTON_STEPS):
        p = expit(X @ beta)
        weight = np.maximum(p * (1 - p), 1e-10)
        step = np.linalg.solve(X.T @ (weight[:, None] * X) + 1e-9 * np.eye(2), X.T @ (target - p))
        beta = beta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    if beta[0] <= 0:
        return 0.0, base
    slope = float(beta[0]) / spread
    return slope, float(beta[1]) - slope * float(decision.mean())
