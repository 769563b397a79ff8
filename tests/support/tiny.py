"""A network and a screen so small that a test trains it in milliseconds."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from dpf.config.settings import ModelSettings, TrainSettings
from dpf.model.losses import TargetBatch
from dpf.model.network import TargetLayout, build_network
from dpf.training.compute.device import Compute
from dpf.training.data import MemberData
from dpf.training.member import MemberTraining
from dpf.workflows.train.targets import TargetArrays, fit_scaling, scaled_targets

MODEL = ModelSettings(width=8, heads=2, layers=2, feed_forward=16, dropout=0.1, latent=5)
LAYOUT = TargetLayout(("Tscore", "CytoTRACE"), "label", "activation")
GENES, WELLS = 7, 30
CPU = Compute(torch.device("cpu"), "fp32", torch.float32, 1 << 20)


def network(seed=0, genes=GENES, layout=LAYOUT, model=MODEL, zscore=True, **changes):
    """A network with drawn weights and a scaler that does something."""
    model = ModelSettings(**{**vars(model), **changes})
    built = build_network(genes, layout, model, zscore, torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    for name, low, high in (("gene_mean", -1, 1), ("gene_std", 0.5, 2), ("target_mean", -3, 3), ("target_std", 0.5, 4)):
        getattr(built, name).uniform_(low, high, generator=generator)
    return built


def expression(wells=WELLS, genes=GENES, seed=0):
    return np.random.default_rng(seed).normal(size=(wells, genes)).astype(np.float32)


def target_arrays(wells=WELLS, seed=0, scores=2, missing=0.2):
    """Targets on a user's scale, some of them missing."""
    rng = np.random.default_rng([seed, 1])
    values = rng.normal(3.0, 2.0, size=(wells, scores + 1))
    label = (rng.random(wells) < 0.5).astype(float)
    values[rng.random(values.shape) < missing] = np.nan
    label[rng.random(wells) < missing] = np.nan
    return TargetArrays(values[:, :scores], label, values[:, scores])


def member_data(wells=WELLS, genes=GENES, seed=0):
    values, targets = expression(wells, genes, seed), target_arrays(wells, seed)
    train = np.arange(wells) % 4 != 0
    scaling = fit_scaling(values, targets, train, scores=True, activation=True)
    indices = (torch.from_numpy(np.flatnonzero(part)) for part in (train, ~train))
    return MemberData(torch.from_numpy(values), TargetBatch(*scaled_targets(targets, scaling)), *indices)


def training(seed=614, member=0, compute=CPU, data=None, model=MODEL, **settings):
    """A member before its first epoch; the same arguments give the same one."""
    train = TrainSettings(**{"batch_size": 8, "learning_rate": 0.01, "seed": seed, **settings})
    built = network(seed + 1000 * member, model=model)
    return MemberTraining(built, data or member_data(), train, compute, (seed, member))


def digest(weights):
    """A text that two sets of weights share only if they are equal bit for bit."""
    total = hashlib.sha256()
    for name in sorted(weights):
        total.update(name.encode() + weights[name].detach().cpu().numpy().tobytes())
    return total.hexdigest()
