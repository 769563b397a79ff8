"""Which genes to keep: detected, variable, listed by the user, or moved by compounds. Each returns a mask over genes.

None of them sees a target, so none leaks a label; all see every well, also those held out later, as any choice of
genes made before the split does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from dpf.errors import DataError, UsageError, listed
from dpf.tables.screen import Note
from dpf.tables.text.encodings import parse_text

_BLOCK_GENES = 1024
_TREND_GENES = 301
_LIST_HEADINGS = frozenset({"x", "gene", "genes", "gene_id", "gene_name", "symbol", "gene_symbol", "ensembl_id"})
_NAME_COLUMNS = ("gene", "symbol", "gene_id", "source_name")


def detected_in(counts: NDArray[np.floating], min_wells: int, min_count: float = 1.0) -> NDArray[np.bool_]:
    """Genes with at least `min_count` counts in at least `min_wells` wells.

    Parameters
    ----------
    counts
        Array of shape (N, G).

    Returns
    -------
    ndarray of shape (G,)
    """
    return np.asarray(np.count_nonzero(counts >= min_count, axis=0) >= min_wells)


def most_variable(expression: NDArray[np.floating], n: int) -> NDArray[np.bool_]:
    """The `n` genes that vary most for their level; of equal ones the first.

    The variance over all wells is divided by the median variance of the 301 genes nearest in mean: on a logarithmic
    scale the genes of few counts vary most, and all that varies in them is noise (the idea of the normalised
    dispersion of Satija et al. 2015, with a running median for its bins). With fewer than 602 genes that vary at all
    there is no such neighbourhood, and the variance itself decides.

    Parameters
    ----------
    expression
        Array of shape (N, G), normalised.

    Raises
    ------
    UsageError
        `n` is not positive.
    """
    means, variances = np.zeros(expression.shape[1]), np.zeros(expression.shape[1])
    for start in range(0, expression.shape[1], _BLOCK_GENES):
        block = expression[:, start : start + _BLOCK_GENES].astype(np.float64)
        means[start : start + _BLOCK_GENES] = block.mean(axis=0)
        variances[start : start + _BLOCK_GENES] = block.var(axis=0)
    varying = np.flatnonzero(variances > 0)
    if len(varying) >= 2 * _TREND_GENES:
        by_mean = varying[np.argsort(means[varying], kind="stable")]
        around = np.pad(variances[by_mean], _TREND_GENES // 2, mode="symmetric")
        variances[by_mean] /= np.median(sliding_window_view(around, _TREND_GENES), axis=1)
    return _largest(variances, n)


def most_perturbed(
    expression: NDArray[np.floating],
    compounds: Sequence[str],
    is_control: NDArray[np.bool_],
    plates: Sequence[str] | None,
    n: int,
) -> NDArray[np.bool_]:
    """The `n` genes that compounds move most, against the controls of their own plates.

    For compound c and gene g, ``d = mean over its wells of (x − mean of the plate's controls)`` and
    ``z = d / ((s_g + s_0) · √(1/n_c + 1/n_controls))``, with s_g the controls' standard deviation within plates and
    s_0 the median of s_g over genes, which keeps quiet genes from leading (Tusher et al. 2001, SAM). Genes are
    ordered by the mean of z² over compounds.

    Parameters
    ----------
    expression
        Array of shape (N, G), normalised.
    compounds, plates
        N names; `plates` None for one plate.
    is_control
        Of shape (N,).

    Raises
    ------
    UsageError
        `n` is not positive.
    DataError
        A plate has compounds and no control, or there are fewer controls than plates and one more.
    """
    plate = np.asarray(plates if plates is not None else ["all"] * len(expression))
    names = np.asarray(compounds)
    _check_controls(plate, is_control)
    treated = np.flatnonzero(~is_control)
    number = {name: at for at, name in enumerate(dict.fromkeys(names[treated].tolist()))}
    code = np.array([number[name] for name in names[treated].tolist()], dtype=np.intp)
    groups = np.split(treated[np.argsort(code, kind="stable")], np.cumsum(np.bincount(code))[:-1])
    if not len(treated):
        raise DataError("no compound wells to compare with the controls", found="control wells only")
    n_controls = int(is_control.sum())
    weights = np.array([1 / (1 / len(group) + 1 / n_controls) for group in groups])
    scatter, squares = np.zeros(expression.shape[1]), np.zeros(expression.shape[1])
    for start in range(0, expression.shape[1], _BLOCK_GENES):
        block = expression[:, start : start + _BLOCK_GENES].astype(np.float64)
        for name in np.unique(plate):
            block[plate == name] -= block[(plate == name) & is_control].mean(axis=0)
        part = slice(start, start + block.shape[1])
        scatter[part] = np.square(block[is_control]).sum(axis=0) / (n_controls - len(np.unique(plate)))
        means = np.array([block[group].mean(axis=0) for group in groups])
        squares[part] = (weights[:, None] * np.square(means)).mean(axis=0)
    spread = np.sqrt(scatter)
    floor = spread + np.median(spread) if spread.size else spread
    return _largest(squares / np.square(np.where(floor > 0, floor, np.inf)), n)


def _check_controls(plate: NDArray[np.str_], is_control: NDArray[np.bool_]) -> None:
    without = [name for name in np.unique(plate) if not is_control[plate == name].any()]
    too_few = int(is_control.sum()) <= len(np.unique(plate))
    if without or too_few:
        raise DataError(
            "the genes that compounds move cannot be told without controls",
            found=f"no controls on plate {listed(without)}" if without else f"{int(is_control.sum())} control wells",
            expected="controls on every plate, and on one plate at least two",
            hint="choose genes by their variance instead",
        )


def _largest(values: NDArray[np.float64], n: int) -> NDArray[np.bool_]:
    if n < 1:
        raise UsageError("the number of genes to keep must be positive", found=n, expected="1 or more")
    kept = np.zeros(len(values), dtype=bool)
    kept[np.argsort(-values, kind="stable")[:n]] = True
    return kept


def find_genes(genes: pl.DataFrame, wanted: Sequence[str]) -> tuple[NDArray[np.bool_], list[str]]:
    """The genes that go by the wanted names, and the names that no gene has.

    A name means a gene's name, else a symbol, else an identifier (with version or without), else its name in the
    file; where several genes share the symbol, it means all of them.

    Parameters
    ----------
    genes
        The genes table (`dpf.tables.genes.table`); at least the column ``gene``.

    Returns
    -------
    found : ndarray of shape (G,)
        bool.
    unknown : list of str
        In the order of `wanted`, each once.
    """
    found, unknown = np.zeros(genes.height, dtype=bool), list(dict.fromkeys(name.strip() for name in wanted))
    for column in _NAME_COLUMNS:
        if column in genes.columns:
            own = genes.get_column(column)
            found |= own.is_in(unknown).fill_null(value=False).to_numpy()
            known = set(own.drop_nulls())
            unknown = [name for name in unknown if name not in known]
    bare = {name: name.split(".")[0] for name in unknown if name.startswith("ENS") and "." in name}
    if bare and "gene_id" in genes.columns:
        ids = genes.get_column("gene_id")
        found |= ids.is_in(list(bare.values())).fill_null(value=False).to_numpy()
        known = set(ids.drop_nulls())
        unknown = [name for name in unknown if bare.get(name) not in known]
    return found, unknown


def read_gene_list(path: Path) -> tuple[tuple[str, ...], tuple[Note, ...]]:
    """The names in a list of genes: one a line, or the first cell of each line of a table; each name once.

    A line of headings (``gene``, ``symbol``), empty lines and lines that begin with ``#`` are passed over.

    Raises
    ------
    DataError
        There is no name in the file, or it is no text.
    """
    lines, notes = parse_text(path, lambda stream: stream.read().split("\n"))
    cells = [re.split(r"[\t,;]", line, maxsplit=1)[0].strip().strip('"').strip() for line in lines]
    names = [cell for cell in cells if cell and not cell.startswith("#")]
    if names and names[0].casefold() in _LIST_HEADINGS:
        names = names[1:]
    if not names:
        raise DataError("a list of genes is empty", where=path, found="no names", expected="a name a line")
    return tuple(dict.fromkeys(names)), notes


def listed_genes(genes: pl.DataFrame, wanted: Sequence[str], where: str) -> tuple[NDArray[np.bool_], tuple[Note, ...]]:
    """The genes of a user's list; those that are not measured are named.

    Raises
    ------
    DataError
        None of them is measured.
    """
    found, unknown = find_genes(genes, wanted)
    if not found.any():
        raise DataError(
            "none of the listed genes is measured",
            where=where,
            found=listed(unknown, 5),
            expected=f"names such as {listed(genes.get_column('gene').head(3).to_list())}",
            hint=case_hint(genes, unknown),
        )
    text = f"{where}: {len(unknown):,} listed genes are not measured: {listed(unknown)}"
    return found, (Note("warning", text),) if unknown else ()


def case_hint(genes: pl.DataFrame, unknown: Sequence[str]) -> str | None:
    """What to do where names differ in case only (mouse symbols against human ones); None where that is not it."""
    upper = {name.upper() for name in genes.get_column("gene").to_list()}
    same = [name for name in unknown if name.upper() in upper]
    return f"{len(same):,} of them differ in upper and lower case only: another species' names?" if same else None
