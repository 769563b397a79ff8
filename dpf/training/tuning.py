"""A small search for a member's learning rate, schedule, weight decay, dropout and batch size: successive halving.

Many settings are tried for a few epochs, the best third of them for three times as many, and so on until one is left
(Jamieson & Talwalkar 2016; Li et al. 2018, Hyperband, one bracket). A member chooses on its own validation wells: its
held-out wells have no say in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dpf.config.settings import TrainSettings

#: The share that goes on, and how many times as many epochs it gets: one in three, three times.
REDUCTION = 3

_RATES = (1e-4, 3e-3)
_DECAYS = (1e-4, 0.3)
_DROPOUTS = (0.0, 0.1, 0.2, 0.4)
_SCHEDULES = ("constant", "cosine", "one-cycle")
_BATCHES = (8, 16, 32)


class Trial(NamedTuple):
    """One choice of settings."""

    number: int
    learning_rate: float
    schedule: str
    weight_decay: float
    dropout: float
    batch_size: int


class Rung(NamedTuple):
    """How many trials are left, and for how many epochs each is trained."""

    trials: int
    epochs: int


def draw_trials(count: int, settings: TrainSettings, dropout: float, rng: np.random.Generator) -> list[Trial]:
    """`count` trials; the first is the settings as they are, so that a search can only choose what it finds better.

    The others are random: learning rate and weight decay log-uniform in 0.0001–0.003 and 0.0001–0.3, schedule, dropout
    (0, 0.1, 0.2, 0.4) and batch size (8, 16, 32) at will.
    """
    first = Trial(
        0, settings.learning_rate, settings.schedule, settings.weight_decay, dropout, settings.batch_size
    )  # fmt: skip
    others = [
        Trial(
            number,
            _log_uniform(rng, *_RATES),
            _SCHEDULES[rng.integers(len(_SCHEDULES))],
            _log_uniform(rng, *_DECAYS),
            _DROPOUTS[rng.integers(len(_DROPOUTS))],
            _BATCHES[rng.integers(len(_BATCHES))],
        )
        for number in range(1, count)
    ]
    return [first, *others]


def rungs(count: int, epochs: int) -> list[Rung]:
    """The rungs of a search that starts with `count` trials for a training of `epochs`; the last is below the whole."""
    found = []
    levels = max(1, math.ceil(math.log(count, REDUCTION))) if count > 1 else 0
    for level in range(levels):
        left = math.ceil(count / REDUCTION**level)
        found.append(Rung(left, max(1, round(epochs / REDUCTION ** (levels - level)))))
    return found


def successive_halving(trials: Sequence[Trial], epochs: int, loss_of: Callable[[Trial, int, int], float]) -> Trial:
    """The trial that is left.

    Parameters
    ----------
    loss_of
        Of a trial, the number of its rung and its epochs: the validation loss of a training from scratch; infinite
        where it diverged. Ties go to the earlier trial.
    """
    left = list(trials)
    for level, rung in enumerate(rungs(len(trials), epochs)):
        losses = [loss_of(trial, level, rung.epochs) for trial in left[: rung.trials]]
        kept = max(1, math.ceil(rung.trials / REDUCTION))
        order = sorted(range(len(losses)), key=lambda place: (losses[place], left[place].number))
        left = [left[place] for place in order[:kept]]
    return left[0]


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(math.log(low), math.log(high))))
