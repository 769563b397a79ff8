"""Which wells take no part: those without cells, those without enough RNA, and controls that are unlike the others.

They stay in the project, each with its reason (column `set_aside` of the wells table), and out of everything that is
computed from it.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import count, listed
from dpf.tables.preparing.options import Preparation
from dpf.tables.roles.controls import EMPTY_WELLS
from dpf.tables.screen import NO_CELLS, Note, reason_of
from dpf.tables.text.cells import as_key

#: A well has failed whose counts are below this share of its plate's median, and its detected genes below that ...
COUNTS_SHARE, GENES_SHARE = 0.25, 0.5
#: ... and which lies more than this many MAD below the median, of the wells above the median (on a log scale): wells
#: that have failed do not widen the spread that they are judged by.
FAILED_MADS = 3.0
#: A control is unlike the others whose distance from their median profile is more than so many times theirs, and more
#: than so many MAD above it.
ODD_RATIO, ODD_MADS = 3.0, 5.0
#: With fewer wells on a plate, those of all plates are taken; with fewer controls, controls are not compared.
FEWEST_WELLS, FEWEST_CONTROLS = 8, 6
#: Controls are compared in the genes with the highest mean, so many of them: the others are noise of counting.
COMPARED_GENES = 100
#: Values are taken as detected or not where at least this share of a table lies at its lowest value.
FLOOR_SHARE = 0.01
#: ... and there are so many genes.
FEWEST_GENES = 50
_MEASURES: tuple[str, ...] = ("library_size", "detected")
_MAD_SCALE = 1.4826


class Aside(NamedTuple):
    """Why each of N wells takes no part (null: it does), and lines for the reader."""

    reasons: pl.Series
    notes: tuple[Note, ...]


def judge_wells(values: NDArray[np.float32], wells: pl.DataFrame, options: Preparation, *, are_counts: bool) -> Aside:
    """Judge every well of a screen by its name, its counts, its detected genes and, of controls, its profile.

    A well fails where its counts are fewer than a quarter of the median of its plate *and* more than 3 MAD below it on
    a log scale, or fewer than `options.min_counts` where that is given; the same with half of the median for the genes
    that it has a count of (`options.min_genes`). The MAD is that of the wells above the median. A control is unlike
    the others of its plate where the root mean square distance of its log2(CPM + 1) profile from their median is more
    than three times the median such distance and more than 5 MAD above it.

    Parameters
    ----------
    values
        Array of shape (N, G): counts, or normalised values, of which only whether they lie at the table's lowest value
        is used, if enough of them do.
    wells
        N rows; `library_size` and `detected` where these are counts.
    """
    is_control, plate = wells.get_column("is_control").to_numpy(), _plates(wells)
    amounts = _detected(values)
    if are_counts:
        amounts = {name: wells.get_column(name).cast(pl.Float64).to_numpy() for name in _MEASURES}
    reasons, lines = _with_too_few(amounts, wells, options)
    found = np.array([reason is None for reason in reasons])
    for well in _odd_controls(values, np.flatnonzero(found & is_control), plate, are_counts=are_counts):
        reasons[well] = "unlike the other controls of its plate"
    series = pl.Series("set_aside", reasons, dtype=pl.String)
    return Aside(series, _notes(series, wells, lines, options.keep_flagged, are_counts))


def proposed(wells: pl.DataFrame) -> pl.Series:
    """Why `judge_wells` would set wells aside by their names, counts and genes: of a project where none was judged.

    Counts are `library_size`, genes `detected`, where these columns are.
    """
    names = [name for name in _MEASURES if name in wells.columns and wells.schema[name].is_numeric()]
    amounts = {name: wells.get_column(name).cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in names}
    return pl.Series("set_aside", _with_too_few(amounts, wells, Preparation())[0], dtype=pl.String)


def _plates(wells: pl.DataFrame) -> NDArray[np.str_]:
    return wells.get_column("plate").fill_null("").to_numpy() if "plate" in wells.columns else np.full(wells.height, "")


def _with_too_few(
    amounts: dict[str, NDArray[np.float64]], wells: pl.DataFrame, options: Preparation
) -> tuple[list[str | None], list[str]]:
    """Of N wells why each has failed, or None; and what they were held against."""
    plate = _plates(wells)
    empty = np.array([as_key(name) in EMPTY_WELLS for name in wells.get_column("compound").to_list()])
    empty &= ~wells.get_column("is_control").to_numpy()
    reasons: list[str | None] = [NO_CELLS if one else None for one in empty]
    lines: list[str] = []
    judged = np.flatnonzero(~empty)
    for quantity, column, share, least in (
        ("counts", "library_size", COUNTS_SHARE, options.min_counts),
        ("genes", "detected", GENES_SHARE, options.min_genes),
    ):
        if column not in amounts:
            continue
        own = amounts[column]
        limits = _limits(own[judged], plate[judged], share, least)
        for well in judged:
            if reasons[well] is None and own[well] < limits[plate[well]]:
                reasons[well] = f"too few {quantity} ({own[well]:,.0f} of at least {limits[plate[well]]:,.0f})"
        lines.append(f"{quantity} below {_limit_text(limits, share, least)}")
    return reasons, lines


def _detected(values: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """How many genes of each well lie above the table's lowest value; nothing where few lie at it, or of few genes."""
    at_lowest = np.count_nonzero(values == values.min(), axis=1)
    if values.shape[1] < FEWEST_GENES or at_lowest.sum() < FLOOR_SHARE * values.size:
        return {}
    return {"detected": np.asarray(values.shape[1] - at_lowest, dtype=np.float64)}


