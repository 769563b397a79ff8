"""What a design can show at all: the smallest p-value each compound can get, and the hits that BH then asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.ranking.subsets import ENUMERATE_BELOW, compositions, number_of_subsets


@dataclass(frozen=True)
class DesignPower:
    """The floors of the p-values of C compounds.

    Attributes
    ----------
    typical
        The floor of the compound in the middle: half of the compounds can go as low or lower.
    hits_needed
        The smallest k such that k compounds at their floors pass Benjamini–Hochberg; None when not even all do.
    floors
        Smallest attainable p of each compound, shape (C,); 1 where no control can change places with it.
    """

    typical: float
    hits_needed: int | None
    floors: NDArray[np.float64]

    def statement(self, fdr: float) -> str:
        """The power line that stands above a ranking."""
        compounds = len(self.floors)
        reach = int((self.floors <= self.typical).sum())
        floor = f"smallest attainable p {self.typical:.2g} (1/{1 / self.typical:,.0f}) for {reach:,} of"
        line = f"power: {floor} {compounds:,} compounds; at an FDR of {fdr:.3g} "
        if self.hits_needed is None:
            return line + "none can be called, however strong: more controls or replicates are needed"
        line += f"at least {self.hits_needed:,} must reach their smallest p before any is called"
        same = hits_needed(np.full(compounds, self.typical), fdr)
        return line if same == self.hits_needed else line + f" ({same or 'all and more'} of those with this one)"


def power_of(floors: NDArray[np.float64], fdr: float) -> DesignPower:
    """What the smallest p-values of C compounds, shape (C,), let one find at a false discovery rate."""
    return DesignPower(float(np.quantile(floors, 0.5, method="higher")), hits_needed(floors, fdr), floors)


def smallest_p_values(
    group: NDArray[np.intp],
    n_groups: int,
    is_control: NDArray[np.bool_],
    strata: NDArray[np.intp],
) -> NDArray[np.float64]:
    """The floor of each compound's p-value, shape (C,), as `p_values.compound_p_values` will have it.

    1 where a stratum of the compound has no control: it cannot be tested.
    """
    controls = np.bincount(strata[is_control], minlength=int(strata.max(initial=0)) + 1)
    floors = np.ones(n_groups)
    for composition, members in compositions(group, n_groups, is_control, strata).items():
        counts = [(int(controls[code]), n) for code, n in composition]
        if all(k for k, _ in counts):
            subsets = number_of_subsets(counts)
            floors[members] = 1 / (subsets if subsets < ENUMERATE_BELOW else ENUMERATE_BELOW + 1)
    return floors


def hits_needed(floors: NDArray[np.float64], fdr: float) -> int | None:
    """The least k such that the k compounds with the smallest floors pass Benjamini–Hochberg at `fdr`, or None.

    ``floor_(k) <= fdr * k / C``.
    """
    rank = np.arange(1, floors.size + 1)
    passing = np.flatnonzero(np.sort(floors) <= fdr * rank / floors.size * (1 + 1e-12))
    return int(rank[passing[0]]) if passing.size else None
