"""Successive halving: how many trials, how long, which one is left."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dpf.config.settings import TrainSettings
from dpf.training.tuning import Trial, draw_trials, rungs, successive_halving


def drawn(count: int, seed: int = 1) -> list[Trial]:
    return draw_trials(count, TrainSettings(learning_rate=2e-3), 0.15, np.random.default_rng(seed))


def test_the_first_trial_is_the_settings_as_they_are() -> None:
    first, *others = drawn(30)
    assert first == Trial(0, 2e-3, "constant", 0.01, 0.15, 32)
    assert [trial.number for trial in others] == list(range(1, 30))
    assert all(1e-4 <= trial.learning_rate <= 3e-3 and 1e-4 <= trial.weight_decay <= 0.3 for trial in others)
    assert len({trial.schedule for trial in others}) == 3


def test_nine_trials_of_27_epochs() -> None:
    assert [tuple(rung) for rung in rungs(9, 27)] == [(9, 3), (3, 9)]
    assert [tuple(rung) for rung in rungs(27, 27)] == [(27, 1), (9, 3), (3, 9)]
    assert rungs(1, 27) == []


@given(st.integers(1, 60), st.integers(1, 50))
def test_a_search_costs_little_more_than_its_rungs_times_a_training(count: int, epochs: int) -> None:
    spent = {}

    def loss_of(trial: Trial, level: int, length: int) -> float:
        spent[level] = spent.get(level, 0) + length
        assert 1 <= length <= max(1, epochs)
        return -float(trial.number)

    assert successive_halving(drawn(count), epochs, loss_of).number == count - 1
    assert all(used <= 3 * max(epochs, 9) + count for used in spent.values())


def test_the_best_at_the_end_is_left_even_if_others_were_quicker_at_first() -> None:
    quick, slow = 3, 7

    def loss_of(trial: Trial, level: int, _epochs: int) -> float:
        if trial.number == quick:
            return 0.1 if level == 0 else 0.9
        if trial.number == slow:
            return 0.2 if level == 0 else 0.3
        return 0.5

    assert successive_halving(drawn(9), 27, loss_of).number == slow


def test_what_diverged_is_not_chosen_and_ties_go_to_the_earlier() -> None:
    assert successive_halving(drawn(9), 9, lambda trial, *_: math.inf if trial.number == 0 else 1.0).number == 1
    assert successive_halving(drawn(9), 9, lambda *_: math.inf).number == 0
