"""Counts to expression: `none`, `log-cpm` or `vst`, fitted once and applied the same way to every later plate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError, count, listed
from dpf.tables.options import Method
from dpf.tables.preparing.composition import FEWEST_GENES, LEAST_EXPECTED, robust_factors
from dpf.tables.screen import Note
from dpf.tables.storage import let_go, new_matrix, read_about, read_table, write_table

KIND = "normalisation"


def write_normalisation(path: Path, fitted: Normalisation) -> None:
    """Write a fitted normalisation, atomically.

    ``gene`` and one float64 column a fitted array (`Normalisation.to_parts`); what is one value for all genes stands
    in the footer.
    """
    values, arrays = fitted.to_parts()
    table = pl.DataFrame({"gene": values.pop("depth_genes")} | arrays, schema_overrides={"gene": pl.String})
    write_table(path, table, KIND, {KIND: values})


def read_normalisation(path: Path) -> Normalisation:
    """Read what `write_normalisation` wrote; a project without the file took its values as they were.

    Raises
    ------
    ProjectError, DataError
        The file is of a later format, damaged, or not one that dpf writes.
    """
    if not path.is_file():
        return Normalisation("none")
    table, about = read_table(path, KIND), read_about(path, KIND)
    try:
        genes = table.get_column("gene").to_list()
        arrays = {column.name: column.to_numpy().astype(np.float64) for column in table.drop("gene")}
        return Normalisation.from_parts({**about[KIND], "depth_genes": genes}, arrays)
    except (KeyError, TypeError, pl.exceptions.ColumnNotFoundError) as error:
        raise DataError(
            "the stored normalisation is not one that dpf writes",
            where=path,
            found=f"{type(error).__name__}: {error}",
            hint="restore it from a copy, or run dpf init again from the source files",
        ) from error


METHODS: tuple[Method, ...] = get_args(Method)

_BLOCK_CELLS = 1 << 22
_LOST_DEPTH = 0.05


@dataclass(frozen=True, eq=False)
class VstParameters:
    """A variance-stabilising transformation with everything that was fitted.

    Attributes
    ----------
    log_reference
        float64 array, one for each of `Normalisation.depth_genes`: the mean log count over the reference wells;
        NaN for genes that the size factors do not use.
    size_factors
        ``ratio``: genes counted in every reference well; ``poscounts``: genes counted in any, where there are too
        few of the others.
    scale
        Divides every size factor (1 for ``ratio``).
    trend
        ``parametric``: the dispersion at mean μ is a0 + a1/μ, `dispersion` = (a0, a1);
        ``mean``: it is the same for every gene, `dispersion` = (α,).
    """

    log_reference: NDArray[np.float64]
    size_factors: Literal["ratio", "poscounts"]
    scale: float
    trend: Literal["parametric", "mean"]
    dispersion: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Composition:
    """What composition factors are taken against (`dpf.tables.preparing.composition`).

    Attributes
    ----------
    share
        float64 array, one for each of `Normalisation.depth_genes`: its share of the counts of the reference wells.
    scale
        The geometric mean of the robust factors of the wells of the fit, by which those of all wells are divided.
    """

    share: NDArray[np.float64]
    scale: float


@dataclass(frozen=True, eq=False)
class Normalisation:
    """How counts became expression: stored with a project, applied again to new counts.

    Attributes
    ----------
    method
        ``none``: the values are taken as they are.
        ``log-cpm``: log2(10⁶·c/(L·f) + 1), c the count, L the well's library size, f its composition factor.
        ``vst``: variance-stabilised, log2 scale for large counts (Anders & Huber 2010).
    depth_genes
        The genes of which a well's depth is made up: all that were measured, before any gene filter, without
        spike-ins. L is the sum of their counts. Empty for ``none``.
    depth_share
        float64 array, one a depth gene: its share of all counts in the wells of the fit; tells how much depth is
        lost when a gene is missing from new counts.
    vst
        The fitted parameters of ``vst``.
    composition
        What the composition factors of ``log-cpm`` need; None where f is 1 throughout (what earlier versions fitted).
    """

    method: Method
    depth_genes: tuple[str, ...] = ()
    depth_share: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    vst: VstParameters | None = None
    composition: Composition | None = None

    def to_parts(self) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
        """What JSON can hold, and the arrays."""
        values: dict[str, Any] = {"method": self.method, "depth_genes": list(self.depth_genes)}
        arrays = {"depth_share": self.depth_share}
        if self.composition is not None:
            values["composition"] = self.composition.scale
            arrays["reference_share"] = self.composition.share
        if self.vst is not None:
            values["vst"] = {
                "size_factors": self.vst.size_factors,
                "scale": self.vst.scale,
                "trend": self.vst.trend,
                "dispersion": list(self.vst.dispersion),
            }
            arrays["log_reference"] = self.vst.log_reference
        return values, arrays

    @classmethod
    def from_parts(cls, values: dict[str, Any], arrays: dict[str, NDArray[np.float64]]) -> Normalisation:
        """The inverse of `to_parts`.

        Raises
        ------
        DataError
            The method is unknown, or the arrays do not fit the genes.
        """
        genes, method = tuple(values["depth_genes"]), values["method"]
        if method not in METHODS:
            raise DataError("an unknown normalisation", found=method, expected=listed(METHODS))
        wrong = [name for name, array in arrays.items() if array.shape != (len(genes),)]
        if wrong:
            raise DataError(
                "the stored normalisation is damaged",
                found=f"{listed(wrong)} of another length than its genes",
                expected=f"{len(genes):,} values",
            )
        share = arrays["depth_share"]
        if not (np.isfinite(share) & (share >= 0)).all():
            raise DataError(
                "the stored normalisation is damaged",
                found=f"a share of the depth that is {listed(share[~(np.isfinite(share) & (share >= 0))].tolist(), 3)}",
                expected="shares of 0 or more",
            )
        composition = None
        if "composition" in values:
            composition = Composition(arrays["reference_share"], values["composition"])
            if not (np.isfinite(composition.share).all() and 0 < composition.scale < np.inf):
                found = f"composition {composition.scale}, shares that are no number"
                raise DataError("the stored normalisation is damaged", found=found, expected="numbers above 0")
        vst = None
        if method == "vst":
            parts = {**values["vst"], "dispersion": tuple(values["vst"]["dispersion"])}
            vst = VstParameters(arrays["log_reference"], **parts)
        return cls(method, genes, arrays["depth_share"], vst, composition)


def fit_log_cpm(
    counts: NDArray[np.floating], genes: Sequence[str], counted: NDArray[np.bool_], reference: NDArray[np.bool_]
) -> Normalisation:
    """What a library size is made of, and what its composition is compared with.

    Parameters
    ----------
    counts
        Array of shape (N, G): wells × all genes measured.
    genes
        G names.
    counted
        Of shape (G,): whether a gene counts towards the depth (spike-ins do not).
    reference
        Of shape (N,): the wells whose composition is that of the reference. Controls, where there are enough: a
        reference that holds a share of what compounds do shows less of it in their wells, and some in all others.
    """
    names, depth_share = depth_of(counts, genes, counted)
    _, share = depth_of(counts[reference], genes, counted)
    blocks = (counts[rows][:, counted] for rows in _blocks(counts))
    factors = np.concatenate([robust_factors(block, block.sum(axis=1, dtype=np.float64), share) for block in blocks])
    logs = np.log(factors[~np.isnan(factors)])
    return Normalisation(
        "log-cpm", names, depth_share, composition=Composition(share, float(np.exp(logs.mean())) if logs.size else 1.0)
    )


def composition_factors(
    fitted: Normalisation, counts: NDArray[np.floating], genes: Sequence[str]
) -> NDArray[np.float64] | None:
    """What `normalise` multiplies each well's library size by, shape (N,); None where it does not.

    1 where too few genes have enough expected counts.
    """
    if fitted.composition is None:
        return None
    place = {name: position for position, name in enumerate(genes)}
    present = np.array([name in place for name in fitted.depth_genes], dtype=bool)
    columns = np.array([place[name] for name in fitted.depth_genes if name in place], dtype=np.intp)
    blocks = (counts[rows][:, columns] for rows in _blocks(counts))
    factors = [_composition(fitted, block, block.sum(axis=1, dtype=np.float64), present)[0] for block in blocks]
    return np.concatenate(factors)


def _blocks(counts: NDArray[np.floating]) -> list[slice]:
    step = max(1, _BLOCK_CELLS // max(1, counts.shape[1]))
    return [slice(start, start + step) for start in range(0, len(counts), step)]


def _composition(
    fitted: Normalisation, counts: NDArray[np.floating], depth: NDArray[np.float64], present: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The composition factors of wells, and which could not be known and are 1; both of shape (N,)."""
    if fitted.composition is None:
        return np.ones(len(counts)), np.zeros(len(counts), dtype=bool)
    # Shares are not made to add up to 1 where genes are missing: the factor then makes up for their counts.
    factors = robust_factors(counts, depth, fitted.composition.share[present]) / fitted.composition.scale
    unknown = np.isnan(factors)
    return np.where(unknown, 1.0, factors), unknown


