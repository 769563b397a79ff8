"""What a stack is made of: ridge, PLS and kernel ridge of one target on wells in their principal coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

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
#: Directions of the landmarks' kernel with less than this share of the largest are rounding.
_LEAST_DIRECTION = 1e-10
#: Widths γ of the kernel exp(−γ d²), as multiples of 1 / median d²; 0.02 is nearly a straight line.
WIDTHS = (0.02, 0.1, 0.4)


class Kernel(NamedTuple):
    """``exp(−width · |p − p'|²)`` of the first `components` principal components p."""

    components: int
    width: float


class Solution(NamedTuple):
    """A fitted regression: linear in the components, or a kernel with a weight for each well."""

    bias: float
    slope: Floats | None  # (r,)
    kernel: Kernel | None = None
    alpha: Floats | None = None  # (n,), 0 for wells it has not seen


class Learner(Protocol):
    """A family of regressions, one a setting, on wells in principal coordinates F of shape (n, r)."""

    @property
    def settings(self) -> int:
        """How many settings there are, the safest first."""

    def short(self, setting: int) -> str:
        """The setting in a word."""

    def path(self, F: Floats, fit: Index, wells: Index, y: Floats) -> Floats:
        """What every setting, fitted to wells `fit` with targets y (fit, T), says of `wells`; (settings, wells, T)."""

    def solve(self, F: Floats, fit: Index, y: Floats, setting: int) -> Solution:
        """One setting fitted to the wells `fit` with the target y, shape (fit,)."""


class Ridge:
    """``min |y − b − Fw|² + λ|w|²``, a setting for each λ."""

    settings = len(PENALTIES)

    def short(self, setting: int) -> str:  # noqa: ARG002
        """`ridge`."""
        return "ridge"

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


class Pls:
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
        # PLS is linear: what it says of the unit vectors is its slope.
        slope = pls_path(F[fit] - centre, np.eye(F.shape[1]), y, setting + 1)[-1] - y.mean()
        return Solution(float(y.mean() - centre @ slope), slope)


class KernelRidge:
    """Ridge regression with Gaussian kernels on leading principal components, a setting for each kernel and λ.

    Widths are chosen by the median distance between the wells of `selection`. Fitted to more than `EXACT_WELLS` wells,
    the function is a sum of kernels at the wells of `selection` among them, with the same objective over all of them:
    ``min |y − b − K_nm α|² + λ αᵀ K_mm α`` (Williams & Seeger 2001; Rudi, Camoriano & Rosasco 2015).
    """

    def __init__(self, F: Floats, components: Sequence[int], selection: Index) -> None:
        self.selection = selection
        self.kernels: list[Kernel] = []
        for k in dict.fromkeys(min(k, F.shape[1]) for k in components):
            distances = squared_distances(F[selection, :k], F[selection, :k])
            median = float(np.median(distances[np.triu_indices(len(distances), 1)])) or 1.0
            self.kernels += [Kernel(k, width / median) for width in WIDTHS]

        self.settings = len(self.kernels) * len(KERNEL_PENALTIES)

    def short(self, setting: int) -> str:
        """Such as `kernel(8)`: its components."""
        return f"kernel({self.kernels[setting // len(KERNEL_PENALTIES)].components})"

    def path(self, F: Floats, fit: Index, wells: Index, y: Floats) -> Floats:
        """As `Learner.path`."""
        paths = []
        for kernel in self.kernels:
            train, cross = centre_kernel(gaussian(F[fit], F[fit], kernel), gaussian(F[wells], F[fit], kernel))
            paths.append(ridge_path(Spectrum.of(train), cross, y, KERNEL_PENALTIES * mean_diagonal(train)))
        return np.concatenate(paths)

    def solve(self, F: Floats, fit: Index, y: Floats, setting: int) -> Solution:
        """As `Learner.solve`."""
        which, penalty = divmod(setting, len(KERNEL_PENALTIES))
        kernel = self.kernels[which]
        if len(fit) > EXACT_WELLS:
            return self._at_landmarks(F, fit, y, kernel, KERNEL_PENALTIES[penalty])
        raw = gaussian(F[fit], F[fit], kernel)
        train, _ = centre_kernel(raw, raw[:0])
        alpha = np.zeros(len(F))
        alpha[fit] = _dual(train, y, KERNEL_PENALTIES[penalty])
        # The alphas of a centred kernel sum to 0, so of its centring only the columns' means remain.
        return Solution(float(y.mean() - raw.mean(axis=0) @ alpha[fit]), None, kernel, alpha)

    def _at_landmarks(self, F: Floats, fit: Index, y: Floats, kernel: Kernel, penalty: float) -> Solution:
        landmarks = np.intersect1d(fit, self.selection)
        among, across = (gaussian(F[wells], F[landmarks], kernel) for wells in (landmarks, fit))
        bias, weights = landmark_ridge(among, across, y, penalty)
        alpha = np.zeros(len(F))
        alpha[landmarks] = weights
        return Solution(bias, None, kernel, alpha)


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
    # Coordinates whose products are the kernel, as far as the landmarks can say: a plain ridge in them.
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
