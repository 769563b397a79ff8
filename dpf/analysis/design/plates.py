"""Plate by plate: depth, detected genes, the spread of the controls, outlier wells, empty places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.wells import MISSING, Codes, Positions
from dpf.tables.roles.well_names import PLATE_SHAPES

#: Principal components that stand for the expression: what is beyond them is mostly noise of single genes.
COMPONENTS = 20
#: Makes the MAD of a normal distribution its standard deviation.
MAD_SCALE = 1.4826
#: Median absolute deviations from the plate's median beyond which a well is an outlier (as in scater's isOutlier and
#: scanpy's best practices: at five, fewer than one normal well in a million).
OUTLIER_MADS = 5.0


@dataclass(frozen=True)
class PlateSummary:
    """One plate.

    Attributes
    ----------
    plate
        Its name.
    wells, controls, missing
        Wells in the table, controls among them, and positions of the plate that are not in the table.
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
    is_control: NDArray[np.bool_],
    library_size: NDArray[np.float64] | None,
    detected: NDArray[np.float64] | None,
    components: NDArray[np.float64] | None,
) -> list[PlateSummary]:
    """Summarise each plate; `components` are the wells' principal components, shape (N, k)."""
    n_rows, n_columns = PLATE_SHAPES[positions.plate_format]
    n_inside = (n_rows - 2) * (n_columns - 2)
    summaries = []
    for code, name in enumerate(positions.levels["plate"]):
        on_plate = positions.codes["plate"] == code
        located = on_plate & (positions.well != MISSING)
        inside = np.unique(positions.well[located & (positions.codes["edge"] == 0)]).size
        summaries.append(
            PlateSummary(
                plate=name,
                wells=int(on_plate.sum()),
                controls=int((on_plate & is_control).sum()),
                missing=n_rows * n_columns - np.unique(positions.well[located]).size,
                missing_inside=n_inside - inside,
                library_size=_median(library_size, on_plate),
                detected=_median(detected, on_plate),
                control_spread=_control_spread(components, on_plate & is_control, on_plate & ~is_control),
            )
        )
    return summaries


def outliers(values: NDArray[np.float64], plate: Codes) -> NDArray[np.float64]:
    """``(value - median) / (1.4826 MAD)`` within each plate, shape (N,); 0 where not measured or without spread."""
    deviation = np.zeros(values.size)
    for code in np.unique(plate):
        wells = np.flatnonzero((plate == code) & ~np.isnan(values))
        centred = values[wells] - np.median(values[wells]) if wells.size else values[wells]
        spread = MAD_SCALE * np.median(np.abs(centred)) if wells.size else 0.0
        if spread > 0:
            deviation[wells] = centred / spread
    return deviation


def repeated_positions(positions: Positions) -> list[str]:
    """Places on a plate that more than one well claims, as ``plate1 A1``."""
    wells = np.flatnonzero(positions.known)
    claimed = np.stack([positions.codes["plate"][wells], positions.well[wells]], axis=1)
    _, first, count = np.unique(claimed, axis=0, return_index=True, return_counts=True)
    return positions.well_names(wells[first[count > 1]])


def principal_components(
    expression: NDArray[np.float32] | NDArray[np.float64], rng: np.random.Generator, k: int = COMPONENTS
) -> tuple[NDArray[np.float64], float]:
    """The first k principal components of N wells, and the share of the variance they hold.

    Randomised subspace iteration (Halko, Martinsson & Tropp 2011, ten extra directions, four rounds), which centres
    without a centred copy of the matrix.

    Returns
    -------
    components
        Shape (N, min(k, N, G)).
    share
        In [0, 1]; 0 when nothing varies.
    """
    n_wells, n_genes = expression.shape
    mean = expression.mean(axis=0, dtype=np.float64)
    # Rows are summed before they are added up, so that no float64 copy of the matrix is made.
    total = sum(float(((row - mean) ** 2).sum()) for row in expression)
    if total <= 1e-12 * n_wells * max(1e-300, float((mean**2).sum())):
        return np.zeros((n_wells, 0)), 0.0
    size = min(k + 10, n_wells, n_genes)
    basis = np.asarray(rng.standard_normal((n_genes, size)))
    left = _orthonormal(_times(expression, mean, basis))
    for _ in range(4):
        basis = _orthonormal(_transposed_times(expression, mean, left))
        left = _orthonormal(_times(expression, mean, basis))
    small = _transposed_times(expression, mean, left)  # (G, size)
    _, singular, rotation = np.linalg.svd(small, full_matrices=False)
    components = (left @ rotation.T * singular)[:, : min(k, size)]
    return components, min(1.0, float((components**2).sum() / total))


def _times(X: NDArray[np.floating], mean: NDArray[np.float64], V: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(X @ V.astype(X.dtype), dtype=np.float64) - mean @ V


def _transposed_times(
    X: NDArray[np.floating], mean: NDArray[np.float64], U: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(X.T @ U.astype(X.dtype), dtype=np.float64) - np.outer(mean, U.sum(axis=0))


def _orthonormal(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.qr(matrix)[0])


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
