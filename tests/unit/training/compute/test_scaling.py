"""Gradient scaling changes nothing but what float16 cannot hold; a step that overflows is skipped."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dpf.training.compute.device import Compute, gradient_scaler
from dpf.training.resume import RunState, load_run, run_identity, save_run
from tests.support import tiny

HALF = Compute(torch.device("cpu"), "fp16", torch.float16, 1 << 20)
EXACT = dataclasses.replace(HALF, precision="fp32", dtype=torch.float32)


def scaled(growth=2000, **settings):
    """A member trained in float32 with the scaler that float16 has."""
    training = tiny.training(compute=EXACT, **settings)
    training.scaler = gradient_scaler(HALF)
    training.scaler.set_growth_interval(growth)
    return training


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_a_scale_of_a_power_of_two_rounds_nothing(clip):
    plain, with_scale = tiny.training(clip=clip), scaled(clip=clip)
    assert not plain.scaler.is_enabled()
    for _ in range(3):
        one, other = plain.run_epoch(), with_scale.run_epoch()
        assert other.train_total == pytest.approx(one.train_total, rel=1e-6)
    assert with_scale.scaler.get_scale() == 2.0**16
    for a, b in zip(plain.network.parameters(), with_scale.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_float16_trains_like_float32():
    exact, half = tiny.training(), tiny.training(compute=HALF)
    assert half.scaler.is_enabled()
    for _ in range(5):
        one, other = exact.run_epoch(), half.run_epoch()
    assert other.train_total == pytest.approx(one.train_total, rel=0.01)
    assert other.validation_total == pytest.approx(one.validation_total, rel=0.01)
    assert {weight.dtype for weight in half.network.parameters()} == {torch.float32}


def test_without_scaling_small_gradients_vanish():
    """Why there is a scaler: of this network's gradients in float16, many are 0 without it and few with it."""
    shares = []
    for scaler in (torch.amp.GradScaler("cpu", enabled=False), gradient_scaler(HALF)):
        training = tiny.training(compute=HALF, batch_size=1000)
        training.data = dataclasses.replace(training.data, expression=training.data.expression * 1e-6)
        training.scaler = scaler
        training._step(training.data.train, 0)
        grad = training.network.encoder.tokens.value.weight.grad
        shares.append(float((grad == 0).float().mean()))
    assert shares[0] > 0.5
    assert shares[1] < 0.1


def overflowing(training, step):
    """Make one gradient infinite in one step."""
    steps = []

    def spoil(grad):
        steps.append(len(steps))
        return torch.full_like(grad, torch.inf) if steps[-1] == step else grad

    training.network.latent_in.weight.register_hook(spoil)
    return training


def test_an_overflow_skips_one_step_and_halves_the_scale():
    training = overflowing(scaled(), step=1)
    batch = training.data.train[:8]
    states = []
    for step in range(3):
        training._step(batch, step)
        states.append((tiny.digest(training.network.state_dict()), training.scaler.get_scale()))
    assert states[1] == (states[0][0], 2.0**15)
    assert states[2][0] != states[1][0]
    assert states[2][1] == 2.0**15
    assert {int(moments["step"]) for moments in training.optimizer.state.values()} == {2}


def test_good_steps_double_the_scale():
    training = scaled(growth=2)
    for step in range(5):
        training._step(training.data.train[:8], step)
    assert training.scaler.get_scale() == 2.0**18


def test_the_scale_is_part_of_an_interrupted_run(tmp_path):
    def begun():
        training = tiny.training(compute=HALF, batch_size=8)
        training.scaler.set_growth_interval(4)
        return overflowing(training, step=1)

    identity = run_identity({"targets": {}, "model": {}, "train": {}}, "a", "b", torch.device("cpu"))
    whole = begun()
    for _ in range(4):
        whole.run_epoch()
    cut = begun()
    for _ in range(2):
        cut.run_epoch()
    save_run(tmp_path / "r", RunState.fresh(), cut, identity)
    again = tiny.training(compute=HALF, batch_size=8)
    load_run(tmp_path / "r", identity).restore(again)
    assert again.scaler.state_dict() == cut.scaler.state_dict()
    assert again.scaler.get_scale() == 2.0**16  # one overflow, then four good steps
    for _ in range(2):
        again.run_epoch()
    assert tiny.digest(again.network.state_dict()) == tiny.digest(whole.network.state_dict())
    assert again.scaler.state_dict() == whole.scaler.state_dict()


def test_the_same_seed_gives_the_same_weights():
    digests = set()
    for _ in range(2):
        training = tiny.training(compute=HALF)
        training.run_epoch()
        digests.add(tiny.digest(training.network.state_dict()))
    assert len(digests) == 1
