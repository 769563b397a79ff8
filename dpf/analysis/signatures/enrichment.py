"""Gene sets of a signature: over-representation, univariate linear model, connectivity to a query signature."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.ranking.p_values import benjamini_hochberg
from dpf.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

#: Sets with fewer measured genes than this are listed but not tested.
MIN_SIZE = 3


@dataclass(frozen=True)
class MeasuredSets:
    """Gene sets cut down to the genes that were measured.

    Attributes
    ----------
    names
        S names.
    member
        (S, G) float64, sparse or not: 1 where a gene is of a set, else 0.
    unknown
        How many distinct genes of all sets were not measured.
    """

    names: tuple[str, ...]
    member: csr_array | Floats
    unknown: int

    @property
    def size(self) -> Codes:
        """(S,) measured genes of each set."""
        return np.asarray(self.member.sum(axis=1), dtype=np.int64)


@dataclass(frozen=True)
class Enrichment:
    """One test for each compound and set: (C, S) arrays; NaN where a set is too small (or the whole background).

    Attributes
    ----------
    score
        Over-representation: fold over expectation. Univariate linear model: t of the slope.
    p
        Over-representation: one-sided, hypergeometric. Univariate linear model: two-sided.
    q
        Benjamini–Hochberg over all sets *and* compounds together.
    overlap
        (C, S) genes both in the list and in the set; None for the linear model.
    """

    score: Floats
    p: Floats
    q: Floats
    overlap: Codes | None = None


def measure_sets(sets: Mapping[str, Collection[str]], genes: Sequence[str]) -> MeasuredSets:
    """Match sets to the measured genes by name, exactly as written.

    Raises
    ------
    DataError
        No sets, or no gene of any of them was measured (another naming scheme).
    """
    from scipy.sparse import csr_array

    index = {gene: column for column, gene in enumerate(genes)}
    found = [sorted({index[gene] for gene in named if gene in index}) for named in sets.values()]
    columns = np.fromiter(chain.from_iterable(found), dtype=np.int64)
    ends = np.cumsum([0, *map(len, found)])
    member = csr_array((np.ones(len(columns)), columns, ends), shape=(len(sets), len(genes)))
    everything = {gene for named in sets.values() for gene in named}
    if not len(columns):
        raise DataError(
            "no gene of the gene sets was measured",
            where=f"{len(sets):,} gene sets",
            found=f"e.g. {', '.join(sorted(everything)[:3]) or 'no genes at all'}",
            expected=f"names as in the screen, e.g. {', '.join(genes[:3])}",
            hint="use gene sets in the same naming scheme (symbols or Ensembl ids) and species as the screen",
        )
    return MeasuredSets(tuple(sets), member, len(everything - set(genes)))


def over_representation(lists: ArrayLike, sets: MeasuredSets) -> Enrichment:
    """Hypergeometric test of each gene list against each set, with *the measured genes as background*.

    p = P(X ≥ k), X the overlap of n genes drawn from the G measured ones of which K are in the set. The background
    is not the genome: a gene that was not measured could not have been found.

    Parameters
    ----------
    lists
        (C, G) bool: e.g. the up list of each compound. An empty list is not tested (NaN).
    sets
        From `measure_sets`. The same function serves classes of compounds: compounds in place of genes.
    """
    from scipy.stats import hypergeom  # imported here: it costs more than the rest of this module

    chosen = np.asarray(lists, dtype=bool)
    total, size = chosen.shape[1], sets.size
    score, p = np.full((2, len(chosen), len(size)), np.nan)
    overlaps = np.zeros(score.shape, dtype=np.int64)
    testable = (size >= MIN_SIZE) & (size < total)
    for row, own in enumerate(chosen):
        overlaps[row] = overlap = sets.member @ own
        if drawn := int(own.sum()):
            few, found = size[testable], overlap[testable]
            score[row, testable] = found / (drawn * few / total)
            p[row, testable] = hypergeom.sf(found - 1, total, few, drawn)
    return Enrichment(score, p, benjamini_hochberg(p), overlaps)


def univariate_linear_model(statistics: ArrayLike, weights: ArrayLike | csr_array) -> Enrichment:
    """T of the slope of the gene statistics on a set's weights, over all measured genes, df = G − 2 (decoupler's ULM).

    t = r·√(df/(1 − r²)), r the correlation over genes. Genes are taken as independent, which they are not: p-values
    are too small for sets of correlated genes, and serve to rank.

    Parameters
    ----------
    statistics
        (C, G), e.g. moderated t.
    weights
        (S, G), sparse or not: 0 outside the set; `MeasuredSets.member` for unweighted sets.
    """
    from scipy.sparse import csr_array

    from dpf.analysis.signatures.moderated_t import two_sided_p

    rows, w = np.asarray(statistics), csr_array(weights, dtype=np.float64)
    genes = rows.shape[1]
    freedom = genes - 2
    # The statistics have their mean taken off, so that of the weights does not matter to their products.
    spread = np.sqrt(np.maximum((w**2).sum(axis=1) - w.sum(axis=1) ** 2 / genes, 0.0))
    large_enough = (w != 0).sum(axis=1) >= MIN_SIZE
    t, p = np.empty((2, len(rows), w.shape[0]))
    for row, values in enumerate(rows):
        y = values.astype(np.float64)
        a = y - y.mean()
        length = np.linalg.norm(a) * spread
        r = np.full(length.shape, np.nan)
        r = np.clip(np.divide(w @ a, length, out=r, where=(length > 0) & large_enough), -1, 1)
        # A perfect correlation has an infinite t; np.divide gives it without a warning.
        root, infinite = np.sqrt(1 - r**2), np.copysign(np.inf, r)
        t[row] = np.divide(r * np.sqrt(freedom), root, out=infinite, where=~(root == 0))
        p[row] = two_sided_p(t[row], freedom)
    return Enrichment(t, p, benjamini_hochberg(p))


def enrichment_score(signature: ArrayLike, members: ArrayLike) -> float:
    """Weighted running-sum statistic of a gene set along a signature, in [−1, 1]; positive: at the top.

    Down the genes in falling order of their values, a member adds |value|/Σ|values of members|, any other gene
    subtracts 1/(G − n); the score is the largest deviation from 0 (Subramanian et al. 2005, weight 1). NaN for
    no members, nothing but members, or members that are all 0. Genes of equal value count in the order given.

    Parameters
    ----------
    signature
        (G,), e.g. moderated t.
    members
        (G,) bool.
    """
    values, member = np.asarray(signature, dtype=np.float64), np.asarray(members, dtype=bool)
    order = np.argsort(-values, kind="stable")
    hit, weight = member[order], np.abs(values[order])
    total, misses = float(weight[hit].sum()), int((~hit).sum())
    if total == 0 or misses == 0:
        return float("nan")
    running = np.cumsum(np.where(hit, weight / total, -1.0 / misses))
    return float(running[np.argmax(np.abs(running))])


def connectivity(signatures: ArrayLike, up: ArrayLike, down: ArrayLike) -> Floats:
    """Weighted connectivity score of each signature to a query of up and down genes, (C,) in [−1, 1].

    WTCS = (ES_up − ES_down)/2 where the two differ in sign, else 0 (Subramanian et al. 2017). 1: the compound does
    what the query does; −1: the opposite. A query with one side only takes that side's score.

    Parameters
    ----------
    signatures
        (C, G).
    up, down
        (G,) bool, measured genes of the query; disjoint, not both empty.

    Raises
    ------
    DataError
        The query has no measured gene, or a gene on both sides.
    """
    rising, falling = np.asarray(up, dtype=bool), np.asarray(down, dtype=bool)
    if (rising & falling).any() or not (rising | falling).any():
        raise DataError(
            "the query signature cannot be used",
            where="the query's up and down genes",
            found=f"{rising.sum()} up, {falling.sum()} down, {(rising & falling).sum()} in both",
            expected="measured genes, each on one side",
            hint="use the naming scheme of the screen, and list no gene twice",
        )
    scores = []
    for row in np.asarray(signatures, dtype=np.float64):
        if not (rising.any() and falling.any()):
            scores.append(enrichment_score(row, rising) if rising.any() else -enrichment_score(row, falling))
            continue
        first, second = enrichment_score(row, rising), enrichment_score(row, falling)
        scores.append(0.0 if first * second > 0 else (first - second) / 2)
    return np.array(scores, dtype=np.float64)
