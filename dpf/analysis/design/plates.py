"""Plate by plate: depth, detected genes, the spread of the controls, outlier wells, empty places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.wells import Codes, Positions
from dpf.tables.preparing.well_quality import deviations
from dpf.tables.roles.well_names import PLATE_SHAPES

#: Principal components that stand for the expression: what is beyond them is mostly noise of single genes.
COMPONENTS = 20


@dataclass(frozen=True)
class PlateSummary:
    """One plate.

    Attributes
    ----------
    plate
        Its name.
    wells, controls
        Wells that take part, and controls among them.
    missing
        Positions of the plate that no well has, not even one that was set aside.
    missing_inside
        Missing positions that are not on the edge.
    library_size, detected
        Medians; NaN where not known.
    control_spread
        Root mean square distance of the controls to their mean, over the same of the compounds' wells; NaN with fewer
        than three of either.
    """

    plate: str
    wells: int
    controls: int
    missing: int
    missing_inside: int
    library_size: float
    detected: float
    control_spread: float


def plate_summaries(
    positions: Positions,
    set_aside: Positions | None,
    is_control: NDArray[np.bool_],
    library_size: NDArray[np.float64] | None,
    detected: NDArray[np.float64] | None,
    components: NDArray[np.float64] | None,
) -> list[PlateSummary]:
    """Summarise each plate; `components` are the wells' principal components, shape (N, k)."""
    summaries = []
    for code, name in enumerate(positions.levels["plate"]):
        on_plate = positions.codes["plate"] == code
        empty = ~_filled(positions, name)
        if set_aside is not None:
            empty &= ~_filled(set_aside, name)
        summaries.append(
            PlateSummary(
                plate=name,
                wells=int(on_plate.sum()),
                controls=int((on_plate & is_control).sum()),
                missing=int(empty.sum()),
                missing_inside=int(empty[1:-1, 1:-1].sum()),
                library_size=_median(library_size, on_plate),
                detected=_median(detected, on_plate),
                control_spread=_control_spread(components, on_plate & is_control, on_plate & ~is_control),
            )
        )
    return summaries


def _filled(positions: Positions, plate: str) -> NDArray[np.bool_]:
    """Which positions of a plate, rows by columns, have a well."""
    filled = np.zeros(PLATE_SHAPES[positions.plate_format], dtype=bool)
    if plate in positions.levels["plate"]:
        on_plate = positions.codes["plate"] == positions.levels["plate"].index(plate)
        filled.flat[positions.well[on_plate & positions.known]] = True
    return filled


def outliers(values: NDArray[np.float64], plate: Codes) -> NDArray[np.float64]:
    """`deviations` from the median within each plate, in MADs, shape (N,); 0 where not measured or without spread."""
    deviation = np.zeros(values.size)
    for code in np.unique(plate):
        wells = np.flatnonzero((plate == code) & ~np.isnan(values))
        if wells.size:
            deviation[wells] = deviations(values[wells])
    return deviation


def repeated_positions(positions: Positions) -> list[str]:
    """Places on a plate that more than one well claims, as ``plate1 A1``."""
    wells = np.flatnonzero(positions.known)
    claimed = np.stack([positions.codes["plate"][wells], positions.well[wells]], axis=1)
    _, first, count = np.unique(claimed, axis=0, return_index=True, return_counts=True)
    return positions.well_names(wells[first[count > 1]])


def _median(values: NDArray[np.float64] | None, wells: NDArray[np.bool_]) -> float:
    known = np.zeros(0) if values is None else values[wells & ~np.isnan(values)]
    return float(np.median(known)) if known.size else float("nan")


def _control_spread(
    components: NDArray[np.float64] | None, controls: NDArray[np.bool_], compounds: NDArray[np.bool_]
) -> float:
    if components is None or components.shape[1] == 0 or min(controls.sum(), compounds.sum()) < 3:
        return float("nan")
    spreads = [np.sqrt(components[wells].var(axis=0, ddof=1).sum()) for wells in (controls, compounds)]
    return float(spreads[0] / spreads[1]) if spreads[1] > 0 else float("nan")
