"""Gene sets from a GMT file, and a score of each for every well: targets for screens that measured none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError, listed, spelling_hint
from dpf.tables.genes.filters import find_genes
from dpf.tables.screen import Note
from dpf.tables.text.encodings import parse_text

_WEIGHT = re.compile(r",(0?\.\d+|1(\.0*)?)$")
_DIRECTION = re.compile(r"(?i)^(?P<name>.+?)[_ .-](?P<side>up|dn|down)$")


class GeneSet(NamedTuple):
    """A line of a GMT file."""

    name: str
    description: str
    genes: tuple[str, ...]


class Signature(NamedTuple):
    """What a score is made of: the genes that raise it and those that lower it, which may be none."""

    name: str
    up: tuple[str, ...]
    down: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class SignatureScore:
    """A gene-set score.

    Attributes
    ----------
    name
        Of the signature.
    values
        float64 array of shape (N,). Higher: the up genes are higher and the down genes lower than in the mean well.
    used
        bool array of shape (G,): the genes it was computed from. A model that sees them predicts the score from
        itself: leave them out of the expression.
    notes
        Unknown and constant genes, counted.
    """

    name: str
    values: NDArray[np.float64]
    used: NDArray[np.bool_]
    notes: tuple[Note, ...] = ()


def read_gmt(path: Path) -> tuple[tuple[GeneSet, ...], tuple[Note, ...]]:
    """Read a GMT file, gzip or not: a set a line, tab-separated name, description, genes.

    Enrichr's libraries have a weight behind each gene (``TP53,1.0``), which is not read.

    Raises
    ------
    DataError
        A line has no genes, a name stands twice, or the file is empty.
    """
    text, notes = parse_text(path, lambda stream: stream.read())
    sets: dict[str, GeneSet] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")]
        genes = tuple(dict.fromkeys(_WEIGHT.sub("", field) for field in fields[2:] if field))
        if not fields[0] or not genes or fields[0] in sets:
            raise DataError(
                "a gene set stands twice" if fields[0] in sets else "a gene set has no name or no genes",
                where=f"{path}, line {number}",
                found=repr(line[:80]),
                expected="name, description and genes, separated by tabs, each name once",
            )
        sets[fields[0]] = GeneSet(fields[0], fields[1], genes)
    if not sets:
        raise DataError("a GMT file without gene sets", where=path, found="no lines", expected="a set a line")
    return tuple(sets.values()), notes


def pair_signatures(sets: Sequence[GeneSet]) -> tuple[Signature, ...]:
    """Sets ``NAME_UP`` and ``NAME_DN`` (or ``_DOWN``) become one signature ``NAME``; every other set is all up.

    A set whose name ends in a direction but has no partner keeps its name; alone, ``NAME_DN`` counts as up, that is,
    its score is the level of its genes.
    """
    sides: dict[str, dict[str, GeneSet]] = {}
    for one in sets:
        match = _DIRECTION.match(one.name)
        base, side = (match["name"], match["side"].lower()) if match else (one.name, "")
        sides.setdefault(base, {})["down" if side == "dn" else side] = one
    signatures = []
    for base, found in sides.items():
        if found.keys() >= {"up", "down"}:
            signatures.append(Signature(base, found.pop("up").genes, found.pop("down").genes))
        signatures += [Signature(one.name, one.genes) for one in found.values()]
    return tuple(signatures)


def signature_members(genes: pl.DataFrame, signatures: Sequence[Signature]) -> NDArray[np.bool_]:
    """The genes, of G, that any of the signatures names: all that their scores need."""
    names = [name for signature in signatures for name in (*signature.up, *signature.down)]
    return find_genes(genes, names)[0]


def gene_set_score(
    expression: NDArray[np.floating],
    genes: pl.DataFrame,
    signature: Signature,
    measured: NDArray[np.bool_] | None = None,
) -> SignatureScore:
    """Score every well: mean over the up genes of z − mean over the down genes of z.

    ``z = (x − mean over wells) / (standard deviation over wells)``, the deviation that of the population.

    Constant genes have no z and are left out; so are genes that are not measured. Both are counted.

    Parameters
    ----------
    expression
        Array of shape (N, G), normalised; with `measured`, only its columns.
    genes
        G rows: the genes table. A member may be given as name, symbol or identifier.
    signature
        From `pair_signatures`.
    measured
        bool array of shape (G,), the genes that `expression` holds, at least the `signature_members`; None for all.

    Raises
    ------
    DataError
        A side has members and none of them is measured and varies, or a gene stands on both sides.
    """
    used = np.zeros(genes.height, dtype=bool)
    values, notes = np.zeros(len(expression)), []
    for sign, side, names in ((1, "up", signature.up), (-1, "down", signature.down)):
        if not names:
            continue
        found, unknown = find_genes(genes, names)
        if both := genes.get_column("gene").filter(pl.Series(found & used)).to_list():
            raise DataError("genes stand on both sides of a signature", where=signature.name, found=listed(both))
        some = expression[:, found if measured is None else found[measured]].astype(np.float64)
        varies = some.max(axis=0, initial=-np.inf) > some.min(axis=0, initial=np.inf)
        if not varies.any():
            raise DataError(
                f"none of the {side} genes of a signature is measured and varies",
                where=signature.name,
                found=f"{len(names):,} genes, of which unknown: {listed(unknown, 5)}",
                expected=f"names such as {listed(genes.get_column('gene').head(3).to_list())}",
                hint=spelling_hint(genes.get_column("gene").to_list(), unknown),
            )
        some = some[:, varies]
        values += sign * ((some - some.mean(axis=0)) / some.std(axis=0)).mean(axis=1)
        used[np.flatnonzero(found)[varies]] = True
        notes += _notes(signature.name, side, names, unknown, int((~varies).sum()))
    return SignatureScore(signature.name, values, used, tuple(notes))


def _notes(name: str, side: str, names: Sequence[str], unknown: list[str], constant: int) -> list[Note]:
    problems = [f"{len(unknown):,} are not measured ({listed(unknown, 5)})"] if unknown else []
    problems += [f"{constant:,} are constant"] if constant else []
    if not problems:
        return []
    text = f"signature {name}: of {len(names):,} {side} genes, {' and '.join(problems)}; the rest were used"
    return [Note("warning" if len(unknown) * 2 > len(names) else "info", text)]
