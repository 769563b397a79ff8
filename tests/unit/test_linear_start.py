"""A network with a linear path starts as the ridge regression of its training wells."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from dpf.config import ModelSettings
from dpf.model.losses import TargetBatch
from dpf.model.network import TargetLayout, build_network
from dpf.training.linear_start import _PENALTIES, _path, group_folds, ridge, start_from_ridge

WELLS, GENES = 60, 25
LAYOUT = TargetLayout(("a", "b"), "label", "act")
SETTINGS = ModelSettings(width=8, heads=2, layers=1, feed_forward=16, latent=6, linear_path=True)


def data() -> tuple[torch.Tensor, TargetBatch, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(WELLS, GENES, generator=generator)
    truth = torch.randn(GENES, 2, generator=generator)
    scores = x @ truth + 0.5 * torch.randn(WELLS, 2, generator=generator)
    targets = TargetBatch(scores, (scores[:, 0] > 0).float(), scores.sum(1))
    return x, targets, torch.arange(WELLS) // 2


def test_every_penalty_gives_scikit_learns_ridge() -> None:
    x, targets, _ = data()
    weights, intercepts = _path(x.double(), targets.scores[:, 0].double())
    centred = x.double() - x.double().mean(0)
    scale = torch.linalg.eigvalsh(centred @ centred.T).clamp(min=0).mean()
    for index in (0, 12, 24):
        model = Ridge(alpha=float(_PENALTIES[index] * scale)).fit(x.double().numpy(), targets.scores[:, 0].numpy())
        np.testing.assert_allclose(weights[:, index].numpy(), model.coef_, rtol=1e-6, atol=1e-8)
        assert float(intercepts[index]) == pytest.approx(model.intercept_, rel=1e-6)


def test_the_network_predicts_what_the_ridge_does_before_it_is_trained() -> None:
    x, targets, groups = data()
    network = build_network(GENES, LAYOUT, SETTINGS, False, torch.Generator().manual_seed(2))
    start_from_ridge(network, x, targets, groups)
    prediction = network.eval()(x)
    for index in range(2):
        weights, intercept = ridge(x.double(), targets.scores[:, index].double(), group_folds(groups))
        expected = (x.double() @ weights + intercept).float()
        torch.testing.assert_close(prediction.scores[:, index], expected, rtol=1e-4, atol=1e-4)
    assert ((prediction.label_logit > 0).float() == targets.label).float().mean() > 0.9


def test_the_transformer_still_learns_and_the_linear_path_stays() -> None:
    x, targets, groups = data()
    network = build_network(GENES, LAYOUT, SETTINGS, False, torch.Generator().manual_seed(2))
    start_from_ridge(network, x, targets, groups)
    network(x).scores.square().sum().backward()
    assert network.linear.weight.grad is None
    assert network.latent_out.weight.grad.abs().sum() > 0


def test_wells_without_the_target_do_not_count() -> None:
    x, targets, groups = data()
    y = targets.scores[:, 0].double()
    missing = y.clone()
    missing[::3] = float("nan")
    kept = ~missing.isnan()
    folds = group_folds(groups)
    some, _ = ridge(x.double(), missing, folds)
    alone, _ = ridge(x.double()[kept], y[kept], folds[kept])
    torch.testing.assert_close(some, alone)


def test_replicates_stay_together_when_the_penalty_is_chosen() -> None:
    groups = torch.tensor([7, 3, 7, 3, 9, 9])
    folds = group_folds(groups)
    assert all(len(torch.unique(folds[groups == group])) == 1 for group in (3, 7, 9))
