"""Expression tables and tables about wells become one: which row belongs to which, and what belongs to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError, UsageError, count, listed
from dpf.tables.joining.plate_files import refuse_other_order, tables_by_plate
from dpf.tables.joining.well_matching import (
    WellColumn,
    WellsWithExpression,
    choose_well_column,
    match_wells,
    note_left_out,
    refuse_wells_in_two_files,
)
from dpf.tables.matrix import Matrix, select_rows
from dpf.tables.options import DuplicateGenes, Orientation
from dpf.tables.screen import Note, SourceFile
from dpf.tables.storage import let_go, new_matrix
from dpf.tables.text.wells_table import Table

_WELLS_AT_A_TIME = 256


@dataclass(frozen=True)
class Joined:
    """Wells with expression, in one order.

    Attributes
    ----------
    table
        N rows: what the tables say about these wells.
    well_ids
        N unique names.
    local_ids
        N names as in the file; they differ from `well_ids` where files share names.
    plates
        Which of several files each well came from, by label; None where there is one file.
    well_columns
        The columns of `table` that the well ids were read from.
    genes
        G rows: `gene`, and where known `gene_id` and `symbol`.
    expression
        float32 array of shape (N, G).
    notes, sources
        What was odd; the files.
    """

    table: Table
    well_ids: list[str]
    local_ids: list[str]
    plates: list[str] | None
    well_columns: tuple[str, ...]
    genes: pl.DataFrame
    expression: NDArray[np.float32]
    notes: tuple[Note, ...]
    sources: tuple[SourceFile, ...]


def join_wells(
    matrices: list[Matrix],
    tables: Sequence[Table],
    labels: Sequence[str],
    *,
    well_column: str | None = None,
    plate_column: str | None = None,
    orientation: Orientation | None = None,
    duplicate_genes: DuplicateGenes = "rename",
) -> Joined:
    """Join expression tables with tables about wells on the well id.

    Wells that only one side knows are left out, and named in a note. Of several expression tables the genes that all
    have are kept. Where two of them share well ids, every id is prefixed with the label of its file. One table for
    several files may name the same wells on several plates: then a plate belongs to the file that is named after it.

    Parameters
    ----------
    matrices
        As read, in either orientation. The list is emptied and the numbers of a single matrix are put in order where
        they stand, so that a large table is in memory once.
    tables
        One a matrix in the same order, or one for all.
    labels
        A short name a matrix: its plate.
    well_column
        The column with the well ids; None finds it (`dpf.tables.joining.well_matching.choose_well_column`).
    plate_column
        The column with the plates; None takes one that is headed so.
    orientation
        That of all the matrices, if given; None decides for each by its names.
    duplicate_genes
        What to do with gene names that appear more than once in a matrix.

    Raises
    ------
    UsageError
        There are neither as many tables as matrices nor one.
    DataError
        No well is known to both sides, a well id is there twice, tables and files stand in different orders, or no
        gene is in all matrices.
    """
    if len(tables) not in (1, len(matrices)):
        raise UsageError(
            "one wells table a source, or one for all",
            found=f"{len(matrices)} times --from, {len(tables)} times --wells",
            hint="repeat --wells in the order of --from",
        )
    notes = [note for matrix in matrices for note in matrix.notes] + [note for table in tables for note in table.notes]
    sources = tuple(dict.fromkeys([*(m.source for m in matrices), *(s for t in tables for s in t.sources)]))
    if len(tables) == 1:
        tables = tables_by_plate(tables[0], matrices, labels, plate_column, well_column)
    elif len(matrices) > 1:
        refuse_other_order(matrices, tables, labels)
    shared = len(tables) == 1 and len(matrices) > 1
    parts, columns = _match(matrices, tables, well_column, plate_column, orientation, duplicate_genes, notes)
    taken = [part.rows for part in parts]
    if shared:
        notes += note_left_out(tables[0], columns[0], [row for rows in taken for row in rows])
        refuse_wells_in_two_files(parts)
        about = tables[0].take([row for rows in taken for row in rows])
    else:
        for table, column, rows in zip(tables, columns, taken, strict=True):
            notes += note_left_out(table, column, rows)
        about = _stack([table.take(rows) for table, rows in zip(tables, taken, strict=True)], notes)
    local_ids = [name for part in parts for name in part.ids]
    plates = [label for label, part in zip(labels, parts, strict=True) for _ in part.ids]
    plates_known = len(parts) > 1
    genes, expression = _combine(parts, labels, notes)
    well_ids = _unique_ids(local_ids, plates, notes)
    joined = Joined(
        table=about,
        well_ids=well_ids,
        local_ids=local_ids,
        plates=plates if plates_known else None,
        well_columns=tuple(dict.fromkeys(column.columns[0] for column in columns if len(column.columns) == 1)),
        genes=genes,
        expression=expression,
        notes=tuple(dict.fromkeys(notes)),
        sources=sources,
    )
    return replace(joined, notes=(*joined.notes, *_columns_among_genes(joined)))


def _match(
    matrices: list[Matrix],
    tables: Sequence[Table],
    well_column: str | None,
    plate_column: str | None,
    orientation: Orientation | None,
    duplicate_genes: DuplicateGenes,
    notes: list[Note],
) -> tuple[list[WellsWithExpression], list[WellColumn]]:
    """Every matrix matched with its table, and the columns with the well ids; `matrices` is emptied."""
    shared = len(tables) == 1 and len(matrices) > 1
    parts: list[WellsWithExpression] = []
    columns: list[WellColumn] = []
    for number, matrix in enumerate(matrices):
        table = tables[0 if shared else number]
        column, column_notes = choose_well_column(table, matrices if shared else [matrix], well_column, plate_column)
        part, part_notes = match_wells(matrix, table, column, orientation, duplicate_genes)
        parts.append(part)
        columns.append(column)
        notes += [*column_notes, *part_notes]
    matrices.clear()
    return parts, columns


def _stack(tables: Sequence[Table], notes: list[Note]) -> Table:
    """The tables one below the other; a column that one of them lacks is empty there."""
    if len(tables) == 1:
        return tables[0]
    everywhere = set.intersection(*(set(table.frame.columns) for table in tables))
    frame = pl.concat([table.frame for table in tables], how="diagonal").with_columns(pl.all().fill_null(""))
    partial = [name for name in frame.columns if name not in everywhere]
    if partial:
        notes.append(Note("warning", f"not every wells table has these columns, empty elsewhere: {listed(partial)}"))
    return Table(
        frame,
        [place for table in tables for place in table.places],
        tuple(source for table in tables for source in table.sources),
        any(table.decimal_comma for table in tables),
        any(table.semicolons for table in tables),
    )


def _combine(
    parts: list[WellsWithExpression], labels: Sequence[str], notes: list[Note]
) -> tuple[pl.DataFrame, NDArray[np.float32]]:
    """The genes that every part has, in the order of the first, and their expression in all wells.

    `parts` is emptied: a part is let go as soon as it is copied.
    """
    names = [part.genes.get_column("gene").to_list() for part in parts]
    common = set(names[0]).intersection(*names[1:])
    if not common:
        raise DataError(
            "the expression tables have no gene in common",
            found="; ".join(f"{label}: {listed(own, 3)}" for label, own in zip(labels, names, strict=True)),
            expected="the same kind of gene names in every table",
            hint="translate one to the other's ids first",
        )
    for label, own in zip(labels, names, strict=True):
        alone = [name for name in own if name not in common]
        if alone:
            text = f"{label}: {count(len(alone), 'gene')} not in every table, left out: {listed(alone, 5)}"
            notes.append(Note("warning", text))
    if len(parts) > 1:
        notes.append(Note("info", f"{len(parts)} expression tables share {len(common):,} genes"))
    if len(parts) == 1:
        only = parts.pop()
        return only.genes, select_rows(only.values, only.positions)
    genes = parts[0].genes.filter(pl.col("gene").is_in(common))
    expression = new_matrix(sum(len(part.ids) for part in parts), genes.height)
    start = 0
    for own in names:
        part = parts.pop(0)
        place = {name: at for at, name in enumerate(own)}
        columns = np.array([place[name] for name in genes.get_column("gene")])
        positions = np.array(part.positions)
        for at in range(0, len(positions), _WELLS_AT_A_TIME):
            chunk = positions[at : at + _WELLS_AT_A_TIME]
            expression[start + at : start + at + len(chunk)] = part.values[chunk[:, None], columns]
            let_go(expression)
            let_go(part.values)
        start += len(positions)
        del part
    return genes, expression


def _unique_ids(local_ids: list[str], plates: list[str], notes: list[Note]) -> list[str]:
    if len(set(local_ids)) == len(local_ids):
        return local_ids
    ids = [f"{plate}_{name}" for plate, name in zip(plates, local_ids, strict=True)]
    text = f"well ids are the same in several files: prefixed with {listed(list(dict.fromkeys(plates)))}, as {ids[0]}"
    notes.append(Note("info", text))
    return ids


def _columns_among_genes(joined: Joined) -> list[Note]:
    """Warn of columns of the wells table that are genes as well; refuse those with the same numbers.

    A plate column or a score left in the expression table would be learnt from as if it were a gene.
    """
    place = {name.casefold(): at for at, name in enumerate(joined.genes.get_column("gene").to_list())}
    both = [name for name in joined.table.frame.columns if name.casefold() in place]
    if not both:
        return []
    same = []
    for name in both:
        numbers = joined.table.frame.get_column(name).str.strip_chars().cast(pl.Float32, strict=False)
        known = numbers.is_not_null().to_numpy()
        own = joined.expression[known, place[name.casefold()]]
        if known.any() and np.allclose(numbers.drop_nulls().to_numpy(), own, rtol=1e-4):
            same.append(name)
    if same:
        raise DataError(
            "columns of the wells table stand among the genes, with the same numbers",
            where=listed([source.path for source in joined.sources]),
            found=listed(same),
            expected="an expression table with nothing but genes in it",
            hint="take these columns out of the expression table",
        )
    return [Note("warning", f"these are genes and columns of the wells table, with other numbers: {listed(both)}")]
