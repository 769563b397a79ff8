"""Reliability diagram: predicted probabilities against observed frequencies."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from dpf.errors import DataError
from dpf.figures.drawing.arrays import at_least_one, numbers
from dpf.figures.drawing.style import GREY, OKABE_ITO, count_of, even_ticks, footnote, house_style, new_figure, shorten

_KINDS = ((GREY, "s"), (OKABE_ITO["blue"], "o"), (OKABE_ITO["orange"], "^"), (OKABE_ITO["bluish green"], "D"))
_BINS = 10
_Z = 1.959963984540054  # 97.5% quantile of the normal

_Array = NDArray[np.float64]


@house_style()
def reliability(
    probabilities: Mapping[str, ArrayLike],
    outcome: ArrayLike,
    *,
    calibration_error: Mapping[str, float] | None = None,
    label: str = "label",
) -> Figure:
    """Draw how often the label was 1 among wells of about the same predicted probability.

    Bins are of equal width on [0, 1]; a dot stands at its wells' mean probability and observed share, with the share's
    95% Wilson interval (Wilson 1927). The diagonal is perfect calibration. Below: wells per bin.

    Parameters
    ----------
    probabilities
        Up to four predictions (such as before and after temperature scaling), each of shape (N,) in [0, 1], NaN where
        nothing was predicted.
    outcome
        Array of shape (N,), 0 or 1, NaN where unknown: those wells are counted below the figure, not drawn.
    calibration_error
        Expected calibration error of each, written in the legend.

    Raises
    ------
    DataError
        Shapes disagree, a probability is outside [0, 1], an outcome is not 0 or 1, or nothing can be drawn.
    """
    truth = numbers("outcome", outcome, (None,))
    known = np.isfinite(truth)
    if not np.isin(truth[known], [0, 1]).all():
        raise DataError("an outcome is neither 0 nor 1", where=label, found=truth[known].max(), expected="0 or 1")
    at_least_one("predictions", len(probabilities))
    if len(probabilities) > len(_KINDS):
        raise DataError("too many curves for one figure", found=len(probabilities), expected=f"at most {len(_KINDS)}")
    figure = new_figure(3.3, 4.3)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    axes.plot([0, 1], [0, 1], color=GREY, lw=0.7, ls="--", zorder=0)
    drawn = []
    kinds = _KINDS[1:2] if len(probabilities) == 1 else _KINDS
    for (name, values), (colour, marker) in zip(probabilities.items(), kinds, strict=False):
        guess = numbers(name, values, (len(truth),))
        if ((guess < 0) | (guess > 1)).any():
            raise DataError("a probability is outside [0, 1]", where=name, found=np.nanmax(np.abs(guess)))
        kept = known & np.isfinite(guess)
        at_least_one(f"wells with a probability and a known {label}", int(kept.sum()))
        error = None if calibration_error is None else calibration_error.get(name)
        text = shorten([name], 40)[0] + ("" if error is None else f": calibration error {error:.3f}")
        _curve(axes, below, guess[kept], truth[kept], colour, marker, text)
        drawn.append(int(kept.sum()))
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel(f"observed share of {label} = 1")
    below.set_xlabel(f"predicted probability of {label} = 1")
    below.set_ylabel("wells")
    below.yaxis.set_major_locator(even_ticks(3, whole=True))
    figure.legend(loc="outside upper left")
    span = f"{min(drawn):,}" if min(drawn) == max(drawn) else f"{min(drawn):,}–{max(drawn):,}"
    footnote(figure, f"{span} of {count_of(len(truth), 'well')}; bars: 95% intervals")
    return figure


def _curve(axes: Axes, below: Axes, guess: _Array, truth: _Array, colour: str, marker: str, label: str) -> None:
    place = np.minimum((guess * _BINS).astype(int), _BINS - 1)
    size = np.bincount(place, minlength=_BINS)
    met = size > 0
    mean = np.bincount(place, guess, _BINS)[met] / size[met]
    share = np.bincount(place, truth, _BINS)[met] / size[met]
    low, high = wilson(share, size[met])
    # rounding may put an end a hair inside the share itself; a bar's length is never negative
    bars = np.clip([share - low, high - share], 0, None)
    axes.errorbar(
        mean,
        share,
        yerr=bars,
        color=colour,
        marker=marker,
        ms=4,
        mec="white",
        mew=0.4,
        lw=1,
        elinewidth=0.7,
        label=label,
    )
    below.stairs(size, np.linspace(0, 1, _BINS + 1), color=colour, lw=1)


def wilson(share: _Array, size: NDArray[np.int64]) -> tuple[_Array, _Array]:
    """The 95% Wilson score interval of a share observed in `size` cases (Wilson 1927)."""
    scale = 1 + _Z**2 / size
    middle = (share + _Z**2 / (2 * size)) / scale
    half = _Z / scale * np.sqrt(share * (1 - share) / size + _Z**2 / (4 * size**2))
    return middle - half, middle + half
