"""Each compound's signature: which genes it moves, against the controls of its plates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.moderated_t import ControlSummary, moderated_t, summarise_wells
from dpf.errors import DataError
from dpf.workflows.compound_rows import CompoundRows
from dpf.workflows.geometry import plate_codes
from dpf.workflows.inputs import Inputs
from dpf.workflows.progress import Progress

Floats32 = NDArray[np.float32]

_MATRICES = ("effect", "t", "p", "q", "mean_expression")


@dataclass(frozen=True)
class Signatures:
    """Moderated t of C rows and G genes, float32 of shape (C, G) each; see `dpf.analysis.moderated_t`.

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
    matched
        (C,) bool: compared with the controls of its own plates.
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
    matched: NDArray[np.bool_]
    statements: tuple[str, ...]

    def table(self) -> pl.DataFrame:
        """Long: one row a compound and gene, compounds in the order of the rows."""
        count, size = self.t.shape
        names = pl.Series(self.names).gather(np.repeat(np.arange(count), size))
        genes = pl.Series(self.genes).gather(np.tile(np.arange(size), count))
        return pl.DataFrame(
            {"compound": names, "gene": genes, **{name: getattr(self, name).ravel() for name in _MATRICES}}
        )

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


def compute_signatures(inputs: Inputs, rows: CompoundRows, trend: bool, progress: Progress) -> Signatures:
    """The moderated t of every row against the controls of its plates; of all plates where its plates have none.

    Raises
    ------
    DataError
        There is no control, or not enough wells to estimate a variance from.
    """
    if not inputs.is_control.any():
        raise DataError("signatures need control wells", where="the wells table", found="0 controls")
    known = plate_codes(inputs.texts("plate"))
    plate = None if known is None or len(known[1]) < 2 else known[0].astype(np.int64)
    controls = inputs.expression[inputs.is_control]
    overall = summarise_wells(controls)
    by_plate = None if plate is None else summarise_wells(controls, plate[inputs.is_control])
    matrices = {name: np.empty((rows.count, len(inputs.genes)), np.float32) for name in _MATRICES}
    matched = np.zeros(rows.count, dtype=bool)
    progress.start("signatures", rows.count, "compounds")
    for row in range(rows.count):
        own = rows.wells(row)
        matched[row] = plate is not None and by_plate is not None and _shares(plate[own], by_plate)
        if matched[row] and plate is not None and by_plate is not None:
            found = moderated_t(inputs.expression[own], by_plate, plate[own], trend=trend)
        else:
            found = moderated_t(inputs.expression[own], overall, trend=trend)
        for name, matrix in matrices.items():
            matrix[row] = getattr(found, name)
        progress.advance(1)
    said = _statements(inputs, matched, plate is not None, trend)
    return Signatures(rows.names, inputs.genes, **matrices, matched=matched, statements=said)


def _shares(plates: NDArray[np.int64], controls: ControlSummary) -> bool:
    """A plate holds both, and there are more wells than a plate-by-plate comparison has parameters."""
    counts = dict(zip(controls.plates.tolist(), controls.counts.tolist(), strict=True))
    met = set(plates.tolist())
    wells = len(plates) + sum(counts.get(code, 0) for code in met)
    return any(code in counts for code in met) and wells - len(met) - 1 >= 1


def _statements(inputs: Inputs, matched: NDArray[np.bool_], plated: bool, trend: bool) -> tuple[str, ...]:
    prior = "prior variance following the mean expression" if trend else "one prior variance for all genes"
    how = "of their own plates" if plated else "of the screen"
    said = [f"signatures: moderated t of {matched.size:,} compounds against the controls {how}, {prior}"]
    if plated and not matched.all():
        said.append(
            f"signatures: {(~matched).sum():,} compounds share no plate with enough controls and are compared with all "
            f"{inputs.is_control.sum():,} controls: what differs between plates is in their signatures"
        )
    return tuple(said)
