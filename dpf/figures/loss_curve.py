"""The loss of every epoch, and the best epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from dpf.figures.drawing.arrays import at_least_one, numbers, same_length
from dpf.figures.drawing.style import GREY, INK, OKABE_ITO, PAGE, SMALL, even_ticks, house_style, new_figure, no_data

_COLOURS = {"training": GREY, "validation": OKABE_ITO["blue"]}
_PANELS_A_ROW = 4
#: Losses that fall by more than this factor are drawn on a logarithmic axis, so that the end of the curve is legible.
_LOG_FROM = 20.0
#: With fewer epochs than this, each gets a dot: a line through one point cannot be seen.
_DOTTED_BELOW = 12

_Array = NDArray[np.float64]


@house_style()
def loss_curve(
    epochs: ArrayLike,
    training: Mapping[str, ArrayLike],
    validation: Mapping[str, ArrayLike],
    *,
    best_epochs: Sequence[int | None] = (),
) -> Figure:
    """Draw training and validation loss by epoch: a panel for each part, every member, and their mean where several.

    Parameters
    ----------
    epochs
        Array of shape (E,).
    training, validation
        For each part of the loss, named as it is to be read (``total``, ``scores (MSE)``, ...) and in the order of the
        panels, an array of shape (M, E) or, for one member, (E,). NaN where a member had stopped or nothing was
        observed. `validation` may lack parts, or be empty.
    best_epochs
        One a member: the epoch whose weights were kept, or None. Marked on the validation curves.

    Raises
    ------
    DataError
        Shapes disagree, or there is no epoch or no part.
    """
    when = numbers("epochs", epochs, (None,))
    at_least_one("epochs", len(when))
    at_least_one("parts of the loss", len(training))
    curves = {
        kind: {part: _members(f"{kind} loss, {part}", values, len(when)) for part, values in parts.items()}
        for kind, parts in (("training", training), ("validation", validation))
    }
    members = len(next(iter(curves["training"].values())))
    for parts in curves.values():
        for part, array in parts.items():
            same_length(f"members of {part}", len(array), members)
    if best_epochs:
        same_length("best_epochs", len(best_epochs), members)
    columns = min(len(training), _PANELS_A_ROW)
    rows = -(-len(training) // columns)
    figure = new_figure(max(min(PAGE, 1.9 * columns), 3.0), 1.9 * rows + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels[len(training) :]:
        axes.set_axis_off()
    for axes, part in zip(panels, training, strict=False):
        _panel(axes, part, when, {kind: parts[part] for kind, parts in curves.items() if part in parts}, best_epochs)
    panels[0].set_ylabel("loss (mean over wells)")
    _legend(figure, members, bool(validation), [epoch for epoch in best_epochs if epoch is not None])
    return figure


def _members(what: str, values: ArrayLike, epochs: int) -> _Array:
    if np.ndim(values) == 2:
        return numbers(what, values, (None, epochs))
    return numbers(what, values, (epochs,))[None]


def _panel(
    axes: Axes, part: str, when: _Array, curves: Mapping[str, _Array], best_epochs: Sequence[int | None]
) -> None:
    axes.set_title(part)
    every = np.concatenate([array.ravel() for array in curves.values()])
    every = every[np.isfinite(every)]
    if not len(every):
        no_data(axes, "no finite value\n(nothing observed)")
        return
    axes.set_xlabel("epoch")
    marker = "." if len(when) < _DOTTED_BELOW else ""
    for kind, array in curves.items():
        alone = len(array) == 1
        for member in array:
            axes.plot(
                when, member, color=_COLOURS[kind], lw=1.2 if alone else 0.5, alpha=1 if alone else 0.5, marker=marker
            )
        if not alone:
            axes.plot(when, array.mean(axis=0), color=_COLOURS[kind], lw=1.6, marker=marker)
    _mark_best(axes, when, curves.get("validation"), best_epochs)
    axes.xaxis.set_major_locator(even_ticks(5, whole=True))
    if every.min() > 0 and every.max() > _LOG_FROM * every.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if every.max() < 200 * every.min() else (1.0,)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _mark_best(axes: Axes, when: _Array, validation: _Array | None, best_epochs: Sequence[int | None]) -> None:
    for member, epoch in enumerate(best_epochs):
        if epoch is None:
            continue
        if len(best_epochs) == 1:
            axes.axvline(epoch, color=INK, lw=0.6, ls=":", zorder=0)
        if validation is not None:
            at = when == epoch
            axes.plot(when[at], validation[member][at], "o", ms=3, mfc="white", mec=INK, mew=0.7, zorder=4)


def _legend(figure: Figure, members: int, has_validation: bool, best: Sequence[int]) -> None:
    kinds = [kind for kind in _COLOURS if has_validation or kind == "training"]
    handles = [Line2D([], [], color=_COLOURS[kind], label=kind) for kind in kinds]
    if members > 1:
        handles.append(Line2D([], [], color=GREY, lw=0.5, alpha=0.6, label=f"each of {members} members (thick: mean)"))
    if best:
        span = f"{min(best)}" if min(best) == max(best) else f"{min(best)}–{max(best)}"
        label = f"best epoch{'s' if members > 1 else ''}: {span}"
        handles.append(Line2D([], [], ls="", marker="o", ms=3, mfc="white", mec=INK, mew=0.7, label=label))
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), fontsize=SMALL)
