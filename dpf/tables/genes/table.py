"""One name, one identifier and one kind for every gene of a table, whatever the file calls them.

The policy, in full:

- `gene`, the name that everything later shows and matches by, is the symbol where there is one, else the identifier.
- Ensembl versions (``ENSG00000141510.18``) are taken off, unless two rows would then be the same gene.
- Rows with one symbol stay apart and become ``symbol|identifier``, or ``symbol|1``, ``symbol|2`` where nothing else
  tells them apart. Nothing is summed, and the names do not depend on the order of the rows where identifiers do it.
- A row with neither symbol nor identifier becomes ``unnamed|`` and its place from 1.
- Mitochondrial genes and ERCC spike-ins are marked in `kind`, and stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

from dpf.errors import listed
from dpf.tables.screen import Note
from dpf.tables.text.cells import spreadsheet_notes

Kind = Literal["gene", "mitochondrial", "spike_in"]

_ID_HEADINGS = ("gene_id", "gene_ids", "geneid", "ensembl_id", "ensembl_gene_id", "ensembl", "feature_id", "pr_gene_id")
_SYMBOL_HEADINGS = (
    *("symbol", "gene_symbol", "gene_symbols", "gene_name", "gene_names", "feature_name", "hgnc_symbol"),
    *("pr_gene_symbol", "gene_short_name"),
)
_NO_NAME = ["", "-", "---", "NA", "na", "N/A", "#N/A", "NaN", "nan", "None", "null"]
_ENSEMBL = r"^ENS[A-Z]*G\d{11}(\.\d+)?(_PAR_Y)?$"
_VERSION = r"\.\d+(_PAR_Y)?$"
_SPIKE_IN = r"(?i)^ERCC[-_.]\d{5}$"
_MITOCHONDRIAL = r"(?i)^MT[-.]"
#: The human mitochondrial genes that are neither tRNA nor control region, for tables without symbols (Ensembl).
_HUMAN_MITOCHONDRIAL = (
    *("ENSG00000198888", "ENSG00000198763", "ENSG00000198804", "ENSG00000198712", "ENSG00000228253"),
    *("ENSG00000198899", "ENSG00000198938", "ENSG00000198840", "ENSG00000212907", "ENSG00000198886"),
    *("ENSG00000198786", "ENSG00000198695", "ENSG00000198727", "ENSG00000211459", "ENSG00000210082"),
)


def describe_genes(names: Sequence[str], table: pl.DataFrame | None = None) -> tuple[pl.DataFrame, tuple[Note, ...]]:
    """The genes table of a matrix, by the policy at the top of this module.

    Parameters
    ----------
    names
        G names as the file has them, on the side of the matrix that holds the genes.
    table
        What else the file says about them, G rows: identifiers and symbols are found by the usual headings of 10x,
        AnnData, CELLxGENE and L1000. Where it has neither, Ensembl identifiers among `names` are identifiers and
        other names are symbols.

    Returns
    -------
    genes : polars.DataFrame
        G rows: ``gene`` (unique), ``gene_id`` and ``symbol`` (null where unknown), ``kind``, and ``source_name``, the
        name in the file.
    notes : tuple of Note
        What was odd, with counts and examples.
    """
    source = pl.Series("source_name", names, dtype=pl.String).str.strip_chars()
    identified, entrez_notes = _without_x(source)
    gene_id, symbol = _identify(identified, table)
    gene_id, symbol, swap_notes = _unswapped(gene_id, symbol)
    gene_id, id_notes = _without_versions(gene_id)
    symbol = pl.select(pl.when(symbol == gene_id).then(None).otherwise(symbol).alias("symbol")).to_series()
    genes = pl.DataFrame([gene_id, symbol, source])
    gene, name_notes = _unique_names(genes)
    kind = _kinds(gene_id, symbol, source)
    described = pl.DataFrame([gene, gene_id, symbol, kind, source])
    broken = spreadsheet_notes("gene names", [own or name for own, name in zip(symbol, source, strict=True)])
    return described, (*entrez_notes, *swap_notes, *id_notes, *name_notes, *broken, *_kind_notes(described))


def _without_x(source: pl.Series) -> tuple[pl.Series, tuple[Note, ...]]:
    """Names without the X that R puts before a number, where all are such: Entrez ids, not X1, X2, ... for no name."""
    numbers = source.str.extract(r"^X(\d{1,9})$").cast(pl.Int64)
    if numbers.null_count() or not len(source) or numbers.max() == len(source):
        return source, ()
    text = f"gene names are numbers behind an X, as R writes Entrez ids: {source[0]} was taken as {source[0][1:]}"
    return source.str.slice(1), (Note("info", text),)


def _identify(source: pl.Series, table: pl.DataFrame | None) -> tuple[pl.Series, pl.Series]:
    """Identifiers and symbols, null where there are none."""
    none = pl.Series([None] * len(source), dtype=pl.String)
    id_column, symbol_column = _column(table, _ID_HEADINGS), _column(table, _SYMBOL_HEADINGS)
    own = _nameless_to_null(source)
    are_ids = (own.str.contains(_ENSEMBL).fill_null(value=False)).sum() * 2 > own.is_not_null().sum()
    if symbol_column is None and are_ids and table is not None:
        symbol_column = _symbols_of_gct_12(table)
    gene_id = id_column if id_column is not None else own if are_ids or symbol_column is not None else none
    symbol = symbol_column if symbol_column is not None else none if are_ids else own
    return gene_id.alias("gene_id"), symbol.alias("symbol")


def _unswapped(gene_id: pl.Series, symbol: pl.Series) -> tuple[pl.Series, pl.Series, tuple[Note, ...]]:
    """Identifiers and symbols, exchanged where Ensembl identifiers stand in the column of symbols and not in theirs."""
    ensembl = [2 * int(names.str.contains(_ENSEMBL).sum()) > names.is_not_null().sum() for names in (gene_id, symbol)]
    if ensembl != [False, True] or gene_id.null_count() == len(gene_id):
        return gene_id, symbol, ()
    text = f"identifiers stand in the column of symbols ({symbol.drop_nulls()[0]}), and were taken as identifiers"
    return symbol.alias("gene_id"), gene_id.alias("symbol"), (Note("warning", text),)


def _column(table: pl.DataFrame | None, headings: tuple[str, ...]) -> pl.Series | None:
    if table is None:
        return None
    by_heading = {name.casefold().replace(" ", "_").replace(".", "_"): name for name in reversed(table.columns)}
    found = next((by_heading[heading] for heading in headings if heading in by_heading), None)
    return None if found is None else _nameless_to_null(table.get_column(found).cast(pl.String).str.strip_chars())


def _symbols_of_gct_12(table: pl.DataFrame) -> pl.Series | None:
    """GCT 1.2 has one column of free text, which holds the symbols beside Ensembl identifiers (GTEx): words only."""
    if table.columns != ["Description"]:
        return None
    words = _nameless_to_null(table.get_column("Description").cast(pl.String).str.strip_chars())
    return None if words.str.contains(r"\s").any() or words.null_count() == len(words) else words


def _nameless_to_null(names: pl.Series) -> pl.Series:
    return names.set(names.is_in(_NO_NAME), None)


def _without_versions(gene_id: pl.Series) -> tuple[pl.Series, tuple[Note, ...]]:
    versioned = gene_id.str.contains(_ENSEMBL) & gene_id.str.contains(_VERSION)
    bare = gene_id.str.replace(_VERSION, "$1")
    stripped = pl.select(pl.when(versioned).then(bare).otherwise(gene_id).alias("gene_id")).to_series()
    clash = stripped.is_duplicated() & stripped.is_not_null() & ~gene_id.is_duplicated()
    result = pl.select(pl.when(clash).then(gene_id).otherwise(stripped).alias("gene_id")).to_series()
    notes = []
    if taken_off := int((result != gene_id).sum()):
        notes.append(Note("info", f"the Ensembl version was taken off {taken_off:,} gene ids"))
    if kept := int((clash & versioned).sum()):
        kept_ids = gene_id.filter(clash & versioned).to_list()
        notes.append(Note("warning", f"{kept:,} gene ids differ in their version only and keep it: {listed(kept_ids)}"))
    return result, tuple(notes)


def _unique_names(genes: pl.DataFrame) -> tuple[pl.Series, tuple[Note, ...]]:
    """The column `gene`, and what had to be done for it."""
    place = pl.int_range(pl.len()) + 1
    base = pl.coalesce("symbol", "gene_id")
    named = genes.with_columns(base=base, nameless=base.is_null()).with_columns(
        base=base.fill_null(pl.format("unnamed|{}", place))
    )
    candidates = [pl.col("base")]
    for column in ("gene_id", "source_name"):
        known = pl.col(column).is_not_null() & (pl.col(column) != "") & (pl.col(column) != pl.col("base"))
        candidates.append(pl.when(known).then(pl.format("{}|{}", "base", column)))
    candidates.append(pl.format("{}|{}", pl.col("base"), pl.int_range(pl.len()).over("base") + 1))
    # A group of equal names takes, whole, the first way of naming that tells all its rows apart.
    named = named.with_columns(**{f"way_{i}": way for i, way in enumerate(candidates)})
    tells = [(pl.col(f"way_{i}").n_unique() == pl.len()) & pl.col(f"way_{i}").is_not_null().all() for i in range(3)]
    choice = pl.lit("way_3")
    for i in (2, 1, 0):
        choice = pl.when(tells[i].over("base")).then(pl.lit(f"way_{i}")).otherwise(choice)
    named = named.with_columns(choice=choice)
    gene = pl.coalesce(pl.when(pl.col("choice") == f"way_{i}").then(f"way_{i}") for i in range(4))
    named = named.with_columns(gene=gene)
    return _break_ties(named.get_column("gene")), _name_notes(named)


def _break_ties(gene: pl.Series) -> pl.Series:
    """A made name may be another row's own (``A|1`` beside two of ``A``): then every row of that name is numbered."""
    while gene.is_duplicated().any():
        table = gene.to_frame().with_columns(number=pl.int_range(pl.len()).over("gene") + 1, again=gene.is_duplicated())
        gene = table.select(
            pl.when("again").then(pl.format("{}|{}", "gene", "number")).otherwise("gene").alias("gene")
        )["gene"]
    return gene


