"""The learning rate as a function of how far a run is: nothing to keep, nothing to resume."""

from __future__ import annotations

import math

#: A one-cycle schedule climbs from 1/25 of the peak over the first 30% and ends at 1/10,000 of where it began.
_CLIMB, _START, _END = 0.3, 1 / 25, 1e-4


def learning_rate(peak: float, schedule: str, warmup: float, progress: float) -> float:
    """The learning rate at `progress`, the share of the run's optimiser steps that are done, in [0, 1).

    constant: the peak. cosine: the peak times (1 + cos(pi · progress))/2. one-cycle: a cosine up from peak/25 over the
    first 30% of the steps, then a cosine down to peak/250,000 (Smith & Topin 2019, as in PyTorch's OneCycleLR). With
    `warmup` > 0, constant and cosine climb linearly from 0 over that share of the steps first.
    """
    if schedule == "one-cycle":
        if progress < _CLIMB:
            return _between(peak * _START, peak, progress / _CLIMB)
        return _between(peak, peak * _START * _END, (progress - _CLIMB) / (1 - _CLIMB))
    if progress < warmup:
        return peak * progress / warmup
    if schedule == "cosine":
        return _between(peak, 0.0, (progress - warmup) / (1 - warmup))
    return peak


def _between(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * share)) / 2
