"""Whether controls and compounds are spread alike over the plates, and replicates over different positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.variance_explained import (
    PERMUTATIONS,
    above_chance,
    permutation_p,
    permuted_in_blocks,
    together_counts,
)
from dpf.analysis.design.wells import BLOCK_FACTORS, MISSING, Codes, Positions


@dataclass(frozen=True)
class ControlSpread:
    """How the controls lie over the levels of one position factor, compared with the compounds.

    Attributes
    ----------
    factor
        plate, batch, donor, row, column, quadrant, interleave or edge.
    distance
        Total variation distance of the two distributions: the share of the controls that would have to move to lie
        as the compounds do. 0 is the same, 1 is no level in common.
    above_chance
        ``(distance - mean of random layouts) / (1 - that mean)``.
    p_value
        Share of random layouts whose distance is as large.
    levels_used
        Levels with at least one control.
    levels
        Levels with any well.
    reach
        Share of the compounds' wells on a level that holds a control.
    """

    factor: str
    distance: float
    above_chance: float
    p_value: float
    levels_used: int
    levels: int
    reach: float


def control_spread(
    positions: Positions,
    is_control: NDArray[np.bool_],
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> list[ControlSpread]:
    """Compare where the controls stand with where the compounds stand, factor by factor.

    Random layouts: the controls take random wells of the plate they are on (for plate, batch and donor: of any plate).
    A layout that is balanced on purpose is closer than random and gets a p-value near 1.

    Returns
    -------
    list of ControlSpread
        Factors with two levels or more; empty without a control or a compound whose position is known.
    """
    spreads = []
    for factor, codes in positions.codes.items():
        plate = positions.codes["plate"]
        wells = np.flatnonzero((codes != MISSING) & (plate != MISSING))
        control = is_control[wells]
        levels, place = np.unique(codes[wells], return_inverse=True)
        if levels.size < 2 or not control.any() or control.all():
            continue
        strata = np.zeros(wells.size, dtype=np.intp) if factor in BLOCK_FACTORS else plate[wells]
        observed = float(_distances(control[None], place)[0])
        blocks = permuted_in_blocks(np.arange(wells.size), strata, permutations, rng)
        null = np.concatenate([_distances(control[order], place) for order in blocks])
        used = np.bincount(place[control], minlength=levels.size) > 0
        spreads.append(
            ControlSpread(
                factor,
                observed,
                above_chance(observed, null),
                permutation_p(observed, null),
                int(used.sum()),
                levels.size,
                float(used[place[~control]].mean()),
            )
        )
    return spreads


def _distances(control: NDArray[np.bool_], level: Codes) -> NDArray[np.float64]:
    """Total variation distance for each of P labellings (P, n), over the levels (n,) of the wells."""
    size = np.bincount(level)
    row, well = np.nonzero(control)
    counts = np.bincount(row * size.size + level[well], minlength=len(control) * size.size).reshape(len(control), -1)
    rest = size - counts
    difference = counts / counts.sum(axis=1, keepdims=True) - rest / rest.sum(axis=1, keepdims=True)
    return np.asarray(np.abs(difference).sum(axis=1) / 2)


@dataclass(frozen=True)
class ReplicateSpread:
    """Whether the wells of a compound stand in the same place.

    Attributes
    ----------
    place
        position (the same well of different plates), row, column, quadrant or plate.
    compounds
        Compounds with two wells or more whose place is known.
    together
        Those with all their wells in the same place.
    chance
        The number of those that random layouts give on average.
    """

    place: str
    compounds: int
    together: int
    chance: float


def replicate_spread(
    positions: Positions, units: Codes, is_control: NDArray[np.bool_], rng: np.random.Generator, permutations: int = 99
) -> list[ReplicateSpread]:
    """Count the compounds whose wells all share a position, row, column, quadrant or plate.

    Random layouts: the compounds' wells change places within their plate (for plate: anywhere).
    """
    places = {"position": positions.well} | {name: positions.codes[name] for name in ("row", "column", "quadrant")}
    plate = positions.codes["plate"]
    result = []
    for name, codes in (places | {"plate": plate}).items():
        wells = np.flatnonzero(~is_control & (codes != MISSING) & (plate != MISSING))
        together, replicated = together_counts(units[wells], codes[wells])
        if replicated == 0:
            continue
        strata = np.zeros(wells.size, dtype=np.intp) if name == "plate" else plate[wells]
        blocks = permuted_in_blocks(np.arange(wells.size), strata, permutations, rng)
        null = [together_counts(units[wells], codes[wells][order])[0] for block in blocks for order in block]
        result.append(ReplicateSpread(name, replicated, together, float(np.mean(null))))
    return result
