"""What signatures are about: gene sets, a query signature, each other. Tables, GMT and a heatmap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.signatures.enrichment import (
    MIN_SIZE,
    MeasuredSets,
    connectivity,
    measure_sets,
    over_representation,
    univariate_linear_model,
)
from dpf.analysis.signatures.similarity import average_linkage, cosine_similarity
from dpf.errors import DataError, count
from dpf.files import write_text
from dpf.project.directory import ResultsFolder
from dpf.tables.genes.set_scores import pair_signatures, read_gmt
from dpf.tables.storage import read_table, write_table
from dpf.workflows.project.provenance import Now
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.signatures.compute import Signatures

#: Compounds in the heatmap and the table of similarities: the first of the ranking. All pairs of all compounds of a
#: large library would be neither seen nor read.
MOST_ALIKE = 200
#: Fewest for a heatmap.
_FEWEST_ALIKE = 3
#: Rows of the table of enrichment that are made and written at a time.
_ROWS_AT_ONCE = 1 << 20


def write_signatures(
    now: Now,
    results: ResultsFolder,
    found: Signatures,
    order: NDArray[np.intp],
    activation: NDArray[np.float64] | None,
    choices: RankChoices,
) -> tuple[list[Path], list[str]]:
    """Write everything that is made of signatures; return the files and lines for the reader.

    Parameters
    ----------
    order
        The rows of the ranking, best first: the heatmap is of the first 200.
    activation
        (C,) the mean position on the activation axis, or None.
    """
    write_table(results.table("signatures"), found.parts(), "signatures", choices.footer(now, "signatures"))
    place = np.cumsum(found.estimable) - 1
    order = place[order[found.estimable[order]]]
    activation = None if activation is None else activation[found.estimable]
    found = found.known()
    gmt = results.path / "signatures.gmt"
    write_text(gmt, found.gmt(choices.fdr))
    files, lines = [results.table("signatures"), gmt], list(found.statements)
    silent = int((~np.logical_or(*found.called(choices.fdr)).any(axis=1)).sum())
    if silent:
        move = "moves no gene at q ≤ {:g} and has" if silent == 1 else "move no gene at q ≤ {:g} and have"
        lines.append(f"signatures: {count(silent, 'compound')} {move.format(choices.fdr)} no list in the GMT")
    genes = now.project.genes
    resolve = _GeneNames(read_table(genes, "genes"))
    if choices.gene_sets is not None:
        parts, notes = enrichment_table(found, choices.gene_sets, resolve, choices.fdr)
        about = choices.footer(now, "enrichment", genes, choices.gene_sets)
        write_table(results.table("enrichment"), parts, "enrichment", about)
        files, lines = [*files, results.table("enrichment")], lines + notes
    if choices.query is not None:
        table, notes = connectivity_table(found, choices.query, resolve)
        about = choices.footer(now, "connectivity", genes, choices.query)
        write_table(results.table("connectivity"), table, "connectivity", about)
        files, lines = [*files, results.table("connectivity")], lines + notes
    files += _alike(results, found, order, activation, choices.footer(now, "signature_similarity"))
    return files, lines


class _GeneNames:
    """The gene that a name means: a gene's name, else a symbol, else an identifier."""

    def __init__(self, genes: pl.DataFrame) -> None:
        self._of: dict[str, list[str]] = {}
        for column in ("gene", "symbol", "gene_id"):
            if column not in genes.columns:
                continue
            found: dict[str, list[str]] = {}
            for name, gene in genes.select(column, pl.col("gene").alias("own")).drop_nulls().iter_rows():
                found.setdefault(name, []).append(gene)
            self._of = found | self._of

    def __call__(self, names: tuple[str, ...]) -> list[str]:
        """The measured genes by their own names; a name nobody has stays as it is."""
        return [gene for name in names for gene in self._of.get(name, [name])]


