"""Exchanges that balance the controls of a plate and keep replicates apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.wells import Codes, within_plate
from dpf.tables.roles.well_names import PLATE_SHAPES, PlateFormat

#: Rounds over all controls, or all replicates: a search that has not converged by then cycles between equal layouts.
_ROUNDS = 20
#: Costs of sharing each of these: rows and columns, which dispensers and evaporation follow, more than quadrants.
_APART = {"row": 2.0, "column": 2.0, "quadrant": 1.0}


@dataclass(frozen=True)
class PlateMap:
    """The W positions of a plate, numbered row by row.

    Attributes
    ----------
    codes
        The level of each position for row, column, quadrant, edge and, from 384 wells, interleave; shape (W,) each.
    usable
        Positions that may be filled.
    """

    codes: dict[str, Codes]
    usable: Codes

    @property
    def n_wells(self) -> int:
        """W."""
        return self.codes["row"].size

    @staticmethod
    def of(plate_format: PlateFormat, edge_free: bool) -> PlateMap:
        """The map of a plate, the outermost rows and columns not usable when `edge_free`."""
        n_rows, n_columns = PLATE_SHAPES[plate_format]
        row, column = np.divmod(np.arange(n_rows * n_columns), n_columns)
        codes, _ = within_plate(row, column, n_rows, n_columns)
        return PlateMap(codes, np.flatnonzero(codes["edge"] == 0) if edge_free else np.arange(row.size))


def place_controls(plate_map: PlateMap, controls: int, plates: int, rng: np.random.Generator) -> Codes:
    r"""Positions of the controls, shape (plates, controls): scattered over each plate and over all plates.

    Each control in turn moves to the free position that most reduces

    .. math:: \sum_{factor} \sum_l (n_l - e_l)^2 / e_l

    with :math:`n_l` the controls on level l and :math:`e_l` its share of them, summed over this plate and over all
    plates so far, plus the times the position was used on an earlier plate; until no move helps.
    """
    balances = [_Balance.of(codes, plate_map.usable, controls) for codes in plate_map.codes.values()]
    used_before = np.zeros(plate_map.n_wells)
    chosen = np.empty((plates, controls), dtype=np.intp)
    for plate in range(plates):
        wells = rng.permutation(plate_map.usable)[:controls]
        for balance in balances:
            balance.start_plate(wells)
        for _ in range(_ROUNDS):
            if not _improve_controls(wells, balances, used_before, plate_map, rng):
                break
        used_before[wells] += 1
        chosen[plate] = wells
    return chosen


@dataclass
class _Balance:
    """How many controls are on each level of a factor, on this plate and in all."""

    codes: Codes
    share: NDArray[np.float64]
    here: NDArray[np.float64]
    total: NDArray[np.float64]
    plates: int = 0

    @staticmethod
    def of(codes: Codes, usable: Codes, controls: int) -> _Balance:
        counts = np.bincount(codes[usable], minlength=int(codes.max()) + 1)
        zeros = np.zeros(counts.size)
        return _Balance(codes, np.maximum(controls * counts / usable.size, 1e-9), zeros, zeros.copy())

    def start_plate(self, wells: Codes) -> None:
        self.plates += 1
        self.here = np.bincount(self.codes[wells], minlength=self.share.size).astype(np.float64)
        self.total += self.here

    def move(self, old: int, new: int) -> None:
        for counts in (self.here, self.total):
            counts[self.codes[old]] -= 1
            counts[self.codes[new]] += 1

    def change(self, old: int, new: Codes) -> NDArray[np.float64]:
        """What moving a control from `old` to each of `new` adds to the sum of squares."""
        source, target = self.codes[old], self.codes[new]
        change = np.zeros(new.size)
        for counts, expected in ((self.here, self.share), (self.total, self.share * self.plates)):
            leave = (1 - 2 * (counts[source] - expected[source])) / expected[source]
            arrive = (1 + 2 * (counts[target] - expected[target])) / expected[target]
            change += np.where(source == target, 0.0, leave + arrive)
        return change


def _improve_controls(
    wells: Codes,
    balances: list[_Balance],
    used_before: NDArray[np.float64],
    plate_map: PlateMap,
    rng: np.random.Generator,
) -> bool:
    moved = False
    for place in rng.permutation(wells.size):
        free = np.setdiff1d(plate_map.usable, wells)
        if not free.size:
            return False
        old = int(wells[place])
        change = used_before[free] - used_before[old]
        for balance in balances:
            change += balance.change(old, free)
        best = int(np.lexsort((rng.random(free.size), np.round(change, 9)))[0])
        if change[best] < -1e-9:
            for balance in balances:
                balance.move(old, int(free[best]))
            wells[place] = free[best]
            moved = True
    return moved


def separate_replicates(on_plate: Codes, position: Codes, plate_map: PlateMap, rng: np.random.Generator) -> Codes:
    """Exchange compounds' wells within plates until replicates share as few rows, columns and quadrants as can be.

    Parameters
    ----------
    on_plate, position
        Plate and position of each well of each compound, shape (C, replicates).

    Returns
    -------
    ndarray of shape (C, replicates)
        The new positions; each plate's set of positions is the same.
    """
    if position.shape[1] < 2:
        return position
    position = position.copy()
    replicates = position.shape[1]
    members = [np.argwhere(on_plate == plate) for plate in range(int(on_plate.max()) + 1)]
    for _ in range(_ROUNDS):
        crowded = np.flatnonzero(_own_conflicts(position, plate_map) > 0)
        improved = False
        for compound in rng.permutation(crowded):
            for replicate in range(replicates):
                others = members[on_plate[compound, replicate]]
                improved |= _exchange(int(compound), replicate, others, position, plate_map, rng)
        if not improved:
            break
    return position


def _own_conflicts(position: Codes, plate_map: PlateMap) -> NDArray[np.float64]:
    """The conflicts among the wells of each compound, shape (C,)."""
    first, second = np.triu_indices(position.shape[1], k=1)
    return np.asarray(_conflicts(position[:, first], position[:, second], plate_map).sum(axis=1))


def _conflicts(a: Codes, b: Codes, plate_map: PlateMap) -> NDArray[np.float64]:
    shared = [weight * (plate_map.codes[factor][a] == plate_map.codes[factor][b]) for factor, weight in _APART.items()]
    return np.asarray(sum(shared), dtype=np.float64)


def _exchange(
    compound: int, replicate: int, others: Codes, position: Codes, plate_map: PlateMap, rng: np.random.Generator
) -> bool:
    """Exchange one well with the well of the plate where that helps most; whether any did."""
    here = position[compound, replicate]
    own = np.delete(position[compound], replicate)
    before = _conflicts(here, own, plate_map).sum()
    others = others[others[:, 0] != compound]
    if before == 0 or not len(others):
        return False
    there = position[others[:, 0], others[:, 1]]
    theirs = position[others[:, 0]]
    rest = theirs[np.arange(position.shape[1]) != others[:, 1][:, None]].reshape(len(others), -1)
    change = _conflicts(there[:, None], own, plate_map).sum(axis=1) - before
    change += _conflicts(here, rest, plate_map).sum(axis=1) - _conflicts(there[:, None], rest, plate_map).sum(axis=1)
    best = int(np.lexsort((rng.random(change.size), change))[0])
    if change[best] >= 0:
        return False
    position[compound, replicate], position[others[best, 0], others[best, 1]] = there[best], here
    return True
