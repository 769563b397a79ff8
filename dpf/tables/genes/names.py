"""Gene names that a table holds more than once: kept apart, added up, or refused, never merged in silence."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError, UsageError, count, listed
from dpf.tables.genes.not_genes import without_counters
from dpf.tables.genes.table import describe_genes
from dpf.tables.matrix import Matrix
from dpf.tables.options import DuplicateGenes
from dpf.tables.screen import Note

#: Names no gene may have: columns of `inputs/expression.parquet` that are no genes.
RESERVED = frozenset({"well_id"})


class NamedGenes(NamedTuple):
    """Expression (wells × genes) with a table of its genes, names unique; what was odd."""

    values: NDArray[np.float32]
    genes: pl.DataFrame
    notes: tuple[Note, ...]


def name_genes(wells: Matrix, policy: DuplicateGenes = "rename") -> NamedGenes:
    """Unique names for the genes of a table, by the policy of `dpf.tables.genes.table`, without what is no gene.

    Parameters
    ----------
    wells
        Wells × genes.
    policy
        For names that appear more than once: ``rename`` keeps them apart under longer names, ``sum`` adds up their
        counts, ``refuse`` raises.

    Raises
    ------
    DataError
        A name is there twice and `policy` is ``refuse``, or a gene is called ``well_id``.
    UsageError
        `policy` is ``sum`` and the values to be added up are no counts.
    """
    wells, counter_notes = without_counters(wells)
    notes = list(counter_notes)
    genes, own_notes = describe_genes(wells.column_names, wells.column_table)
    shared = pl.coalesce(pl.col("symbol"), pl.col("gene_id"))
    names = genes.select(shared.alias("name")).get_column("name").to_list()
    repeated = {name: times for name, times in Counter(names).items() if name is not None and times > 1}
    if repeated and policy == "refuse":
        raise _refused(repeated, wells.path)
    if repeated and policy == "sum":
        wells = _summed(wells, names)
        genes, own_notes = describe_genes(wells.column_names, wells.column_table)
        shown = listed([f"{name} ×{times}" for name, times in repeated.items()], 5)
        notes.append(Note("warning", f"{count(len(repeated), 'gene name')} there more than once, added up: {shown}"))
    reserved = sorted(RESERVED & set(genes.get_column("gene")))
    if reserved:
        raise DataError("a gene has a name that no gene can have", where=wells.path, found=listed(reserved))
    file = Path(wells.path).name
    located = tuple(replace(note, text=f"{file}: {note.text}") for note in (*notes, *own_notes))
    return NamedGenes(wells.values, genes, located)


def _refused(repeated: dict[str, int], path: str) -> DataError:
    return DataError(
        "gene names appear more than once",
        where=path,
        found=listed([f"{name} ×{times}" for name, times in repeated.items()], 5),
        expected="unique gene names",
        hint="--duplicate-genes rename keeps them apart, --duplicate-genes sum adds up their counts",
    )


def _summed(wells: Matrix, names: list[str | None]) -> Matrix:
    """One column a name, the sum of those that share it, where the first of them stood; nameless genes stay apart."""
    first: dict[str, int] = {}
    kept: list[int] = []
    later: list[tuple[int, int]] = []  # where a name stood first, where it stands again
    for position, name in enumerate(names):
        if name is not None and name in first:
            later.append((first[name], position))
            continue
        if name is not None:
            first[name] = position
        kept.append(position)
    values = wells.values[:, kept]
    place = {position: at for at, position in enumerate(kept)}
    for original, again in later:
        both = wells.values[:, [original, again]]
        if not ((both >= 0) & (both == np.round(both))).all():
            raise UsageError(
                "genes of one name can be added up in counts only",
                where=f"{wells.path}, gene {names[again]}",
                found="values that are no counts",
                hint="--duplicate-genes rename keeps them apart",
            )
        values[:, place[original]] += wells.values[:, again]
    return replace(
        wells,
        values=values,
        column_names=[wells.column_names[position] for position in kept],
        column_table=None if wells.column_table is None else wells.column_table[kept],
    )
