"""What the model learns, read from the wells table: continuous scores, a binary label, an activation score."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from decimal import Decimal
from math import isfinite

import polars as pl

from dpf.errors import DataError, DpfError, UsageError, listed
from dpf.tables.roles.headings import find_column
from dpf.tables.screen import Note, Targets
from dpf.tables.text.cells import as_key, as_numbers, code_notes, is_missing, number, truth
from dpf.tables.text.wells_table import Table, is_row_number, refuse_unclear_points

_SHOWN = 10
_COUNTED_ROWS = 8
_POSITIVE = frozenset(["positive", "pos", "+", "active", "activated", "activation", "stimulated", "hit"])
_NEGATIVE = frozenset(
    [
        "negative",
        "neg",
        "-",
        "inactive",
        "resting",
        "rest",
        "unstimulated",
        "not activated",
    ]
)


def read_targets(
    table: Table, scores: Sequence[str], label: str | None, activation: str | None, positive: str | None
) -> tuple[list[pl.Series], Targets, tuple[Note, ...]]:
    """The target columns of a wells table as numbers.

    Parameters
    ----------
    table
        N rows.
    scores, label, activation
        Headings, as the user gives them.
    positive
        The value of `label` that becomes 1; None where the two values say it themselves.

    Returns
    -------
    columns, targets, notes
        Scores and activation as Float64 (finite or null), the label as Int64 (0, 1 or null), named as in the table.

    Raises
    ------
    UsageError
        A column is given two roles.
    DataError
        A column is not there, holds something that is no finite number or nothing at all; the label has other than
        two values, or two of which neither is known to be the positive one. Everything wrong is reported at once.
    """
    wrong: list[DpfError] = []
    found: dict[str, str] = {}
    roles = [*((name, "--scores") for name in scores), (label, "--label"), (activation, "--activation")]
    for name, flag in roles:
        if name is not None:
            try:
                found[flag + name] = find_column(table, name, flag)
            except DataError as error:
                wrong.append(error)
    twice = [name for name, count in Counter(found.values()).items() if count > 1]
    if twice:
        raise UsageError("a column has two roles among the targets", found=listed(twice), expected="one role each")
    columns: list[pl.Series] = []
    notes: list[Note] = []
    for key, name in found.items():
        try:
            if key.startswith("--label"):
                column, label_notes = _label(table, name, positive)
                notes += label_notes
            else:
                column = _score(table, name)
                notes += [*_constant(column), *code_notes(f"score {name}", column.drop_nulls().to_numpy())]
        except DataError as error:
            wrong.append(error)
        else:
            columns.append(column)
    raise_together(wrong)
    named = Targets(
        scores=tuple(found["--scores" + name] for name in scores),
        label=None if label is None else found["--label" + label],
        activation=None if activation is None else found["--activation" + activation],
    )
    return columns, named, tuple(notes)


def raise_together(wrong: Sequence[DpfError]) -> None:
    """Raise the one error there is, or one DataError that tells all of them; do nothing where there is none."""
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        text = "\n".join(f"{at}. {error}" for at, error in enumerate(wrong, 1))
        raise DataError(f"{len(wrong)} things are wrong with these tables\n{text}")


def _score(table: Table, name: str) -> pl.Series:
    raw = table.frame.get_column(name)
    present = [text for text in raw if not is_missing(text)]
    if not present:
        raise DataError(
            "a score has no values",
            where=f"{table.name}, column {name}",
            found=f"{raw.len():,} missing values",
            expected="a number in some of the wells at least",
            hint="leave it out of the targets",
        )
    if len(present) >= _COUNTED_ROWS and is_row_number(raw.to_list()):
        raise DataError(
            "a score counts the rows of its table",
            where=f"{table.name}, column {name}",
            found=f"{present[0]} to {present[-1]}, in order",
            expected="a measured score",
            hint="leave it out of the targets, and an index out of the table",
        )
    refuse_unclear_points(table, name)
    decimal_comma = table.decimal_comma
    numbers = as_numbers(raw, decimal_comma)
    if numbers is None or bool(numbers.cast(pl.Float64).is_infinite().any()):
        bad = [
            f"{place.rsplit(', ', 1)[-1]}: {text!r}"
            for place, text in zip(table.places, raw, strict=True)
            if not is_missing(text) and not _is_finite(text, decimal_comma)
        ]
        raise DataError(
            "a target holds something that is no finite number",
            where=f"{table.name}, column {name}",
            found=listed(bad, _SHOWN),
            expected="numbers such as -1.25, or an empty cell (or NA) where nothing is known",
            hint="correct these cells, or leave this column out of the targets",
        )
    return numbers.cast(pl.Float64)


def _is_finite(text: str, decimal_comma: bool) -> bool:
    value = number(text, decimal_comma)
    return value is not None and abs(value) != float("inf")


def _constant(column: pl.Series) -> list[Note]:
    if column.drop_nulls().n_unique() > 1:
        return []
    return [Note("warning", f"score {column.name} has the same value in every well: there is nothing to learn")]


def _label(table: Table, name: str, positive: str | None) -> tuple[pl.Series, list[Note]]:
    classes = [_class(text) for text in table.frame.get_column(name)]
    counts = Counter(value for value in classes if value is not None)
    where = f"{table.name}, column {name}"
    found = listed([f"{value} in {count:,} wells" for value, count in counts.most_common()])
    if len(counts) != 2:
        raise DataError(
            "a label needs two classes" if counts else "a label has no values",
            where=where,
            found=found or f"{len(classes):,} missing values",
            expected="0 and 1, true and false, or two names",
            hint=_which_are_0(counts, positive) or "leave out --label to train without one",
        )
    one = _positive_class(set(counts), positive, where)
    values = [None if value is None else int(value == one) for value in classes]
    notes = []
    if set(counts) != {"0", "1"} or one != "1":
        zero = next(value for value in counts if value != one)
        notes.append(Note("info", f"label {name}: {one!r} is 1, {zero!r} is 0"))
    return pl.Series(name, values, dtype=pl.Int64), notes


def _which_are_0(classes: Collection[str], positive: str | None) -> str | None:
    """What to do where one of several classes is named as 1."""
    rest = sorted(set(classes) - {positive and _class(positive)})
    if positive is None or len(rest) < 2 or len(rest) == len(classes):
        return None
    return (
        f"which of {listed(rest, 5)} are 0? Add a column with 1 for {positive}, 0 for these and an empty cell for what "
        "is neither, and name it with --label"
    )


def _class(text: str) -> str | None:
    """One spelling a class: ``1``, ``1.0`` and ``01`` are the same, to the last digit; so are ``TRUE`` and ``true``."""
    if is_missing(text):
        return None
    value = number(text)
    if value is None or not isfinite(value):
        return as_key(text)
    return f"{Decimal(text.strip()).normalize():f}"


def _positive_class(classes: set[str], positive: str | None, where: str) -> str:
    if positive is not None:
        wanted = _class(positive)
        if wanted in classes:
            return wanted
        raise DataError(
            "no well has the positive value of the label", where=where, found=listed(sorted(classes)), expected=positive
        )
    known = [value for value in classes if truth(value) or value in _POSITIVE]
    if len(known) == 1 and all(truth(value) is False or value in _NEGATIVE for value in classes - set(known)):
        return known[0]
    raise DataError(
        "which value of the label is the positive one is not clear",
        where=where,
        found=listed(sorted(classes)),
        expected="0 and 1, true and false, or --positive",
        hint=f"--positive {sorted(classes)[-1]}",
    )
