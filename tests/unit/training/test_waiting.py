"""Training on a device does not wait for it, and does not have it wait for us: asked of a device without memory.

PyTorch's meta device computes shapes and no values, so whatever would fetch a value from a GPU (`item`, `cpu`, a mask
as an index) is an error there; copies to it are counted.
"""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dpf.model.dropout import Noise
from dpf.model.losses import TargetBatch
from dpf.model.network import Prediction
from dpf.training.compute.device import Compute
from dpf.training.data import MemberData
from dpf.training.pretraining import pretrain
from tests.support import tiny

META = torch.device("meta")
BF16 = Compute(META, "bf16", torch.bfloat16, 4 * tiny.GENES)  # a batch of 8 is two passes


class Copies(TorchDispatchMode):
    """Counts the copies from the CPU to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [one for one in args if isinstance(one, torch.Tensor)]
        if func.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
            source = tensors[-1]
            self.count += source.device.type == "cpu" and out.device.type == "meta"
        return out


@pytest.fixture(autouse=True)
def _noise_without_values(monkeypatch):
    monkeypatch.setattr(Noise, "__init__", lambda self, p, *_: setattr(self, "p", p))
    monkeypatch.setattr(Noise, "mask", lambda self, like: torch.empty_like(like).bernoulli_(1.0 - self.p))


def on_device(started=False):
    data = tiny.member_data()
    start = torch.zeros(tiny.WELLS, tiny.MODEL.latent).to(META) if started else None
    return MemberData(
        data.expression.to(META), TargetBatch(*(part.to(META) for part in data.targets)), data.train.to(META),
        data.validation.to(META), start,
    )  # fmt: skip


@pytest.mark.parametrize("started", [False, True])
def test_an_epochs_steps_wait_for_nothing_and_copy_the_order_of_the_wells_alone(started):
    training = tiny.training(compute=BF16, data=on_device(started))
    weight = next(training.network.encoder.parameters())
    before = weight._version
    with Copies() as copies:
        total = training._train(None)
    assert copies.count == 1
    assert total.sums.device.type == "meta"
    assert weight._version >= before + 3  # three batches of at most 8 of 22 wells: a step each


def test_what_would_wait_is_an_error_here():
    # The tests of this file rest on it.
    values = torch.ones(3, device=META)
    for wait in (lambda: values.sum().item(), values.cpu, lambda: values[values > 0], lambda: bool(values.any())):
        with pytest.raises((RuntimeError, NotImplementedError)):
            wait()


def test_the_validation_wells_are_computed_before_anything_of_them_is_fetched(monkeypatch):
    monkeypatch.setattr(Prediction, "cpu", lambda self: self)  # the fetch itself, once an epoch
    training = tiny.training(compute=BF16, data=on_device())
    with Copies() as copies:
        losses, prediction = training._validate()
    assert copies.count == 0
    assert losses.sums.device.type == "meta"
    assert prediction.latent.shape == (8, tiny.MODEL.latent)


def test_pretraining_copies_the_order_and_the_hidden_genes_once_an_epoch():
    network, wells = tiny.network().to(META), torch.arange(22).to(META)

    def copied(epochs):
        with Copies() as copies:
            pretrain(network, torch.empty(tiny.WELLS, tiny.GENES, device=META), wells, epochs, 8, BF16, (1, 0))
        return copies.count

    assert copied(3) - copied(1) == 2 * 2
