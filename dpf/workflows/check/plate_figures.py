"""Every target, the library size and the detected genes on their plates, as figures of legible size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dpf.analysis.design.wells import MISSING, Codes, DesignInput, locate
from dpf.workflows.progress import Progress

if TYPE_CHECKING:
    from dpf.figures.plates import PlateQuantity

#: Rows of plates in one figure, four plates each. More than that, and every quantity gets figures of its own.
MOST_ROWS = 12
_ACROSS = 4


def draw_plates(path: Path, design: DesignInput, progress: Progress) -> tuple[Path, ...]:
    """Draw every measured quantity of a design, plate by plate.

    One figure where that makes 12 rows of plates at most, else one a quantity, and of more than 48 plates one for every
    48, each with a colour scale of its own. Wells that share a position are left out, with a
    warning: only one of them could be drawn.

    Parameters
    ----------
    path
        The figure, without its ending.

    Returns
    -------
    tuple of Path
        The files; none where no well has a position, or nothing was measured.
    """
    positions = locate(design)
    drawn = positions.known
    shared = _shared(positions.codes["plate"], positions.well)
    if (drawn & shared).any():
        progress.warn(f"{int((drawn & shared).sum()):,} wells that share a position on a plate are not drawn")
        drawn &= ~shared
    quantities = _quantities(design)
    if not drawn.any() or not quantities:
        return ()
    row = [letters if one else None for letters, one in zip(_texts(design.row), drawn, strict=True)]
    design = replace(design, row=row, plate_format=positions.plate_format)
    plates = np.unique(positions.codes["plate"][drawn])
    if -(-plates.size // _ACROSS) * len(quantities) <= MOST_ROWS:
        return _draw(path, design, quantities, None)
    files: list[Path] = []
    most = MOST_ROWS * _ACROSS
    for quantity in quantities:
        for page, start in enumerate(range(0, plates.size, most), start=1):
            wells = np.isin(positions.codes["plate"], plates[start : start + most])
            number = f"_{page}" if plates.size > most else ""
            name = f"{path.name}_{_file_name(quantity.name)}{number}"
            files += _draw(path.with_name(name), design, [quantity], np.flatnonzero(wells))
    return tuple(files)


def _texts(values: Sequence[object] | np.ndarray | None) -> list[str | None]:
    return [None if value is None else str(value) for value in (values if values is not None else ())]


def _file_name(text: str) -> str:
    """A text as part of a file's name: separators, spaces and characters that are special to a shell become ``_``."""
    return re.sub(r"[^\w.+-]+", "_", text).strip("_") or "target"


def _shared(plate: Codes, well: Codes) -> np.ndarray:
    """Wells whose position is another well's too, bool of shape (N,)."""
    places = np.stack([plate, well], axis=1)
    _, inverse, count = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    return np.asarray((count[inverse.ravel()] > 1) & (well != MISSING))


def _quantities(design: DesignInput) -> list[PlateQuantity]:
    from dpf.figures.plates import PlateQuantity

    drawn = [
        PlateQuantity(name, values, "", "binary" if name == design.label else "diverging")
        for name, values in design.targets.items()
    ]
    if design.library_size is not None:
        depth = np.log10(np.maximum(design.library_size, 1.0))
        drawn.append(PlateQuantity("library size", depth, "counts (log10)", "sequential"))
    if design.detected is not None:
        drawn.append(PlateQuantity("detected genes", design.detected, "genes", "sequential"))
    return drawn


def _draw(
    path: Path, design: DesignInput, quantities: Sequence[PlateQuantity], wells: Codes | None
) -> tuple[Path, ...]:
    from dpf.figures.drawing.style import save
    from dpf.figures.plates import plate_heatmaps

    chosen = np.arange(design.n_wells) if wells is None else wells
    plate, row, column = _texts(design.plate), _texts(design.row), np.asarray(design.column, dtype=np.float64)
    figure = plate_heatmaps(
        [quantity._replace(values=np.asarray(quantity.values)[chosen]) for quantity in quantities],
        [plate[well] for well in chosen] if plate else None,
        [row[well] for well in chosen],
        column[chosen],
        design.is_control[chosen],
        plate_format=design.plate_format,
    )
    return save(figure, path)
