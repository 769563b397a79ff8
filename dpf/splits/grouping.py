"""Draw whole groups of wells at random, stratum by stratum: what every split rule is made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dpf.errors import DataError, listed

Index = NDArray[np.intp]

#: Strata besides the label's 0 and 1.
MISSING_LABEL, CONTROL = 2, 3


def group_wells(
    rule: str, compound: Sequence[str | None], is_control: NDArray[np.bool_], plate: Sequence[str | None] | None
) -> Index:
    """The number of each well's group, shape (N,): wells of one group stay together."""
    if rule == "well":
        return np.arange(is_control.size)
    return _plate_groups(plate) if rule == "plate" else _compound_groups(compound, is_control)


def _index_of(keys: Sequence[object]) -> Index:
    """Number the distinct keys 0, 1, ... in the order of their first appearance."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.intp)


def _compound_groups(compound: Sequence[str | None], is_control: NDArray[np.bool_]) -> Index:
    nameless = [
        i for i, (name, control) in enumerate(zip(compound, is_control, strict=True)) if not control and not name
    ]
    if nameless:
        raise DataError(
            "some wells that are not controls have no compound, so their replicates cannot be kept together",
            where=f"compound of well number {listed([i + 1 for i in nameless])}",
            found="no name",
            expected="a compound for every well that is not a control",
            hint="name them in the wells table, or use --split well",
        )
    return _index_of(
        [(i,) if control else name for i, (name, control) in enumerate(zip(compound, is_control, strict=True))]
    )


def _plate_groups(plate: Sequence[str | None] | None) -> Index:
    nameless = None if plate is None else [i + 1 for i, name in enumerate(plate) if not name]
    if plate is None or nameless:
        raise DataError(
            "whole plates cannot be held out: not every well has a plate",
            where="plate" if plate is None else f"plate of well number {listed(nameless or [])}",
            found="no plate column" if plate is None else "no name",
            expected="a plate for every well",
            hint="name the plate column (dpf init --plate-column), or use --split compound",
        )
    return _index_of(plate)


def label_strata(groups: Index, is_control: NDArray[np.bool_], label: NDArray[np.float64] | None) -> Index:
    """The stratum of each well's group, shape (N,)."""
    n_groups = int(groups.max()) + 1
    stratum = np.full(n_groups, MISSING_LABEL, dtype=np.intp)
    if label is not None:
        known = ~np.isnan(label)
        count = np.bincount(groups[known], minlength=n_groups)
        positive = np.bincount(groups[known], weights=label[known], minlength=n_groups)
        stratum[count > 0] = 2 * positive[count > 0] >= count[count > 0]
    stratum[groups[is_control]] = CONTROL
    return stratum[groups]


def _sizes(groups: Index, strata: Index) -> tuple[Index, Index, Index]:
    """Each group's stratum and number of wells, and each well's place among the groups."""
    _, first, place, size = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    return strata[first], size, place


def take_share(groups: Index, strata: Index, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw whole groups until each stratum has given `share` of its wells, to the nearest group.

    At least one group that is not a control is drawn, where there is one. Returns a mask of shape (N,).
    """
    stratum, size, place = _sizes(groups, strata)
    taken = np.zeros(size.size, dtype=bool)
    for value in np.unique(stratum):
        order = rng.permutation(np.flatnonzero(stratum == value))
        missing = share * size[order].sum()
        for group in order:
            if size[group] <= missing:
                taken[group] = True
                missing -= size[group]
        left = order[~taken[order]]
        # Every group left would exceed the share; the smallest may still end nearer to it than stopping here.
        if left.size and size[left].min() - missing < missing:
            taken[left[size[left].argmin()]] = True
    treated = np.flatnonzero(stratum != CONTROL)
    if treated.size and not taken[treated].any():  # controls alone could not choose an epoch
        candidates = rng.permutation(treated)
        taken[candidates[np.abs(size[candidates] - share * size[treated].sum()).argmin()]] = True
    return taken[place]


def deal(groups: Index, strata: Index, folds: int, rng: np.random.Generator) -> Index:
    """Deal whole groups into folds of equally many wells of every stratum; the fold of each well, shape (N,).

    Largest group first, each to the fold with the fewest wells of its stratum so far, then the fewest wells
    at all, so that no fold stays empty while there are as many groups as folds. Controls come last.
    """
    stratum, size, place = _sizes(groups, strata)
    fold = np.empty(size.size, dtype=np.intp)
    total = np.zeros(folds, dtype=np.intp)
    for value in np.unique(stratum):
        load = np.zeros(folds, dtype=np.intp)
        order = rng.permutation(np.flatnonzero(stratum == value))
        for group in order[np.argsort(-size[order], kind="stable")]:
            best = np.lexsort((rng.random(folds), total, load))[0]
            fold[group] = best
            load[best] += size[group]
            total[best] += size[group]
    return fold[place]
