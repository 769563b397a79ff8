"""Whether a screen can be learnt from: everything that is wrong with it, in one error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dpf.errors import DataError, DpfError, count, listed
from dpf.tables.roles.targets import raise_together
from dpf.tables.screen import CANONICAL_COLUMNS, Note, Screen
from dpf.tables.storage import let_go, wells_in_blocks

_WELLS_AT_A_TIME = 256
_SHOWN = 10


def check_screen(screen: Screen) -> Screen:
    """The same screen, found fit to learn from, with what is odd about its numbers in its notes.

    Odd are genes that are the same in every well (kept; a z-score makes them 0) and wells without any expression.

    Raises
    ------
    DataError
        As `require_sound`.
    """
    require_sound(screen)
    return screen.with_notes(*_constant_genes(screen), *_empty_wells(screen))


def require_sound(screen: Screen) -> None:
    """Refuse a screen that cannot be learnt from.

    Raises
    ------
    DataError
        Tables and array differ in length, a canonical column is missing or of another type, a well id or gene is
        there twice, an expression is missing or infinite, no well is a control or all are, or a target holds nothing
        but missing or infinite values. Everything wrong is in one error.
    """
    wrong: list[DpfError] = [*_shapes(screen)]
    raise_together(wrong)
    wrong += _columns(screen)
    wrong += _repeated("a well id", screen.wells.get_column("well_id").to_list())
    wrong += _repeated("a gene", screen.gene_names)
    wrong += _not_finite(screen)
    if not wrong:
        wrong += _controls(screen)
        wrong += _targets(screen)
    raise_together(wrong)


def _files(screen: Screen) -> str | None:
    return listed([source.path for source in screen.sources]) or None


def _shapes(screen: Screen) -> list[DataError]:
    expected = (screen.wells.height, screen.genes.height)
    if screen.expression.shape == expected and min(expected) > 0:
        return []
    shape = "{:,} wells × {:,} genes"
    return [
        DataError(
            "a screen has no wells or no genes" if 0 in expected else "the tables of a screen differ in length",
            where=_files(screen),
            found="expression of " + shape.format(*screen.expression.shape),
            expected=shape.format(*expected) + ", as in the tables of wells and genes",
        )
    ]


def _columns(screen: Screen) -> list[DataError]:
    wrong = []
    for name, dtype in CANONICAL_COLUMNS.items():
        found = screen.wells.schema.get(name)
        if found is None and name in ("well_id", "compound", "is_control"):
            wrong.append(DataError(f"the table of wells has no column {name}", where=_files(screen)))
        elif found is not None and found != dtype:
            wrong.append(DataError(f"column {name} has the wrong type", found=found, expected=dtype.__name__))
    return wrong


def _repeated(what: str, names: Sequence[str]) -> list[DataError]:
    twice = [f"{name} ×{count}" for name, count in Counter(names).items() if count > 1]
    return [DataError(f"{what} is there more than once", found=listed(twice), expected="unique names")] if twice else []


def _not_finite(screen: Screen) -> list[DataError]:
    cells: list[tuple[int, int]] = []
    total = 0
    for start in range(0, screen.expression.shape[0], _WELLS_AT_A_TIME):
        bad = np.argwhere(~np.isfinite(screen.expression[start : start + _WELLS_AT_A_TIME]))
        total += len(bad)
        cells += [(start + int(row), int(column)) for row, column in bad[: _SHOWN - len(cells)]]
        let_go(screen.expression)
    if not total:
        return []
    ids, genes = screen.wells.get_column("well_id"), screen.gene_names
    shown = [f"well {ids[row]}, gene {genes[at]}: {_named(screen.expression[row, at])}" for row, at in cells]
    more = f"; and {total - len(shown):,} more" if total > len(shown) else ""
    return [
        DataError(
            "expression is missing or infinite",
            where=_files(screen),
            found="; ".join(shown) + more,
            expected="a finite number in every cell",
            hint="take these genes or wells out of the table, or fill these cells, and say so in your methods",
        )
    ]


def _named(value: np.float32) -> str:
    return "missing" if np.isnan(value) else "infinite" if value > 0 else "minus infinite"


def _controls(screen: Screen) -> list[DataError]:
    controls = screen.wells.get_column("is_control")
    if controls.null_count() == 0 and bool(controls.any()) and not bool(controls.all()):
        return []
    return [
        DataError(
            "every well is a control" if bool(controls.all()) else "no well is a control",
            where=_files(screen),
            found=f"{int(controls.sum()):,} controls in {controls.len():,} wells",
            expected="controls, and wells with something else in them",
            hint="name the control with --control",
        )
    ]


def _targets(screen: Screen) -> list[DataError]:
    wrong = []
    for name in screen.targets.columns:
        if name not in screen.wells.columns:
            wrong.append(DataError(f"there is no target {name}", found=listed(screen.wells.columns, 20)))
            continue
        values = screen.wells.get_column(name).drop_nulls()
        if name == screen.targets.label:
            if set(values.to_list()) != {0, 1}:
                found = listed([f"{value} in {count:,} wells" for value, count in Counter(values.to_list()).items()])
                wrong.append(DataError("a label needs two classes", where=f"column {name}", found=found or "nothing"))
        elif values.is_empty() or not values.dtype.is_numeric() or not bool(values.is_finite().all()):
            found = "no values" if values.is_empty() else f"values of type {values.dtype} that are not all finite"
            wrong.append(DataError("a target holds no usable numbers", where=f"column {name}", found=found))
    return wrong


def _constant_genes(screen: Screen) -> list[Note]:
    constant = constant_genes(screen.expression)
    names = [name for name, same in zip(screen.gene_names, constant, strict=True) if same]
    if not names:
        return []
    text = f"{count(len(names), 'gene')} of {len(constant):,} with one value in every well, kept: {listed(names, 5)}"
    return [Note("warning", text)]


def constant_genes(expression: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which of G genes have one value in all N wells; `expression` has shape (N, G)."""
    same = np.ones(expression.shape[1], dtype=bool)
    for start in range(0, expression.shape[0], _WELLS_AT_A_TIME):
        same &= (expression[start : start + _WELLS_AT_A_TIME] == expression[0]).all(axis=0)
        let_go(expression)
    return same


def _empty_wells(screen: Screen) -> list[Note]:
    ids = screen.wells.get_column("well_id")
    any_other = [np.any(screen.expression[wells], axis=1) for wells in wells_in_blocks(screen.expression)]
    names = [ids[int(well)] for well in np.flatnonzero(~np.concatenate(any_other))]
    return [Note("warning", f"{count(len(names), 'well')} with 0 in every gene: {listed(names)}")] if names else []
