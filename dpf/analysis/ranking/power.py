"""What a design can show at all: the smallest p-value each compound can get, and the hits that BH then asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import chi2, norm
from scipy.stats import t as student

from dpf.analysis.ranking.subsets import ENUMERATE_BELOW, compositions, number_of_subsets

_QUANTILES = 1_000


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


def detectable_effect(counts: Sequence[tuple[int, int]], level: float, power: float = 0.8) -> float:
    r"""The shift of a score, in its controls' standard deviations, that a compound's test finds with some power.

    Two-sided, the mean of the compound's wells less that of the controls of their plates, as exchanges within plates
    compare them: with k controls and n wells a plate and :math:`N = \sum n`, its standard error is
    :math:`\sqrt{\sum (n + n^2/k)} / N` control standard deviations, and the exchanges' power is close to that of the t
    test with :math:`\sum (n + k - 1) - 1` degrees of freedom.

    Parameters
    ----------
    counts
        Controls and wells of the compound, plate by plate.
    level
        The p-value that it has to reach; what the number of sets allows of it is used.

    Returns
    -------
    float
        inf where no p-value of the compound is as small, or nothing is known of the spread.

    Examples
    --------
    >>> round(detectable_effect([(16, 3)], 0.05), 2)
    1.87
    """
    if not counts or not all(k for k, _ in counts):
        return float("inf")
    sets = min(number_of_subsets(counts), ENUMERATE_BELOW + 1)
    reached = np.floor(level * sets * (1 + 1e-12)) / sets
    freedom = sum(n + k - 1 for k, n in counts) - 1
    if reached <= 0 or freedom < 1:
        return float("inf")
    error = float(np.sqrt(sum(n + n * n / k for k, n in counts)) / sum(n for _, n in counts))
    limit = float(student.isf(reached / 2, freedom))

    # The noncentral t distribution's tail, as a mean over what the spread is estimated to be (scipy's has gaps).
    spread = np.sqrt(chi2.ppf((np.arange(_QUANTILES) + 0.5) / _QUANTILES, freedom) / freedom)
    found = brentq(lambda shift: float(norm.cdf(shift - limit * spread).mean()) - power, 0, limit * spread.max() + 10)
    return error * float(found)
