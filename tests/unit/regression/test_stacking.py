"""The stacked regression that a network can start as."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.cross_decomposition import PLSRegression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from dpf.regression import selection, stacking
from dpf.regression.learners import KERNEL_PENALTIES, PENALTIES, Kernel
from dpf.regression.stacking import _Fitting, stack

WELLS, GENES = 90, 140


def screen(seed: int = 1, wells: int = WELLS, genes: int = GENES) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Wells of four programs; one target follows a program, one is a product of two, one is noise."""
    rng = np.random.default_rng(seed)
    programs = np.repeat(rng.standard_normal((wells // 2, 4)), 2, axis=0) + 0.3 * rng.standard_normal((wells, 4))
    x = programs @ rng.standard_normal((4, genes)) + rng.standard_normal((wells, genes))
    y = np.column_stack([programs[:, 0], programs[:, 1] * programs[:, 2], rng.standard_normal(wells)])
    return x, y + 0.2 * rng.standard_normal(y.shape), np.arange(wells) // 2


def fitting(x: np.ndarray, groups: np.ndarray) -> _Fitting:
    return _Fitting.of(x, groups, 3, False, ThreadPoolExecutor(1))


def test_the_result_does_not_depend_on_the_threads() -> None:
    x, y, groups = screen()
    y[::7, 1] = np.nan
    one, four = (stack(x, y, groups, 3, threads=threads) for threads in (1, 4))
    for name in ("weight", "bias", "alpha", "out_of_fold"):
        np.testing.assert_array_equal(getattr(one, name), getattr(four, name))
    assert one.parts == four.parts


def test_ridge_part_is_scikit_learns_at_every_penalty() -> None:
    x, y, groups = screen()
    made = fitting(x, groups)
    fit = np.arange(60)
    centred = x[fit] - x[fit].mean(0)
    for setting in (0, 8, 14):
        part = made.learners[0].solve(made.F, fit, y[fit, 0], setting)
        penalty = PENALTIES[setting] * np.square(centred).sum() / len(fit)
        expected = Ridge(alpha=penalty).fit(x[fit], y[fit, 0]).predict(x)
        np.testing.assert_allclose(part.predict(made.F, np.arange(WELLS)), expected, rtol=1e-6, atol=1e-8)


def test_pls_part_is_scikit_learns() -> None:
    x, y, groups = screen()
    made = fitting(x, groups)
    fit = np.arange(60)
    for setting in (0, 3):
        part = made.learners[1].solve(made.F, fit, y[fit, 0], setting)
        expected = PLSRegression(setting + 1, scale=False).fit(x[fit], y[fit, 0]).predict(x).ravel()
        np.testing.assert_allclose(part.predict(made.F, np.arange(WELLS)), expected, rtol=1e-6, atol=1e-8)


def test_kernel_part_is_scikit_learns_with_a_free_intercept() -> None:
    x, y, groups = screen()
    made = fitting(x, groups)
    learner, fit = made.learners[2], np.arange(60)
    setting = len(KERNEL_PENALTIES) + 9
    part = learner.solve(made.F, fit, y[fit, 0], setting)
    kernel = learner.kernels[1]
    # Centring both kernel and target is the free intercept; scikit-learn is given the centred kernel.
    F = made.F[:, : kernel.components]
    raw = np.exp(-kernel.width * np.square(F[:, None] - F[None]).sum(-1))
    train = raw[np.ix_(fit, fit)]
    centred = train - train.mean(0) - train.mean(1, keepdims=True) + train.mean()
    cross = raw[:, fit] - train.mean(0) - raw[:, fit].mean(1, keepdims=True) + train.mean()
    model = KernelRidge(alpha=KERNEL_PENALTIES[9] * np.trace(centred) / len(fit), kernel="precomputed")
    expected = model.fit(centred, y[fit, 0] - y[fit, 0].mean()).predict(cross) + y[fit, 0].mean()
    np.testing.assert_allclose(part.predict(made.F, np.arange(WELLS)), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("genes", [GENES, 20])
def test_ridge_part_is_the_same_with_more_wells_than_genes(genes: int) -> None:
    x, y, groups = screen(genes=genes)
    made = fitting(x, groups)
    fit = np.arange(60)
    part = made.learners[0].solve(made.F, fit, y[fit, 0], 8)
    penalty = PENALTIES[8] * np.square(x[fit] - x[fit].mean(0)).sum() / len(fit)
    expected = Ridge(alpha=penalty).fit(x[fit], y[fit, 0]).predict(x)
    np.testing.assert_allclose(part.predict(made.F, np.arange(WELLS)), expected, rtol=1e-6, atol=1e-8)
    assert made.F.shape[1] == min(genes, WELLS - 1)
    np.testing.assert_allclose(made.F @ made.axes.T, x - x.mean(0), atol=1e-9)


def test_with_every_well_a_landmark_a_kernel_part_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, groups = screen()
    made = fitting(x, groups)
    learner, fit, wells = made.learners[2], np.arange(60), np.arange(WELLS)
    settings = [len(KERNEL_PENALTIES) * kernel + penalty for kernel in (0, 1, 5) for penalty in (0, 6, 12)]
    exact = [learner.solve(made.F, fit, y[fit, 0], setting).predict(made.F, wells) for setting in settings]
    monkeypatch.setattr("dpf.regression.learners.EXACT_WELLS", 10)
    sparse = [learner.solve(made.F, fit, y[fit, 0], setting).predict(made.F, wells) for setting in settings]
    np.testing.assert_allclose(sparse, exact, rtol=1e-5, atol=1e-6)


def test_with_fewer_landmarks_it_is_the_least_squares_of_its_objective(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpf.regression.learners.EXACT_WELLS", 10)
    monkeypatch.setattr(selection, "SELECTION_WELLS", 40)
    x, y, groups = screen()
    made = fitting(x, groups)
    learner, fit = made.learners[2], np.arange(70)
    kernel, penalty = learner.kernels[4], KERNEL_PENALTIES[8]
    part = learner.solve(made.F, fit, y[fit, 1], 4 * len(KERNEL_PENALTIES) + 8)
    landmarks = np.intersect1d(fit, made.selection)
    assert 20 < len(landmarks) < 40
    assert set(np.flatnonzero(part.alpha)) == set(landmarks)
    F = made.F[:, : kernel.components]
    raw = np.exp(-kernel.width * np.square(F[:, None] - F[None, landmarks]).sum(-1))
    # As one least-squares problem: (b, alpha), with the penalty as rows of its own.
    root = np.linalg.cholesky(raw[landmarks] + 1e-12 * np.eye(len(landmarks))).T
    inner = raw[fit] @ np.linalg.inv(root)
    level = penalty * np.square(inner - inner.mean(0)).sum() / len(fit)
    rows = np.block([[np.ones((len(fit), 1)), raw[fit]], [np.zeros((len(landmarks), 1)), np.sqrt(level) * root]])
    solved, *_ = np.linalg.lstsq(rows, np.append(y[fit, 1], np.zeros(len(landmarks))), rcond=None)
    expected = solved[0] + raw @ solved[1:]
    np.testing.assert_allclose(part.predict(made.F, np.arange(WELLS)), expected, rtol=1e-5, atol=1e-6)


def test_a_stack_of_many_wells_keeps_few_and_predicts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, groups = screen(wells=500, genes=60)
    half = slice(0, 400)
    exact = stack(x[half], y[half], groups[half], 1)
    monkeypatch.setattr("dpf.regression.learners.EXACT_WELLS", 100)
    monkeypatch.setattr(selection, "SELECTION_WELLS", 200)
    sparse = stack(x[half], y[half], groups[half], 1)
    assert exact.landmarks.shape[0] == 400
    assert 150 < sparse.landmarks.shape[0] <= 200
    for target in range(2):
        truth = y[400:, target]
        errors = [np.square(found(x[400:])[:, target] - truth).mean() for found in (exact, sparse)]
        assert errors[1] < 1.15 * errors[0]


def test_the_one_function_is_the_mixture_of_its_parts() -> None:
    x, y, groups = screen()
    made = fitting(x, groups)
    found = made.fit(y)
    wells = np.arange(WELLS)
    for target in range(2):
        settings = made._choose(wells, y[:, [target]])[:, 0]
        inner = np.empty((WELLS, 4))
        for fold in range(stacking.FOLDS):
            fit, out = np.flatnonzero(made.folds != fold), np.flatnonzero(made.folds == fold)
            for place, learner in enumerate(made.learners):
                inner[out, place] = learner.solve(made.F, fit, y[fit, target], settings[place]).predict(made.F, out)
        mean = y[:, target].mean()
        pull = np.sqrt(0.05 * np.square(inner - mean).sum() / 4)
        penalised = np.vstack([inner - mean, pull * np.eye(4)])
        weights, _ = nnls(penalised, np.append(y[:, target] - mean, np.full(4, pull / 4)))
        final = np.column_stack(
            [part.solve(made.F, wells, y[:, target], settings[i]).predict(made.F, wells)
             for i, part in enumerate(made.learners)]
        )  # fmt: skip
        np.testing.assert_allclose(found(x)[:, target], mean + (final - mean) @ weights, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(found.out_of_fold[:, target], mean + (inner - mean) @ weights, rtol=1e-9)


def test_a_product_of_programs_is_found_where_ridge_finds_nothing() -> None:
    x, y, groups = screen(wells=400)
    new_x, new_y, _ = screen(wells=400)
    half = slice(0, 300)
    found, ridge = (stack(x[half], y[half], groups[half], 1, only_ridge=only) for only in (False, True))

    def r2(predicted: np.ndarray, target: int) -> float:
        truth = new_y[300:, target]
        return float(1 - np.square(truth - predicted[300:, target]).sum() / np.square(truth - truth.mean()).sum())

    assert r2(found(new_x), 1) > 0.6 > 0.15 > r2(ridge(new_x), 1)
    assert r2(found(new_x), 0) > r2(ridge(new_x), 0) - 0.02
    assert "kernel(" in found.parts[1]


def test_out_of_fold_values_have_not_seen_their_compound() -> None:
    x, y, groups = screen()
    y = y.copy()
    before = stack(x, y, groups, 3).out_of_fold
    # A well's own target, and its replicate's, cannot reach its value but by the choice of settings and weights.
    made = fitting(x, groups)
    wells = np.flatnonzero(made.folds != made.folds[0])
    own = made.learners[0].solve(made.F, wells, y[wells, 0], 8)
    y[made.folds == made.folds[0]] += 1e6
    again = made.learners[0].solve(made.F, wells, y[wells, 0], 8)
    np.testing.assert_array_equal(own.slope, again.slope)
    assert np.isfinite(before).all()


def test_what_nothing_predicts_still_tells_wells_apart() -> None:
    """A latent that is the same for every well would have no distances."""
    x, _, groups = screen()
    noise = np.random.default_rng(8).standard_normal((WELLS, 12))
    found = stack(x, noise, groups, 3)
    assert (found(x).std(axis=0) > 0).all()
    error = np.square(found.out_of_fold - noise).sum(axis=0) / np.square(noise - noise.mean(0)).sum(axis=0)
    assert error.max() < 1.15  # hardly worse than the mean


def test_missing_constant_and_lonely_targets() -> None:
    x, y, groups = screen()
    y = y.copy()
    y[::3, 0] = np.nan
    y[:, 1] = 7.0
    y[2:, 2] = np.nan  # one compound
    found = stack(x, y, groups, 3)
    assert np.isfinite(found(x)).all()
    assert np.isfinite(found.out_of_fold).all()
    np.testing.assert_allclose(found(x)[:, 1], 7.0)
    np.testing.assert_allclose(found(x)[:, 2], y[:2, 2].mean())
    # Wells without the target: the fit has not seen them, so its value is honest.
    np.testing.assert_allclose(found.out_of_fold[::3, 0], found(x)[::3, 0], rtol=1e-6, atol=1e-8)
    kept = ~np.isnan(y[:, 0])
    assert np.corrcoef(found.out_of_fold[kept, 0], y[kept, 0])[0, 1] > 0.8


def test_more_wells_than_choose_are_all_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "SELECTION_WELLS", 40)
    x, y, groups = screen()
    found = stack(x, y, groups, 3)
    assert found.out_of_fold.shape == y.shape
    assert np.corrcoef(found.out_of_fold[:, 0], y[:, 0])[0, 1] > 0.8


def test_constant_expression_gives_the_means() -> None:
    _, y, groups = screen()
    found = stack(np.ones((WELLS, GENES)), y, groups, 3)
    np.testing.assert_allclose(found(np.ones((5, GENES))), np.tile(y.mean(0), (5, 1)))


def test_only_ridge_has_no_kernel() -> None:
    x, y, groups = screen()
    found = stack(x, y, groups, 3, only_ridge=True)
    assert found.kernels == ()
    assert found.landmarks.size == found.projection.size == found.alpha.size == 0
    assert all("ridge" in part or "nothing" in part for part in found.parts)


def test_same_seed_same_function() -> None:
    x, y, groups = screen()
    first, second = stack(x, y, groups, 3), stack(x, y, groups, 3)
    np.testing.assert_array_equal(first(x), second(x))
    assert first.kernels == second.kernels
    assert all(isinstance(kernel, Kernel) for kernel in first.kernels)
