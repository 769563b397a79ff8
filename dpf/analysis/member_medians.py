"""Whether the members of a cross-validation see their held-out controls at the same distance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.standardise import Standardised
from dpf.tensors.splits import Part

#: Fewest controls of a member that a median is compared of.
MIN_CONTROLS = 3
LEVEL = 0.01


class MemberMedians(NamedTuple):
    """The median T of each member's held-out controls, (M',), and the p-value of their being equal."""

    medians: NDArray[np.float64]
    p: float


def members_differ(found: Standardised, is_control: ArrayLike, level: float = LEVEL) -> MemberMedians | None:
    """Kruskal–Wallis test of the held-out controls' standardised distances, member by member.

    The replicates of a compound share the member that held them out, the controls they are compared with are spread
    over all: where members differ, pairs of inert wells differ less among themselves than pairs of controls do.

    Returns
    -------
    MemberMedians or None
        None where the members do not differ at `level`, or fewer than two hold out at least 3 controls.
    """
    from scipy.stats import kruskal  # imported here: it costs more than the rest of this module

    control = np.asarray(is_control, dtype=bool) & (found.basis == Part.HELD_OUT)
    groups = [row[control & used] for row, used in zip(found.by_member, found.used, strict=True)]
    groups = [group for group in groups if len(group) >= MIN_CONTROLS]
    if len(groups) < 2 or np.ptp(np.concatenate(groups)) == 0:
        return None
    p = float(kruskal(*groups).pvalue)
    return MemberMedians(np.array([np.median(group) for group in groups]), p) if p <= level else None
