"""Tests of a compound's replicates: its wells and the controls of its strata change places."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.ranking.subsets import Codes, Comparison, Mask, comparisons, smallest_p

Floats = NDArray[np.float64]


class ExchangeTest(NamedTuple):
    """A value of each compound, its p and the smallest p the design allows, (C,); NaN for those not compared."""

    value: Floats
    p: Floats
    floor: Floats


def exchange_test(
    compare: Callable[[Comparison], tuple[Floats, Floats]],
    group: Codes,
    n_groups: int,
    is_control: Mask,
    strata: Codes | None,
    rng: np.random.Generator,
) -> ExchangeTest:
    """Values and p-values of compounds of two wells and more, from `compare`: (B,) each of a `Comparison`.

    All sets of as many wells, out of the compound's and the controls of its strata, take the compound's place where
    they are fewer than 10,000 (the test is exact), 10,000 random ones otherwise.

    Parameters
    ----------
    group, n_groups, is_control, strata, rng
        As in `p_values.compound_p_values`. No design is refused: `floor` shows what it can reach.

    Raises
    ------
    DataError
        A compound without controls in one of its strata.
    """
    value, p, floor = (np.full(n_groups, np.nan) for _ in range(3))
    for case in comparisons(group, n_groups, is_control, strata, rng, largest_floor=1.0):
        if case.own.shape[1] > 1:
            value[case.compounds], p[case.compounds] = compare(case)
            floor[case.compounds] = smallest_p(case.subsets)
    return ExchangeTest(value, p, floor)
