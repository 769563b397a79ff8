"""Blocks of wells that were treated alike: plates, batches, donors, and what they make together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpf.workflows.project.inputs import Inputs

#: Columns of the wells table that part wells into blocks.
FACTORS = ("plate", "batch", "donor")
#: The block of wells of which it is not known.
UNKNOWN = "not known"
_PLURAL = {"plate": "plates", "batch": "batches", "donor": "donors"}


class Blocks(NamedTuple):
    """The blocks that some columns make: what they are called, the block of each well (N,), their names."""

    factors: tuple[str, ...]
    codes: NDArray[np.int64]
    names: list[str]

    @property
    def text(self) -> str:
        """``plates``, or ``batches x donors``."""
        return " x ".join(_PLURAL[factor] for factor in self.factors)


def blocks(inputs: Inputs, *factors: str) -> Blocks | None:
    """The blocks that these columns make together; None where one is not there, or not known of most wells.

    Wells of which a column is not known are a block of their own, in which only they change places.
    """
    found = [known for factor in factors if (known := _codes(inputs.texts(factor))) is not None]
    if len(found) < len(factors) or not found:
        return None
    together = np.stack([codes for codes, _ in found], axis=1)
    levels, codes = np.unique(together, axis=0, return_inverse=True)
    names = [", ".join(names[at] for (_, names), at in zip(found, level, strict=True)) for level in levels.tolist()]
    return Blocks(factors, codes.ravel().astype(np.int64), names)


def _codes(texts: Sequence[str | None] | None) -> tuple[NDArray[np.intp], list[str]] | None:
    if texts is None or 2 * sum(text is None for text in texts) > len(texts):
        return None
    names, codes = np.unique([UNKNOWN if text is None else text for text in texts], return_inverse=True)
    return codes, names.tolist()


def every_blocks(inputs: Inputs) -> list[Blocks]:
    """Every way to part the wells of a screen, the most blocks first; none where no column parts them.

    All columns together, and each alone; of those that part the wells alike, the one of fewest columns.
    """
    alone = [one for factor in FACTORS if (one := blocks(inputs, factor)) is not None and len(one.names) > 1]
    together = blocks(inputs, *(one.factors[0] for one in alone)) if len(alone) > 1 else None
    found = sorted(alone, key=lambda one: -len(one.names))
    if together is not None and len(together.names) > len(found[0].names):
        found.insert(0, together)
    kept: list[Blocks] = []
    for one in found:
        if not any(np.array_equal(one.codes, other.codes) for other in kept):
            kept.append(one)
    return kept
