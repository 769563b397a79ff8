"""The classic layout: a folder of CSV files that belong together by the order of their lines.

`expr_mat.csv` (wells × genes), `meta_id.csv` (compounds), `well_id.csv`, and as targets `scores_3_z.csv`,
`labels_cls.csv` and `activation_score_old.csv`; `cluster_id.csv` where there is one. Written by R: a heading ``x`` over
a single column, quoted names, sometimes a first column without a heading that counts the rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import polars as pl

from dpf.errors import DataError, UsageError, listed, repeated
from dpf.tables.matrix import Matrix
from dpf.tables.screen import Note, SourceFile
from dpf.tables.text.expression import read_text_matrix
from dpf.tables.text.wells_table import Table, read_text_table

EXPRESSION, COMPOUNDS, WELLS = "expr_mat.csv", "meta_id.csv", "well_id.csv"
SCORES, LABELS, ACTIVATION, CLUSTERS = "scores_3_z.csv", "labels_cls.csv", "activation_score_old.csv", "cluster_id.csv"

#: What a file of one column becomes in the wells table.
COLUMN_OF = {
    WELLS: "well_id",
    COMPOUNDS: "compound",
    LABELS: "label",
    ACTIVATION: "activation_score",
    CLUSTERS: "cluster",
}


class ClassicScreen(NamedTuple):
    """A folder as read: expression, one row a well in `table`, which of its columns are scores."""

    matrix: Matrix
    table: Table
    scores: tuple[str, ...]
    notes: tuple[Note, ...]
    sources: tuple[SourceFile, ...]


def recognises_classic(path: Path) -> bool:
    """Whether `path` is a folder with an `expr_mat.csv`, packed or not."""
    return path.is_dir() and any((path / name).is_file() for name in (EXPRESSION, f"{EXPRESSION}.gz"))


def read_classic(folder: Path) -> ClassicScreen:
    """Read a folder of the classic layout.

    Score columns are taken by their headings, in whatever order they stand.

    Raises
    ------
    DataError
        `expr_mat.csv`, `meta_id.csv` or `well_id.csv` is missing, a file of one column has several, two files differ
        in their number of rows, or the expression names its wells in another order than `well_id.csv`.
    """
    notes: list[Note] = []
    paths = {name: _find(folder, name, notes) for name in (EXPRESSION, *COLUMN_OF, SCORES)}
    absent = [name for name in (EXPRESSION, COMPOUNDS, WELLS) if paths[name] is None]
    if absent:
        raise DataError(
            "a folder of the classic layout is not complete",
            where=folder,
            found=f"no {listed(absent)}",
            expected=f"{EXPRESSION}, {COMPOUNDS}, {WELLS}, and {SCORES}, {LABELS} or {ACTIVATION}; each may end in .gz",
            hint="is this the right folder?",
        )
    tables = {name: read_text_table(path) for name, path in paths.items() if path is not None and name != EXPRESSION}
    expression = paths[EXPRESSION]
    assert expression is not None  # it is not absent
    matrix = read_text_matrix(expression)
    columns = [_single(tables[name], heading) for name, heading in COLUMN_OF.items() if name in tables]
    if SCORES in tables:
        columns += tables[SCORES].frame.get_columns()
    _same_rows(matrix, tables)
    frame = pl.DataFrame(_distinct(columns, folder))
    _same_order(matrix, frame.get_column("well_id").to_list(), notes)
    sources = (matrix.source, *(source for table in tables.values() for source in table.sources))
    places = [f"{folder}, well {at}" for at in range(1, frame.height + 1)]
    scores = tuple(tables[SCORES].frame.columns) if SCORES in tables else ()
    notes += [*matrix.notes, *(note for table in tables.values() for note in table.notes)]
    return ClassicScreen(matrix, Table(frame, places, sources, title=str(folder)), scores, tuple(notes), sources)


def _find(folder: Path, name: str, notes: list[Note]) -> Path | None:
    """The file of that name, packed or under the odd name that public data have; None where there is none."""
    names = [name, f"{name}.gz", f"e.{name}", f"e.{name}.gz"] if name == ACTIVATION else [name, f"{name}.gz"]
    found = [folder / candidate for candidate in names if (folder / candidate).is_file()]
    if len(found) > 1:
        others = listed([path.name for path in found[1:]])
        notes.append(Note("warning", f"{found[0].name} was read, and {others} beside it was not"))
    if found and found[0].name.startswith("e."):
        notes.append(Note("info", f"{found[0].name} was read as {name}"))
    return found[0] if found else None


def _single(table: Table, heading: str) -> pl.Series:
    if table.frame.width != 1:
        raise DataError(
            "a file of the classic layout has too many columns",
            where=table.name,
            found=f"columns {listed(table.frame.columns)}",
            expected="one column, and at most a count of the rows before it",
        )
    return table.frame.to_series(0).alias(heading)


def _distinct(columns: list[pl.Series], folder: Path) -> list[pl.Series]:
    names = [column.name for column in columns]
    if twice := repeated(names):
        raise DataError(
            "a score has the name of another column",
            where=folder / SCORES,
            found=listed(twice),
            expected=f"names other than {listed(list(COLUMN_OF.values()))}",
            hint="rename it in the line of headings",
        )
    return columns


def _same_rows(matrix: Matrix, tables: dict[str, Table]) -> None:
    rows = matrix.values.shape[0]
    for table in tables.values():
        if table.frame.height == rows:
            continue
        raise DataError(
            "two files of the classic layout differ in their number of rows",
            where=table.name,
            found=f"{table.frame.height:,} rows below the line of headings",
            expected=f"{rows:,}, as in {matrix.path}",
            hint="line i of every file is well i: write them again from the same object",
        )


def _same_order(matrix: Matrix, well_ids: list[str], notes: list[Note]) -> None:
    """The expression's own row names must not contradict `well_id.csv`."""
    names = matrix.row_names
    if names is None or names == [name.strip() for name in well_ids]:
        return
    known = {name.strip() for name in well_ids}
    if not known.isdisjoint(names):
        at = next(at for at, name in enumerate(names) if name != well_ids[at].strip())
        raise DataError(
            "the wells of two files stand in different orders",
            where=f"{matrix.path}, row {at + 1}",
            found=names[at],
            expected=f"{well_ids[at]}, as in {WELLS}",
            hint="line i of every file is well i: write them again from the same object",
        )
    text = f"{Path(matrix.path).name}: its row names ({listed(names, 3)}) are not used; wells are named by {WELLS}"
    notes.append(Note("info", text))


def refuse_wells_table(has_wells: bool) -> None:
    """Raise UsageError where ``--wells`` is given with a folder that has its own."""
    if has_wells:
        raise UsageError(
            "a folder of the classic layout has its own wells",
            found="--wells",
            hint="leave out --wells, or name expr_mat.csv itself with --from",
        )
