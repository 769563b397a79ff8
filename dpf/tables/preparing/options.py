"""What is to be done with a screen before it is trained on, with the files that it needs read."""

from __future__ import annotations

from dataclasses import dataclass

from dpf.errors import DataError, listed, repeated
from dpf.files import regular_file, sha256_file
from dpf.tables.genes.filters import read_gene_list
from dpf.tables.genes.set_scores import GeneSet, Signature, pair_signatures, read_gmt
from dpf.tables.options import PrepareOptions
from dpf.tables.screen import Note, SourceFile


@dataclass(frozen=True)
class Preparation(PrepareOptions):
    """What a user asks to be done with a screen, and what the files that they name hold.

    Attributes
    ----------
    signatures
        Gene sets whose scores become targets.
    gene_list, gene_list_name
        Keep these genes; what errors call the list.
    notes, sources
        What was odd about the files that signatures and list were read from, and the files.
    """

    signatures: tuple[Signature, ...] = ()
    gene_list: tuple[str, ...] | None = None
    gene_list_name: str = "the list of genes"
    notes: tuple[Note, ...] = ()
    sources: tuple[SourceFile, ...] = ()


def read_preparation(asked: PrepareOptions) -> Preparation:
    """What is asked, with the gene sets (``NAME_UP`` and ``NAME_DN`` make one signature) and the list of genes read.

    Raises
    ------
    DataError
        A file cannot be read, holds nothing, or names a gene set that another one names.
    """
    sets: list[GeneSet] = []
    notes: list[Note] = []
    sources: list[SourceFile] = []
    for path in asked.signature:
        with regular_file(path) as file:
            found, odd = read_gmt(file)
            sources.append(SourceFile(str(path), sha256_file(file)))
        sets += found
        notes += odd
    if twice := repeated(one.name for one in sets):
        raise DataError("a gene set stands in two files", where=listed(asked.signature), found=listed(twice))
    wanted, name = None, Preparation.gene_list_name
    if asked.genes_file is not None:
        with regular_file(asked.genes_file) as file:
            wanted, odd = read_gene_list(file)
            sources.append(SourceFile(str(asked.genes_file), sha256_file(file)))
        name = str(asked.genes_file)
        notes += odd
    return Preparation(
        **vars(asked), signatures=pair_signatures(sets), gene_list=wanted, gene_list_name=name, notes=tuple(notes),
        sources=tuple(sources),
    )  # fmt: skip
