"""Cutting a batch into passes through the network, whatever process computes them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Pass:
    """Some wells of a batch that go through the network together: a part of the batch, or a process's rows of it.

    Attributes
    ----------
    part
        The number of the part of the batch.
    wells
        The wells' places in the batch.
    first, whole
        These wells are those from number `first` on of the part's `whole`.
    """

    part: int
    wells: slice
    first: int
    whole: int


def passes(wells: int, size: int, share: range) -> Iterator[Pass]:
    """Cut a batch of so many wells into parts of `size`, and give what of each part is in a process's share.

    The parts do not depend on the processes: they are what dropout masks are drawn for.
    """
    for part in range(math.ceil(wells / size)):
        begin, end = part * size, min((part + 1) * size, wells)
        start, stop = max(begin, share.start), min(end, share.stop)
        if start < stop:
            yield Pass(part, slice(start, stop), start - begin, end - begin)
