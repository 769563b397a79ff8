"""The learning rate, against PyTorch's own schedules."""

from __future__ import annotations

import pytest
import torch

from dpf.training.schedule import learning_rate

STEPS = 200


def scheduled(make: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = make(optimizer)  # type: ignore[operator]
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_cosine_is_pytorchs() -> None:
    theirs = scheduled(lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS))
    ours = [learning_rate(0.01, "cosine", 0.0, step / STEPS) for step in range(STEPS)]
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_one_cycle_is_pytorchs_up_to_the_last_step_it_counts() -> None:
    theirs = scheduled(lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, STEPS + 1))
    ours = [learning_rate(0.01, "one-cycle", 0.0, step / STEPS) for step in range(STEPS)]
    assert ours == pytest.approx(theirs, rel=0.03, abs=1e-5)


def test_warm_up_climbs_from_nothing_to_the_peak() -> None:
    assert learning_rate(0.01, "constant", 0.1, 0.0) == 0.0
    assert learning_rate(0.01, "constant", 0.1, 0.05) == pytest.approx(0.005)
    assert learning_rate(0.01, "constant", 0.1, 0.5) == 0.01
    assert learning_rate(0.01, "cosine", 0.1, 0.1) == pytest.approx(0.01)


def test_constant_is_constant() -> None:
    assert {learning_rate(0.01, "constant", 0.0, step / STEPS) for step in range(STEPS)} == {0.01}
