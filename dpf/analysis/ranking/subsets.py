"""Sets of wells a compound is compared with: who could change places with whom, all of them or a random sample."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.errors import DataError, listed

Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Below this many subsets all are enumerated; otherwise, this many are drawn.
ENUMERATE_BELOW = 10_000
#: A screen whose smallest attainable p-value is above this cannot call anything.
LARGEST_FLOOR = 0.05

#: How many wells a compound has in each stratum: ((stratum, wells), ...), sorted.
Composition = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Subsets:
    """Sets of wells that could have been the compound: rows of indices into its pool.

    Attributes
    ----------
    index
        (D, n): indices into (controls of the compound's strata in turn, then its own wells where these take part).
    n_controls
        Indices below this are controls.
    exact
        All subsets, each once (the compound's own set among them, where its wells take part); else D random draws.
    """

    index: Codes
    n_controls: int
    exact: bool

    def split(self) -> tuple[Codes, Codes]:
        """The sets of controls alone, which every compound shares, and those with wells of the compound."""
        alone = (self.index < self.n_controls).all(axis=1)
        return self.index[alone], self.index[~alone]

    def share(self, reached: NDArray[np.int64]) -> NDArray[np.float64]:
        """P of compounds whose value so many sets reach: drawn sets have the compound's own added."""
        own = 0 if self.exact else 1
        return np.asarray((reached + own) / (len(self.index) + own), dtype=np.float64)


@dataclass(frozen=True)
class Comparison:
    """Compounds that are compared with the same controls in the same way.

    Attributes
    ----------
    compounds
        (B,) codes, ascending.
    controls
        (k,) rows of the control wells of their strata: the first k wells of every pool.
    own
        (B, n) rows of each compound's wells: the rest of its pool.
    counts
        (controls, wells) in each stratum.
    subsets
        The sets to compare with.
    """

    compounds: Codes
    controls: Codes
    own: Codes
    counts: tuple[tuple[int, int], ...]
    subsets: Subsets


def comparisons(
    group: Codes,
    n_groups: int,
    is_control: Mask,
    strata: Codes | None,
    rng: np.random.Generator,
    strata_names: Sequence[str] | None = None,
    largest_floor: float = LARGEST_FLOOR,
) -> Iterator[Comparison]:
    """Every compound once, together with those that have as many wells in the same strata.

    `largest_floor` is the largest p-value that the best placed compound may be unable to go below; 1 allows any.

    Raises
    ------
    DataError
        As `require_controls`; a compound without wells.
    """
    stratum = np.zeros(len(group), dtype=np.int64) if strata is None else strata
    plan = compositions(group, n_groups, is_control, stratum)
    require_controls(plan, is_control, stratum, strata_names, largest_floor)
    controls_of = wells_by_code(stratum, is_control, int(stratum.max(initial=0)) + 1)
    # By compound, then stratum by stratum, in `Subsets`' order.
    by_stratum = np.argsort(stratum, kind="stable")
    wells_of = wells_by_code(group[by_stratum], ~is_control[by_stratum], n_groups)
    for composition, compounds in plan.items():
        pools = [controls_of[code] for code, _ in composition]
        counts = tuple((len(pool), n) for pool, (_, n) in zip(pools, composition, strict=True))
        own = by_stratum[np.stack([wells_of[compound] for compound in compounds])]
        yield Comparison(compounds, np.concatenate(pools), own, counts, draw_subsets(counts, rng))


def wells_by_code(codes: Codes, chosen: Mask, count: int) -> list[Codes]:
    """The wells of each of the codes 0 ... count − 1 among those that are chosen, ascending, in one pass over them."""
    wells = np.flatnonzero(chosen & (codes >= 0))
    order = wells[np.argsort(codes[wells], kind="stable")]
    return np.split(order, np.cumsum(np.bincount(codes[wells], minlength=count))[:-1])


def draw_subsets(
    counts: Sequence[tuple[int, int]], rng: np.random.Generator, *, controls_only: bool = False
) -> Subsets:
    """All sets of as many wells as the compound has in each stratum, or 10,000 random ones where there are more.

    `counts` holds (controls, wells) for each stratum. The pool of a stratum is its controls and, unless
    `controls_only` (pseudo-compounds), the compound's own wells, which makes a test by these sets exact.
    """
    controls, wells = [k for k, _ in counts], [n for _, n in counts]
    own = [0] * len(wells) if controls_only else wells
    k = sum(controls)
    starts = np.cumsum([0, *controls])
    own_starts = k + np.cumsum([0, *own])
    pools = [
        np.concatenate([np.arange(starts[s], starts[s + 1]), np.arange(own_starts[s], own_starts[s + 1])])
        for s in range(len(wells))
    ]
    if math.prod(math.comb(len(pool), n) for pool, n in zip(pools, wells, strict=True)) < ENUMERATE_BELOW:
        found = np.zeros((1, 0), dtype=np.int64)
        for pool, n in zip(pools, wells, strict=True):
            more = pool[_all_subsets(len(pool), n)]
            found = np.concatenate([np.repeat(found, len(more), axis=0), np.tile(more, (len(found), 1))], axis=1)
        return Subsets(found, k, exact=True)
    columns = [pool[_random_subsets(len(pool), n, rng)] for pool, n in zip(pools, wells, strict=True)]
    return Subsets(np.concatenate(columns, axis=1), k, exact=False)


def _all_subsets(size: int, n: int) -> Codes:
    """(C(size, n), n) indices below `size`."""
    count = math.comb(size, n)
    flat = itertools.chain.from_iterable(itertools.combinations(range(size), n))
    return np.fromiter(flat, dtype=np.int64, count=count * n).reshape(count, n)


def _random_subsets(size: int, n: int, rng: np.random.Generator) -> Codes:
    """(10,000, n) indices below `size`, without repetition in a row, every set equally likely.

    Floyd's algorithm, all rows at once: the i-th member is drawn from the first size − n + i + 1 indices, and is the
    last of these where the draw is in the set already. Time and memory do not depend on `size`.

    References
    ----------
    Bentley & Floyd, Programming pearls: a sample of brilliance, CACM 1987.
    """
    found = np.empty((ENUMERATE_BELOW, n), dtype=np.int64)
    for i in range(n):
        last = size - n + i
        drawn = rng.integers(0, last + 1, ENUMERATE_BELOW)
        taken = (found[:, :i] == drawn[:, None]).any(axis=1)
        found[:, i] = np.where(taken, last, drawn)
    return found


def set_sums(values: NDArray[np.float64], sets: Codes) -> NDArray[np.float64]:
    """Sums over the members of sets (D, n) of values (P, ...): (D, ...), without an array of all members at once."""
    total = values[sets[:, 0]]
    for member in range(1, sets.shape[1]):
        total += values[sets[:, member]]
    return total


def number_of_subsets(counts: Sequence[tuple[int, int]]) -> int:
    """How many sets a compound is compared with: the product over strata of C(k+n, n)."""
    return math.prod(math.comb(k + n, n) for k, n in counts)


def smallest_p(subsets: Subsets) -> float:
    """The p-value of a compound whose own wells take part and that no other set reaches."""
    return 1 / (len(subsets.index) + (0 if subsets.exact else 1))


def compositions(group: Codes, n_groups: int, is_control: Mask, strata: Codes) -> dict[Composition, Codes]:
    """The compounds by how many wells they have in each stratum: composition → compound codes."""
    keep = (group >= 0) & ~is_control
    pairs, counts = np.unique(np.stack([group[keep], strata[keep]]), axis=1, return_counts=True)
    found: dict[int, list[tuple[int, int]]] = {}
    for code, stratum, n in zip(pairs[0].tolist(), pairs[1].tolist(), counts.tolist(), strict=True):
        found.setdefault(code, []).append((stratum, n))
    missing = sorted(set(range(n_groups)) - set(found))
    if missing:
        raise DataError("a compound has no wells", where="the ranking", found=f"codes {listed(missing)}")
    plan: dict[Composition, list[int]] = {}
    for code in range(n_groups):
        plan.setdefault(tuple(found[code]), []).append(code)
    return {composition: np.array(codes, dtype=np.int64) for composition, codes in plan.items()}


def require_controls(
    plan: dict[Composition, Codes],
    is_control: Mask,
    strata: Codes,
    names: Sequence[str] | None = None,
    largest_floor: float = LARGEST_FLOOR,
) -> None:
    """Raise a `DataError` unless every compound has controls to change places with, and some p can reach 0.05."""
    counts = np.bincount(strata[is_control], minlength=int(strata.max(initial=0)) + 1)
    for composition, members in plan.items():
        for code, n in composition:
            if not counts[code]:
                name = code if names is None else names[code]
                raise DataError(
                    "too few control wells for a p-value",
                    where=f"plate {name}, which holds {n} wells of {len(members):,} compound(s)",
                    found="0 control wells",
                    expected="at least 1",
                    hint="leave these compounds out, or compare over all plates (and say that plates may differ)",
                )
    designs = {composition: tuple((int(counts[code]), n) for code, n in composition) for composition in plan}
    widest, best = max(designs.items(), key=lambda design: number_of_subsets(design[1]))
    if _floor(best) > largest_floor:
        more = best
        while _floor(more) > largest_floor:
            more = tuple((k + 1, n) for k, n in more)
        raise DataError(
            f"too few control wells for a p-value: no compound could reach {largest_floor:g}, however strong",
            where=_whose_controls([code for code, _ in widest], names),
            found=f"{sum(k for k, _ in best)} control wells for {sum(n for _, n in best)} replicate(s)",
            expected=f"at least {sum(k for k, _ in more)}",
            hint="rank by distance without p-values (--null none), or run more control wells",
        )


def _whose_controls(codes: Sequence[int], names: Sequence[str] | None) -> str:
    """Of which plates: a stratum without a name is the whole screen."""
    named = [] if names is None else sorted({names[code] for code in codes} - {""})
    return f"the controls of plate {listed(named)}" if named else "the controls"


def _floor(counts: Sequence[tuple[int, int]]) -> float:
    return 1 / number_of_subsets(counts)
