"""A loss that is no number: which wells it is, what is kept, and what to do."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dpf.errors import DataError
from dpf.training.compute.device import Compute
from dpf.training.divergence import DivergedError
from tests.support import tiny

NAMES = tuple(f"P1_{row:02d}" for row in range(tiny.WELLS))
HALF = Compute(torch.device("cpu"), "fp16", torch.float16, 1 << 20)


def begun(epochs=2, names=NAMES, **settings):
    """A member after some good epochs, and its weights then."""
    training = tiny.training(data=dataclasses.replace(tiny.member_data(), names=names), **settings)
    for _ in range(epochs):
        training.run_epoch()
    return training, tiny.digest(training.network.state_dict())


def refused(training):
    with pytest.raises(DivergedError) as caught:
        training.run_epoch()
    assert isinstance(caught.value, DataError)
    return caught.value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("part", ["train", "validation"])
def test_the_wells_are_named(part, value):
    training, good = begun()
    rows = getattr(training.data, part)[[1, 3]]
    training.data.expression[rows] = value
    error = refused(training)
    assert error.found.endswith(f"not finite in wells {NAMES[rows[0]]}, {NAMES[rows[1]]}")
    assert error.where == "epoch 3"
    assert error.hint.startswith("look for extreme values in the expression and the targets of these wells")
    assert tiny.digest(training.network.state_dict()) == good
    assert training.epoch == 2
    assert training.best


def test_a_target_that_is_too_large_is_found_too():
    training, _ = begun()
    training.data.targets.scores[training.data.validation[0]] = 1e30
    assert refused(training).found.endswith(f"not finite in well {NAMES[training.data.validation[0]]}")


def test_steps_that_are_too_large_are_no_wells_fault():
    training, good = begun(epochs=0, learning_rate=1e30)
    error = refused(training)
    assert error.found.endswith("no well alone is the reason: before this epoch all were finite")
    assert error.hint.startswith("lower --learning-rate (it is 1e+30), or clip")
    assert tiny.digest(training.network.state_dict()) == good
    assert not training.best


def test_numbers_too_large_for_float16_point_to_other_precisions():
    training, _ = begun(compute=HALF)
    training.data.expression[:] *= 1e6
    error = refused(training)
    assert error.found.endswith("not finite in any well")
    assert "--precision bf16 or fp32" in error.hint


def test_wells_without_names_are_numbered():
    training, _ = begun(names=())
    training.data.expression[training.data.train[0]] = torch.nan
    assert refused(training).found.endswith(f"not finite in well {training.data.train[0]}")
