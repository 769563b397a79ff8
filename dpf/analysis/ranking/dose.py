"""Dose and response: a four-parameter log-logistic curve with an interval for the EC50, and a test for trend."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from dpf.errors import DataError, listed

Floats = NDArray[np.float64]

MIN_DOSES = 4
#: Coverage of the interval of an EC50; level of the tests of a curve and a trend.
LEVEL, ALPHA = 0.95, 0.05
#: Steepest and flattest slopes that are tried; a curve steeper than this is a step between two doses.
HILL_RANGE = (0.2, 10.0)
#: Up to this many wells all orders are enumerated (7! = 5,040).
ENUMERATE_UP_TO = 7


@dataclass(frozen=True)
class DoseFit:
    """A fitted curve with its EC50, or why there is no curve.

    Attributes
    ----------
    failure
        None where a curve beats a constant; else one sentence, and the curve's numbers are NaN.
    open_because
        None where the EC50 is identified: inside the doses, its interval closed at both ends. Else one sentence: the
        curve then describes the response between the doses, but `ec50`, `hill` and the plateau that was not seen are
        extrapolations that the wells do not support. What they do support is the end of the interval that is closed:
        EC50 ≥ `ec50_low` or EC50 ≤ `ec50_high`.
    ec50, ec50_low, ec50_high
        The dose of the half-maximal response and its profile-likelihood interval, in units of the dose. An interval
        that runs a decade beyond the doses is open there, and so is one of a straight line: 0 or infinite.
    hill
        Slope h > 0.
    bottom, top
        Response towards dose 0 and towards infinite dose; top < bottom where the response falls.
    r_squared
        Share of the variance explained.
    p_flat
        F test of the curve against a constant.
    """

    failure: str | None
    open_because: str | None
    ec50: float
    ec50_low: float
    ec50_high: float
    hill: float
    bottom: float
    top: float
    r_squared: float
    p_flat: float

    @property
    def identified(self) -> bool:
        """There is a curve, and the wells show where its middle is."""
        return self.failure is None and self.open_because is None

    def response(self, dose: Floats) -> Floats:
        """The fitted curve, bottom + (top − bottom)/(1 + (EC50/x)^h)."""
        share = expit(self.hill * np.log(dose / self.ec50))
        return np.asarray(self.bottom + (self.top - self.bottom) * share)


@dataclass(frozen=True)
class Trend:
    """Kendall's τ_b between dose and response, in [−1, 1], and its two-sided p-value; NaN where either is constant."""

    tau: float
    p: float


def fit_dose_response(dose: ArrayLike, response: ArrayLike) -> DoseFit:
    """Least-squares fit of y = bottom + (top − bottom)/(1 + (EC50/x)^h).

    Given EC50 and h the curve is linear in bottom and top, so these two are solved for and the other two searched on
    a grid that is refined around the best: no start values, no local optimum, the same answer every time. Interval:
    from the least to the greatest of {EC50 : min SS(EC50) ≤ SS·(1 + F(0.95; 1, n−4)/(n−4))}. The fit has failed where
    the curve does not beat a constant at the level 0.05 (F test).

    A curve's middle is known only where both its plateaus are. Where the interval is open, curves whose plateau lies
    beyond any dose tested fit as well as the best one does, wherever the best one's EC50 happens to lie: that EC50 is
    not claimed (`DoseFit.open_because`).

    Parameters
    ----------
    dose
        (n,) concentrations, above 0.
    response
        (n,) T or activation of the wells.

    Raises
    ------
    DataError
        A dose that is zero, negative or missing; a response that is not finite.
    """
    x, y = _checked(dose, response)
    reason = _too_little(x, y)
    if reason is not None:
        return _failed(reason)
    from scipy.stats import f as f_distribution  # imported here: it costs more than the rest of this module

    freedom = len(y) - 4
    logs = np.log10(x)
    span = (float(logs.min()) - 1, float(logs.max()) + 1)
    centers, profile, steepness, best = _search(logs, y, span)
    total = float(((y - y.mean()) ** 2).sum())
    ratio = np.inf if best.squares <= 1e-20 * total else (total - best.squares) / 3 / (best.squares / freedom)
    p_flat = float(f_distribution.sf(ratio, 3, freedom))
    if not p_flat <= ALPHA:
        return _failed(f"the response does not depend on the dose in this way (F test, p = {p_flat:.2g})", p_flat)
    bound = best.squares * (1 + float(f_distribution.ppf(LEVEL, 1, freedom)) / freedom)
    low, high = _interval(centers, profile, steepness, best, bound)
    ends = (10**low, 10**high)
    return DoseFit(
        failure=None,
        open_because=_not_identified(best.log_ec50, logs, ends),
        ec50=10**best.log_ec50,
        ec50_low=ends[0],
        ec50_high=ends[1],
        hill=best.hill,
        bottom=best.bottom,
        top=best.top,
        r_squared=1 - best.squares / total,
        p_flat=p_flat,
    )


