"""What stands among the genes of a table and is none: counters of reads, features of other assays, columns about wells.

Counters and other features are left out and named. A column that counts the rows, that is headed as columns about wells
are, or that has a target's numbers is refused: a model would learn from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError, count, listed
from dpf.tables.matrix import Matrix, select_columns
from dpf.tables.screen import Note

#: Rows that HTSeq, STAR, featureCounts, idxstats and umi-tools write beside the genes, for reads of none.
_COUNTER = (
    r"(?i)^(__.+|N_(unmapped|multimapping|noFeature|ambiguous)|Unassigned(_\w+)?|Assigned|\*|_?(no_feature|ambiguous|"
    r"too_low_aQual|not_aligned|alignment_not_unique)|(un)?mapped_reads|unmapped|total_reads)$"
)
_TYPE_HEADINGS = ("feature_type", "feature_types")
_GENE_TYPES = ("gene expression", "gene", "")
#: Headings of columns about wells; none is the symbol of a gene.
_ABOUT_WELLS = (
    r"(?i)^(plate([ _.]?(id|name|no|barcode|number))?|well([ _.]?(id|name|no|pos|position))?|row|column|"
    r"(well|plate)[ _.]?(row|col|column)|concentration.*|conc|dose.*|replicate|batch|cluster|viability|label|"
    r"compound.*|treatment|is_control|index|level_0|unnamed: ?\d+|x|v1|no|nr|number|sample([ _.]?(id|name|no))?|"
    r"barcode|n_?(counts?|features?)(_rna)?|total_counts|n_genes(_by_counts)?|library_size|pct_counts_.*|"
    r"percent[._]?(mt|mito|ribo))$"
)
_FEWEST_ROWS = 8
_ALIKE, _EQUAL = 1e-4, 1e-6


def without_counters(wells: Matrix) -> tuple[Matrix, tuple[Note, ...]]:
    """A table of wells × genes without counters of unmapped reads, sums and features that are no gene expression.

    A sum is what all other rows add up to in every well. Features have a column of types (10x), where some are gene
    expression. The values kept are written over those of the table.
    """
    names = pl.Series("name", wells.column_names, dtype=pl.String).str.strip_chars()
    counters = names.str.contains(_COUNTER).fill_null(value=False)
    others, kinds = _other_features(wells.column_table, len(names))
    sums = _sums(wells.values)
    keep = ~(counters | others | sums)
    if keep.all() or not keep.any():
        return wells, ()
    notes = []
    if counters.any():
        found = names.filter(counters).to_list()
        text = f"{count(len(found), 'row')} count reads of no gene, left out: {listed(found)}"
        notes.append(Note("warning", text))
    if sums.any():
        text = f"a row is the sum of all others, left out: {listed(names.filter(sums).to_list())}"
        notes.append(Note("warning", text))
    if others.any():
        notes.append(Note("warning", f"features that are no gene expression, left out: {listed(kinds)}"))
    kept = keep.to_numpy()
    table = None if wells.column_table is None else wells.column_table.filter(keep)
    genes = names.filter(keep).to_list()
    values = select_columns(wells.values, kept)
    return replace(wells, values=values, column_names=genes, column_table=table), tuple(notes)


def _sums(values: NDArray[np.float32]) -> pl.Series:
    """Whether a column is the sum of all others in every well."""
    found = np.zeros(values.shape[1], dtype=bool)
    if len(values) < _FEWEST_ROWS or values.shape[1] < _FEWEST_ROWS:
        return pl.Series(found)
    first = values[:_FEWEST_ROWS].astype(np.float64)
    totals = first.sum(axis=1)
    if totals.max() > 0:  # of empty wells every row is the sum
        for at in np.flatnonzero(np.isclose(2 * first, totals[:, None], rtol=_EQUAL, atol=0).all(axis=0)):
            totals = values.sum(axis=1, dtype=np.float64)
            found[at] = np.allclose(2 * values[:, at].astype(np.float64), totals, rtol=_EQUAL, atol=0)
    return pl.Series(found)


def _other_features(table: pl.DataFrame | None, features: int) -> tuple[pl.Series, list[str]]:
    """Which features are no gene expression by their type, and how many of which type."""
    none = pl.repeat(value=False, n=features, dtype=pl.Boolean, eager=True)
    headings = [] if table is None else [name for name in table.columns if name.casefold() in _TYPE_HEADINGS]
    if table is None or not headings:
        return none, []
    types = table.get_column(headings[0]).cast(pl.String).fill_null("").str.strip_chars()
    others = ~types.str.to_lowercase().is_in(_GENE_TYPES)
    if others.all():
        return none, []
    return others, [f"{n:,} {name}" for name, n in types.filter(others).value_counts(sort=True).iter_rows()]


def refuse_columns_about_wells(wells: Matrix) -> None:
    """Refuse a table of wells × genes with columns that count its rows or are headed as columns about wells are.

    Parameters
    ----------
    wells
        In the order of the file.

    Raises
    ------
    DataError
        There are such columns.
    """
    names = pl.Series("name", wells.column_names, dtype=pl.String)
    headed = set(names.str.contains(_ABOUT_WELLS).arg_true())
    counting = set(_counting_rows(wells.values))
    if not headed | counting:
        return
    raise DataError(
        "columns of the expression table are no genes",
        where=wells.path,
        found="; ".join(
            f"{text}: {listed([names[at] for at in sorted(found)])}"
            for text, found in (("headed as columns about wells", headed), ("counts the wells", counting - headed))
            if found
        ),
        expected="names of wells, and genes",
        hint="take these columns out of the expression table; what they say of wells belongs into --wells",
    )


def _counting_rows(values: NDArray[np.float32]) -> list[int]:
    """The columns that are 0, 1, 2, ... or 1, 2, 3, ... in the order of the rows."""
    if len(values) < _FEWEST_ROWS:
        return []
    first = values[0]
    likely = np.flatnonzero(((first == 0) | (first == 1)) & (values[-1] == first + len(values) - 1))
    steps = np.arange(len(values))
    return [int(at) for at in likely if np.array_equal(values[:, at], first[at] + steps)]


def refuse_targets_among_genes(
    targets: pl.DataFrame, genes: Sequence[str], expression: NDArray[np.float32], where: str
) -> None:
    """Refuse an expression table with a column that has a target's numbers, whatever its name.

    Missing values of the target are passed over.

    A target with fewer than three values (a label) is looked for where each stands in at least five wells: a gene
    found in one well only may well be equal to it.

    Parameters
    ----------
    targets
        N rows, the columns that are learnt.
    genes, expression
        G names; array of shape (N, G).

    Raises
    ------
    DataError
        There is such a column.
    """
    same = []
    for target in targets.iter_columns():
        known = target.is_not_null().to_numpy()
        values = target.drop_nulls().cast(pl.Float64).to_numpy()
        _, times = np.unique(values, return_counts=True)
        if len(times) < 2 or (len(times) == 2 and times.min() < 5) or (len(times) > 2 and len(values) < _FEWEST_ROWS):
            continue
        likely = np.arange(expression.shape[1])
        for well, value in zip(np.flatnonzero(known), values, strict=True):
            likely = likely[np.isclose(expression[well, likely], value, rtol=_ALIKE, atol=0)]
            if not len(likely):
                break
        same += [f"{genes[int(at)]} is {target.name}" for at in likely]
    if same:
        raise DataError(
            "targets stand among the genes, with the same numbers",
            where=where,
            found=listed(same),
            expected="an expression table with nothing but genes in it",
            hint="take these columns out of the expression table",
        )