def _name_notes(named: pl.DataFrame) -> tuple[Note, ...]:
    notes = []
    nameless = named.filter("nameless").get_column("gene").to_list()
    if nameless:
        notes.append(Note("warning", f"{len(nameless):,} genes have no name, and are called {listed(nameless, 3)}"))
    repeated = named.filter(pl.col("choice") != "way_0")
    if repeated.height:
        names = repeated.get_column("base").n_unique()
        text = f"{names:,} gene names stand for {repeated.height:,} rows, which were kept apart: "
        notes.append(Note("warning", text + listed(repeated.get_column("gene").to_list(), 4)))
    return tuple(notes)


def _kinds(gene_id: pl.Series, symbol: pl.Series, source: pl.Series) -> pl.Series:
    def any_matches(pattern: str) -> pl.Expr:
        columns = [pl.lit(name).str.contains(pattern).fill_null(value=False) for name in (gene_id, symbol, source)]
        return pl.any_horizontal(columns)

    mitochondrial = any_matches(_MITOCHONDRIAL) | pl.lit(gene_id).is_in(list(_HUMAN_MITOCHONDRIAL)).fill_null(
        value=False
    )
    kind = pl.when(any_matches(_SPIKE_IN)).then(pl.lit("spike_in"))
    return pl.select(
        kind.when(mitochondrial).then(pl.lit("mitochondrial")).otherwise(pl.lit("gene")).alias("kind")
    ).to_series()


def _kind_notes(genes: pl.DataFrame) -> tuple[Note, ...]:
    counts = dict(genes.get_column("kind").value_counts().iter_rows())
    parts = [f"{counts[kind]:,} {text}" for kind, text in _KIND_TEXTS.items() if counts.get(kind)]
    return (Note("info", f"among the genes are {' and '.join(parts)}; they stay"),) if parts else ()


_KIND_TEXTS = {"mitochondrial": "mitochondrial genes", "spike_in": "ERCC spike-ins"}
