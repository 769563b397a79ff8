"""Errors say what, where, found, expected, next; and each kind has its exit code."""

from __future__ import annotations

import pytest

from dpf.errors import (
    DataError,
    DeviceError,
    DpfError,
    ModelError,
    ProjectError,
    UsageError,
    first_line,
    listed,
    spelling_hint,
    translated,
)


def test_text_has_the_parts_in_reading_order_and_leaves_out_those_that_are_not_there():
    error = DataError("bad value", where="wells.csv: row 3", found=7, expected="0 or 1", hint="correct it")
    assert str(error) == "bad value\n  where: wells.csv: row 3\n  found: 7\n  expected: 0 or 1\n  next: correct it"
    assert str(ModelError("no such file", found=0)) == "no such file\n  found: 0"
    assert str(DpfError("alone")) == "alone"
    assert DpfError("alone").details() == []


@pytest.mark.parametrize(
    ("cls", "code"),
    [(DpfError, 1), (UsageError, 2), (ProjectError, 3), (DataError, 4), (ModelError, 5), (DeviceError, 6)],
)
def test_every_kind_has_its_exit_code(cls, code):
    assert cls("x").exit_code == code
    assert isinstance(cls("x"), DpfError)


def test_kinds_have_different_names():
    kinds = [cls.kind for cls in (DpfError, UsageError, ProjectError, DataError, ModelError, DeviceError)]
    assert len(set(kinds)) == len(kinds)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, ""), (1, "0"), (3, "0, 1, 2"), (4, "0, 1, 2, ... and 1 more"), (2003, "0, 1, 2, ... and 2,000 more")],
)
def test_listed_shows_the_first_and_counts_the_rest(count, text):
    assert listed(range(count), limit=3) == text


class Panic(BaseException):
    """What Rust's panics are: no `Exception`."""


@pytest.mark.parametrize("cause", [ValueError("a b"), Panic("index out of bounds"), RecursionError(), KeyError("x")])
def test_whatever_a_library_raises_is_translated(cause):
    with (
        pytest.raises(DataError, match="damaged") as caught,
        translated(lambda error: DataError("damaged", found=error)),
    ):
        raise cause
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize("cause", [ModelError("x"), MemoryError(), KeyboardInterrupt(), SystemExit(3)])
def test_what_says_enough_or_is_no_damage_passes(cause):
    with pytest.raises(type(cause)) as caught, translated(lambda error: DataError("damaged", found=error)):
        raise cause
    assert caught.value is cause


def test_the_first_line_names_the_kind_where_the_text_does_not_say_enough():
    assert first_line(ValueError("too short\nat 3")) == "too short"
    assert first_line(KeyError("data")) == "KeyError: 'data'"
    assert first_line(RecursionError()) == "RecursionError"


@pytest.mark.parametrize(
    ("unknown", "hint"),
    [
        (["cd3e", "x"], "1 of them differ in upper and lower case only"),
        (["HLA.A", "X7157"], "2 of them have points for other signs, as R writes names"),
        (["TP53"], None),
    ],
)
def test_names_that_are_known_ones_written_otherwise(unknown, hint):
    found = spelling_hint(["CD3E", "HLA-A", "7157"], unknown)
    assert found is None if hint is None else str(found).startswith(hint)
