"""Ridge, PLS and two kernel ridges on principal components, stacked: a strong regression that is one function of x.

What a screen has to give to a regression differs: a target that follows one large program is predicted best by PLS or
by a smooth function of a few principal components, one that hangs on a handful of genes by ridge. Each target gets the
non-negative mixture that predicts whole compounds best which the parts have not seen (Wolpert 1992; Breiman 1996,
Stacked regressions; van der Laan, Polley & Hubbard 2007).
"""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from dpf.regression.learners import Kernel, KernelRidge, Learner, Pls, Ridge, Solution, gaussian
from dpf.regression.linear_models import Floats, Spectrum
from dpf.regression.selection import choose, choosing_wells, patterns
from dpf.splits.grouping import Index, deal

#: Leading components that a smooth function is sought of; few of them find what few programs do together.
FEW = (8, 16, 32, 64)
MANY = (256,)
FOLDS = 5
SHRINKAGE = 0.05
#: A mixture is at least this much ridge. Where nothing predicts a target the values then still tell the wells apart,
#: by next to nothing; a constant has no direction, and distances from the controls are measured in their own spread.
LEAST = 0.05
#: Below so many wells, products of wells are too small for threads: they wait for each other longer than they work.
_THREADS_FROM = 2_000


@dataclass(frozen=True)
class Stacked:
    """One function of a well's G genes for each of T targets, and its out-of-fold values of the wells it was fitted to.

    With ``p = x @ projection − offset`` it is ``f_t(x) = weight_t·x + bias_t + Σ_j Σ_i alpha[j, i, t]·k_j(p,
    landmarks_i)``.

    Attributes
    ----------
    weight, bias
        Shapes (T, G) and (T,).
    projection, offset
        Shapes (G, R) and (R,): principal axes; R is 0 where no target uses a kernel.
    landmarks
        Shape (m, R): the components of the wells that a kernel stands at; m = n but for many wells.
    kernels
        J of them.
    alpha
        Shape (J, m, T).
    out_of_fold
        Shape (n, T): the mixture of parts that were fitted without the well's own compound, at the settings that all
        wells chose; where the target is missing, the fit.
    parts
        One text a target: what it is made of.
    """

    weight: Floats
    bias: Floats
    projection: Floats
    offset: Floats
    landmarks: Floats
    kernels: tuple[Kernel, ...]
    alpha: Floats
    out_of_fold: Floats
    parts: tuple[str, ...]

    def __call__(self, x: Floats) -> Floats:
        """The T values of wells of shape (N, G); shape (N, T)."""
        values = x @ self.weight.T + self.bias
        p = x @ self.projection - self.offset
        for kernel, alpha in zip(self.kernels, self.alpha, strict=True):
            values = values + gaussian(p, self.landmarks, kernel) @ alpha
        return np.asarray(values)


def stack(
    x: Floats, targets: Floats, groups: Index, seed: int, *, only_ridge: bool = False, threads: int = 1
) -> Stacked:
    """Fit the mixture to n wells.

    Parameters
    ----------
    x
        Shape (n, G), finite, every gene on a comparable scale.
    targets
        Shape (n, T), nan where missing. One that is constant, or measured in a single group, is its mean.
    groups
        Shape (n,): wells of one group are never parted by a fold.
    seed
        Deals the folds.
    only_ridge
        A plain ridge regression, nothing else.
    threads
        How many fits go on at a time while there are few wells; the result does not depend on it.
    """
    small = len(x) < _THREADS_FROM
    with threadpool_limits(1 if small else None), ThreadPoolExecutor(threads if small else 1) as pool:
        return _Fitting.of(x, groups, seed, only_ridge, pool).fit(targets)


class _Mixture(NamedTuple):
    """A constant plus parts, each times its weight."""

    bias: float
    parts: list[tuple[float, Solution]]


