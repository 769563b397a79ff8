"""Dose-response curves and trends."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import curve_fit
from scipy.stats import kendalltau

from dpf.analysis.ranking.dose import dose_shape, fit_dose_response, monotone_trend
from dpf.errors import DataError

DOSES = np.repeat(10.0 ** np.arange(-2, 4), 2)


def curve(log_dose, log_ec50, hill, bottom, top):
    return bottom + (top - bottom) / (1 + 10 ** (hill * (log_ec50 - log_dose)))


def response(rng, noise=0.3, top=9.0):
    return curve(np.log10(DOSES), 0.6, 1.3, 1.0, top) + noise * rng.normal(size=12)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(614)


@pytest.mark.parametrize("top", [9.0, -7.0])
def test_it_is_the_least_squares_fit(rng, top):
    y = response(rng, top=top)
    found = fit_dose_response(DOSES, y)
    best, _ = curve_fit(curve, np.log10(DOSES), y, [0.5, 1, 1, top])
    assert found.failure is None
    assert [np.log10(found.ec50), found.hill, found.bottom, found.top] == pytest.approx(best, rel=2e-3)
    squares = ((y - curve(np.log10(DOSES), *best)) ** 2).sum()
    assert found.r_squared == pytest.approx(1 - squares / ((y - y.mean()) ** 2).sum(), abs=1e-6)


def test_without_noise_the_truth_is_found(rng):
    found = fit_dose_response(DOSES, response(rng, noise=0))
    assert found.ec50 == pytest.approx(10**0.6, rel=1e-3)
    assert found.hill == pytest.approx(1.3, rel=1e-3)


def test_the_interval_covers_the_truth(rng):
    covered = []
    for _ in range(150):
        found = fit_dose_response(DOSES, response(rng, noise=0.8))
        covered.append(found.ec50_low <= 10**0.6 <= found.ec50_high)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.05)


def test_units_of_dose_and_response_do_not_matter(rng):
    y = response(rng)
    a, b = fit_dose_response(DOSES, y), fit_dose_response(DOSES * 1e-6, y * 3 + 2)
    assert b.ec50 == pytest.approx(a.ec50 * 1e-6, rel=1e-6)
    assert b.ec50_high == pytest.approx(a.ec50_high * 1e-6, rel=1e-6)


def test_inert_compounds_get_no_curve(rng):
    found = [fit_dose_response(DOSES, rng.normal(size=12)) for _ in range(200)]
    assert np.mean([fit.failure is None for fit in found]) <= 0.05
    failed = next(fit for fit in found if fit.failure is not None)
    assert failed.failure.startswith("the response does not depend on the dose in this way")
    assert np.isnan(failed.ec50)


def test_no_plateau_is_said(rng):
    x = np.repeat(2.0 ** np.arange(6), 2)
    found = fit_dose_response(x, np.exp(np.log(x) * 1.5) / 50 + 0.001 * rng.normal(size=12))
    assert found.failure is None
    assert not found.identified
    assert found.open_because == (
        f"no plateau is shown at the high doses: the half-maximal dose is at least {found.ec50_low:.3g}"
    )
    assert 32 < found.ec50_low < found.ec50_high == np.inf
    falling = fit_dose_response(1 / x, np.exp(np.log(x) * 1.5) / 50 + 0.001 * rng.normal(size=12))
    assert "no plateau is shown at the low doses: the half-maximal dose is at most" in falling.open_because
    assert falling.ec50_low == 0


@pytest.mark.parametrize("noise", [0.003, 0.01, 0.03])
def test_a_straight_line_has_no_middle_however_exact_it_is(rng, noise):
    """The flattest curve that is searched would have one, between plateaus far beyond what any dose showed."""
    x = np.repeat(np.geomspace(0.01, 10, 8), 2)
    found = [fit_dose_response(x, np.log10(x) / 3 + noise * rng.normal(size=16)) for _ in range(20)]
    assert not any(fit.failure or fit.identified for fit in found)
    assert all(fit.ec50_low == 0 or fit.ec50_high == np.inf for fit in found)
    assert all("plateau" in fit.open_because for fit in found)


def test_a_middle_beyond_the_doses_is_not_claimed_however_narrow_its_interval(rng):
    x = np.repeat(2.0 ** np.arange(6), 4)
    found = fit_dose_response(x, curve(np.log10(x), np.log10(40), 2.0, 0.0, 100.0) + 0.2 * rng.normal(size=24))
    assert 32 < found.ec50_low < 40 < found.ec50_high < 60
    assert "above the highest dose tested; it is at least" in found.open_because
    assert not found.identified


def test_the_interval_reaches_over_a_gap_in_the_profile():
    """A step that may lie on either side of a dose, but not at it: the interval holds both sides."""
    y = np.array([0.0, 0.0, 0.0, 5.0, 5.2, 9.8, 10.0, 10.0])
    found = fit_dose_response(10.0 ** np.array([0, 0, 1, 2, 2, 3, 3, 4]), y)
    assert found.ec50_low < found.ec50 < found.ec50_high


#: 18 wells at six doses from 0.03 to 10; a rise of ten standard deviations of a well.
SERIES = np.repeat(10.0 ** np.linspace(-1.5, 1, 6), 3)


@pytest.mark.parametrize(
    ("ec50", "curves", "rising"),
    [(0.56, (0.95, 1.0), (0.0, 0.05)), (10.0, (0.0, 0.05), (0.95, 1.0)), (30.0, (0.0, 0.03), (0.05, 0.4)),
     (0.03, (0.0, 0.05), (0.95, 1.0)), (300.0, (0.0, 0.03), (0.0, 0.12))],
)  # fmt: skip
def test_how_often_a_known_curve_is_called_what(rng, ec50, curves, rising):
    """An EC50 inside the doses is claimed; one at an edge is a rise with a bound that holds; one far beyond, nothing.

    Of 400 draws of another seed: inside 399 curve; at the top dose and at the lowest 400 rising; three times the top
    dose 73 rising, 327 unclear; thirty times 15 rising, 8 falling, 377 unclear; curve beyond the doses 0.
    """
    shapes, holds = [], []
    for _ in range(70):
        y = curve(np.log10(SERIES), np.log10(ec50), 2.0, 0.0, 10.0) + rng.normal(size=18)
        fit, trend = fit_dose_response(SERIES, y), monotone_trend(SERIES, y)
        shapes.append(dose_shape(SERIES, y, fit, trend, [-1.0, 1.0], called=True))
        if fit.failure is None:
            holds.append(fit.ec50_low <= ec50 <= fit.ec50_high)
    for shape, (low, high) in {"curve": curves, "rising": rising}.items():
        assert low <= np.mean([found == shape for found in shapes]) <= high, shape
    if len(holds) > 40:
        assert np.mean(holds) >= 0.9


def test_a_step_has_an_interval_as_wide_as_the_gap():
    found = fit_dose_response(DOSES, (DOSES > 0.5).astype(float) + np.tile([0.0, 0.02], 6))
    assert 0.1 <= found.ec50_low < found.ec50 < found.ec50_high <= 1
    assert found.ec50_high / found.ec50_low > 2


@pytest.mark.parametrize(
    ("doses", "values", "text"),
    [
        ([1, 1, 10, 10, 100, 100], [1, 2, 3, 4, 5, 6], "3 different doses"),
        ([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], "5 wells"),
        ([1, 2, 3, 4, 5, 6], [2, 2, 2, 2, 2, 2], "the same in every well"),
    ],
)
def test_too_little_is_a_stated_failure(doses, values, text):
    assert text in fit_dose_response(doses, values).failure


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_doses_must_be_above_zero(bad):
    for function in (fit_dose_response, monotone_trend):
        with pytest.raises(DataError, match=r"a dose must be a number above 0(.|\n)*untreated wells to the controls"):
            function([1, 2, 3, 4, 5, bad], np.arange(6))


def test_trend_by_enumeration(rng):
    x, y = np.array([1.0, 1, 2, 4, 4, 8]), np.round(rng.normal(size=6), 1)

    def s(values):
        return sum(
            np.sign(x[j] - x[i]) * np.sign(values[j] - values[i]) for i, j in itertools.combinations(range(6), 2)
        )

    every = [abs(s(order)) >= abs(s(y)) for order in itertools.permutations(y)]
    found = monotone_trend(x, y)
    assert found.p == pytest.approx(np.mean(every))
    assert found.tau == pytest.approx(kendalltau(x, y).statistic)


def test_trend_of_many_wells_is_near_the_permutation_test(rng):
    x = np.repeat([1.0, 2, 4, 8], 4)
    y = np.round(0.15 * x + rng.normal(size=16), 1)
    found = monotone_trend(x, y)
    assert found.tau == pytest.approx(kendalltau(x, y).statistic)
    reached = [abs(kendalltau(x, rng.permutation(y)).statistic) >= abs(found.tau) - 1e-12 for _ in range(2000)]
    assert found.p == pytest.approx(np.mean(reached), abs=0.03)


def test_trend_under_the_null_keeps_its_level(rng):
    p = np.array([monotone_trend(DOSES, rng.normal(size=12)).p for _ in range(1000)])
    assert 0.02 < (p <= 0.05).mean() < 0.07
    assert monotone_trend(DOSES, np.arange(12)).p < 1e-4


def test_a_constant_response_has_no_trend():
    assert np.isnan(monotone_trend([1, 2, 3], [5, 5, 5]).p)


def shape_of(y, called=True):
    controls = np.linspace(-1.0, 1.0, 41)
    x = DOSES[: len(y)]
    return dose_shape(x, y, fit_dose_response(x, y), monotone_trend(x, y), controls, called=called)


def test_the_shape_of_a_response(rng):
    wiggle = np.array([0.1, -0.1, -0.1, 0.1] * 3)
    assert shape_of(response(rng)) == "curve"
    assert shape_of(9 + wiggle) == "flat"
    assert shape_of(-9 - wiggle) == "flat"
    assert shape_of(9 + wiggle, called=False) == "unclear"
    assert shape_of(wiggle) == "unclear"
    partly = np.where(np.arange(12) // 2 == 2, 0.0, 9.0) + wiggle  # one dose lies among the controls
    assert shape_of(partly) == "unclear"
    assert shape_of(np.where(np.arange(12) // 2 % 2 == 0, 9.0, -9.0) + wiggle) == "unclear"
    three_doses = np.array([1.0, 1.1, 4.0, 4.1, 7.0, 7.1])
    assert (shape_of(three_doses), shape_of(-three_doses)) == ("rising", "falling")
    no_plateau = np.exp(np.arange(12) // 2) / 9 + 0.01 * rng.normal(size=12)
    assert (shape_of(no_plateau), shape_of(-no_plateau)) == ("rising", "falling")
