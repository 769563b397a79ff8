"""The compiled encoder gives what the encoder gives, noise included, and is compiled as seldom as promised."""

from __future__ import annotations

import dataclasses
import os
import shutil

import pytest
import torch

from dpf.config.settings import ComputeSettings
from dpf.errors import DeviceError
from dpf.model import compiled
from dpf.model.compiled import CompiledEncoder
from dpf.model.dropout import Noise
from dpf.training.compute.device import memory_errors, resolve_compute
from tests.support import tiny

# PyTorch's compiler warns of what PyTorch itself does.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BF16, FP32 = torch.bfloat16, torch.float32


class Counting:
    """A backend that runs what it was given as it is, and counts the programs."""

    def __init__(self) -> None:
        self.programs = 0

    def __call__(self, graph, _inputs):
        self.programs += 1
        return graph.forward


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def noise(p=0.3):
    return Noise(p, (1, 2, 3), torch.device("cpu"))


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_outputs_gradients_and_noise_are_the_encoders(dtype):
    plain, other = tiny.network(3), tiny.network(3)
    other.encode = CompiledEncoder(other, backend="aot_eager")
    x = torch.from_numpy(tiny.expression(6))
    for given in (noise, lambda: noise(0.0), lambda: None):
        one, two = plain(x, dtype, given()), other(x, dtype, given())
        tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == FP32 else {"rtol": 0.05, "atol": 0.05}
        torch.testing.assert_close(two.latent, one.latent, **tolerance)
        one.latent.sum().backward()
        two.latent.sum().backward()
        for (name, expected), (_, found) in zip(plain.named_parameters(), other.named_parameters(), strict=True):
            if expected.grad is not None:
                scale = float(expected.grad.abs().max())
                assert float((found.grad - expected.grad).abs().max()) <= (1e-4 if dtype == FP32 else 0.1) * scale, name
        plain.zero_grad()
        other.zero_grad()
    assert not torch.equal(plain(x, dtype, noise()).latent, plain(x, dtype).latent)


def test_a_program_serves_any_number_of_wells(monkeypatch):
    backend = Counting()
    monkeypatch.setattr("dpf.training.member.CompiledEncoder", lambda network: CompiledEncoder(network, backend))
    compute = dataclasses.replace(tiny.CPU, compiled=True, tokens_at_once=5 * tiny.GENES)
    for number in range(2):  # the second member's weights are others, its programs the same
        exact = tiny.training(member=number, compute=dataclasses.replace(compute, compiled=False))
        member = tiny.training(member=number, compute=compute)  # passes of 5, 3, 5, 3, 5, 1 wells; validation of 5, 3
        for _ in range(2):
            assert member.run_epoch().train_total == pytest.approx(exact.run_epoch().train_total, rel=1e-5)
    assert backend.programs == 3  # training, training on one well, validation
    # The weights of the model that is saved are named as ever.
    assert member.best.keys() == exact.best.keys()


def test_what_cannot_be_compiled_is_an_error_that_says_so():
    def broken(*_):
        raise RuntimeError("C++ compiler not found\nand much more")

    network = tiny.network()
    network.encode = CompiledEncoder(network, broken)
    with pytest.raises(DeviceError) as caught, memory_errors(tiny.CPU, 7):
        network(torch.zeros(2, tiny.GENES), FP32)
    assert caught.value.what == "the encoder cannot be compiled for cpu"
    assert caught.value.found == "RuntimeError: C++ compiler not found"
    assert caught.value.hint == "--set compute.compile=false"


def test_only_pytorchs_attention_can_be_compiled():
    compute = resolve_compute(ComputeSettings(device="cpu", compile=True))
    assert compute.attention_kernel == "torch"
    assert compute.describe().endswith("torch attention, compiled")
    with pytest.raises(DeviceError, match="cannot be part of a compiled encoder"):
        resolve_compute(ComputeSettings(device="cpu", compile=True, attention_kernel="native"))


def test_the_reason_is_one_line():
    assert compiled._first_line(RuntimeError("")) == "RuntimeError: "


@pytest.mark.long
def test_what_the_compiler_makes_of_it_is_the_encoder():
    """Through the real compiler, dropout and all: minutes where the machine is busy."""
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++", "c++")))):
        pytest.skip("no C++ compiler")
    resolve_compute(ComputeSettings(device="cpu", precision="fp32", threads=1))  # deterministic, as dpf train is
    exact = tiny.training()
    member = tiny.training(compute=dataclasses.replace(tiny.CPU, compiled=True))
    for _ in range(3):
        one, other = exact.run_epoch(), member.run_epoch()
        assert other.train_total == pytest.approx(one.train_total, rel=1e-4)
        assert other.validation_total == pytest.approx(one.validation_total, rel=1e-4)
    # Not weight by weight: the keys' bias has no gradient but rounding, which AdamW makes a step of.
    torch.testing.assert_close(other.prediction.latent, one.prediction.latent, rtol=1e-3, atol=1e-3)
