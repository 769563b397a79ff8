r"""How much of a measurement follows the plate: eta squared of each position factor, with a permutation p-value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.wells import BLOCK_FACTORS, MISSING, Codes, Positions

#: Permutations of a check: the smallest p-value is 1/1000, a tenth of the level after Bonferroni over six factors.
PERMUTATIONS = 999
#: See `often_together`. A low bar, but beyond chance in 96 compounds: moving whole compounds is right either way.
TOGETHER = 0.25
#: Numbers held at once while permuting (8 bytes each): bounds the memory, whatever the number of wells.
_BLOCK = 4_000_000

Unit = Literal["well", "compound"]


@dataclass(frozen=True)
class FactorShare:
    """How much of one measurement one position factor explains.

    Attributes
    ----------
    factor
        plate, batch, donor, row, column, quadrant, interleave or edge.
    share
        Eta squared over all wells, controls included, in [0, 1].
    share_compounds
        Eta squared over the compounds' wells alone. Controls that sit together differ from the compounds for a good
        reason; this share, and all below, does not count that.
    above_chance
        ``(share_compounds - mean under permutation) / (1 - mean under permutation)``: 0 is what a random layout gives
        (Kelley's epsilon squared, where wells are permuted one by one).
    p_value
        Permutation p-value of `share_compounds`.
    unit
        What was permuted.
    controls
        The same among the controls, permuted one by one; None where they do not vary or stand on one level. They are
        all alike: what differs between their levels no compound has done.
    """

    factor: str
    share: float
    share_compounds: float
    above_chance: float
    p_value: float
    unit: Unit
    controls: Explained | None


class Explained(NamedTuple):
    """Eta squared of a factor, how far above chance it is, and the permutation p-value."""

    share: float
    above_chance: float
    p_value: float


def eta_squared(values: NDArray[np.float64], codes: Codes) -> float:
    r"""Share of the variance between the levels of a factor.

    .. math:: \eta^2 = \sum_l n_l (\bar y_l - \bar y)^2 / \sum_i (y_i - \bar y)^2

    Parameters
    ----------
    values
        Shape (N,) or (N, K): with K columns, both sums run over them too (squared Euclidean distances).
        Rows with a NaN do not count.
    codes
        Shape (N,); wells with the code -1 do not count.

    Returns
    -------
    float
        In [0, 1]; NaN when nothing varies or fewer than two levels are left.

    Examples
    --------
    >>> round(eta_squared(np.array([1.0, 1.0, 3.0, 3.0]), np.array([0, 0, 1, 1])), 12)
    1.0
    """
    table, levels = _complete(values, codes)
    if table.shape[0] == 0 or levels.max() < 1:
        return float("nan")
    if np.ptp(table, axis=0).max() == 0:
        return float("nan")
    return min(1.0, float(_between(table, levels, np.arange(len(table))[None])[0] / (table**2).sum()))


def position_shares(
    values: NDArray[np.float64],
    positions: Positions,
    units: Codes,
    is_control: NDArray[np.bool_],
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> list[FactorShare]:
    """Eta squared of every position factor, and how far above chance it is among the compounds.

    Chance: compounds' wells change places within their plate (for plate, batch and donor: anywhere), `permutations`
    times; ``p = (b + 1) / (permutations + 1)``, ties counted (Phipson & Smyth 2010). Where compounds have all their
    wells on one level of the factor more often than by chance (`often_together`), it was the compound and not the
    well that was put there, and whole compounds change places, with others that have as many wells on the same
    plates: else the likeness of replicates would count as an effect of position.

    Parameters
    ----------
    values
        Shape (N,) or (N, K) as in `eta_squared`; NaN where not measured.
    units
        Shape (N,): the compound of each well as a number.

    Returns
    -------
    list of FactorShare
        Factors with two levels or more among the measured compounds; empty when nothing varies.
    """
    table = values if values.ndim == 2 else values[:, None]
    measured = ~np.isnan(table).any(axis=1)
    shares = []
    for factor, codes in positions.codes.items():
        plate = positions.codes["plate"]
        usable = measured & (codes != MISSING) & (plate != MISSING)
        strata = np.zeros(codes.size, dtype=np.intp) if factor in BLOCK_FACTORS else plate
        wells, controls = np.flatnonzero(usable & ~is_control), np.flatnonzero(usable & is_control)
        if np.isnan(eta_squared(table[wells], codes[wells])):
            continue
        unit = _unit(units[wells], codes[wells])
        moved = units[wells] if unit == "compound" else np.arange(wells.size)
        found = explained(table[wells], codes[wells], moved, strata[wells], rng, permutations)
        among = None
        if not np.isnan(eta_squared(table[controls], codes[controls])):
            singly = np.arange(controls.size)
            among = explained(table[controls], codes[controls], singly, strata[controls], rng, permutations)
        shares.append(FactorShare(factor, eta_squared(table, codes), *found, unit, among))
    return shares


def explained(
    values: NDArray[np.float64], codes: Codes, moved: Codes, strata: Codes, rng: np.random.Generator, permutations: int
) -> Explained:
    """Eta squared beside that of `permutations` arrangements in which `moved` units change places within `strata`.

    Parameters
    ----------
    values
        Shape (N, K), complete, and not the same in every well.
    codes, moved, strata
        Shape (N,): level, unit and stratum of each well, all known; two levels or more.
    """
    share = eta_squared(values, codes)
    null = _null_shares(values, codes, moved, strata, rng, permutations)
    return Explained(share, above_chance(share, null), permutation_p(share, null))


def permutation_p(observed: float, null: NDArray[np.float64]) -> float:
    """``(b + 1)/(m + 1)``, b of the m values of `null` as large as the observed one (Phipson & Smyth 2010)."""
    return float(1 + np.count_nonzero(null >= observed - 1e-12)) / (len(null) + 1)


def above_chance(observed: float, null: NDArray[np.float64]) -> float:
    """``(observed - mean(null)) / (1 - mean(null))``: 0 at chance, 1 at the largest possible; 0 when chance is 1."""
    expected = float(null.mean())
    return 0.0 if expected >= 1 - 1e-12 else (observed - expected) / (1 - expected)


def edge_difference(values: NDArray[np.float64], positions: Positions, is_control: NDArray[np.bool_]) -> float:
    """Mean of the compounds' wells on the edge minus the inner ones', in standard deviations; NaN without both."""
    edge = positions.codes["edge"]
    used = ~np.isnan(values) & ~is_control & (edge != MISSING)
    outer, inner = values[used & (edge == 1)], values[used & (edge == 0)]
    if not (outer.size and inner.size) or np.ptp(values[used]) == 0:
        return float("nan")
    return float((outer.mean() - inner.mean()) / values[used].std())


def permuted(units: Codes, strata: Codes, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """`n` random rearrangements of N wells, shape (n, N): whole units change places with units alike.

    Two units are alike when they have as many wells in each stratum. A unit like no other stays where it is.
    With one well a unit, this permutes the wells within the strata.
    """
    return _Units(units, strata).rearranged(n, rng)


def permuted_in_blocks(
    units: Codes, strata: Codes, n: int, rng: np.random.Generator, width: int = 1
) -> Iterator[NDArray[np.intp]]:
    """`permuted`, a part of the `n` at a time, so that `width` numbers a well and rearrangement stay in memory."""
    step = max(1, _BLOCK // max(1, units.size * width))
    wells = _Units(units, strata)
    for start in range(0, n, step):
        yield wells.rearranged(min(step, n - start), rng)


class _Units:
    """The wells of N in units that may change places: kind by kind, and within a kind unit by unit."""

    def __init__(self, units: Codes, strata: Codes) -> None:
        order = np.lexsort((strata, units))
        starts = np.flatnonzero(np.r_[True, np.diff(units[order]) != 0])
        kinds: dict[bytes, list[NDArray[np.intp]]] = {}
        for own in np.split(order, starts[1:]):
            kinds.setdefault(strata[own].tobytes(), []).append(own)
        alike = [own for kind in kinds.values() for own in kind]
        sizes = np.array([own.size for own in alike])
        self._wells = np.concatenate(alike)  # as the units follow each other
        self._kinds = np.cumsum([0, *map(len, kinds.values())])
        self._first = np.cumsum(sizes) - sizes  # of each unit, in `_wells`
        place = np.argsort(self._wells)
        self._unit = np.repeat(np.arange(sizes.size), sizes)[place]  # of each well
        self._within = place - self._first[self._unit]

    def rearranged(self, n: int, rng: np.random.Generator) -> NDArray[np.intp]:
        moved = np.broadcast_to(np.arange(self._first.size), (n, self._first.size)).copy()
        for start, end in pairwise(self._kinds.tolist()):
            rng.permuted(moved[:, start:end], axis=1, out=moved[:, start:end])
        return np.asarray(self._wells[self._first[moved[:, self._unit]] + self._within])


def often_together(units: Codes, codes: Codes) -> bool:
    r"""Whether units with several wells have all of them on one level of a factor clearly more often than by chance.

    Clearly: a quarter of those that chance leaves apart, with n wells on levels of shares s together by chance in
    :math:`\sum_l s_l^n`.
    """
    together, replicated = together_counts(units, codes)
    if together == 0:
        return False
    used = codes[codes != MISSING]
    size = np.unique(units[codes != MISSING], return_counts=True)[1]
    share = np.bincount(used) / used.size
    chance = float((share[:, None] ** size[size > 1]).sum())
    return together - chance > TOGETHER * (replicated - chance)


def together_counts(units: Codes, codes: Codes) -> tuple[int, int]:
    """How many units with several wells have all of them on one level, and how many have several wells."""
    known = codes != MISSING
    _, place = np.unique(units[known], return_inverse=True)
    if place.size == 0:
        return 0, 0
    size = np.bincount(place)
    lowest, highest = np.full(size.size, np.iinfo(np.intp).max), np.full(size.size, -1)
    np.minimum.at(lowest, place, codes[known])
    np.maximum.at(highest, place, codes[known])
    return int(((lowest == highest) & (size > 1)).sum()), int((size > 1).sum())


def _unit(units: Codes, codes: Codes) -> Unit:
    return "compound" if often_together(units, codes) else "well"


def _null_shares(
    table: NDArray[np.float64], codes: Codes, units: Codes, strata: Codes, rng: np.random.Generator, n: int
) -> NDArray[np.float64]:
    centred, levels = _complete(table, codes)
    total = (centred**2).sum()
    blocks = permuted_in_blocks(units, strata, n, rng, width=centred.shape[1])
    return np.asarray(np.concatenate([_between(centred, levels, orders) for orders in blocks]) / total)


def _complete(values: NDArray[np.float64], codes: Codes) -> tuple[NDArray[np.float64], Codes]:
    """The complete wells, centred, shape (n, K), and their levels numbered without gaps."""
    table = np.asarray(values, dtype=np.float64)
    table = table if table.ndim == 2 else table[:, None]
    used = (codes != MISSING) & ~np.isnan(table).any(axis=1)
    _, levels = np.unique(codes[used], return_inverse=True)
    table = table[used]
    return (table - table.mean(axis=0) if table.size else table), levels


def _between(centred: NDArray[np.float64], levels: Codes, orders: NDArray[np.intp]) -> NDArray[np.float64]:
    """Sum of squares between the levels of centred values (n, K) for P arrangements (P, n): shape (P,).

    The sums by level are a sparse product: the effort does not grow with the number of levels.
    """
    from scipy.sparse import csr_array

    size = np.bincount(levels)
    ends = np.cumsum(np.tile(size, len(orders)))
    placed = orders[:, np.argsort(levels, kind="stable")].ravel()
    shape = (len(ends), len(centred))
    sums = csr_array((np.ones(placed.size), placed, np.r_[0, ends]), shape=shape) @ centred  # (P levels, K)
    return np.asarray(((sums**2).sum(axis=1).reshape(len(orders), -1) / size).sum(axis=1))
