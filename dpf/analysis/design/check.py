"""The design check: whether position and layout could bias the results of a screen."""

from __future__ import annotations

import numpy as np

from dpf.analysis.design.context import context
from dpf.analysis.design.item import CheckItem
from dpf.analysis.design.items.layout import control_items, replicate_items
from dpf.analysis.design.items.plates import plate_items
from dpf.analysis.design.items.positions import position_items
from dpf.analysis.design.items.power import power_items
from dpf.analysis.design.items.targets import target_items
from dpf.analysis.design.variance_explained import PERMUTATIONS
from dpf.analysis.design.wells import DesignInput


def check_design(
    design: DesignInput, rng: np.random.Generator, *, fdr: float = 0.05, permutations: int = PERMUTATIONS
) -> list[CheckItem]:
    """Check the design of a screen: positions, controls, replicates, targets, power, plates.

    A layout that could bias the results (controls or replicates that sit together) is a warning where position was
    looked at and does nothing, and a failure where position has an effect, or none could be looked for.

    Parameters
    ----------
    design
        The screen. Whatever it does not have makes its items ``not applicable``.
    rng
        For permutations and folds; each group of items draws from a generator of its own.
    fdr
        The false discovery rate that hits will be called at.
    permutations
        Rearrangements for each p-value; the smallest p-value is ``1 / (permutations + 1)``.

    Returns
    -------
    list of CheckItem
        In reading order, every `name` once.

    Raises
    ------
    DataError
        A position that is not on a plate.
    """
    for_components, for_positions, for_controls, for_replicates, for_plates = rng.spawn(5)
    shared = context(design, for_components, permutations)
    positions, effects = position_items(shared, for_positions)
    return [
        *positions,
        *control_items(shared, effects, for_controls),
        *replicate_items(shared, effects, for_replicates),
        *target_items(shared),
        *power_items(shared, fdr),
        *plate_items(shared, for_plates),
    ]
