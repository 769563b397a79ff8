"""Timing several implementations so that they can be compared on a machine whose speed is not the same all the time."""

from __future__ import annotations

import operator
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch


def seconds(run: Callable[[], object], device: torch.device, repeats: int = 5, warmup: int = 1) -> float:
    """The median time of a call."""
    times = []
    for number in range(repeats + warmup):
        wait(device)
        started = time.perf_counter()
        run()
        wait(device)
        if number >= warmup:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


class Run(NamedTuple):
    """Something to time, and the wells that it does."""

    call: Callable[[], object]
    wells: int


Runs = dict[str, Run]  # by part: train, forward, gradient_x_input
Times = dict[str, list[float]]  # by part: seconds a well of each round


def alternated(implementations: Mapping[str, Runs], device: torch.device, rounds: int) -> dict[str, Times]:
    """Seconds a well of every implementation's every part, measured in turn: a slow minute is slow for all of them."""
    found: dict[str, Times] = {name: {part: [] for part in runs} for name, runs in implementations.items()}
    for part in ("train", "forward", "gradient_x_input"):
        for number in range(rounds + 1):
            for name, runs in implementations.items():
                wait(device)
                started = time.perf_counter()
                runs[part].call()
                wait(device)
                if number:  # the first round pays for what is set up once
                    found[name][part].append((time.perf_counter() - started) / runs[part].wells)
    return found


def medians(times: Times) -> dict[str, float]:
    """The median of every part's rounds."""
    return {part: statistics.median(values) for part, values in times.items()}


def ratios(slow: Times, fast: Times) -> dict[str, float]:
    """The median over rounds of what `slow` takes over what `fast` takes in the same round."""
    return {part: statistics.median(map(operator.truediv, slow[part], fast[part])) for part in fast}


def lowest(slow: Times, fast: Times) -> dict[str, float]:
    """The least of those ratios."""
    return {part: min(map(operator.truediv, slow[part], fast[part])) for part in fast}


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
