"""From files of any known kind to a screen."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from dpf.errors import DataError, UsageError, listed, repeated
from dpf.files import sha256_file
from dpf.tables.formats.classic import ClassicScreen, read_classic, recognises_classic, refuse_wells_table
from dpf.tables.formats.columnar import table_from_frame
from dpf.tables.formats.reading import CLASSIC, read_matrix, read_table, refuse_absent
from dpf.tables.genes.names import name_genes
from dpf.tables.genes.not_genes import refuse_columns_about_wells, refuse_targets_among_genes
from dpf.tables.genes.table import describe_genes
from dpf.tables.joining.join import join_wells
from dpf.tables.joining.well_tables import merge_tables
from dpf.tables.matrix import Matrix, orient
from dpf.tables.options import Orientation, Roles
from dpf.tables.roles.assign import Identified, assign_roles
from dpf.tables.screen import Note, Screen, SourceFile
from dpf.tables.text.encodings import require_delimiter
from dpf.tables.text.wells_table import Table

#: The column that well ids stand in while a file is its own wells table.
OWN_IDS = "well_id_in_file"

_SUFFIX = re.compile(r"(?i)\.(gz|csv|tsv|txt|tab|parquet|feather|arrow|xlsx|xlsm|gct|gctx|h5ad|mtx)$")


def read_screen(sources: Sequence[Path], wells: Sequence[Path], roles: Roles, format_name: str | None = None) -> Screen:
    """Read a screen as its files have it, for `dpf.tables.preparing.prepare` to judge.

    Parameters
    ----------
    sources
        One folder of the classic layout, or one expression table or several (``--from``).
    wells
        Tables about the wells: one for each source in the same order, or one for all, or several for one source;
        none where the sources themselves say what is in their wells (h5ad, GCT), or for the classic layout.
    roles
        What the columns mean.
    format_name
        One of `FORMAT_NAMES`, for all sources; None recognises each by its content.

    Raises
    ------
    UsageError
        Sources and tables do not go together, or a package that a format needs is not installed.
    DataError
        Anything about the files that keeps them from being a screen.
    """
    refuse_absent([*sources, *wells])
    if not sources:
        raise UsageError("there is nothing to read", expected="--from with a file or a folder")
    screen = _read(sources, wells, roles, format_name)
    if roles.aliases is None:
        return screen
    aliases = SourceFile(str(roles.aliases), sha256_file(roles.aliases))
    return replace(screen, sources=(*screen.sources, aliases))


def _read(sources: Sequence[Path], wells: Sequence[Path], roles: Roles, format_name: str | None) -> Screen:
    is_classic = format_name == CLASSIC or (format_name is None and any(map(recognises_classic, sources)))
    if not is_classic:
        return _read_wide(sources, wells, roles, format_name)
    if len(sources) > 1:
        raise UsageError("a folder of the classic layout is read alone", found=listed(sources), expected="one --from")
    refuse_wells_table(bool(wells))
    return _from_classic(read_classic(sources[0]), roles)


def read_expression(
    path: Path,
    genes: Collection[str],
    orientation: Orientation | None = None,
    format_name: str | None = None,
    layer: str | None = None,
) -> Matrix:
    """Read expression without a table about its wells, for a model that knows its genes.

    Genes are named as `read_screen` names them (symbols where there are any, Ensembl versions taken off), so that they
    can be matched with those of a project whatever the file calls them.

    Parameters
    ----------
    path
        A file, or the folder of an MTX matrix.
    genes
        Genes that are known; they tell which side of the table holds the genes.
    orientation, format_name, layer
        What the user says about the file; None finds it out.

    Returns
    -------
    Matrix
        Wells × genes, `column_names` unique; wells may lack names. Values are as in the file, missing ones NaN.

    Raises
    ------
    UsageError, DataError
        As `read_matrix`, `dpf.tables.matrix.orient` and `dpf.tables.genes.names.name_genes`.
    """
    matrix = read_matrix(path, format_name, layer, orientation)
    known = set(genes)
    for names, about in ((matrix.row_names, matrix.row_table), (matrix.column_names, matrix.column_table)):
        if names is not None:
            described, _ = describe_genes(names, about)
            known |= set(described.filter(pl.col("gene").is_in(set(genes))).get_column("source_name"))
    wells = orient(matrix, None, orientation, genes=known)
    named = name_genes(wells)
    return replace(
        wells,
        values=named.values,
        column_names=named.genes.get_column("gene").to_list(),
        column_table=named.genes,
        notes=(*wells.notes, *named.notes),
    )


def _read_wide(sources: Sequence[Path], wells: Sequence[Path], roles: Roles, format_name: str | None) -> Screen:
    matrices = [read_matrix(path, format_name, roles.layer, roles.orientation) for path in sources]
    _refuse_copies(matrices)
    tables = [_read_wells(path) for path in wells] or [_own_wells(matrix, roles) for matrix in matrices]
    if len(matrices) == 1 and len(tables) > 1:
        tables = [merge_tables(tables, matrices[0])]
    unused = [note for matrix in matrices if wells for note in _own_wells_unused(matrix)]
    joined = join_wells(  # which empties `matrices`
        matrices,
        tables,
        _labels(sources, wells),
        well_column=roles.well_column if wells else OWN_IDS,
        plate_column=roles.plate_column if wells else None,
        orientation=roles.orientation,
        duplicate_genes=roles.duplicate_genes,
    )
    known = Identified(joined.well_ids, joined.local_ids, joined.plates, joined.well_columns)
    frame, targets, notes = assign_roles(joined.table, known, roles)
    if not wells and OWN_IDS in frame.columns:
        frame = frame.drop(OWN_IDS)
    every = tuple(dict.fromkeys((*joined.notes, *unused, *notes)))
    return _without_leaks(Screen(frame, joined.genes, joined.expression, targets, every, joined.sources))


def _read_wells(path: Path) -> Table:
    """A table about wells; one of a single column has nothing to say about the wells that it names."""
    table = read_table(path)
    if table.frame.width == 1:
        require_delimiter([*table.frame.columns, *table.frame.to_series(0).to_list()], path)
    return table


def _refuse_copies(matrices: Sequence[Matrix]) -> None:
    for one, other in itertools.combinations(matrices, 2):
        if one.source.sha256 == other.source.sha256:
            raise DataError(
                "two expression tables are the same, byte for byte",
                where=f"{one.path} and {other.path}",
                expected="different plates",
                hint="was one saved under the name of the other? Give each table once",
            )


def _own_wells(matrix: Matrix, roles: Roles) -> Table:
    """What a file says about its own wells, as a table."""
    hint = "give a table about the wells with --wells"
    if matrix.row_names is None or (matrix.orientation or roles.orientation) is None:
        raise UsageError("there is nothing about the wells", where=matrix.path, expected="--wells", hint=hint)
    wells = orient(matrix, None, roles.orientation)
    if wells.row_table is None or wells.row_names is None:
        raise DataError(
            "the file says nothing about its wells",
            where=matrix.path,
            found="names of wells only",
            expected="their compounds and scores",
            hint=hint,
        )
    path = Path(matrix.path)
    table = table_from_frame(wells.row_table, path, matrix.source)
    return table.with_column(OWN_IDS, wells.row_names)


def _own_wells_unused(matrix: Matrix) -> list[Note]:
    """A note where a file describes its own wells and a table given beside it was taken instead."""
    own = {"wells-by-genes": matrix.row_table, "genes-by-wells": matrix.column_table}.get(matrix.orientation or "")
    if own is None:
        return []
    text = f"what {Path(matrix.path).name} says about its own wells was not used, as --wells is given"
    return [Note("info", f"{text}: {listed(own.columns)}")]


def _labels(sources: Sequence[Path], wells: Sequence[Path]) -> list[str]:
    """A short, unique name a source: what its name and that of its wells table begin with, else its own name."""
    stems = [_stem(path) for path in sources]
    if len(wells) == len(sources):
        common = [_common_words(stem, _stem(path)) for stem, path in zip(stems, wells, strict=True)]
        if all(common) and len(set(common)) == len(common):
            return common
    if len(set(stems)) == len(stems):
        return stems
    return [
        f"{path.parent.name}_{stem}" if path.parent.name else stem for path, stem in zip(sources, stems, strict=True)
    ]


def _common_words(first: str, second: str) -> str:
    """``DGE1`` of ``DGE1-counts`` and ``DGE1-meta``: whole words, never half of one."""
    pairs = zip(re.split(r"([-_. ]+)", first), re.split(r"([-_. ]+)", second), strict=False)
    return "".join(one for one, other in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)).rstrip("-_. ")


def _stem(path: Path) -> str:
    name = path.resolve().name
    while (shorter := _SUFFIX.sub("", name)) not in (name, ""):
        name = shorter
    return name


def _from_classic(classic: ClassicScreen, roles: Roles) -> Screen:
    table, matrix = classic.table, classic.matrix
    ids = table.texts("well_id")
    if twice := repeated(ids):
        raise DataError(
            "a well id is there more than once", where=table.name, found=listed(twice), expected="one a well"
        )
    refuse_columns_about_wells(matrix)
    values, genes, gene_notes = name_genes(matrix, roles.duplicate_genes)
    known = Identified(ids, ids, None, ("well_id",))
    frame, targets, notes = assign_roles(table, known, _classic_roles(classic, roles))
    every: tuple[Note, ...] = (*classic.notes, *gene_notes, *notes)
    sources: tuple[SourceFile, ...] = classic.sources
    return _without_leaks(Screen(frame, genes, values, targets, every, sources))


def _without_leaks(screen: Screen) -> Screen:
    """The same screen, none of whose genes is a target."""
    where = listed([source.path for source in screen.sources])
    targets = screen.wells.select(screen.targets.columns)
    refuse_targets_among_genes(targets, screen.gene_names, screen.expression, where)
    return screen


def _classic_roles(classic: ClassicScreen, roles: Roles) -> Roles:
    """The roles that the layout itself fixes, where the user says nothing else."""
    columns = classic.table.frame.columns
    return replace(
        roles,
        compound_column=roles.compound_column or "compound",
        scores=roles.scores or classic.scores,
        label=roles.label or ("label" if "label" in columns else None),
        activation=roles.activation or ("activation_score" if "activation_score" in columns else None),
    )
