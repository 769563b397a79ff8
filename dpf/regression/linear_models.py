"""Ridge, kernel ridge, PLS and logistic ridge on a Gram matrix: every penalty at once, as many genes as you like.

All of it works on n × n products of wells, which do not grow with the genes. The intercept is never penalised:
kernels are centred on the training wells and targets on their training mean. K is the centred kernel of the
training wells, shape (n, n); `cross` that of test against training wells, shape (t, n).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

Floats = NDArray[np.float64]

_NEWTON_STEPS = 50
_NEWTON_TOLERANCE = 1e-8


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


def ridge_fit(train: Floats, cross: Floats, y: Floats, penalty: float) -> Floats:
    """`ridge_path` for one penalty and one target (n,), from centred kernels, without a spectrum; shape (t,)."""
    factor = cho_factor(train + penalty * np.eye(len(y)), lower=True, check_finite=False)
    return np.asarray(y.mean() + cross @ cho_solve(factor, y - y.mean(), check_finite=False))


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


def logistic_path(train: Floats, cross: Floats, label: Floats, penalties: Floats) -> Floats:
    """Logits of logistic ridge regression for every penalty, by Newton's method in the dual.

    Minimises `Σ log(1 + e^{−s_i f_i}) + λ/2 ‖w‖²` with `f = Xw + b`, `s = ±1`; `w = Xᵀα`, `‖w‖² = αᵀKα`
    (Rasmussen & Williams 2006, algorithm 3.1, with an intercept that is not penalised). The same as
    `sklearn.linear_model.LogisticRegression(C=1/λ)`.

    Parameters
    ----------
    train, cross
        Centred kernels, shapes (n, n) and (t, n).
    label
        Shape (n,): 0 and 1, both there.
    penalties
        λ, shape (P,), positive; best from large to small, each starts from the one before.

    Returns
    -------
    ndarray of shape (P, t)
    """
    alpha, intercept = np.zeros(len(label)), float(np.log(label.mean() / (1 - label.mean())))
    logits = np.empty((len(penalties), len(cross)))
    for index, penalty in enumerate(penalties):
        alpha, intercept = _newton(train, label, float(penalty), alpha, intercept)
        logits[index] = cross @ alpha + intercept
    return logits


def _newton(K: Floats, label: Floats, penalty: float, alpha: Floats, intercept: float) -> tuple[Floats, float]:
    f = K @ alpha + intercept
    loss = _logistic_loss(f, label, penalty, alpha, intercept)
    for _ in range(_NEWTON_STEPS):
        p = expit(f)
        weight = np.maximum(p * (1 - p), 1e-10)
        working = f + (label - p) / weight
        # (K + λW⁻¹)α + b·1 = working response, 1ᵀα = 0; scaled by W½ so that sure wells do no harm.
        root = np.sqrt(weight)
        factor = cho_factor(root[:, None] * K * root + penalty * np.eye(len(f)), lower=True, check_finite=False)
        both = root[:, None] * cho_solve(factor, root[:, None] * np.stack([working, np.ones_like(f)], 1))
        new_intercept = float(both[:, 0].sum() / both[:, 1].sum())
        step, shift = both[:, 0] - new_intercept * both[:, 1] - alpha, new_intercept - intercept
        rate = 1.0
        while True:  # halve the step until the loss does not grow: Newton alone may overshoot
            moved, lifted = alpha + rate * step, intercept + rate * shift
            f = K @ moved + lifted
            new_loss = _logistic_loss(f, label, penalty, moved, lifted)
            if new_loss <= loss or rate < 1e-4:
                break
            rate /= 2
        alpha, intercept, gain, loss = moved, lifted, loss - new_loss, new_loss
        if gain <= _NEWTON_TOLERANCE * max(loss, 1.0):
            break
    return alpha, intercept


def _logistic_loss(f: Floats, label: Floats, penalty: float, alpha: Floats, intercept: float) -> float:
    # f − b = Kα, so αᵀ(f − b) is the squared length of the weights.
    return float(np.logaddexp(0.0, np.where(label == 1, -f, f)).sum() + penalty / 2 * (alpha @ (f - intercept)))


def platt(decision: Floats, label: Floats) -> tuple[float, float]:
    """Slope and intercept that turn out-of-fold decision values into logits (Platt 1999, with his targets).

    The slope is never negative: decisions that go against the labels say nothing (slope 0, the base rate).
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
