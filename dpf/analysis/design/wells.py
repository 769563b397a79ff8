"""The design of a screen as arrays: what stands in which well, and what was measured there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.errors import DataError
from dpf.tables.roles.well_names import PLATE_SHAPES, PlateFormat, row_letters, row_number

Codes = NDArray[np.intp]

#: The code of a value that is not known.
MISSING = -1
#: What whole groups of wells have in common.
BLOCK_FACTORS = ("plate", "batch", "donor")
#: All factors of a well's place, in the order they are reported.
POSITION_FACTORS = (*BLOCK_FACTORS, "row", "column", "quadrant", "interleave", "edge")


@dataclass(frozen=True)
class DesignInput:
    """A screen of N wells, the input of `check_design`.

    Attributes
    ----------
    compound
        N names; None or empty where unknown (such a well has no replicates).
    is_control
        Boolean array of shape (N,).
    plate, row, column
        N plate names, row letters (``A`` ... ``AF``) and column numbers from 1; None as a whole or in single wells
        where not known. Without `plate` all wells are taken to lie on one.
    batch, donor
        N names; None as a whole or in single wells where not known.
    set_aside
        The wells that take no part, none of them among the N: only their places are looked at.
    targets
        Name to float array of shape (N,); NaN where not measured. Scores, activation and label alike.
    label
        Which of `targets` is the binary label (0, 1, NaN).
    expression
        Array of shape (N, G), finite, on the scale the model is trained on.
    library_size, detected
        Counts and detected genes of each well, before normalisation, shape (N,).
    composition
        What the library size was multiplied by because of what takes it up, above 0, shape (N,).
    cluster
        N cluster names.
    well_id
        N well names, used to point at single wells.
    plate_format
        96, 384 or 1536; without it the smallest that holds every position.

    Raises
    ------
    DataError
        Arrays of different lengths, an infinite value, a label that is not binary, a row that is not a row letter
        or a position that is not on the plate.
    """

    compound: Sequence[str | None] | NDArray[np.object_]
    is_control: NDArray[np.bool_]
    plate: Sequence[str | None] | NDArray[np.object_] | None = None
    row: Sequence[str | None] | NDArray[np.object_] | None = None
    column: ArrayLike | None = None
    targets: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    label: str | None = None
    expression: NDArray[np.float32] | NDArray[np.float64] | None = None
    library_size: NDArray[np.float64] | None = None
    detected: NDArray[np.float64] | None = None
    composition: NDArray[np.float64] | None = None
    cluster: Sequence[str | None] | NDArray[np.object_] | None = None
    well_id: Sequence[str] | None = None
    plate_format: PlateFormat | None = None
    batch: Sequence[str | None] | NDArray[np.object_] | None = None
    donor: Sequence[str | None] | NDArray[np.object_] | None = None
    set_aside: DesignInput | None = None

    def __post_init__(self) -> None:
        n_wells = len(self.compound)
        if n_wells == 0:
            raise DataError("a design without wells cannot be checked", found="0 wells", expected="at least one")
        names = ("is_control", "plate", "row", "column", "expression", "library_size", "detected", "composition",
                 "cluster", "well_id", "batch", "donor")  # fmt: skip
        parts = {name: getattr(self, name) for name in names} | {f"target {k}": v for k, v in self.targets.items()}
        for name, part in parts.items():
            if part is not None and len(part) != n_wells:
                raise DataError(
                    f"the design's {name} has another number of wells than its compounds",
                    found=f"{len(part):,} wells",
                    expected=f"{n_wells:,} wells",
                )
        if (self.row is None) != (self.column is None):
            raise DataError("a design needs both rows and columns, or neither", hint="give both roles to `dpf init`")
        if self.plate_format is not None and self.plate_format not in PLATE_SHAPES:
            raise DataError("there is no such plate format", found=self.plate_format, expected="96, 384 or 1536")
        self._check_values()

    def _check_values(self) -> None:
        measured = dict(self.targets) | {"library size": self.library_size, "detected genes": self.detected}
        for name, values in measured.items():
            if values is not None and np.isinf(np.asarray(values, dtype=np.float64)).any():
                raise DataError(f"{name} has an infinite value", expected="finite numbers, or missing")
        if self.label is None:
            return
        if self.label not in self.targets:
            raise DataError("the label is not one of the targets", found=self.label, expected=", ".join(self.targets))
        values = np.asarray(self.targets[self.label], dtype=np.float64)
        odd = np.setdiff1d(values[~np.isnan(values)], [0.0, 1.0])
        if odd.size:
            raise DataError(f"the label {self.label} is not binary", found=f"{odd[0]:g}", expected="0, 1 or missing")

    @property
    def n_wells(self) -> int:
        """N."""
        return len(self.compound)

    def well_name(self, index: int) -> str:
        """The name of a well: its id where there is one, else ``well 17`` (from 1)."""
        return str(self.well_id[index]) if self.well_id is not None else f"well {index + 1}"


@dataclass(frozen=True)
class Positions:
    """Where N wells are, as numbers.

    Attributes
    ----------
    codes
        One integer array of shape (N,) a factor of `POSITION_FACTORS`; `MISSING` (-1) where not known.
        ``quadrant`` is the quarter of the plate (upper left, ...). ``interleave`` is row parity by column parity, the
        wells that one 96-well head reaches on a 384-well plate; left out on 96-well plates. ``edge`` is 1 in the
        outermost rows and columns. ``batch`` and ``donor`` are left out where no well has one.
    levels
        The names of each factor's codes.
    plate_format
        96, 384 or 1536.
    """

    codes: dict[str, Codes]
    levels: dict[str, tuple[str, ...]]
    plate_format: PlateFormat

    def well_names(self, wells: Codes) -> list[str]:
        """``plate1 A1`` for each of some wells whose position is known."""
        plate, row, column = (self.codes[name][wells] for name in ("plate", "row", "column"))
        return [
            f"{self.levels['plate'][p]} {row_letters(int(r) + 1)}{c + 1}".strip()
            for p, r, c in zip(plate, row, column, strict=True)
        ]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Wells whose plate, row and column are known, shape (N,)."""
        return np.asarray((self.codes["plate"] != MISSING) & (self.well != MISSING))

    @property
    def well(self) -> Codes:
        """The number of each position on a plate, row by row, shape (N,); -1 where row or column is not known."""
        row, column = self.codes["row"], self.codes["column"]
        known = (row != MISSING) & (column != MISSING)
        return np.where(known, row * PLATE_SHAPES[self.plate_format][1] + column, MISSING)


