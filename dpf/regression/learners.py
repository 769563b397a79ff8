"""Ridge, PLS, kernel ridge and logistic ridge of targets on wells in coordinates F, each at a list of settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from dpf.regression.linear_models import Floats, Spectrum, centre_kernel, pls_path, ridge_path, squared_distances
from dpf.splits.grouping import Index

#: Ridge penalties as multiples of the mean diagonal of the centred kernel, largest first: a tie shrinks more.
PENALTIES: Floats = np.logspace(3, -5, 17)
#: Weaker ones make a kernel's weights so large that their sum has no digits left in float32, as the model keeps them.
KERNEL_PENALTIES: Floats = PENALTIES[PENALTIES >= 1e-3]
PLS_COMPONENTS = 15
#: Up to so many wells a kernel ridge has a weight for each; beyond, for those that choose its settings (Nyström).
EXACT_WELLS = 2000
_NEWTON_COORDINATES = 3000
#: Directions of the landmarks' kernel with less than this share of the largest are rounding.
_LEAST_DIRECTION = 1e-10
#: Widths γ of the kernel exp(−γ d²), as multiples of 1 / median d²; 0.02 is nearly a straight line.
WIDTHS = (0.02, 0.1, 0.4)
LOGISTIC_PENALTIES: Floats = np.logspace(2, -4, 7)


class Kernel(NamedTuple):
    """``exp(−width · |p − p'|²)`` of the first `components` principal components p."""

    components: int
    width: float


class Solution(NamedTuple):
    """A fitted regression: linear in the components, or a kernel with a weight for each well."""

    bias: float
    slope: Floats | None  # (r,)
    kernel: Kernel | None = None
    alpha: Floats | None = None  # (n,), 0 for wells it was not fitted to

    def predict(self, F: Floats, wells: Index) -> Floats:
        """The values of some of the n wells, shape (wells,)."""
        if self.slope is not None:
            return np.asarray(self.bias + F[wells] @ self.slope)
        assert self.kernel is not None
        assert self.alpha is not None
        (landmarks,) = np.nonzero(self.alpha)
        return np.asarray(self.bias + gaussian(F[wells], F[landmarks], self.kernel) @ self.alpha[landmarks])


class Learner:
    """A family of regressions, one a setting, on wells in coordinates F of shape (n, r).

    Attributes
    ----------
    settings
        How many settings there are, the safest first.
    """

    settings: int

    def short(self, setting: int) -> str:  # noqa: ARG002
        """The setting in a word, such as `ridge`."""
        return type(self).__name__.lower()

    def loss(self, y: Floats, predicted: Floats) -> Floats:
        """What a setting is chosen by, of targets (wells, T) and predictions (settings, wells, T); as the latter."""
        return np.asarray(np.square(predicted - y))

    def path(self, F: Floats, fit: Index, wells: Index, y: Floats) -> Floats:
        """Every setting fitted to the wells `fit` with targets y (fit, T): values of `wells`, (settings, wells, T)."""
        raise NotImplementedError

    def solve(self, F: Floats, fit: Index, y: Floats, setting: int) -> Solution:
        """One setting fitted to the wells `fit` with the target y, shape (fit,)."""
        raise NotImplementedError


class Ridge(Learner):
    """``min |y − b − Fw|² + λ|w|²``, a setting for each λ."""

    settings = len(PENALTIES)

    def path(self, F: Floats, fit: Index, wells: Index, y: Floats) -> Floats:
        """As `Learner.path`."""
        train, cross = centre_kernel(F[fit] @ F[fit].T, F[wells] @ F[fit].T)
        return ridge_path(Spectrum.of(train), cross, y, PENALTIES * mean_diagonal(train))

    def solve(self, F: Floats, fit: Index, y: Floats, setting: int) -> Solution:
        """As `Learner.solve`."""
        centre = F[fit].mean(axis=0)
        centred = F[fit] - centre
        if len(fit) <= F.shape[1]:
            slope = centred.T @ _dual(centred @ centred.T, y, PENALTIES[setting])
        else:  # the same, as a system of as many equations as components instead of wells
            penalty = PENALTIES[setting] * (float(np.square(centred).sum()) / len(fit) or 1.0)
            slope = _solve(centred.T @ centred, penalty, centred.T @ (y - y.mean()))
        return Solution(float(y.mean() - centre @ slope), slope)


class Pls(Learner):
    """PLS1 regression (Wold 1975), a setting for each number of components."""

    settings = PLS_COMPONENTS

    def short(self, setting: int) -> str:
        """Such as `PLS(2)`: its components."""
        return f"PLS({setting + 1})"

    def path(self, F: Floats, fit: Index, wells: Index, y: Floats) -> Floats:
        """As `Learner.path`."""
        centre = F[fit].mean(axis=0)
        columns = [pls_path(F[fit] - centre, F[wells] - centre, column, PLS_COMPONENTS) for column in y.T]
        return np.stack(columns, axis=2)

    def solve(self, F: Floats, fit: Index, y: Floats, setting: int) -> Solution:
        """As `Learner.solve`."""
        centre = F[fit].mean(axis=0)
        # PLS is linear: its values of the unit vectors are its slope.
        slope = pls_path(F[fit] - centre, np.eye(F.shape[1]), y, setting + 1)[-1] - y.mean()
        return Solution(float(y.mean() - centre @ slope), slope)


class KernelRidge(Learner):
    """Ridge regression with Gaussian kernels on leading coordinates, a setting for each kernel and λ.

    Widths are chosen by the median distance between the wells of `selection`. Fitted to more than `EXACT_WELLS` wells,
    the function is a sum of kernels at the wells of `selection` among them, with the same objective over all of them:
    ``min |y − b − K_nm α|² + λ αᵀ K_mm α`` (Williams & Seeger 2001; Rudi, Camoriano & Rosasco 2015).
    """

    def __init__(
        self,
        F: Floats,
        components: Sequence[int],
        selection: Index,
        widths: Sequence[float] = WIDTHS,
        penalties: Floats = KERNEL_PENALTIES,
    ) -> None:
        self.selection, self.penalties = selection, penalties
        self.kernels: list[Kernel] = []
        for k in dict.fromkeys(min(k, F.shape[1]) for k in components):
            distances = squared_distances(F[selection, :k], F[selection, :k])
            median = float(np.median(distances[np.triu_indices(len(distances), 1)])) or 1.0
            self.kernels += [Kernel(k, width / median) for width in widths]
        self.settings = len(self.kernels) * len(penalties)

    def short(self, setting: int) -> str:
        """Such as `kernel(8)`: its components."""
        return f"kernel({self.kernels[setting // len(self.penalties)].components})"

    def path(self, F: Floats, fit: Index, wells: Index, y: Floats) -> Floats:
        """As `Learner.path`."""
        paths = []
        for kernel in self.kernels:
            train, cross = centre_kernel(gaussian(F[fit], F[fit], kernel), gaussian(F[wells], F[fit], kernel))
            paths.append(ridge_path(Spectrum.of(train), cross, y, self.penalties * mean_diagonal(train)))
        return np.concatenate(paths)

    def solve(self, F: Floats, fit: Index, y: Floats, setting: int) -> Solution:
        """As `Learner.solve`."""
        which, penalty = divmod(setting, len(self.penalties))
        kernel = self.kernels[which]
        if len(fit) > EXACT_WELLS:
            return self._at_landmarks(F, fit, y, kernel, self.penalties[penalty])
        raw = gaussian(F[fit], F[fit], kernel)
        train, _ = centre_kernel(raw, raw[:0])
        alpha = np.zeros(len(F))
        alpha[fit] = _dual(train, y, self.penalties[penalty])
        # The alphas of a centred kernel sum to 0, so of its centring only the columns' means remain.
        return Solution(float(y.mean() - raw.mean(axis=0) @ alpha[fit]), None, kernel, alpha)

    def _at_landmarks(self, F: Floats, fit: Index, y: Floats, kernel: Kernel, penalty: float) -> Solution:
        landmarks = np.intersect1d(fit, self.selection)
        among, across = (gaussian(F[wells], F[landmarks], kernel) for wells in (landmarks, fit))
        bias, weights = landmark_ridge(among, across, y, penalty)
        alpha = np.zeros(len(F))
        alpha[landmarks] = weights
        return Solution(bias, None, kernel, alpha)


class Logistic(Learner):
    """Logistic ridge regression of a label, 0 or 1: ``min Σ log(1 + exp(−s·f)) + λ/2 |w|²``, f = Fw + b, s = ±1.

    A setting for each λ; values are logits.
    """

    settings = len(LOGISTIC_PENALTIES)

    def loss(self, y: Floats, predicted: Floats) -> Floats:
        """The log loss."""
        return np.asarray(np.logaddexp(0.0, np.where(y == 1, -predicted, predicted)))

    def path(self, F: Floats, fit: Index, wells: Index, y: Floats) -> Floats:
        """As `Learner.path`, of one target. Where the label does not vary, its odds with one more well of each."""
        if np.ptp(y) == 0:
            return np.full((self.settings, len(wells), 1), np.log((y.sum() + 1) / (len(y) - y.sum() + 1)))
        found = self._fit(F[fit], y[:, 0], LOGISTIC_PENALTIES)
        return np.stack([bias + F[wells] @ slope for bias, slope in found])[:, :, None]

    def solve(self, F: Floats, fit: Index, y: Floats, setting: int) -> Solution:
        """As `Learner.solve`; the label varies."""
        return Solution(*self._fit(F[fit], y, LOGISTIC_PENALTIES[[setting]])[0])

    def _fit(self, F: Floats, y: Floats, penalties: Floats) -> list[tuple[float, Floats]]:
        from sklearn.linear_model import LogisticRegression  # imported here: training needs none of it

        # Newton's steps solve a system of as many equations as coordinates.
        solver = "newton-cholesky" if F.shape[1] <= _NEWTON_COORDINATES else "lbfgs"
        model = LogisticRegression(solver=solver, tol=1e-8, max_iter=10_000, warm_start=True)
        centre = F.mean(axis=0)
        centred = F - centre
        found = []
        for penalty in penalties * (float(np.square(centred).sum()) / len(F) or 1.0):
            model.set_params(C=1 / penalty).fit(centred, y)
            (slope,) = model.coef_
            found.append((float(model.intercept_[0] - centre @ slope), slope.copy()))
        return found


def landmark_ridge(among: Floats, across: Floats, y: Floats, penalty: float) -> tuple[float, Floats]:
    """The Nyström form of a kernel ridge: the best ``f(x) = b + Σ_i alpha_i k(x, l_i)`` for n wells, of m landmarks l.

    ``min |y − b − across·alpha|² + λ alphaᵀ·among·alpha``, λ = `penalty` times the mean diagonal of the centred kernel
    that the landmarks can express (Williams & Seeger 2001; Rudi, Camoriano & Rosasco 2015).

    Parameters
    ----------
    among, across
        Raw kernels between the landmarks (m, m), and of the wells with the landmarks (n, m).
    y
        Shape (n,).

    Returns
    -------
    b and alpha (m,).
    """
    spectrum = Spectrum.of(among)
    kept = spectrum.values > _LEAST_DIRECTION * spectrum.values[0]
    to_features = spectrum.vectors[:, kept] / np.sqrt(spectrum.values[kept])
    # Coordinates whose products are the kernel, as far as the landmarks express it: a plain ridge in them.
    features = across @ to_features
    centre = features.mean(axis=0)
    features -= centre
    # What `mean_diagonal` of the exact centred kernel is: 1, less the mean of the kernel.
    level = float(np.square(features).sum()) / len(y) or 1.0
    slope = _solve(features.T @ features, penalty * level, features.T @ (y - y.mean()))
    return float(y.mean() - centre @ slope), np.asarray(to_features @ slope)


def gaussian(a: Floats, b: Floats, kernel: Kernel) -> Floats:
    """The kernel between wells in principal coordinates, shapes (a, r) and (b, r); shape (a, b)."""
    distances = squared_distances(a[:, : kernel.components], b[:, : kernel.components])
    return np.asarray(np.exp(-kernel.width * distances))


def _dual(kernel: Floats, y: Floats, penalty: float) -> Floats:
    """``(K + λI)⁻¹ (y − ȳ)`` for a centred kernel K, λ = `penalty` times its mean diagonal."""
    return _solve(kernel, penalty * mean_diagonal(kernel), y - y.mean())


def _solve(matrix: Floats, ridge: float, right: Floats) -> Floats:
    """``(matrix + ridge·I)⁻¹ right`` of a positive semidefinite matrix."""
    factor = cho_factor(matrix + ridge * np.eye(len(matrix)), lower=True, check_finite=False)
    return np.asarray(cho_solve(factor, right, check_finite=False))


def mean_diagonal(kernel: Floats) -> float:
    """What penalties are multiples of; 1 where it is 0."""
    return float(np.trace(kernel)) / len(kernel) or 1.0
