"""Plate heatmaps of every target and the library size, well by well."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from dpf.errors import DataError, listed
from dpf.figures.drawing.arrays import at_least_one, flags, numbers, same_length
from dpf.figures.drawing.style import (
    CONTROL,
    DIVERGING,
    GREY,
    INK,
    OKABE_ITO,
    PAGE,
    SEQUENTIAL,
    SMALL,
    TEXT,
    house_style,
    new_figure,
    printable,
    shorten,
)
from dpf.tables.roles.well_names import PLATE_SHAPES, PlateFormat, row_letters, row_number

#: Values beyond these percentiles get the colour at the end of the scale: one outlier well would wash out a plate.
_CLIP = (2.0, 98.0)
#: Most plates in a row.
_MOST_ACROSS = 4
#: Inches: row letters at the left, colour bar at the right, between plates, title of a quantity, title of a plate,
#: column numbers below, footnote.
_LEFT, _RIGHT, _GAP, _TITLE, _NAME, _NUMBERS, _NOTE = 0.25, 0.75, 0.12, 0.2, 0.14, 0.2, 0.2
#: A well without a value.
_NOT_MEASURED = "#BFBFBF"
#: A label is written at every n-th column and row.
_TICKS: dict[PlateFormat, tuple[int, int]] = {96: (1, 1), 384: (3, 2), 1536: (6, 4)}
#: Line width of a control's outline, and size of the mark where there is no well, in points.
_OUTLINE: dict[PlateFormat, float] = {96: 0.9, 384: 0.7, 1536: 0.4}
_NO_WELL: dict[PlateFormat, float] = {96: 2.5, 384: 1.5, 1536: 0.8}

_Array = NDArray[np.float64]
Scale = Literal["diverging", "sequential", "binary"]


class PlateQuantity(NamedTuple):
    """What is drawn on the plates.

    Attributes
    ----------
    name
        The title of its rows of plates: ``Tscore``.
    values
        Shape (N,); NaN is drawn grey.
    unit
        The label of its colour bar: ``z-score``, ``UMIs (log10)``.
    scale
        ``diverging`` around the median of the controls (of all wells without controls): blue lower, red higher.
        ``sequential`` for amounts. ``binary`` for 0 and 1: light and dark. All can be read with any colour vision.
    """

    name: str
    values: ArrayLike
    unit: str
    scale: Scale = "diverging"


class _Grid(NamedTuple):
    plate: NDArray[np.intp]  # [n]
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    names: list[str]
    format: PlateFormat
    wells: NDArray[np.intp]  # [n] which of the N wells have a position

    def shape(self) -> tuple[int, int]:
        """Rows and columns of plates."""
        across = min(_MOST_ACROSS, len(self.names))
        return -(-len(self.names) // across), across


@house_style()
def plate_heatmaps(
    quantities: Sequence[PlateQuantity],
    plate: Sequence[str | None] | None,
    row: Sequence[str | None],
    column: Sequence[float | None] | ArrayLike,
    is_control: ArrayLike,
    *,
    plate_format: PlateFormat | None = None,
) -> Figure:
    """Draw every quantity on every plate: small multiples, one colour scale a quantity over all its plates.

    Control wells are outlined. A well without a value is grey, a position without a well a dot. Wells without a
    position are not drawn; the footnote counts them.

    Parameters
    ----------
    quantities
        At least one; each gets as many rows of plates as its plates need, four in each.
    plate
        N names; None: all wells are on one plate.
    row, column
        N row letters and column numbers from 1; None or NaN where not known.
    is_control
        Boolean array of shape (N,).
    plate_format
        96, 384 or 1536; None: the smallest that holds every position.

    Raises
    ------
    DataError
        Lengths disagree, nothing to draw, or a position that is not on the plate.
    """
    at_least_one("the quantities of the plate figure", len(quantities))
    n_wells = len(row)
    control = flags("controls", np.asarray(is_control), n_wells)
    grid = _grid(plate, row, column, plate_format)
    at_least_one("wells with a position", grid.wells.size)
    values = [numbers(quantity.name, quantity.values, (n_wells,)) for quantity in quantities]
    width, plate_height, band = _sizes(grid)
    figure = new_figure(width, len(quantities) * band + _NOTE, arranged=False)
    for place, (quantity, table) in enumerate(zip(quantities, values, strict=True)):
        top = figure.get_figheight() - place * band
        _draw_quantity(figure, top, plate_height, quantity, table[grid.wells], control[grid.wells], grid)
    note = _note(n_wells - grid.wells.size, bool(control.any()))
    figure.text(0.05 / width, 0.06 / figure.get_figheight(), note, fontsize=SMALL, color=GREY)
    return figure


def _sizes(grid: _Grid) -> tuple[float, float, float]:
    """Inches: width of the figure, height of a plate, height of a quantity with all its plates."""
    down, across = grid.shape()
    n_rows, n_columns = PLATE_SHAPES[grid.format]
    width = PAGE if across > 1 else 0.66 * PAGE
    plate_width = (width - _LEFT - _RIGHT - (across - 1) * _GAP) / across
    plate_height = plate_width * n_rows / n_columns
    return width, plate_height, _TITLE + down * (plate_height + _NAME) + _NUMBERS


def _draw_quantity(
    figure: Figure,
    top: float,
    plate_height: float,
    quantity: PlateQuantity,
    values: _Array,
    control: NDArray[np.bool_],
    grid: _Grid,
) -> None:
    """All plates of one quantity, below `top` inches."""
    across = grid.shape()[1]
    width, height = figure.get_size_inches()
    n_rows, n_columns = PLATE_SHAPES[grid.format]
    plate_width = plate_height * n_columns / n_rows
    norm, colours = _colours(values, control, quantity.scale)
    figure.text(0.05 / width, (top - 0.13) / height, printable(quantity.name), fontsize=TEXT, fontweight="bold")
    for number in range(len(grid.names)):
        at_row, at_column = divmod(number, across)
        left = _LEFT + at_column * (plate_width + _GAP)
        bottom = top - _TITLE - (at_row + 1) * (plate_height + _NAME)
        ax = figure.add_axes((left / width, bottom / height, plate_width / width, plate_height / height))
        _draw(ax, number, grid, values, control, norm, colours)
        _label(ax, grid, letters=at_column == 0, digits=number + across >= len(grid.names))
    first, length = top - _TITLE - _NAME - plate_height, min(plate_height, 1.2)
    bar_left = _LEFT + across * (plate_width + _GAP)
    box = figure.add_axes((bar_left / width, (first + plate_height - length) / height, 0.08 / width, length / height))
    bar = figure.colorbar(
        ScalarMappable(norm, colours), cax=box, extend="neither" if quantity.scale == "binary" else "both"
    )
    if quantity.scale == "binary":
        bar.set_ticks([0.25, 0.75], labels=["0", "1"])
    bar.set_label(printable(quantity.unit))


def _note(unplaced: int, controls: bool) -> str:
    parts = ["outlined: controls"] if controls else []
    parts += ["grey: not measured", "dot: no well", "colours end at the 2nd and 98th percentile"]
    if unplaced:
        parts.append(f"{unplaced:,} wells without a position are not shown")
    return "; ".join(parts)


def _grid(
    plate: Sequence[str | None] | None,
    row: Sequence[str | None],
    column: Sequence[float | None] | ArrayLike,
    plate_format: PlateFormat | None,
) -> _Grid:
    if plate is not None:
        same_length("plates", len(plate), len(row))
    x = numbers("plate columns", np.asarray(column, dtype=object), (len(row),)) - 1
    y = np.array([row_number(letters) - 1 if letters else -1 for letters in row], dtype=np.intp)
    odd = [letters for letters in row if letters and re.fullmatch("[A-Za-z]{1,2}", letters) is None]
    if odd:
        raise DataError(
            "a plate row is not a row letter", where="the plate figure", found=listed(odd), expected="A ... AF"
        )
    names = ["" if name is None else str(name) for name in (plate if plate is not None else [" "] * len(row))]
    wells = np.flatnonzero(~np.isnan(x) & (y >= 0) & np.array([name != "" for name in names], dtype=bool))
    x_placed, y_placed = x[wells].astype(np.intp), y[wells]
    fitting = [
        name
        for name, (height, width) in PLATE_SHAPES.items()
        if plate_format in (None, name) and ((y_placed < height) & (x_placed >= 0) & (x_placed < width)).all()
    ]
    if not fitting:
        kinds = f"a {plate_format}-well plate" if plate_format else "a plate of 96, 384 or 1536 wells"
        found = f"rows to {row_letters(int(y_placed.max()) + 1)}, columns {x_placed.min() + 1} to {x_placed.max() + 1}"
        raise DataError("a position is not on the plate", where="the plate figure", found=found, expected=kinds)
    levels, place = np.unique([names[well] for well in wells], return_inverse=True)
    grid = _Grid(place, y_placed, x_placed, levels.tolist(), fitting[0], wells)
    _refuse_shared(grid)
    return grid


def _refuse_shared(grid: _Grid) -> None:
    places, count = np.unique(np.stack([grid.plate, grid.row, grid.column]), axis=1, return_counts=True)
    shared = [f"{grid.names[p]} {row_letters(int(r) + 1)}{c + 1}".strip() for p, r, c in places[:, count > 1].T]
    if shared:
        raise DataError(
            "several wells have the same position: only one could be drawn",
            where="the plate figure",
            found=listed(shared),
            expected="one well a place",
            hint="correct the plate map",
        )


def _colours(values: _Array, control: NDArray[np.bool_], scale: str) -> tuple[Normalize, Colormap]:
    if scale == "binary":
        pair = ListedColormap([OKABE_ITO["sky blue"], OKABE_ITO["vermillion"]])
        return Normalize(0, 1), pair.with_extremes(bad=_NOT_MEASURED)
    known = values[~np.isnan(values)]
    if not known.size:
        known = np.zeros(1)
    low, high = np.percentile(known, _CLIP)
    if scale == "sequential":
        return Normalize(low, high if high > low else low + 1), colormaps[SEQUENTIAL].with_extremes(bad=_NOT_MEASURED)
    reference = values[control & ~np.isnan(values)]
    centre = float(np.median(reference if reference.size else known))
    # The same reach on both sides: equal steps of value are equal steps of colour.
    reach = max(high - centre, centre - low) or 1.0
    return Normalize(centre - reach, centre + reach), colormaps[DIVERGING].with_extremes(bad=_NOT_MEASURED)


def _draw(
    ax: Axes, number: int, grid: _Grid, values: _Array, control: NDArray[np.bool_], norm: Normalize, colours: Colormap
) -> None:
    n_rows, n_columns = PLATE_SHAPES[grid.format]
    here = grid.plate == number
    row, column = grid.row[here], grid.column[here]
    picture = np.ones((n_rows, n_columns, 4))
    picture[row, column] = colours(norm(np.ma.masked_invalid(values[here])))
    ax.imshow(picture, interpolation="nearest", aspect="auto")
    empty = np.ones((n_rows, n_columns), dtype=bool)
    empty[row, column] = False
    y, x = np.nonzero(empty)
    ax.plot(x, y, linestyle="none", marker=".", color=GREY, markersize=_NO_WELL[grid.format], markeredgewidth=0)
    corners = zip(column[control[here]], row[control[here]], strict=True)
    outlined = [Rectangle((float(x) - 0.5, float(y) - 0.5), 1, 1) for x, y in corners]
    width = _OUTLINE[grid.format]
    ax.add_collection(PatchCollection(outlined, facecolor="none", edgecolor=CONTROL, linewidth=width))
    for spine in ax.spines.values():
        spine.set(visible=True, linewidth=0.4, edgecolor=GREY)
    if grid.names[number].strip():
        ax.set_title(shorten(grid.names)[number], fontsize=SMALL, pad=2)


def _label(ax: Axes, grid: _Grid, *, letters: bool, digits: bool) -> None:
    """Row letters on the plates at the left, column numbers on the lowest."""
    n_rows, n_columns = PLATE_SHAPES[grid.format]
    every_column, every_row = _TICKS[grid.format]
    columns = np.arange(0, n_columns, every_column) if digits else np.arange(0)
    rows = np.arange(0, n_rows, every_row) if letters else np.arange(0)
    ax.set_xticks(columns, [str(x + 1) for x in columns], fontsize=SMALL - 1, color=INK)
    ax.set_yticks(rows, [row_letters(int(y) + 1) for y in rows], fontsize=SMALL - 1, color=INK)
    ax.tick_params(length=0, pad=1.5)