def codes_of(values: Sequence[object] | NDArray[np.object_]) -> tuple[Codes, tuple[str, ...]]:
    """Numbers for N names in sorted order, and the names; None, NaN and the empty name are `MISSING`."""
    names = ["" if value is None or value != value else str(value) for value in values]
    levels, codes = np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)
    codes = codes.astype(np.intp)
    if levels.size and levels[0] == "":
        return codes - 1, tuple(levels[1:].tolist())
    return codes, tuple(levels.tolist())


def compound_units(design: DesignInput) -> Codes:
    """The compound of each well as a number, shape (N,); controls and nameless wells are each one of their own."""
    codes, levels = codes_of(design.compound)
    alone = design.is_control | (codes == MISSING)
    return np.where(alone, len(levels) + np.arange(codes.size), codes)


def locate(design: DesignInput) -> Positions:
    """The positions of a design's wells; without rows and columns only their plates.

    Raises
    ------
    DataError
        A row that is not a row letter, a column that is not a number from 1, or a position off the plate.
    """
    row, column = _row_indices(design), _column_indices(design)
    plate_format = design.plate_format or _format_of(design, row, column)
    n_rows, n_columns = PLATE_SHAPES[plate_format]
    off = np.flatnonzero((row >= n_rows) | (column >= n_columns))
    if off.size:
        raise DataError(
            f"a position is not on a {plate_format}-well plate",
            where=design.well_name(int(off[0])),
            found=f"row {row_letters(int(row[off[0]]) + 1)}, column {column[off[0]] + 1}",
            expected=f"rows A to {row_letters(n_rows)}, columns 1 to {n_columns}",
        )
    plate, plates = (np.zeros(design.n_wells, dtype=np.intp), ("",)) if design.plate is None else codes_of(design.plate)
    codes, levels = {"plate": plate}, {"plate": plates}
    for name, values in (("batch", design.batch), ("donor", design.donor)):
        if values is not None:
            codes[name], levels[name] = codes_of(values)
    inside, inside_levels = within_plate(row, column, n_rows, n_columns)
    return Positions(codes | inside, levels | inside_levels, plate_format)


