"""P-values from the controls: wells of a compound against control wells, exchanged plate by plate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.ranking.subsets import Subsets, comparisons, smallest_p
from dpf.errors import DataError, listed

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class PValues:
    """One test a compound: arrays of shape (C,).

    Attributes
    ----------
    p
        In (0, 1]; ties count against the compound.
    floor
        The smallest p the design lets this compound reach.
    exact
        All subsets were enumerated.
    """

    p: Floats
    floor: Floats
    exact: NDArray[np.bool_]


def compound_p_values(
    t: ArrayLike,
    group: ArrayLike,
    n_groups: int,
    is_control: ArrayLike,
    strata: ArrayLike | None = None,
    *,
    rng: np.random.Generator,
    strata_names: Sequence[str] | None = None,
) -> PValues:
    """P-value of each compound's mean T against sets of as many control wells, stratum by stratum.

    The null hypothesis is that the compound's wells and the controls of their plates could change places. All sets of n
    wells out of the k controls and the n own wells are enumerated, the observed one among them, and p is the share with
    a mean at least as large: exact, p = (b+1)/(m+1) with m = C(k+n, n) − 1. Where there are 10,000 sets or more,
    m = 10,000 are drawn and p = (b+1)/(m+1) again, never 0 (Phipson & Smyth 2010).

    Sets of controls alone (pseudo-compounds), m = C(k, n), would not do for n ≥ 2: the largest mean of control pairs
    rests on the two largest controls only, so that with 40 controls and two replicates an inert compound reaches the
    floor of 1/781 in 0.7% of cases instead of 0.13% (`python -m tests.bench.calibration`).

    Parameters
    ----------
    t
        (N,) standardised distances, controls and compounds treated alike.
    group
        (N,) compound codes 0 ... n_groups − 1; −1 for wells of no compound. Controls are ignored here.
    is_control
        (N,) bool.
    strata
        (N,) codes within which wells are exchangeable (plates); None takes all wells as exchangeable.
    rng
        Draws sets where they are too many to enumerate.
    strata_names
        The names behind the codes, for error messages.

    Raises
    ------
    DataError
        A stratum without controls for the compounds on it; a design in which no
        compound can reach p = 0.05, with the number of controls that would do; a T that is not finite.

    References
    ----------
    Phipson & Smyth, Permutation p-values should never be zero, Stat Appl Genet Mol Biol 2010.
    Hemerik & Goeman, Exact testing with random permutations, TEST 2018.
    """
    values, codes = np.asarray(t, dtype=np.float64), np.asarray(group, dtype=np.int64)
    control = np.asarray(is_control, dtype=bool)
    stratum = None if strata is None else np.asarray(strata, dtype=np.int64)
    _require_finite(values, control | (codes >= 0))
    p, floor, exact = np.ones(n_groups), np.ones(n_groups), np.zeros(n_groups, dtype=bool)
    for case in comparisons(codes, n_groups, control, stratum, rng, strata_names):
        p[case.compounds] = _tail_share(values[case.controls], values[case.own], case.subsets)
        floor[case.compounds] = smallest_p(case.subsets)
        exact[case.compounds] = case.subsets.exact
    return PValues(p, floor, exact)


def _tail_share(controls: Floats, own: Floats, subsets: Subsets) -> Floats:
    """Share of sets whose sum reaches the compound's own, for (B, n) own values: (B,) p-values."""
    observed = own.sum(axis=1)
    # Sums of the same wells in another order differ by rounding: such a tie must count as one.
    bound = observed - 1e-12 * (np.abs(own).sum(axis=1) + np.abs(controls).max(initial=0.0))
    alone, mixed = subsets.split()
    sums = np.sort(controls[alone].sum(axis=1))
    count = len(sums) - np.searchsorted(sums, bound)
    for row in range(len(own) if len(mixed) else 0):
        pool = np.concatenate([controls, own[row]])
        count[row] += int((pool[mixed].sum(axis=1) >= bound[row]).sum())
    return subsets.share(count)


def benjamini_hochberg(p: ArrayLike) -> Floats:
    """q-values of Benjamini & Hochberg (1995), same shape as p; NaN (not tested) stays NaN and is not counted."""
    from scipy.stats import false_discovery_control  # imported here: it costs more than the rest of this module

    values = np.asarray(p, dtype=np.float64)
    q = np.full(values.shape, np.nan)
    tested = np.isfinite(values)
    if tested.any():
        q[tested] = false_discovery_control(values[tested])
    return q


def _require_finite(values: Floats, wanted: NDArray[np.bool_]) -> None:
    bad = np.flatnonzero(wanted & ~np.isfinite(values))
    if len(bad):
        raise DataError(
            "a standardised distance is not finite",
            where=f"rows {listed(bad.tolist())}",
            found=f"{len(bad):,} wells",
            expected="finite distances",
            hint="look for wells without latents in the outputs",
        )
