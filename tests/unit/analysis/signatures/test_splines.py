"""The natural cubic spline basis."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from dpf.analysis.signatures.moderated_t import natural_spline_basis


@pytest.mark.parametrize("columns", [2, 3, 4, 6])
def test_it_spans_the_natural_splines_through_the_quantile_knots(columns):
    x = np.sort(np.random.default_rng(columns).normal(size=50))
    basis = natural_spline_basis(x, columns)
    assert np.linalg.matrix_rank(basis) == columns
    knots = np.quantile(x, np.linspace(0, 1, columns))
    heights = np.random.default_rng(0).normal(size=columns)
    target = np.interp(x, knots, heights) if columns == 2 else CubicSpline(knots, heights, bc_type="natural")(x)
    fitted = basis @ np.linalg.lstsq(basis, target, rcond=None)[0]
    assert np.allclose(fitted, target, atol=1e-8)


def test_ties_that_make_knots_coincide_leave_fewer_columns():
    x = np.r_[np.zeros(40), np.arange(1, 11)]
    assert natural_spline_basis(x, 4).shape == (50, 2)
    assert np.isfinite(natural_spline_basis(np.r_[x, 5.5], 6)).all()
