"""`dpf check --suggest-layout`: a randomised plate layout for the next screen, as CSV, and its design check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from dpf.analysis.design.item import CheckItem, Verdict
from dpf.analysis.design.wells import smallest_format
from dpf.analysis.layout.search import PlateMap
from dpf.analysis.layout.suggest import Layout, suggest_layout
from dpf.errors import DataError, ProjectError, UsageError, listed
from dpf.files import write_text
from dpf.project.directory import Project
from dpf.project.new_files import require_free
from dpf.tables.formats.reading import read_table, refuse_absent
from dpf.tables.roles.assign import COMPOUND_HEADINGS
from dpf.tables.roles.headings import guess_columns
from dpf.tables.roles.well_names import PLATE_SHAPES, PlateFormat, row_number
from dpf.tables.screen import takes_part
from dpf.tables.storage import read_table as read_stored
from dpf.tables.text.encodings import parse_text
from dpf.tables.text.spreadsheet import to_csv
from dpf.workflows.options import LayoutWish

REPLICATES = 2
FORMAT: PlateFormat = 384
CONTROL = "DMSO"
#: Groups of check items that need no measurements.
_OF_LAYOUTS = ("controls", "replicates", "power")
_TABLES = {".csv", ".tsv", ".xlsx", ".xlsm", ".parquet", ".feather", ".arrow"}


@dataclass(frozen=True)
class SuggestedLayout:
    """A layout, its own check, and the file it was written to.

    Attributes
    ----------
    table
        One row a filled well: well_id, plate, row, column, compound, is_control, and concentration where there are
        several.
    items
        Its design check.
    text
        A summary of what was laid out.
    notes
        Choices that were made for the user and may not be what they want.
    """

    table: pl.DataFrame
    items: tuple[CheckItem, ...]
    path: Path
    text: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Treatments:
    """What is to be laid out, and how often it was in the screen it comes from.

    Attributes
    ----------
    keys
        One row a treatment: compound and, where a compound has several, concentration.
    """

    keys: pl.DataFrame
    control: str = CONTROL
    replicates: int | None = None
    controls: int | None = None
    plates: int | None = None
    plate_format: PlateFormat | None = None
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """One name a treatment."""
        if "concentration" not in self.keys.columns:
            return self.keys.get_column("compound").to_list()
        return [name if dose is None else f"{name} @ {dose}" for name, dose in self.keys.iter_rows()]


def suggest(
    target: Path, project: Project | None, compounds: Path | None, wish: LayoutWish, *, fdr: float = 0.05
) -> SuggestedLayout:
    """Lay out a project's compounds, or those of a list, and write `target`.

    Defaults without a wish or a project: 2 replicates, 384 wells, as many controls on a plate as it has rows (a
    column's worth), and as many plates as that needs.

    Parameters
    ----------
    target
        The CSV file. One that is there already is left alone, unless it holds this very layout.
    project
        Where compounds, replicates, controls and plates come from.
    compounds
        A list of compounds instead of the project's: one a line, or a table with a column of compounds.
    wish
        What the user asks for.
    fdr
        The false discovery rate that the layout's power is checked at.

    Raises
    ------
    UsageError
        Neither a project nor a list, or `target` holds something else or lies among a project's own files.
    DataError
        The list cannot be read, or the layout does not fit.
    """
    require_free([target], project, overwrite=True)  # what is there already is looked at below
    if project is None and compounds is None:
        raise UsageError("a layout needs compounds", expected="a project, or --compound-list FILE")
    treatments = project_treatments(project) if project is not None else None
    if compounds is not None:
        keys = pl.DataFrame({"compound": read_compound_list(compounds)})
        treatments = replace(treatments, keys=keys) if treatments is not None else Treatments(keys)
    assert treatments is not None
    layout, replicates, controls = _lay_out(treatments, wish)
    table = _table(layout, treatments)
    text = to_csv(table)
    if target.exists() and (target.is_dir() or target.read_bytes() != text.encode()):
        raise UsageError(
            "there is another file of that name, and a layout may have been pipetted",
            where=target,
            hint="name a new file",
        )
    write_text(target, text)
    plates = len(set(layout.plate))
    summary = (
        f"{treatments.keys.height:,} {'treatments' if 'concentration' in treatments.keys.columns else 'compounds'} x"
        f" {replicates} + {controls} {treatments.control} a plate, on {plates} plate{'s' * (plates > 1)} of"
        f" {layout.plate_format} wells, {layout.free:,} left empty; seed {layout.seed}"
    )
    return SuggestedLayout(table, _check(layout, table, fdr), target, summary, treatments.notes)


def _lay_out(treatments: Treatments, wish: LayoutWish) -> tuple[Layout, int, int]:
    plate_format = wish.plate_format or treatments.plate_format or FORMAT
    replicates = wish.replicates or treatments.replicates or REPLICATES
    controls = wish.controls or treatments.controls or PLATE_SHAPES[plate_format][0]
    plates = wish.plates
    if plates is None:
        room = PlateMap.of(plate_format, wish.edge_free).usable.size - controls
        needed = -(-treatments.keys.height * replicates // room) if room > 0 else 1
        plates = max(treatments.plates or 1, needed)
    layout = suggest_layout(
        treatments.names,
        replicates,
        controls,
        plates,
        plate_format,
        wish.seed,
        edge_free=wish.edge_free,
        control_name=treatments.control,
    )
    return layout, replicates, controls


def _check(layout: Layout, table: pl.DataFrame, fdr: float) -> tuple[CheckItem, ...]:
    """The items of `Layout.check` that a layout can have, by compound: concentrations of one are tested together."""
    items = replace(layout, compound=tuple(table.get_column("compound"))).check(fdr)
    return tuple(item for item in items if item.verdict != Verdict.NOT_APPLICABLE or item.group in _OF_LAYOUTS)


def _table(layout: Layout, treatments: Treatments) -> pl.DataFrame:
    table = pl.DataFrame(
        {
            "well_id": layout.well_id,
            "plate": layout.plate,
            "row": layout.row,
            "column": layout.column,
            "compound": layout.compound,
            "is_control": layout.is_control,
        }
    )
    if "concentration" not in treatments.keys.columns:
        return table
    keys = treatments.keys.with_columns(name=pl.Series(treatments.names)).rename({"compound": "own_name"})
    joined = table.join(keys, left_on="compound", right_on="name", how="left", maintain_order="left")
    return joined.with_columns(compound=pl.coalesce("own_name", "compound")).drop("own_name")


def project_treatments(project: Project) -> Treatments:
    """The treatments of a project's screen, to be laid out again.

    Replicates are the median, controls a plate the mean, both rounded up; of several controls the commonest is taken.

    Raises
    ------
    ProjectError
        The project has no compounds.
    """
    wells = read_stored(project.wells, "wells")
    wells = wells.filter(takes_part(wells, keep_flagged=True))  # a compound that failed is laid out again
    treated = wells.filter(~pl.col("is_control") & (pl.col("compound").fill_null("") != ""))
    if treated.is_empty():
        raise ProjectError("the project has no compounds to lay out", where=project.wells)
    columns = ["compound"]
    if (
        "concentration" in wells.columns
        and treated.group_by("compound").agg(pl.col("concentration").n_unique()).get_column("concentration").max() != 1
    ):
        columns = ["compound", "concentration"]
    counts = treated.group_by(columns, maintain_order=True).len()
    wells_each = counts.get_column("len").to_numpy()
    controls = wells.filter("is_control").get_column("compound").value_counts(sort=True).rows()
    plates = max(1, wells.get_column("plate").drop_nulls().n_unique()) if "plate" in wells.columns else None
    replicates = int(np.ceil(np.median(wells_each)))
    notes = []
    if wells_each.min() != wells_each.max():
        spread = f"{wells_each.min()} to {wells_each.max()}"
        notes.append(f"replicates: {replicates}, the median of {spread} in the screen (--replicates)")
    if len(controls) > 1:
        others = listed([str(name) for name, _ in controls[1:]])
        notes.append(f"every control well is {controls[0][0]}; the screen also has {others}")
    return Treatments(
        keys=counts.drop("len"),
        control=controls[0][0] if controls else CONTROL,
        replicates=replicates,
        controls=-(-sum(count for _, count in controls) // (plates or 1)) or None,
        plates=plates,
        plate_format=_format_of(wells),
        notes=tuple(notes),
    )


def _format_of(wells: pl.DataFrame) -> PlateFormat | None:
    if not {"row", "column"} <= set(wells.columns):
        return None
    placed = wells.drop_nulls(["row", "column"])
    rows = np.array([row_number(letters) - 1 for letters in placed.get_column("row")], dtype=np.intp)
    return smallest_format(rows, placed.get_column("column").to_numpy().astype(np.intp) - 1) if rows.size else None


def read_compound_list(path: Path) -> list[str]:
    """The compounds of a list: of a table (CSV, TSV, Excel, Parquet) its column of compounds, else one a line.

    A table is known by its file's ending. Its column is found by its heading as `dpf init` finds it; a table with a
    single column that has another heading is taken for a list without one. Empty lines are left out.

    Raises
    ------
    DataError
        The file cannot be read, has no column of compounds, or holds no name.
    """
    refuse_absent([path])
    if path.suffix.casefold() not in _TABLES:
        lines, _ = parse_text(path, lambda stream: stream.read().splitlines())
        names: Sequence[str] = [line.strip() for line in lines]
    else:
        table = read_table(path)
        columns = guess_columns(table, COMPOUND_HEADINGS)
        if not columns and table.frame.width != 1:
            raise DataError(
                "the table has no column of compounds",
                where=path,
                found=f"columns {listed(table.frame.columns, 20)}",
                expected="a column headed compound",
            )
        alone = table.frame.columns[0]
        names = table.texts(columns[0]) if columns else [alone, *table.texts(alone)]
    names = [name for name in names if name]
    if not names:
        raise DataError("the list holds no compound", where=path, expected="one a line")
    return names
