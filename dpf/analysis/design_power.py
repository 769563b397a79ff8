"""What a design can show at all: the smallest p-value each compound can get, and the hits that BH then asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design_input import MISSING, Codes
from dpf.analysis.subsets import ENUMERATE_BELOW, Null, compositions, number_of_subsets


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


def design_power(
    units: Codes, is_control: NDArray[np.bool_], plate: Codes | None, fdr: float, null: Null = "exchange"
) -> DesignPower | None:
    r"""The smallest p-values that `nulls.compound_p_values` can give in a design.

    With k controls and n wells of the compound on each plate, ``1 / m`` with :math:`m = \prod \binom{k + n}{n}` sets
    when controls and compound change places, and ``1 / (m + 1)`` with :math:`m = \prod \binom{k}{n}` for
    pseudo-compounds of controls; ``1/10,001`` where m is 10,000 or more and sets are drawn (Phipson & Smyth 2010).

    Parameters
    ----------
    units
        Shape (N,): the compound of each well as a number.
    plate
        Shape (N,), or None to compare with all controls, whatever their plate.
    fdr
        The false discovery rate aimed at, in (0, 1).
    null
        ``exchange`` or ``pseudo``.

    Returns
    -------
    DesignPower or None
        None without compounds.

    Examples
    --------
    40 controls and 364 compounds in duplicate: pseudo-compounds have the floor 1/781, and ten compounds at it are
    needed at 5%.

    >>> units = np.r_[np.repeat(np.arange(364), 2), 364 + np.arange(40)]
    >>> power = design_power(units, np.arange(768) >= 728, None, fdr=0.05, null="pseudo")
    >>> round(1 / power.typical), power.hits_needed
    (781, 10)
    """
    if is_control.all():
        return None
    stratum = np.zeros(units.size, dtype=np.int64) if plate is None else np.where(plate == MISSING, 0, plate + 1)
    group = np.full(units.size, MISSING, dtype=np.int64)
    compounds, group[~is_control] = np.unique(units[~is_control], return_inverse=True)
    return power_of(smallest_p_values(group, compounds.size, is_control, stratum, null), fdr)


def smallest_p_values(
    group: Codes, n_groups: int, is_control: NDArray[np.bool_], strata: Codes, null: Null = "exchange"
) -> NDArray[np.float64]:
    """The floor of each compound's p-value, shape (C,), as `nulls.compound_p_values` will have it.

    1 where a stratum of the compound has no control (too few for a pseudo-compound): it cannot be tested.
    """
    controls = np.bincount(strata[is_control], minlength=int(strata.max(initial=0)) + 1)
    floors = np.ones(n_groups)
    for composition, members in compositions(group, n_groups, is_control, strata).items():
        counts = [(int(controls[code]), n) for code, n in composition]
        if all(k >= (1 if null == "exchange" else n) for k, n in counts):
            floors[members] = _floor(number_of_subsets(counts, null), null)
    return floors


def _floor(subsets: int, null: Null) -> float:
    if subsets >= ENUMERATE_BELOW:
        return 1 / (ENUMERATE_BELOW + 1)
    return 1 / (subsets + (null == "pseudo"))


def hits_needed(floors: NDArray[np.float64], fdr: float) -> int | None:
    """The least k such that the k compounds with the smallest floors pass Benjamini–Hochberg at `fdr`, or None.

    ``floor_(k) <= fdr * k / C``.
    """
    rank = np.arange(1, floors.size + 1)
    passing = np.flatnonzero(np.sort(floors) <= fdr * rank / floors.size * (1 + 1e-12))
    return int(rank[passing[0]]) if passing.size else None