def enrichment_table(
    found: Signatures, path: Path, resolve: _GeneNames, fdr: float
) -> tuple[Iterator[pl.DataFrame], list[str]]:
    """Long: one row a compound, set and test, smallest p first; in parts, as there may be tens of millions.

    `test` is ``up`` or ``down`` (over-representation among the genes at q ≤ fdr, one-sided, with the measured genes as
    background; `score` the fold over expectation) or ``ulm`` (t of the slope of the gene statistics on membership,
    two-sided). q: Benjamini–Hochberg over all sets and compounds, of the two lists together and of ulm by itself.

    Raises
    ------
    DataError
        The GMT cannot be read, or none of its genes was measured.
    """
    sets = measure_sets({one.name: resolve(one.genes) for one in read_gmt(path)[0]}, found.genes)
    lists = over_representation(np.concatenate(found.called(fdr)), sets)
    slopes = univariate_linear_model(found.t, sets.member)
    assert lists.overlap is not None
    values = {
        name: np.concatenate([getattr(lists, name), getattr(slopes, name)]).ravel() for name in ("score", "p", "q")
    }
    values["overlap"] = np.concatenate([lists.overlap, np.broadcast_to(sets.size, slopes.p.shape)]).ravel()
    del lists, slopes
    order = np.argsort(values["p"], kind="stable")  # what was not tested, NaN, comes last
    names, set_names, test_names = (pl.Series(one) for one in (found.names, sets.names, ("up", "down", "ulm")))

    def part(rows: NDArray[np.intp]) -> pl.DataFrame:
        test, compound, which = np.unravel_index(rows, (3, len(names), len(set_names)))
        return pl.DataFrame(
            {
                "compound": names.gather(compound),
                "gene_set": set_names.gather(which),
                "test": test_names.gather(test),
                "measured": sets.size[which],
                **{name: values[name][rows] for name in ("overlap", "score", "p", "q")},
            }
        ).fill_nan(None)

    starts = range(0, max(len(order), 1), _ROWS_AT_ONCE)
    return (part(order[start : start + _ROWS_AT_ONCE]) for start in starts), _set_notes(path, sets)


def _set_notes(path: Path, sets: MeasuredSets) -> list[str]:
    lines = [
        f"{path.name}: {count(len(sets.names), 'gene set')}; {sets.unknown:,} of their genes were not measured; "
        f"background {sets.member.shape[1]:,} measured genes; q over sets and compounds together"
    ]
    if small := int((sets.size < MIN_SIZE).sum()):
        have = "has" if small == 1 else "have"
        lines.append(f"{path.name}: {count(small, 'set')} {have} fewer than {MIN_SIZE} measured genes: not tested")
    return lines


def connectivity_table(found: Signatures, path: Path, resolve: _GeneNames) -> tuple[pl.DataFrame, list[str]]:
    """Long: one row a query and compound, most alike first; `connectivity` from −1 (opposite) to 1 (alike).

    A set ``NAME_UP`` and its ``NAME_DN`` are the two sides of one query; any other set is a query of one side.

    Raises
    ------
    DataError
        No query has a measured gene, or a gene stands on both sides.
    """
    queries = pair_signatures(read_gmt(path)[0])
    column = {gene: index for index, gene in enumerate(found.genes)}
    tables, skipped, unknown = [], [], set()
    for query in queries:
        sides = []
        for names in (query.up, query.down):
            wanted = resolve(names)
            unknown |= {name for name in wanted if name not in column}
            side = np.zeros(len(found.genes), dtype=bool)
            side[[column[name] for name in wanted if name in column]] = True
            sides.append(side)
        if not np.logical_or(*sides).any():
            skipped.append(query.name)
            continue
        scores = connectivity(found.t, *sides)
        tables.append(pl.DataFrame({"query": query.name, "compound": found.names, "connectivity": scores}))
    if not tables:
        raise DataError(
            "no gene of the query was measured",
            where=path,
            found=f"e.g. {', '.join(sorted(unknown)[:3])}",
            expected=f"names as in the screen, e.g. {', '.join(found.genes[:3])}",
        )
    asked = f"{len(tables):,} {'query' if len(tables) == 1 else 'queries'}"
    lines = [f"{path.name}: {asked}; {len(unknown):,} of their genes were not measured"]
    lines += [f"{path.name}: no gene of {', '.join(skipped)} was measured"] if skipped else []
    table = pl.concat(tables).fill_nan(None)
    return table.sort("query", "connectivity", descending=[False, True], nulls_last=True), lines


def _alike(
    results: ResultsFolder,
    found: Signatures,
    order: NDArray[np.intp],
    activation: NDArray[np.float64] | None,
    about: dict[str, object],
) -> list[Path]:
    """The cosine of the first compounds' moderated t, as a long table of pairs and as a clustered heatmap."""
    first = order[:MOST_ALIKE]
    if len(first) < _FEWEST_ALIKE:
        return []
    from dpf.figures.drawing.style import save
    from dpf.figures.heatmap import similarity_heatmap

    names = [found.names[row] for row in first]
    similarity = cosine_similarity(found.t[first])
    one, other = np.triu_indices(len(first), 1)
    table = pl.DataFrame(
        {"compound": [names[i] for i in one], "other": [names[i] for i in other], "cosine": similarity[one, other]}
    )
    path = results.table("signature_similarity")
    write_table(path, table.fill_nan(None).sort("cosine", descending=True, nulls_last=True), path.stem, about)
    figure = similarity_heatmap(
        similarity,
        names,
        linkage=average_linkage(similarity),
        activation=None if activation is None else activation[first],
        named=range(len(first)),
        label="cosine similarity of signatures (moderated t)",
    )
    return [path, *save(figure, results.figure("signature_similarity"))]
