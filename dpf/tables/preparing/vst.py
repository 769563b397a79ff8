"""Fitting the variance-stabilising transformation on reference wells, by PyDESeq2 (extra `counts`)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError
from dpf.tables.formats.hdf5 import require
from dpf.tables.preparing.normalise import Normalisation, VstParameters, depth_of, size_factors
from dpf.tables.screen import Note

#: Fewer genes than this counted in every reference well make a median of ratios too rough.
_FEWEST_RATIO_GENES = 20
_TREND_MEAN = 5.0


def fit_vst(
    counts: NDArray[np.floating],
    genes: Sequence[str],
    counted: NDArray[np.bool_],
    reference: NDArray[np.bool_],
    trend_genes: int | None = 1000,
) -> tuple[Normalisation, tuple[Note, ...]]:
    """Size factors' reference and the dispersion trend, from the reference wells alone.

    Dispersions are those of an intercept-only design, as in DESeq2's ``vst(blind = TRUE)``: in control wells all
    that varies is noise. They are fitted by PyDESeq2 (Muzellec et al. 2023, doi:10.1093/bioinformatics/btad547).

    Parameters
    ----------
    counts
        Array of shape (N, G): wells × all genes measured, whole numbers.
    genes
        G names.
    counted
        Of shape (G,): whether a gene counts towards the depth (spike-ins do not); the others get no size factor's vote.
    reference
        Of shape (N,): the wells to fit on, control or training wells.
    trend_genes
        Fit the trend on this many genes, evenly spaced by mean among those with a mean above 5, as DESeq2's `vst`
        does; on all when there are fewer of those, or for None.

    Returns
    -------
    fitted : Normalisation
    notes : tuple of Note

    Raises
    ------
    UsageError
        PyDESeq2 is not installed.
    DataError
        There are fewer than 3 reference wells, or one of them holds no counts.
    """
    require("pydeseq2", "counts", "--normalize vst")
    fitted_on = np.asarray(counts[reference][:, counted], dtype=np.float64)
    if len(fitted_on) < 3 or (fitted_on.sum(axis=1) == 0).any():
        empty = int((fitted_on.sum(axis=1) == 0).sum())
        raise DataError(
            "VST needs at least three reference wells with counts",
            found=f"{len(fitted_on)} reference wells, {empty} of them without a single count",
            expected="three or more, each with counts",
            hint="use --normalize log-cpm, or leave those wells out",
        )
    log_reference, kind, notes = _log_reference(fitted_on)
    factors = size_factors(fitted_on, log_reference)
    scale = 1.0 if kind == "ratio" else float(np.exp(np.log(factors).mean()))
    trend, dispersion, more = _dispersion_trend(fitted_on, factors / scale, trend_genes)
    vst = VstParameters(log_reference, kind, scale, trend, dispersion)
    return Normalisation("vst", *depth_of(counts[reference], genes, counted), vst), (*notes, *more)


def _log_reference(
    counts: NDArray[np.float64],
) -> tuple[NDArray[np.float64], Literal["ratio", "poscounts"], tuple[Note, ...]]:
    """Mean log counts, NaN where a gene is not used, and which genes those are.

    ``poscounts`` is DESeq2's: the sum of the logs of the counts above 0, divided by the number of all wells.
    """
    logs = np.log(np.where(counts > 0, counts, 1.0))
    everywhere = (counts > 0).all(axis=0)
    if (n := int(everywhere.sum())) >= _FEWEST_RATIO_GENES:
        return np.where(everywhere, logs.mean(axis=0), np.nan), "ratio", ()
    text = (
        f"only {n} genes are counted in every one of the {len(counts)} reference wells; "
        "size factors come from all genes counted in any (poscounts)"
    )
    means = logs.mean(axis=0)
    return np.where(means > 0, means, np.nan), "poscounts", (Note("warning", text),)


def _dispersion_trend(
    counts: NDArray[np.float64], factors: NDArray[np.float64], trend_genes: int | None
) -> tuple[Literal["parametric", "mean"], tuple[float, ...], tuple[Note, ...]]:
    pandas, dds_module = require("pandas", "counts", "--normalize vst"), require("pydeseq2.dds", "counts", "vst")
    scaled = counts / factors[:, None]
    chosen = _spread_by_mean(scaled.mean(axis=0), trend_genes)
    wells, names = [str(i) for i in range(len(counts))], [str(i) for i in chosen]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dds = dds_module.DeseqDataSet(
            counts=pandas.DataFrame(counts[:, chosen].astype(np.int64), index=wells, columns=names),
            metadata=pandas.DataFrame({"well": wells}, index=wells),
            design="~1",
            n_cpus=1,
            quiet=True,
        )
        dds.obs["size_factors"] = factors
        dds.layers["normed_counts"] = scaled[:, chosen]
        dds.var["_normed_means"] = scaled[:, chosen].mean(axis=0)
        dds.vst_fit_type = "parametric"
        dds.fit_dispersion_trend(vst=True)
    notes = tuple(Note("warning", f"PyDESeq2: {text}") for text in dict.fromkeys(_user_warnings(caught)))
    if dds.vst_fit_type == "mean":
        return "mean", (float(dds.uns["mean_disp"]),), notes
    a0, a1 = (float(value) for value in dds.uns["vst_trend_coeffs"])
    return "parametric", (a0, a1), notes


def _spread_by_mean(means: NDArray[np.float64], n: int | None) -> NDArray[np.intp]:
    """The genes of the trend, in the order of the table: DESeq2's choice where `n` is given."""
    eligible = np.flatnonzero(means > _TREND_MEAN)
    if n is None or len(eligible) < n:
        return np.flatnonzero(means > 0)
    by_mean = pl.Series(means[eligible]).arg_sort().to_numpy()
    return np.sort(eligible[by_mean[np.rint(np.linspace(0, len(eligible) - 1, n)).astype(np.intp)]])


def _user_warnings(caught: list[warnings.WarningMessage]) -> list[str]:
    """The warnings that matter to a user; the rest is between the libraries."""
    return [str(warning.message) for warning in caught if warning.category is UserWarning]
