"""The generalised Pareto tail."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import genpareto, norm

from dpf.analysis.ranking.tail import fit_tail, tail_p_values
from dpf.errors import DataError


def test_parameters_of_a_pareto_sample_are_found():
    null = genpareto.rvs(0.25, scale=2.0, size=2500, random_state=np.random.default_rng(1))
    fits = [fit_tail(genpareto.rvs(0.25, size=2500, random_state=np.random.default_rng(s))) for s in range(200)]
    # The excess over u is Pareto again, with scale σ + ξu.
    assert np.mean([f.shape for f in fits]) == pytest.approx(0.25, abs=0.05)
    assert np.mean([f.scale / (1 + 0.25 * f.threshold) for f in fits]) == pytest.approx(1, abs=0.06)
    assert fit_tail(null).ks < 0.1


def test_normal_tails_are_extrapolated_to_the_right_order_and_never_to_zero():
    logs = []
    for seed in range(100):
        null = np.random.default_rng(seed).normal(size=2500)
        p, extrapolated = tail_p_values([4.0, 1e6], null, fit_tail(null))
        assert extrapolated.all()
        assert p.min() > 0
        logs.append(np.log10(p[0] / norm.sf(4.0)))
    # On the safe side: ξ is not let below 0, while the normal tail is lighter than any exponential.
    assert 0 < np.mean(logs) < 1.5


def test_counts_are_kept_where_there_are_enough():
    null = np.arange(1000.0)
    p, extrapolated = tail_p_values([500.0, 989.0, 995.0], null, fit_tail(null))
    assert extrapolated.tolist() == [False, False, True]
    assert p[:2] == pytest.approx([501 / 1001, 12 / 1001])


def test_scale_and_shift_do_not_matter():
    null = np.random.default_rng(2).normal(size=1000)
    a, _ = tail_p_values([3.5], null, fit_tail(null))
    b, _ = tail_p_values([3.5 * 7 - 3], null * 7 - 3, fit_tail(null * 7 - 3))
    assert a == pytest.approx(b)


def test_failures():
    with pytest.raises(DataError, match=r"too few draws to fit the tail(.|\n)*100 draws, 10 in the tail"):
        fit_tail(np.arange(100.0))
    with pytest.raises(DataError, match="no spread"):
        fit_tail(np.ones(1000))
