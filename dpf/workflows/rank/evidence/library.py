"""Compounds against each other: which of those that differ from the controls differ from the rest of the library."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.ranking.omnibus import omnibus_among
from dpf.analysis.ranking.p_values import benjamini_hochberg
from dpf.analysis.ranking.subsets import LARGEST_FLOOR
from dpf.errors import count
from dpf.workflows.rank.evidence.lines import Evidence

Floats = NDArray[np.float64]

#: Of fewer rows, the acting ones are too large a part of what each is compared with.
FEWEST_ROWS = 20


def compare_with_library(
    evidence: Evidence, fdr: float, rng: np.random.Generator
) -> tuple[dict[str, Floats], list[str]]:
    """`p_library` and `q_library`, (C,) each, and lines for the reader.

    The same lines of evidence within the same strata, the wells of all tested rows in the controls' place. Most of a
    library is taken to be inert.
    """
    design = evidence.design
    if design is None:
        return {}, []
    if len(design.tested) < FEWEST_ROWS:
        return {}, [
            f"not compared with the library: {count(len(design.tested), 'row')} can be tested, and it takes "
            f"{FEWEST_ROWS} for most of them to be inert"
        ]
    p = np.full(len(evidence.p), np.nan)
    p[design.tested], floor = omnibus_among(evidence.lines, design.group, len(design.tested), design.strata, rng)
    q = benjamini_hochberg(p)
    hits, among = evidence.q <= fdr, q <= fdr
    both, only_controls, only_library = (
        int((hits & among).sum()),
        int((hits & ~among).sum()),
        int((among & ~hits).sum()),
    )
    lines = [f"against the rest of the library: {count(int(among.sum()), 'hit')}, {both:,} also against the controls"]
    if only_controls:
        lines.append(
            f"{only_controls:,} of {count(int(hits.sum()), 'hit')} against the controls cannot be distinguished from "
            "the rest of the library: either most of the library acts, or the control wells differ from all others "
            "(another place, batch or handling)"
        )
    if only_library:
        lines.append(f"{count(only_library, 'hit')} against the library cannot be distinguished from the controls")
    if np.nanmin(floor) > LARGEST_FLOOR:
        lines.append(f"too few wells of other rows share a block with each row for any p_library of {LARGEST_FLOOR:g}")
    return {"p_library": p, "q_library": q}, lines
