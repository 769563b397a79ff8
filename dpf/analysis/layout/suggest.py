"""A plate layout for the next screen: randomised, with controls scattered and replicates apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.check import check_design
from dpf.analysis.design.item import CheckItem
from dpf.analysis.design.wells import Codes, DesignInput
from dpf.analysis.layout.search import PlateMap, place_controls, separate_replicates
from dpf.errors import DataError, listed
from dpf.tables.roles.well_names import PLATE_SHAPES, PlateFormat, row_letters


@dataclass(frozen=True)
class Layout:
    """What goes into which well: one entry a filled well, plate by plate, row by row.

    Attributes
    ----------
    plate, row, column
        Plate names, row letters, column numbers from 1.
    compound
        The compound's name, or that of the control.
    is_control
        Boolean array.
    plate_format
        96, 384 or 1536.
    free
        Positions left empty over all plates: the free edge, and wells that nothing was left for.
    seed
        The seed that makes this layout again.
    """

    plate: tuple[str, ...]
    row: tuple[str, ...]
    column: tuple[int, ...]
    compound: tuple[str, ...]
    is_control: NDArray[np.bool_]
    plate_format: PlateFormat
    free: int
    seed: int

    @property
    def well_id(self) -> tuple[str, ...]:
        """``plate1_A01``: names that `dpf init` reads plate, row and column from."""
        places = zip(self.plate, self.row, self.column, strict=True)
        return tuple(f"{plate}_{row}{column:02d}" for plate, row, column in places)

    def as_design(self) -> DesignInput:
        """The layout as a design to check."""
        return DesignInput(
            compound=self.compound,
            is_control=self.is_control,
            plate=self.plate,
            row=self.row,
            column=self.column,
            well_id=self.well_id,
            plate_format=self.plate_format,
        )

    def check(self, fdr: float = 0.05) -> list[CheckItem]:
        """The items of `check_design`; those that need measurements are ``not applicable``.

        Missing wells are left out: what is empty here is so on purpose.
        """
        items = check_design(self.as_design(), np.random.default_rng(self.seed), fdr=fdr)
        return [item for item in items if item.name != "missing wells"]


def suggest_layout(
    compounds: Sequence[str],
    replicates: int,
    controls: int,
    plates: int,
    plate_format: PlateFormat,
    seed: int,
    *,
    edge_free: bool = False,
    control_name: str = "control",
) -> Layout:
    """Lay out compounds and controls at random over some plates.

    Controls: as many on each plate, each row, column, quadrant, interleaved quarter and edge with its share of them,
    on a plate and over all plates, at other positions on the next plate. Compounds: replicates on different plates
    where there are as many plates, in different rows, columns and quadrants. Both start from a random draw and are
    improved by exchanges that are drawn at random among the best, so that each compound's place stays random.

    Parameters
    ----------
    compounds
        C names.
    replicates
        Wells of each compound.
    controls
        Control wells on each plate.
    plates
        Number of plates.
    plate_format
        96, 384 or 1536 wells.
    seed
        The same seed gives the same layout.
    edge_free
        Leave the outermost rows and columns empty.
    control_name
        The name of the control in `Layout.compound`.

    Raises
    ------
    DataError
        A name twice, empty or the control's; no compounds; a count below its least value; more wells than places.

    Examples
    --------
    >>> layout = suggest_layout([f"c{i}" for i in range(40)], 2, controls=8, plates=1, plate_format=96, seed=1)
    >>> len(layout.compound), int(layout.is_control.sum()), layout.free
    (88, 8, 8)
    """
    _check_request(compounds, replicates, controls, plates, plate_format, seed, control_name)
    plate_map = PlateMap.of(plate_format, edge_free)
    _check_room(len(compounds), replicates, controls, plates, plate_map)
    rng = np.random.default_rng(seed)
    control_wells = place_controls(plate_map, controls, plates, rng)
    filled = _fill(len(compounds), replicates, control_wells, plate_map, rng)
    names = np.asarray([*compounds, control_name], dtype=object)
    plate, well = np.nonzero(filled >= 0)
    columns = PLATE_SHAPES[plate_format][1]
    content = filled[plate, well] // replicates
    return Layout(
        plate=tuple(f"plate{number + 1}" for number in plate),
        row=tuple(row_letters(int(number) // columns + 1) for number in well),
        column=tuple(int(number) % columns + 1 for number in well),
        compound=tuple(names[content].tolist()),
        is_control=content == len(compounds),
        plate_format=plate_format,
        free=plates * plate_format - plate.size,
        seed=seed,
    )


def _fill(
    n_compounds: int, replicates: int, control_wells: Codes, plate_map: PlateMap, rng: np.random.Generator
) -> Codes:
    """The content of every well, shape (plates, wells).

    ``compound * replicates + replicate``; the next number is a control, -1 nothing.
    """
    plates = control_wells.shape[0]
    filled = np.full((plates, plate_map.n_wells), -1, dtype=np.intp)
    open_wells = [rng.permutation(np.setdiff1d(plate_map.usable, control_wells[p])) for p in range(plates)]
    on_plate = _deal_to_plates(n_compounds, replicates, np.array([wells.size for wells in open_wells]), rng)
    position = np.empty((n_compounds, replicates), dtype=np.intp)
    for plate, wells in enumerate(open_wells):
        here = on_plate == plate
        position[here] = wells[: here.sum()]
    position = separate_replicates(on_plate, position, plate_map, rng)
    filled[on_plate.ravel(), position.ravel()] = np.arange(n_compounds * replicates)
    filled[np.arange(plates)[:, None], control_wells] = n_compounds * replicates
    return filled


def _deal_to_plates(n_compounds: int, replicates: int, room: Codes, rng: np.random.Generator) -> Codes:
    """The plate of each well of each compound, shape (C, replicates): the emptiest, each once before any twice."""
    room = room.copy()
    plate = np.empty((n_compounds, replicates), dtype=np.intp)
    for compound in rng.permutation(n_compounds):
        used = np.zeros(room.size, dtype=np.intp)
        for replicate in range(replicates):
            best = int(np.lexsort((rng.random(room.size), -room, used, room == 0))[0])
            plate[compound, replicate] = best
            room[best] -= 1
            used[best] += 1
    return plate


def _check_request(
    compounds: Sequence[str],
    replicates: int,
    controls: int,
    plates: int,
    plate_format: int,
    seed: int,
    control_name: str,
) -> None:
    if plate_format not in PLATE_SHAPES:
        raise DataError("there is no such plate format", found=plate_format, expected="96, 384 or 1536")
    counts = {"compounds": (len(compounds), 1), "replicates": (replicates, 1), "controls": (controls, 1)}
    for name, (count, least) in (counts | {"plates": (plates, 1), "seed": (seed, 0)}).items():
        if count < least:
            raise DataError(f"a layout needs more {name}", found=count, expected=f"{least} or more")
    names, times = np.unique(np.asarray(compounds, dtype=object).astype(str), return_counts=True)
    odd = [repr(str(name)) for name in names if not name.strip() or name == control_name]
    odd += [repr(str(name)) for name in names[times > 1]]
    if odd:
        raise DataError(
            "compound names must be there, once each, and not be the control's",
            found=listed(odd),
            hint="give each compound once; --replicates says how often it is plated",
        )


def _check_room(n_compounds: int, replicates: int, controls: int, plates: int, plate_map: PlateMap) -> None:
    room = plate_map.usable.size - controls
    wells = n_compounds * replicates
    if room * plates >= wells and room >= 0:
        return
    hint = f"{-(-wells // room)} plates would do" if room > 0 else "fewer controls, or a larger plate"
    raise DataError(
        "the layout has more wells than places",
        found=f"{n_compounds:,} compounds x {replicates} + {controls} controls a plate",
        expected=f"at most {plate_map.usable.size:,} wells on each of {plates} plates",
        hint=hint,
    )
