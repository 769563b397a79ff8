"""Each compound's signature: which genes it moves, against the controls of its plates or at equal positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.signatures.moderated_t import ControlSummary, ModeratedT, moderated_t, summarise_wells
from dpf.analysis.signatures.screen_model import fit_screen
from dpf.errors import DataError, count, listed
from dpf.workflows.predict.well_members import plate_codes
from dpf.workflows.progress import Progress
from dpf.workflows.project.inputs import Inputs
from dpf.workflows.rank.choices import Adjustment
from dpf.workflows.rank.rows import CompoundRows
from dpf.workflows.rank.wells import position_levels

Floats32 = NDArray[np.float32]

_Compare = Callable[[NDArray[np.intp]], ModeratedT | None]

_MATRICES = ("effect", "t", "p", "q", "mean_expression")
_ROWS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Signatures:
    """Moderated t of C rows and G genes, float32 of shape (C, G) each; see `dpf.analysis.signatures.moderated_t`.

    Attributes
    ----------
    names, genes
        C and G names.
    effect
        Mean difference to the controls (of the same plates), on the scale of the expression.
    t, p, q
        Moderated t, its two-sided p, Benjamini–Hochberg over the genes of the row.
    mean_expression
        Over the wells used.
    estimable
        (C,) bool: False where a row cannot be told from its position; its numbers are NaN.
    statements
        What was compared with what.
    """

    names: list[str]
    genes: list[str]
    effect: Floats32
    t: Floats32
    p: Floats32
    q: Floats32
    mean_expression: Floats32
    estimable: NDArray[np.bool_]
    statements: tuple[str, ...]

    def parts(self) -> Iterator[pl.DataFrame]:
        """The long table, one row a compound and gene, compounds in the order of the rows, about a million at a time.

        At least one part, with which the table has its columns.
        """
        names, genes = pl.Series(self.names, dtype=pl.String), pl.Series(self.genes)
        step = max(1, _ROWS_AT_ONCE // len(genes))
        for start in range(0, max(len(names), 1), step):
            rows = slice(start, start + step)
            row, gene = (index.ravel() for index in np.indices(self.t[rows].shape))
            values = {name: getattr(self, name)[rows].ravel() for name in _MATRICES}
            table = pl.DataFrame({"compound": names[rows].gather(row), "gene": genes.gather(gene), **values})
            yield table.fill_nan(None)

    def known(self) -> Signatures:
        """Those that are estimable."""
        rows = np.flatnonzero(self.estimable)
        matrices = {name: getattr(self, name)[rows] for name in _MATRICES}
        return replace(self, names=[self.names[row] for row in rows], estimable=self.estimable[rows], **matrices)

    def called(self, fdr: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """The up and the down genes, (C, G) each: q ≤ fdr."""
        significant = self.q <= fdr
        return significant & (self.t > 0), significant & (self.t < 0)

    def gmt(self, fdr: float) -> str:
        """Up and down lists as GMT, `NAME_UP` and `NAME_DN`, the clearest gene first; empty lists are left out."""
        lines = []
        for row, (up, down) in enumerate(zip(*self.called(fdr), strict=True)):
            for side, chosen in (("UP", up), ("DN", down)):
                genes = np.flatnonzero(chosen)
                genes = genes[np.argsort(-np.abs(self.t[row, genes]), kind="stable")]
                if len(genes):
                    name = " ".join(self.names[row].split())  # a tab in a name would end it
                    words = [f"{name}_{side}", f"dpf: q <= {fdr:g} against the controls"]
                    lines.append("\t".join([*words, *(self.genes[gene] for gene in genes)]))
        return "".join(f"{line}\n" for line in lines)


def compute_signatures(
    inputs: Inputs, rows: CompoundRows, trend: bool, adjust: Adjustment, progress: Progress
) -> Signatures:
    """The moderated t of every row against the controls.

    Unadjusted: against the controls of its plates; of all plates where its plates have none. Adjusted: the row's
    coefficient in one linear model of all wells with the positions as covariates
    (`dpf.analysis.signatures.screen_model`).

    Raises
    ------
    DataError
        There is no control, not enough wells to estimate a variance from, nothing to adjust for, or no row that can
        be told from its position.
    """
    if not inputs.is_control.any():
        raise DataError("signatures need control wells", where="the wells table", found="0 controls")
    compare, statements = _matched(inputs, rows, trend) if adjust == "none" else _at_equal(inputs, rows, trend, adjust)
    matrices = {name: np.full((rows.count, len(inputs.genes)), np.nan, np.float32) for name in _MATRICES}
    estimable = np.zeros(rows.count, dtype=bool)
    progress.start("signatures", rows.count, "compounds")
    for row in range(rows.count):
        found = compare(rows.wells(row))
        estimable[row] = found is not None
        for name, matrix in matrices.items() if found is not None else ():
            matrix[row] = getattr(found, name)
        progress.advance(1)
    return Signatures(rows.names, inputs.genes, **matrices, estimable=estimable, statements=statements)


def _matched(inputs: Inputs, rows: CompoundRows, trend: bool) -> tuple[_Compare, tuple[str, ...]]:
    known = plate_codes(inputs.texts("plate"))
    plate = None if known is None or len(known[1]) < 2 else known[0].astype(np.int64)
    controls = inputs.expression[inputs.is_control]
    overall = summarise_wells(controls)
    by_plate = None if plate is None else summarise_wells(controls, plate[inputs.is_control])

    def of_plates(own: NDArray[np.intp]) -> bool:
        return plate is not None and by_plate is not None and _shares(plate[own], by_plate)

    def compare(own: NDArray[np.intp]) -> ModeratedT:
        if by_plate is not None and plate is not None and of_plates(own):
            return moderated_t(inputs.expression[own], by_plate, plate[own], trend=trend)
        return moderated_t(inputs.expression[own], overall, trend=trend)

    matched = np.array([of_plates(rows.wells(row)) for row in range(rows.count)])
    return compare, _statements(inputs, matched, plate is not None, trend)


def _at_equal(inputs: Inputs, rows: CompoundRows, trend: bool, adjust: Adjustment) -> tuple[_Compare, tuple[str, ...]]:
    levels, names = position_levels(inputs, adjust)
    fit = fit_screen(inputs.expression, rows.codes, inputs.is_control, levels, trend=trend)
    lost = [rows.names[row] for row in range(rows.count) if not fit.estimable(rows.wells(row))]
    if len(lost) == rows.count:
        raise DataError(
            "no compound can be told from its position: there is no adjusted signature",
            where=f"--adjust {adjust} with signatures",
            found=f"compounds and controls share no {' or '.join(names)}, and no replicates tie them together",
            expected="controls, or compounds with replicates in several places, that connect the positions",
            hint="leave out --adjust or the signatures; dpf check --suggest-layout lays out the next plate",
        )
    lines = [
        f"signatures: moderated t of {rows.count - len(lost):,} compounds against all {inputs.is_control.sum():,} "
        f"controls at equal {', '.join(names)}: one linear model of all wells ({fit.residual_freedom:,} residual "
        f"degrees of freedom), {_prior(trend)}"
    ]
    if lost:
        lines.append(
            f"signatures: none of {count(len(lost), 'compound')} that cannot be told from position (nothing ties "
            f"it to the controls' positions): {listed(lost)}"
        )

    def compare(own: NDArray[np.intp]) -> ModeratedT | None:
        return fit.compare(inputs.expression, own) if fit.estimable(own) else None

    return compare, tuple(lines)


def _shares(plates: NDArray[np.int64], controls: ControlSummary) -> bool:
    """A plate holds both, and there are more wells than a plate-by-plate comparison has parameters."""
    counts = dict(zip(controls.plates.tolist(), controls.counts.tolist(), strict=True))
    met = set(plates.tolist())
    wells = len(plates) + sum(counts.get(code, 0) for code in met)
    return any(code in counts for code in met) and wells - len(met) - 1 >= 1


def _statements(inputs: Inputs, matched: NDArray[np.bool_], plated: bool, trend: bool) -> tuple[str, ...]:
    how = "of their own plates" if plated else "of the screen"
    lines = [f"signatures: moderated t of {matched.size:,} compounds against the controls {how}, {_prior(trend)}"]
    if plated and not matched.all():
        alone = int((~matched).sum())
        lines.append(
            f"signatures: {count(alone, 'compound')} {'shares' if alone == 1 else 'share'} no plate with enough "
            f"controls, compared with all {inputs.is_control.sum():,} controls: what differs between plates "
            "is in their signatures"
        )
    return tuple(lines)


def _prior(trend: bool) -> str:
    return "prior variance following the mean expression" if trend else "one prior variance for all genes"
