"""Masked-gene pretraining, loadings as embeddings, controls as the centre."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dpf.config.settings import ComputeSettings, ModelSettings
from dpf.model.dropout import Noise
from dpf.model.network import PerturbFormer, TargetLayout, build_network
from dpf.training.compute.device import resolve_compute
from dpf.training.pretraining import MaskedGenes, embed_loadings, pretrain
from dpf.workflows.train.targets import TargetArrays, fit_scaling

WELLS, GENES = 64, 20
COMPUTE = resolve_compute(ComputeSettings(device="cpu", precision="fp32", attention_kernel="torch"))


def twins() -> torch.Tensor:
    """Genes in pairs that say nearly the same: what is hidden can be read off its twin."""
    rng = np.random.default_rng(1)
    programs = np.repeat(rng.standard_normal((WELLS, GENES // 2)), 2, axis=1)
    return torch.from_numpy(programs + 0.1 * rng.standard_normal(programs.shape)).float()


def network(seed: int = 2) -> PerturbFormer:
    settings = ModelSettings(width=16, heads=2, layers=1, feed_forward=32, latent=4, dropout=0.0)
    layout = TargetLayout(("a",), None, None)
    return build_network(GENES, layout, settings, False, torch.Generator().manual_seed(seed))


def test_hidden_genes_are_learnt_and_nothing_but_the_encoder_changes() -> None:
    rng = np.random.default_rng(3)
    two_programs = np.repeat(rng.standard_normal((WELLS, 2)), GENES // 2, axis=1)
    x = torch.from_numpy(two_programs + 0.1 * rng.standard_normal(two_programs.shape)).float()
    made, told = network(), []
    before = {name: value.clone() for name, value in made.state_dict().items()}
    pretrain(made, x, torch.arange(WELLS), 60, 16, COMPUTE, (1, 0), lambda epoch, loss: told.append((epoch, loss)))
    assert [epoch for epoch, _ in told] == list(range(1, 61))
    assert told[0][1] > 0.9
    assert told[-1][1] < 0.6  # a gene's own variance is 1
    changed = {name for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("encoder.") for name in changed)


def test_the_hidden_value_is_not_seen() -> None:
    made, head = network().eval(), MaskedGenes(GENES, 16)
    torch.nn.init.normal_(head.read)
    x = twins()[:3]
    hidden = torch.zeros(3, GENES, dtype=torch.bool)
    hidden[:, 4] = True
    noise = Noise(0.0, (1,), COMPUTE.device)
    changed = x.clone()
    changed[:, 4] += 100.0
    with torch.no_grad():
        first, second = (head(made, values, hidden, COMPUTE, noise) for values in (x, changed))
        other = head(made, x + 1.0, hidden, COMPUTE, noise)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first, other)


def test_only_the_wells_it_is_given_teach() -> None:
    first, second = network(), network()
    x = twins()
    other = x.clone()
    other[40:] = 1e3  # held-out wells
    for made, values in ((first, x), (second, other)):
        pretrain(made, values, torch.arange(40), 2, 16, COMPUTE, (1, 0))
    for name, value in first.state_dict().items():
        torch.testing.assert_close(value, second.state_dict()[name], rtol=0, atol=0)


def test_embeddings_are_the_loadings_of_the_wells() -> None:
    x = twins()
    made = network()
    embed_loadings(made, x)
    gene = made.encoder.tokens.gene.detach().double().numpy()
    centred = x.double().numpy() - x.double().numpy().mean(0)
    _, values, axes = np.linalg.svd(centred, full_matrices=False)
    expected = axes[:16].T * values[:16]
    expected /= np.sqrt(np.square(expected).mean())
    assert np.square(gene).mean() == pytest.approx(1.0, rel=1e-4)
    np.testing.assert_allclose(np.abs(gene), np.abs(expected), rtol=1e-3, atol=1e-4)  # a component's sign is free
    twins_apart = np.linalg.norm(gene[0::2] - gene[1::2], axis=1).mean()
    others_apart = np.linalg.norm(gene[0::2] - np.roll(gene[1::2], 1, axis=0), axis=1).mean()
    assert twins_apart < 0.3 * others_apart


def test_fewer_components_than_width_leave_the_rest_random() -> None:
    made, untouched = network(), network()
    embed_loadings(made, twins()[:5])  # four components
    gene, random = (one.encoder.tokens.gene.detach() for one in (made, untouched))
    ratio = gene[:, 4:] / random[:, 4:]
    torch.testing.assert_close(ratio, ratio[0, 0].expand_as(ratio))
    constant = network()
    embed_loadings(constant, torch.ones(5, GENES))
    torch.testing.assert_close(constant.encoder.tokens.gene, untouched.encoder.tokens.gene)


def test_genes_can_be_centred_on_the_training_controls() -> None:
    x = twins().numpy()
    train, controls = np.arange(WELLS) < 40, np.arange(WELLS) % 4 == 0
    nothing = np.full((WELLS, 1), np.nan)
    targets = TargetArrays(nothing, nothing[:, 0], nothing[:, 0])
    usual = fit_scaling(x, targets, train, scores=True, activation=False)
    centred = fit_scaling(x, targets, train, scores=True, activation=False, center=controls)
    np.testing.assert_allclose(centred.gene_mean, x[train & controls].mean(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(centred.gene_std, usual.gene_std)
