"""How long a training will still take: from the pace of its last epochs, and from what may end it early."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence

# Epochs that the pace is taken from: enough to even out a busy moment, few enough to notice a machine that slows down.
_EPOCHS = 10


class Pace:
    """Seconds a training well, by the clock on the wall over the last epochs: what happens between them counts too."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends = deque([(clock(), 0)], maxlen=_EPOCHS + 1)

    def epoch(self, wells: int) -> None:
        """An epoch over `wells` training wells has ended."""
        self._ends.append((self._clock(), wells))

    @property
    def seconds_per_well(self) -> float:
        """The mean over the last epochs; 0 before the first has ended."""
        wells = sum(number for _, number in list(self._ends)[1:])
        return (self._ends[-1][0] - self._ends[0][0]) / wells if wells else 0.0


def seconds_left(
    seconds_per_well: float,
    wells: Sequence[int],
    epochs: int,
    member: int,
    done: int,
    *,
    elapsed: float = 0.0,
    limit: float = 0.0,
) -> float:
    """Seconds until the last member has ended, if none runs out of patience.

    Parameters
    ----------
    wells
        Training wells of every member that is trained.
    member, done
        Which of these is in training, and how many of its `epochs` it has finished.
    elapsed, limit
        Seconds since the training began, and after how many it must end (0: never). Every member has an equal share of
        them, stops after the first epoch that ends beyond its share, and runs one epoch at least.
    """
    clock = elapsed
    for number in range(member, len(wells)):
        current = number == member
        each = seconds_per_well * wells[number]
        left = epochs - done if current else epochs
        if limit and each > 0:
            until = limit * (number + 1) / len(wells)
            left = min(left, max(0 if current else 1, math.floor((until - clock) / each) + 1))
        clock += left * each
    return clock - elapsed


def duration(seconds: float) -> str:
    """`45 s`, `12 min` or `3 h 20 min`."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