def _limits(amounts: NDArray[np.float64], plate: NDArray[np.str_], share: float, least: int | None) -> dict[str, float]:
    """Below what a well of each plate has failed."""
    limits = {}
    for name in dict.fromkeys(plate.tolist()):
        own = amounts[plate == name]
        limits[name] = (
            float(least) if least is not None else _limit(own if len(own) >= FEWEST_WELLS else amounts, share)
        )
    return limits


def _limit(amounts: NDArray[np.float64], share: float) -> float:
    """At least 1: a well without any count has failed whatever the others have."""
    some = np.log2(amounts[amounts > 0])
    if len(some) < FEWEST_WELLS:
        return 1.0
    median = np.median(some)
    mad = _MAD_SCALE * np.median(some[some >= median] - median)
    return max(1.0, float(2.0 ** min(median + np.log2(share), median - FAILED_MADS * mad)))


def _odd_controls(
    values: NDArray[np.float32], controls: NDArray[np.intp], plate: NDArray[np.str_], *, are_counts: bool
) -> list[int]:
    """Control wells that are unlike the other controls of their plate."""
    odd: list[int] = []
    for name in dict.fromkeys(plate[controls].tolist()):
        wells = controls[plate[controls] == name]
        if len(wells) < FEWEST_CONTROLS:
            continue
        profiles = values[wells].astype(np.float64)
        if are_counts:
            profiles = np.log2(1e6 * profiles / np.maximum(profiles.sum(axis=1, keepdims=True), 1.0) + 1)
        genes = np.argsort(-profiles.mean(axis=0), kind="stable")[:COMPARED_GENES]
        profiles = profiles[:, genes]
        distances = np.sqrt(np.mean((profiles - _medians_of_others(profiles)) ** 2, axis=1))
        median = np.median(distances)
        mad = _MAD_SCALE * np.median(np.abs(distances - median))
        odd += wells[(distances > ODD_RATIO * median) & (distances > median + ODD_MADS * mad)].tolist()
    return odd


def _medians_of_others(profiles: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each row of (k, G) the medians of all other rows, from one sorting of each column."""
    k = len(profiles)
    order = np.argsort(profiles, axis=0, kind="stable")
    ordered, rank = np.take_along_axis(profiles, order, axis=0), np.argsort(order, axis=0, kind="stable")

    def of_others(place: int) -> NDArray[np.float64]:
        """The value at a place among the k - 1 others of each row."""
        return np.asarray(np.where(rank <= place, ordered[place + 1], ordered[place]))

    middle = (k - 1) // 2
    return of_others(middle) if k % 2 == 0 else (of_others(middle - 1) + of_others(middle)) / 2


def _limit_text(limits: dict[str, float], share: float, least: int | None) -> str:
    if least is not None:
        return f"{least:,}"
    shown = listed([f"{limit:,.0f}{f' ({plate})' if plate and len(limits) > 1 else ''}"
                    for plate, limit in limits.items()], 4)  # fmt: skip
    part = "a quarter" if share == COUNTS_SHARE else "half"
    return f"{shown}, {part} of the plate's median or less"


def _notes(
    reasons: pl.Series, wells: pl.DataFrame, lines: list[str], keep_flagged: bool, are_counts: bool
) -> tuple[Note, ...]:
    notes: list[Note] = []
    if lines:
        text = "; ".join(lines)
        notes.append(Note("info", f"wells have failed with {text} (--min-counts, --min-genes)"))
    if not are_counts:
        text = "by the genes that they have a value of" if lines else "by their names and profiles only"
        notes.append(Note("info", f"the depth of the wells is not known (no counts): they are judged {text}"))
    aside = reasons.is_not_null()
    if not aside.any():
        return tuple(notes)
    kinds = Counter(reason_of(reason) for reason in reasons.drop_nulls())
    parts = "; ".join(f"{kind} {times:,}" for kind, times in kinds.most_common())
    ids = listed(wells.filter(aside).get_column("well_id").to_list(), 10)
    what = f"{count(int(aside.sum()), 'well')} set aside, out of everything that follows"
    more = " (column set_aside of the wells table); --keep-flagged uses those that hold cells"
    if keep_flagged:
        what, more = f"{count(int(aside.sum()), 'well')} to be set aside, used if they hold cells (--keep-flagged)", ""
    notes.append(Note("warning", f"{what}: {parts}: {ids}{more}"))
    if keep_flagged:
        return tuple(notes)
    used = set(wells.filter(~aside).get_column("compound"))
    lost = [name for name in dict.fromkeys(wells.filter(aside & (reasons != NO_CELLS)).get_column("compound"))
            if name not in used]  # fmt: skip
    if lost:
        text = f"{count(len(lost), 'compound')} without a usable well, not measured: {listed(lost)}"
        notes.append(Note("warning", text))
    return tuple(notes)