def _not_identified(log_ec50: float, logs: Floats, ends: tuple[float, float]) -> str | None:
    low, high = ends
    if low == 0 and high == float("inf"):
        return "curves without a plateau on either side fit as well: the half-maximal dose is not bounded"
    if high == float("inf"):
        return f"no plateau is shown at the high doses: the half-maximal dose is at least {low:.3g}"
    if low == 0:
        return f"no plateau is shown at the low doses: the half-maximal dose is at most {high:.3g}"
    if log_ec50 > logs.max():
        return f"the half-maximal dose lies above the highest dose tested; it is at least {low:.3g}"
    if log_ec50 < logs.min():
        return f"the half-maximal dose lies below the lowest dose tested; it is at most {high:.3g}"
    return None


@dataclass(frozen=True)
class _Curve:
    log_ec50: float
    hill: float
    bottom: float
    top: float
    squares: float


def _search(logs: Floats, y: Floats, span: tuple[float, float]) -> tuple[Floats, Floats, Floats, _Curve]:
    """EC50 grid (log10), the least sum of squares at each of its points and its slope, and the best curve of all."""
    centers = np.linspace(*span, 241)
    hills = np.geomspace(*HILL_RANGE, 28)
    squares, _, _ = _solve(logs, y, centers, hills[None])
    steepness, factor = hills[squares.argmin(axis=1)], float(hills[1] / hills[0])
    profile = squares.min(axis=1)
    for power in (1, 2, 4, 8):  # each point's own slope, in halved steps: a coarse profile narrows the interval
        near = np.clip(steepness[:, None] * factor ** (np.linspace(-1, 1, 5) / power), *HILL_RANGE)
        squares, _, _ = _solve(logs, y, centers, near)
        steepness, profile = near[np.arange(len(near)), squares.argmin(axis=1)], squares.min(axis=1)
    start = int(profile.argmin())
    log_ec50, hill, step = float(centers[start]), float(steepness[start]), float(centers[1] - centers[0])
    for _ in range(16):  # both grids halve, so that a best along a ridge of the two stays within reach
        fine = log_ec50 + step * np.linspace(-1, 1, 9)
        steep = np.clip(hill * factor ** np.linspace(-1, 1, 9), *HILL_RANGE)
        squares, bottom, rise = _solve(logs, y, fine, steep[None])
        at, slope = np.unravel_index(np.argmin(squares), squares.shape)
        log_ec50, hill = float(fine[at]), float(steep[slope])
        step, factor = step / 2, factor**0.5
    low = float(bottom[at, slope])
    best = _Curve(log_ec50, hill, low, low + float(rise[at, slope]), float(squares[at, slope]))
    return centers, profile, steepness, best


def _solve(logs: Floats, y: Floats, centers: Floats, hills: Floats) -> tuple[Floats, Floats, Floats]:
    """For every EC50 (log10) and slope of `hills` (E or 1, H): sum of squares, bottom, top − bottom, each (E, H)."""
    exponent = (logs[None, None, :] - centers[:, None, None]) * hills[:, :, None] * math.log(10)
    share = expit(exponent)  # 1/(1 + (EC50/x)^h), without overflow
    mean = share.mean(axis=2, keepdims=True)
    deviation = share - mean
    variance = (deviation**2).sum(axis=2)
    centred = y - y.mean()
    rise = np.divide(deviation @ centred, variance, out=np.zeros_like(variance), where=variance > 1e-12)
    squares = ((centred - rise[:, :, None] * deviation) ** 2).sum(axis=2)
    return squares, y.mean() - rise * mean[:, :, 0], rise


def _interval(centers: Floats, profile: Floats, steepness: Floats, best: _Curve, bound: float) -> tuple[float, float]:
    """The ends of the profile's points within the bound, the outermost ones, interpolated; infinite where open.

    Outermost, because with steep curves the profile leaves the bound at a dose and comes back beyond it. The profile's
    root is interpolated: it is straight where the profile is a parabola. An end that only the least slope of the search
    makes is open: a flatter curve, nearer to a straight line, would fit beyond it.
    """
    at = int(np.searchsorted(centers, best.log_ec50))
    x, slopes = np.insert(centers, at, best.log_ec50), np.insert(steepness, at, best.hill)
    root = np.sqrt(np.maximum(np.insert(profile, at, best.squares) - best.squares, 0.0))
    limit = math.sqrt(bound - best.squares)
    within = np.flatnonzero(root <= limit)

    def edge(i: int, step: int) -> float:
        if not 0 <= i + step < len(x) or slopes[i + step] <= HILL_RANGE[0] * (1 + 1e-9):
            return step * math.inf
        share = (limit - root[i]) / (root[i + step] - root[i])
        return float(x[i] + share * (x[i + step] - x[i]))

    return edge(int(within[0]), -1), edge(int(within[-1]), 1)