def _format_of(design: DesignInput, row: Codes, column: Codes) -> PlateFormat:
    """The smallest plate that holds the rows and columns of a design, those of its wells set aside included."""
    if design.set_aside is not None:
        row = np.concatenate([row, _row_indices(design.set_aside)])
        column = np.concatenate([column, _column_indices(design.set_aside)])
    return smallest_format(row, column)


def smallest_format(row: Codes, column: Codes) -> PlateFormat:
    """The smallest plate that holds rows and columns counted from 0.

    Raises
    ------
    DataError
        A position lies beyond a 1,536-well plate.
    """
    for plate_format, (n_rows, n_columns) in PLATE_SHAPES.items():
        if row.max(initial=0) < n_rows and column.max(initial=0) < n_columns:
            return plate_format
    raise DataError(
        "a position is on no plate of 96, 384 or 1536 wells",
        found=f"row {row_letters(int(row.max()) + 1)}, column {int(column.max()) + 1}",
        expected="row A to AF, column 1 to 48",
    )


def within_plate(
    row: Codes, column: Codes, n_rows: int, n_columns: int
) -> tuple[dict[str, Codes], dict[str, tuple[str, ...]]]:
    """The codes and level names of every factor but the plate, for rows and columns from 0 (-1 where not known)."""
    known = (row != MISSING) & (column != MISSING)
    quadrant = 2 * (row >= n_rows // 2) + (column >= n_columns // 2)
    interleave = 2 * (row % 2) + column % 2
    edge = (row == 0) | (row == n_rows - 1) | (column == 0) | (column == n_columns - 1)
    codes = {"row": row, "column": column, "quadrant": np.where(known, quadrant, MISSING)}
    levels: dict[str, tuple[str, ...]] = {
        "row": tuple(row_letters(number + 1) for number in range(n_rows)),
        "column": tuple(str(number + 1) for number in range(n_columns)),
        "quadrant": ("upper left", "upper right", "lower left", "lower right"),
    }
    if n_rows > PLATE_SHAPES[96][0]:
        codes["interleave"] = np.where(known, interleave, MISSING)
        levels["interleave"] = ("A1", "A2", "B1", "B2")
    codes["edge"], levels["edge"] = np.where(known, edge, MISSING), ("inner", "edge")
    return codes, levels


def _row_indices(design: DesignInput) -> Codes:
    indices = np.full(design.n_wells, MISSING, dtype=np.intp)
    for place, value in enumerate(design.row if design.row is not None else ()):
        if value is None or value != value or str(value) == "":
            continue
        if re.fullmatch("[A-Za-z]{1,2}", str(value)) is None:
            raise DataError(
                "a plate row is not a row letter",
                where=design.well_name(place),
                found=repr(value),
                expected="A, B, ... AF",
            )
        indices[place] = row_number(str(value)) - 1
    return indices


def _column_indices(design: DesignInput) -> Codes:
    if design.column is None:
        return np.full(design.n_wells, MISSING, dtype=np.intp)
    try:
        column = np.asarray(design.column, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError("a plate column is not a number", found=str(error), expected="1, 2, ... 48") from error
    known = ~np.isnan(column)
    odd = np.flatnonzero(known & ((column < 1) | (column != np.round(column))))
    if odd.size:
        where = design.well_name(int(odd[0]))
        raise DataError(
            "a plate column is not a column number", where=where, found=f"{column[odd[0]]:g}", expected="1, 2, ... 48"
        )
    return np.where(known, np.nan_to_num(column, nan=0.0) - 1, MISSING).astype(np.intp)
