"""Check items: what can be wrong with an expression matrix that is complete."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.item import Cell, CheckItem, Verdict, columns_of, not_applicable
from dpf.errors import count, listed
from dpf.tables.roles.validate import constant_genes
from dpf.tables.storage import wells_in_blocks

GROUP = "integrity"
#: A gene without variation costs as much time in the network as any other, and attention more than that.
CONSTANT_WARN = 0.01
#: With a few coarse genes two wells can agree by chance.
_FEWEST_GENES = 10


def expression_items(
    expression: NDArray[np.float32] | None,
    genes: Sequence[str],
    well_ids: Sequence[str],
    compounds: Sequence[str | None],
) -> list[CheckItem]:
    """Constant genes, wells in which every gene has one value, and wells that are copies of each other.

    Parameters
    ----------
    expression
        Shape (N, G), finite; None where it cannot be used.
    genes, well_ids, compounds
        G, N and N names.
    """
    names = ("constant genes", "empty wells", "copied wells")
    if expression is None:
        return [not_applicable(name, GROUP, "The expression cannot be used.") for name in names]
    if len(genes) < _FEWEST_GENES:
        why = f"The screen has fewer than {_FEWEST_GENES} genes."
        return [_constant_item(expression, genes), *(not_applicable(name, GROUP, why) for name in names[1:])]
    rows = (row for wells in wells_in_blocks(expression) for row in expression[wells])
    empty = np.array([bool((row == row[0]).all()) for row in rows])
    return [
        _constant_item(expression, genes),
        _empty_item([well for well, same in zip(well_ids, empty, strict=True) if same]),
        _copied_item(expression, empty, well_ids, compounds),
    ]


def _constant_item(expression: NDArray[np.float32], genes: Sequence[str]) -> CheckItem:
    constant = [gene for gene, same in zip(genes, constant_genes(expression), strict=True) if same]
    share = len(constant) / len(genes)
    text = "Every gene varies."
    if constant:
        text = f"{len(constant):,} of {len(genes):,} genes have one value in every well: {listed(constant, 5)}."
    verdict = Verdict.FAIL if share == 1 else Verdict.WARN if share >= CONSTANT_WARN else Verdict.GOOD
    advice = "" if verdict == Verdict.GOOD else "leave out genes that were hardly detected when making the project"
    if share == 1:
        advice = "there is nothing to learn from: look at the table the project was made from"
    rule = f"the share of genes with one value in every well: warn from {CONSTANT_WARN}, fail where no gene varies"
    return CheckItem("constant genes", GROUP, verdict, share, text, advice, rule)


def _empty_item(empty: list[str]) -> CheckItem:
    rule = "wells in which every gene has the same value: any warns"
    if not empty:
        return CheckItem("empty wells", GROUP, Verdict.GOOD, 0.0, "Every well has expression.", "", rule)
    text = f"{count(len(empty), 'well')} with the same value in every gene: {listed(empty)}."
    return CheckItem("empty wells", GROUP, Verdict.WARN, float(len(empty)), text, "leave them out", rule)


def _copied_item(
    expression: NDArray[np.float32], empty: NDArray[np.bool_], well_ids: Sequence[str], compounds: Sequence[str | None]
) -> CheckItem:
    rule = "wells whose expression is that of another well, gene by gene: any warns, of another compound fails"
    wells_of: defaultdict[bytes, list[int]] = defaultdict(list)
    for wells in wells_in_blocks(expression):
        for well in np.flatnonzero(~empty[wells]) + wells.start:
            wells_of[hashlib.blake2b(expression[well].tobytes(), digest_size=16).digest()].append(int(well))
    copies = [wells for wells in wells_of.values() if len(wells) > 1]
    if not copies:
        return CheckItem("copied wells", GROUP, Verdict.GOOD, 0.0, "No two wells have the same expression.", "", rule)
    rows: list[dict[str, Cell]] = [
        {"copy": number, "well": well_ids[well], "compound": compounds[well]}
        for number, wells in enumerate(copies, start=1)
        for well in wells
    ]
    mixed = any(len({compounds[well] for well in wells}) > 1 for wells in copies)
    shown = listed([" = ".join(well_ids[well] for well in wells) for wells in copies], 5)
    text = f"{len(rows):,} wells have the very expression of another: {shown}."
    advice = "one of each was read twice or named wrongly: correct the source files and run dpf init again"
    verdict = Verdict.FAIL if mixed else Verdict.WARN
    return CheckItem("copied wells", GROUP, verdict, float(len(rows)), text, advice, rule, columns_of(rows))