def depth_of(
    counts: NDArray[np.floating], genes: Sequence[str], counted: NDArray[np.bool_]
) -> tuple[tuple[str, ...], NDArray[np.float64]]:
    """The genes that make up the depth, and the share of each in all counts."""
    totals = counts.sum(axis=0, dtype=np.float64)[counted]
    names = tuple(name for name, counts_it in zip(genes, counted, strict=True) if counts_it)
    return names, totals / max(totals.sum(), 1.0)


def normalise(
    fitted: Normalisation,
    counts: NDArray[np.floating],
    genes: Sequence[str],
    wells: Sequence[str],
    keep: Sequence[str] | None = None,
    *,
    in_place: bool = False,
) -> tuple[NDArray[np.float32], tuple[Note, ...]]:
    """Apply a fitted normalisation; genes are matched by name.

    Parameters
    ----------
    fitted
        From `fit_log_cpm`, `dpf.tables.preparing.vst.fit_vst`, or a project.
    counts
        Array of shape (N, G).
    genes, wells
        G and N names.
    keep
        The K genes to return, in this order; None for all of `genes`.
    in_place
        Write the result over `counts`, which are lost: large tables then stand in memory once. They must be float32,
        and K at most G.

    Returns
    -------
    expression : ndarray of shape (N, K)
        float32; computed in float64, a block of wells at a time; a view of `counts` where `in_place`. A well without
        any count gets the value of count 0 everywhere, which is noted.
    notes : tuple of Note

    Raises
    ------
    DataError
        A gene of `keep` is missing, or genes are missing that held more than 5% of the counts of the fit: the depth
        cannot be known from what is left.
    """
    place = {name: position for position, name in enumerate(genes)}
    wanted = list(genes) if keep is None else list(keep)
    if absent := [name for name in wanted if name not in place]:
        raise DataError(
            "genes are missing from the counts",
            found=f"{len(absent):,} of {len(wanted):,} missing: {listed(absent)}",
            expected="every gene that the project uses",
        )
    columns = np.array([place[name] for name in wanted], dtype=np.intp)
    # A block of wells is read whole before its place is written, so the result may lie over the counts.
    values = counts[:, : len(columns)] if in_place else new_matrix(len(counts), len(columns))
    if fitted.method == "none":
        for rows in _blocks(counts):
            values[rows] = counts[rows][:, columns]
            let_go(values)
            let_go(counts)
        return values, ()
    notes = _lost_depth(fitted, place)
    present = np.array([name in place for name in fitted.depth_genes], dtype=bool)
    depth_columns = np.array([place[name] for name in fitted.depth_genes if name in place], dtype=np.intp)
    empty: list[str] = []
    shallow: list[str] = []
    for rows in _blocks(counts):
        depth, unknown = _depth(fitted, counts[rows][:, depth_columns].astype(np.float64), present)
        empty += [wells[rows.start + int(i)] for i in np.flatnonzero(depth == 0)]
        shallow += [wells[rows.start + int(i)] for i in np.flatnonzero(unknown & (depth > 0))]
        scaled = counts[rows][:, columns].astype(np.float64) / np.where(depth > 0, depth, np.inf)[:, None]
        values[rows] = np.log2(scaled + 1) if fitted.vst is None else stabilise(scaled, fitted.vst)
        let_go(values)
        let_go(counts)
    if empty:
        text = f"{len(empty):,} wells hold no counts and were given the value of count 0: {listed(empty)}"
        notes = (*notes, Note("warning", text))
    if shallow:
        text = (
            f"the composition of {count(len(shallow), 'well')} is not known, fewer than {FEWEST_GENES} genes having "
            f"{LEAST_EXPECTED:g} expected counts: normalised by library size alone: {listed(shallow)}"
        )
        notes = (*notes, Note("info", text))
    return values, notes


