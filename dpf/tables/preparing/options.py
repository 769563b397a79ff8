"""What a user asks to be done with a screen before it is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpf.errors import DataError, listed
from dpf.files import sha256_file
from dpf.tables.genes.filters import read_gene_list
from dpf.tables.genes.set_scores import GeneSet, Signature, pair_signatures, read_gmt
from dpf.tables.preparing.normalise import Method
from dpf.tables.screen import Note, SourceFile


@dataclass(frozen=True)
class Preparation:
    """What a user asks to be done with a screen; the defaults leave it as it is.

    Attributes
    ----------
    normalize
        ``log-cpm`` or ``vst`` for counts, ``none`` for values that are normalised already.
    min_counts
        Leave out wells with fewer counts.
    signatures
        Gene sets whose scores become targets.
    keep_signature_genes
        Keep their genes in the expression.
    min_wells
        Keep genes with a count in at least so many wells.
    gene_list, gene_list_name
        Keep these genes; what errors call the list.
    top_variable, top_perturbed
        Keep so many genes: those that vary most for their level, then those that compounds move most.
    notes, sources
        What was odd about the files that signatures and list were read from, and the files.
    """

    normalize: Method = "none"
    min_counts: int | None = None
    signatures: tuple[Signature, ...] = ()
    keep_signature_genes: bool = False
    min_wells: int | None = None
    gene_list: tuple[str, ...] | None = None
    gene_list_name: str = "the list of genes"
    top_variable: int | None = None
    top_perturbed: int | None = None
    notes: tuple[Note, ...] = ()
    sources: tuple[SourceFile, ...] = ()


def read_preparation(signature_files: Sequence[Path], genes_file: Path | None, **asked: Any) -> Preparation:
    """A `Preparation` with the gene sets and the list of genes read from their files.

    Parameters
    ----------
    signature_files
        GMT files; ``NAME_UP`` and ``NAME_DN`` make one signature.
    genes_file
        A list of genes, or None.
    **asked
        The other attributes of `Preparation`.

    Raises
    ------
    DataError
        A file cannot be read, holds nothing, or names a gene set that another one names.
    """
    sets: list[GeneSet] = []
    notes: list[Note] = []
    for path in signature_files:
        found, odd = read_gmt(path)
        sets += found
        notes += odd
    names = [one.name for one in sets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError("a gene set stands in two files", where=listed(signature_files), found=listed(twice))
    options = Preparation(signatures=pair_signatures(sets), **asked)
    if genes_file is not None:
        wanted, odd = read_gene_list(genes_file)
        options = replace(options, gene_list=wanted, gene_list_name=str(genes_file))
        notes += odd
    files = [*signature_files, *([genes_file] if genes_file is not None else [])]
    sources = tuple(SourceFile(str(path), sha256_file(path)) for path in files)
    return replace(options, notes=tuple(notes), sources=sources)
