"""Quality of every well, from its counts: depth, detected genes, mitochondrial share, and what stands out."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import listed
from dpf.tables.screen import Note

#: Median absolute deviations (times 1.4826) from the plate's median beyond which a well stands out.
OUTLIER_MADS = 5.0
_MAD_SCALE = 1.4826
_FEWEST_WELLS = 8

FLAGS = {
    ("library_size", -1): "low depth",
    ("library_size", 1): "high depth",
    ("detected", -1): "few genes",
    ("detected", 1): "many genes",
    ("mitochondrial_share", 1): "high mitochondrial share",
    ("spike_in_share", 1): "high spike-in share",
}


def well_quality(
    counts: NDArray[np.floating], genes: pl.DataFrame, wells: pl.DataFrame
) -> tuple[pl.DataFrame, tuple[Note, ...]]:
    """Measure every well and flag those that stand out on their plate. Nothing is left out.

    A well is flagged where it lies more than 5 MAD (1.4826 · median absolute deviation) from the median of its
    plate: depth and detected genes as logarithms, to either side, shares upwards (McCarthy et al. 2017). A well
    without counts is always flagged. Plates with fewer than 8 wells are not judged, which is noted.

    Parameters
    ----------
    counts
        Array of shape (N, G), wells × all genes measured.
    genes
        G rows with ``kind`` (`dpf.tables.genes.table`).
    wells
        N rows with ``well_id`` and, where known, ``plate``.

    Returns
    -------
    quality : polars.DataFrame
        N rows: ``well_id``, ``plate`` (where known), ``library_size`` (counts, spike-ins left out), ``detected``
        (genes with a count), ``mitochondrial_share`` of the library, ``spike_in_share`` of all counts (null where
        nothing of the kind is measured or the well is empty), ``qc_flags`` (empty text for none).
    notes : tuple of Note
        How many wells were flagged for what.
    """
    kind = genes.get_column("kind").to_numpy()
    spike_in, mitochondrial = kind == "spike_in", kind == "mitochondrial"
    total = counts.sum(axis=1, dtype=np.float64)
    spikes = counts[:, spike_in].sum(axis=1, dtype=np.float64)
    library = total - spikes
    detected = np.count_nonzero(counts > 0, axis=1) - np.count_nonzero(counts[:, spike_in] > 0, axis=1)
    has_plate = "plate" in wells.columns
    quality = wells.select("well_id", *(["plate"] if has_plate else [])).with_columns(
        library_size=library,
        detected=pl.Series(detected, dtype=pl.Int64),
        mitochondrial_share=_share(counts[:, mitochondrial].sum(axis=1, dtype=np.float64), library, mitochondrial),
        spike_in_share=_share(spikes, total, spike_in),
    )
    plate = wells.get_column("plate").fill_null("").to_numpy() if has_plate else np.full(len(counts), "")
    flags, unjudged = _flags(quality, plate)
    texts = [", ".join(text for text, of in flags.items() if of[well]) for well in range(len(counts))]
    return quality.with_columns(qc_flags=pl.Series(texts, dtype=pl.String)), _notes(flags, unjudged)


def _share(part: NDArray[np.float64], whole: NDArray[np.float64], measured: NDArray[np.bool_]) -> pl.Series:
    """Null where none is measured, or of nothing."""
    share = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return pl.Series(share if measured.any() else np.full(len(whole), np.nan), dtype=pl.Float64).fill_nan(None)


def _flags(quality: pl.DataFrame, plate: NDArray[np.str_]) -> tuple[dict[str, NDArray[np.bool_]], list[str]]:
    """For each flag which wells have it, and the plates too small to judge."""
    empty = quality.get_column("library_size").to_numpy() == 0
    flags = {"no counts": empty} | {text: np.zeros(len(plate), dtype=bool) for text in FLAGS.values()}
    unjudged = []
    for name in dict.fromkeys(plate.tolist()):
        wells = np.flatnonzero((plate == name) & ~empty)
        if len(wells) < _FEWEST_WELLS:
            unjudged.append(name or "without a name")
            continue
        for (column, side), text in FLAGS.items():
            values = quality.get_column(column).cast(pl.Float64).to_numpy()[wells]
            scaled = values if column.endswith("share") else np.log10(np.maximum(values, 1))
            flags[text][wells] = side * deviations(scaled) > OUTLIER_MADS
    return flags, unjudged


def deviations(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(x − median) / (1.4826 · median |x − median|)``; 0 throughout where more than half of the values are equal."""
    centred = values - np.median(values)
    mad = _MAD_SCALE * np.median(np.abs(centred))
    return centred / mad if mad > 0 else np.zeros_like(values)


def _notes(flags: dict[str, NDArray[np.bool_]], unjudged: list[str]) -> tuple[Note, ...]:
    counts = {text: int(of.sum()) for text, of in flags.items() if of.any()}
    notes = []
    if counts:
        wells = int(np.logical_or.reduce(list(flags.values())).sum())
        parts = "; ".join(f"{text} {n:,}" for text, n in counts.items())
        notes.append(Note("warning", f"{wells:,} wells stand out on their plate by more than 5 MAD: {parts}"))
    if unjudged:
        text = f"plates with fewer than {_FEWEST_WELLS} wells with counts were not judged: {listed(unjudged)}"
        notes.append(Note("info", text))
    return tuple(notes)