def _lost_depth(fitted: Normalisation, place: dict[str, int]) -> tuple[Note, ...]:
    absent = [i for i, name in enumerate(fitted.depth_genes) if name not in place]
    if not absent:
        return ()
    share = float(fitted.depth_share[absent].sum())
    text = (
        f"{len(absent):,} of the {len(fitted.depth_genes):,} genes of the library size are missing; "
        f"they held {share:.2%} of the counts the project was made from"
    )
    if share > _LOST_DEPTH:
        raise DataError(
            "the counts are not complete, so the depth of their wells is not known",
            found=text,
            expected=f"the whole count table, or no more than {_LOST_DEPTH:.0%} of the counts missing",
            hint="give the counts of all genes, as the aligner wrote them: genes the project does not use matter too",
        )
    return (Note("warning", text),)


def _depth(
    fitted: Normalisation, counts: NDArray[np.float64], present: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What a well's counts are divided by, shape (N,), and where the composition is not known.

    The library size in millions times the composition factor, or the size factor; 0 for an empty well.
    """
    if fitted.vst is None:
        depth = counts.sum(axis=1)
        factors, unknown = _composition(fitted, counts, depth, present)
        return depth * factors / 1e6, unknown
    factors = size_factors(counts, fitted.vst.log_reference[present]) / fitted.vst.scale
    return factors, np.zeros(len(counts), dtype=bool)


def size_factors(counts: NDArray[np.float64], log_reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median of ratios to a frozen reference, shape (N,), as DESeq2 takes it with ``geoMeans`` given.

    ``s_j = exp(median over genes with a reference and c_gj > 0 of (log c_gj − log_reference_g))``; 0 for a well
    with no such gene. Genes that a well lacks are left out, so that a shallow well still has a size factor
    (Anders & Huber 2010; DESeq2's `estimateSizeFactorsForMatrix`).
    """
    factors = np.zeros(len(counts))
    for well, row in enumerate(counts):
        used = (row > 0) & ~np.isnan(log_reference)
        if used.any():
            factors[well] = np.exp(np.median(np.log(row[used]) - log_reference[used]))
    return factors


def stabilise(scaled: NDArray[np.float64], vst: VstParameters) -> NDArray[np.float64]:
    """The variance-stabilising transformation of counts divided by size factors, q (DESeq2's vignette).

    Parametric trend: ``log2((1 + a1 + 2·a0·q + 2·√(a0·q·(1 + a1 + a0·q))) / (4·a0))``;
    mean dispersion α: ``(2·asinh(√(α·q)) − ln α − ln 4) / ln 2``.
    """
    values: NDArray[np.float64]
    if vst.trend == "parametric":
        a0, a1 = vst.dispersion
        root = np.sqrt(a0 * scaled * (1 + a1 + a0 * scaled))
        values = np.log2((1 + a1 + 2 * a0 * scaled + 2 * root) / (4 * a0))
    else:
        (alpha,) = vst.dispersion
        values = (2 * np.arcsinh(np.sqrt(alpha * scaled)) - np.log(4 * alpha)) / np.log(2)
    return values