@dataclass(frozen=True)
class _Fitting:
    """The n wells in their principal coordinates F (n, r), ``F = (x − centre) @ axes``."""

    F: Floats
    axes: Floats
    centre: Floats
    folds: Index
    selection: Index
    learners: tuple[Learner, ...]
    pool: Executor

    @classmethod
    def of(cls, x: Floats, groups: Index, seed: int, only_ridge: bool, pool: Executor) -> _Fitting:
        centre = x.mean(axis=0)
        centred = x - centre
        if len(x) <= x.shape[1]:
            spectrum = Spectrum.of(centred @ centred.T)
            axes = centred.T @ spectrum.vectors / np.sqrt(spectrum.values)
            F = spectrum.vectors * np.sqrt(spectrum.values)
        else:  # the same axes from the other side, where there are more wells than genes
            axes = np.ascontiguousarray(Spectrum.of(centred.T @ centred).vectors)
            F = centred @ axes
        rng = np.random.default_rng(seed)
        folds = deal(groups, np.zeros(len(groups), dtype=np.intp), FOLDS, rng)
        selection = choosing_wells(groups, rng)
        learners: tuple[Learner, ...] = (Ridge(),)
        if not only_ridge and F.shape[1]:
            few = KernelRidge(F, FEW, selection)
            learners = (Ridge(), Pls(), few)
            if F.shape[1] > max(FEW):
                learners = (*learners, KernelRidge(F, MANY, selection))
        return cls(F, axes, centre, folds, selection, learners, pool)

    def fit(self, targets: Floats) -> Stacked:
        width = targets.shape[1]
        mixed = [_Mixture(0.0, [])] * width
        inner = np.zeros(targets.shape)
        texts = ["nothing: it is constant, or measured in a single group"] * width
        for wells, columns in patterns(targets):
            choices = self._choose(wells, targets[:, columns])
            for place, column in enumerate(columns):
                y = targets[:, column]
                mean = float(y[wells].mean())
                mixed[column], inner[:, column] = _Mixture(mean, []), mean
                if choices is not None and np.ptp(y[wells]) > 0:
                    mixed[column], inner[:, column], texts[column] = self._mix(wells, y, choices[:, place])
        return self._assemble(mixed, inner, tuple(texts))

    def _choose(self, wells: Index, targets: Floats) -> Index | None:
        """The best setting of every learner for every target, (learners, T); None where the wells have one fold."""
        chooses = np.intersect1d(wells, self.selection)
        if len(np.unique(self.folds[chooses])) < 2:
            return None
        return choose(self.learners, self.F, chooses, targets, self.folds, self.pool.map)

    def _mix(self, wells: Index, y: Floats, settings: Index) -> tuple[_Mixture, Floats, str]:
        """The mixture for one target, its out-of-fold values (n,), and in words."""
        inner = np.full((len(y), len(self.learners)), np.nan)

        def solve(fit: Index, place: int) -> Solution:
            return self.learners[place].solve(self.F, fit, y[fit], int(settings[place]))

        def left_out(fold: int, place: int) -> None:
            fit, out = wells[self.folds[wells] != fold], wells[self.folds[wells] == fold]
            if len(fit):
                inner[out, place] = solve(fit, place).predict(self.F, out)

        places = range(len(self.learners))
        list(self.pool.map(left_out, *zip(*product(np.unique(self.folds[wells]), places), strict=True)))
        mean = float(y[wells].mean())
        weights = mixture(inner[wells] - mean, y[wells] - mean)
        final = list(self.pool.map(solve, [wells] * len(places), places))
        parts = [(float(weight), part) for weight, part in zip(weights, final, strict=True) if weight > 0]
        missing = np.setdiff1d(np.arange(len(y)), wells)
        if len(missing):
            inner[missing] = np.column_stack([part.predict(self.F, missing) for part in final])
        words = [
            f"{weight:.2f} {learner.short(int(setting))}"
            for weight, learner, setting in zip(weights, self.learners, settings, strict=True)
            if weight > 0
        ]
        out_of_fold = mean + (inner - mean) @ weights
        mixed = _Mixture(mean * (1 - float(weights.sum())), parts)
        return mixed, out_of_fold, " + ".join(words)

    def _assemble(self, mixed: list[_Mixture], inner: Floats, texts: tuple[str, ...]) -> Stacked:
        n, r = self.F.shape
        slopes, bias = np.zeros((len(mixed), r)), np.zeros(len(mixed))
        used = sorted({part.kernel for _, parts in mixed for _, part in parts if part.kernel is not None})
        alpha = np.zeros((len(used), n, len(mixed)))
        for target, (level, parts) in enumerate(mixed):
            bias[target] = level + sum(share * part.bias for share, part in parts)
            for share, part in parts:
                if part.slope is not None:
                    slopes[target] += share * part.slope
                elif part.kernel is not None and part.alpha is not None:
                    alpha[used.index(part.kernel), :, target] += share * part.alpha
        weight = slopes @ self.axes.T
        width = max((kernel.components for kernel in used), default=0)
        projection = self.axes[:, :width]
        landmarks = np.flatnonzero((alpha != 0).any(axis=(0, 2)))
        return Stacked(
            weight, bias - weight @ self.centre, projection, self.centre @ projection, self.F[landmarks, :width],
            tuple(used), alpha[:, landmarks], inner, texts,
        )  # fmt: skip


def mixture(parts: Floats, y: Floats) -> Floats:
    """Weights w ≥ 0, shape (K,), for the centred out-of-fold values of K parts, shape (n, K), the ridge's first.

    Minimises ``|y − parts w|² + λ·|w − 1/K|²``, λ = `SHRINKAGE` times the mean of ``|part|²``: parts that are nearly
    the same share the weight, which chance would else give to one of them.
    """
    count = parts.shape[1]
    root = np.sqrt(SHRINKAGE * np.square(parts).sum() / count)
    weights, _ = nnls(np.vstack([parts, root * np.eye(count)]), np.append(y, np.full(count, root / count)))
    weights[0] += max(0.0, LEAST - float(weights.sum()))
    return np.asarray(weights)