def monotone_trend(dose: ArrayLike, response: ArrayLike) -> Trend:
    """Does the response rise or fall with the dose: Kendall's S, two-sided.

    Up to 7 wells all orders of the responses are enumerated (p exact, the observed order among them); beyond, the
    normal approximation with the variance for ties and a continuity correction (Kendall 1970).

    Raises
    ------
    DataError
        As `fit_dose_response`.
    """
    x, y = _checked(dose, response)
    n = len(x)
    first, second = np.triu_indices(n, 1)
    order = np.sign(x[second] - x[first])
    signs = np.sign(y[None, :] - y[:, None])
    s = float((order * signs[first, second]).sum())
    informative = float(np.abs(order).sum()) * float(np.abs(signs[first, second]).sum())
    if informative == 0:
        return Trend(float("nan"), float("nan"))
    tau = s / math.sqrt(informative)
    if n <= ENUMERATE_UP_TO:
        orders = np.array(list(itertools.permutations(range(n))))
        found = (order * signs[orders[:, first], orders[:, second]]).sum(axis=1)
        return Trend(tau, float((np.abs(found) >= abs(s)).mean()))
    return Trend(tau, math.erfc(max(abs(s) - 1, 0.0) / math.sqrt(_variance_of_s(x, y)) / math.sqrt(2)))


def dose_shape(
    dose: ArrayLike, response: ArrayLike, fit: DoseFit, trend: Trend, controls: ArrayLike, *, called: bool,
) -> str:  # fmt: skip
    """What a compound's doses show, in one word or two; the first that holds.

    ``curve``: the fit stands and the EC50 is identified (`DoseFit.identified`). ``rising``, ``falling``: the response
    depends on the dose (the curve's F test, or a monotone trend, at the level 0.05), but no EC50 is claimed; the fit
    may bound it from one side. ``flat``: the compound is called against the controls, neither curve nor trend shows
    that its response depends on the dose, and at *every* dose its mean lies beyond the controls' central 95%, on one
    side: at its plateau over the measured range. ``unclear``: none of these.

    Parameters
    ----------
    dose, response
        (n,) of the compound's wells, as for the fit and the trend.
    controls
        (k,) responses of the control wells.
    called
        The compound's effect against the controls is significant, all doses together.
    """
    if fit.identified:
        return "curve"
    if fit.failure is None:
        return "rising" if fit.top > fit.bottom else "falling"
    if trend.p <= ALPHA:
        return "rising" if trend.tau > 0 else "falling"
    x, y = _checked(dose, response)
    low, high = np.quantile(np.asarray(controls, dtype=np.float64), [0.025, 0.975])
    means = np.array([y[x == level].mean() for level in np.unique(x)])
    return "flat" if called and ((means > high).all() or (means < low).all()) else "unclear"


def _variance_of_s(x: Floats, y: Floats) -> float:
    n = len(x)
    t, u = (np.unique(v, return_counts=True)[1].astype(np.float64) for v in (x, y))

    def ties(power: int) -> float:
        return float(math.prod(_falling(counts, power) for counts in (t, u)))

    crude = n * (n - 1) * (2 * n + 5) - sum(float((c * (c - 1) * (2 * c + 5)).sum()) for c in (t, u))
    return crude / 18 + ties(2) / (2 * n * (n - 1)) + ties(3) / (9 * n * (n - 1) * (n - 2))


def _falling(counts: Floats, power: int) -> float:
    product = np.ones_like(counts)
    for step in range(power):
        product = product * (counts - step)
    return float(product.sum())


def _checked(dose: ArrayLike, response: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(dose, dtype=np.float64), np.asarray(response, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"dose {x.shape} and response {y.shape} must be (n,) alike")
    bad = x[~(np.isfinite(x) & (x > 0))]
    if len(bad):
        raise DataError(
            "a dose must be a number above 0",
            where="the concentrations of a compound",
            found=listed(bad.tolist()),
            expected="doses above 0, all in the same unit",
            hint="leave untreated wells to the controls, and wells of unknown dose out",
        )
    if not np.isfinite(y).all():
        raise DataError("a response is not finite", where="the wells of a compound", found=listed(y.tolist()))
    return x, y


def _too_little(x: Floats, y: Floats) -> str | None:
    doses = len(np.unique(x))
    if doses < MIN_DOSES:
        return f"{doses} different doses: a four-parameter curve needs at least {MIN_DOSES}"
    if len(x) < 6:
        return f"{len(x)} wells: a four-parameter curve and its error need at least 6"
    if np.ptp(y) == 0:
        return "the response is the same in every well"
    return None


def _failed(reason: str, p_flat: float = float("nan")) -> DoseFit:
    nan = float("nan")
    return DoseFit(reason, None, nan, nan, nan, nan, nan, nan, nan, p_flat)
