"""The verdict of a ranking on each of its rows: the words, and the rule."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: A hit activates or suppresses where its place on the activation axis has a two-sided p of at most this (0.05 on its
#: own side) ...
AXIS_LEVEL = 0.1
#: ... and it moved within 45° of the direction that cells move in with activation: more along it than across it.
NEAR_PATTERN = float(np.sqrt(0.5))


class Verdict(StrEnum):
    """What a biologist reads of a row that was tested.

    A row is a *hit* where q ≤ fdr, else ``not distinguishable``: from the controls, in this design. A hit is an
    ``activating hit`` or a ``suppressing hit``, by the sign of `activation`, where its mean position on the activation
    axis can itself be told from the controls' (`activation_p` ≤ 0.1, two-sided) and its displacement lies within 45° of
    the activation pattern, to that side (`pattern_cosine` ≥ √½, or ≤ −√½): at least half of the squared displacement is
    what goes with activation in this screen. Else it is an ``off-axis hit``: the cells moved, but mostly in another
    direction. Where the direction is not known (no
    activation axis, or wells that the model was trained on) it is a ``hit``.

    A row whose wells are all set aside is ``not measured``.

    The verdict says nothing of where the wells stood (the design's own verdict does), nor of replicates: a hit whose
    `replicates_agree` is false may be one outlying well.
    """

    NOT_DISTINGUISHABLE = "not distinguishable"
    HIT = "hit"
    ACTIVATING = "activating hit"
    SUPPRESSING = "suppressing hit"
    OFF_AXIS = "off-axis hit"
    NOT_MEASURED = "not measured"


HITS = (Verdict.HIT, Verdict.ACTIVATING, Verdict.SUPPRESSING, Verdict.OFF_AXIS)


def verdicts(
    q: Floats, activation: Floats | None, activation_p: Floats | None, cosine: Floats | None, fdr: float
) -> list[Verdict | None]:
    """The `Verdict` on each of C rows, from arrays of shape (C,); None where a row was not tested (q is NaN)."""
    found: list[Verdict | None] = []
    for index, rate in enumerate(q.tolist()):
        if np.isnan(rate):
            found.append(None)
        elif rate > fdr:
            found.append(Verdict.NOT_DISTINGUISHABLE)
        elif activation is None or activation_p is None or cosine is None or np.isnan(activation_p[index]):
            found.append(Verdict.HIT)
        elif not (activation_p[index] <= AXIS_LEVEL and np.sign(activation[index]) * cosine[index] >= NEAR_PATTERN):
            found.append(Verdict.OFF_AXIS)
        else:
            found.append(Verdict.ACTIVATING if activation[index] > 0 else Verdict.SUPPRESSING)
    return found
