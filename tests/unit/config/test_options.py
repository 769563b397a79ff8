"""A class of options: whatever exists of it is of the right types and within bounds, whoever gave the values."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from dpf.config.options import Options, keyword, option, options_of, overrides, overriding
from dpf.errors import UsageError


@dataclass(frozen=True)
class Tea(Options):
    """Options of a command that makes tea."""

    kind: Literal["green", "black"] = option("green", "Which.")
    minutes: float = option(3.0, "How long.", above=0, below=60)
    cups: int = option(1, "How many.", minimum=1, maximum=4)
    file: Path | None = option(None, "Where to.", "--to")
    with_: tuple[str, ...] = option((), "What in it.", "--with")
    folds: int | None = overriding("train.folds")
    zscore: bool | None = overriding("train.zscore", "--zscore/--no-zscore")
    set: tuple[str, ...] = option((), "Settings.")
    lukewarm: bool = False  # no option: a program's own


def test_values_are_of_their_fields_types():
    tea = Tea(minutes=2, cups=np.int64(3), file="pot.txt", with_="milk", folds=np.int32(5))
    assert (tea.minutes, tea.cups, tea.file, tea.with_, tea.folds) == (2.0, 3, Path("pot.txt"), ("milk",), 5)
    assert [type(value) for value in (tea.minutes, tea.cups, tea.folds)] == [float, int, int]
    assert Tea(with_=["milk", "sugar"]).with_ == ("milk", "sugar")
    assert Tea(with_=None).with_ == Tea(with_=[]).with_ == ()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"kind": "blak"}, r'--kind\n  found: "blak"\n  expected: one of green, black; did you mean black\?'),
        ({"minutes": 0}, "--minutes\n  found: 0\n  expected: more than 0"),
        ({"minutes": 60}, "--minutes\n  found: 60\n  expected: less than 60"),
        ({"minutes": float("nan")}, "--minutes\n(.|\n)*a finite number"),
        ({"minutes": True}, "--minutes\n(.|\n)*a number"),
        ({"cups": 0}, "--cups\n(.|\n)*at least 1"),
        ({"cups": 5}, "--cups\n(.|\n)*at most 4"),
        ({"cups": 1.5}, "--cups\n(.|\n)*a whole number"),
        ({"file": 3}, "--to\n(.|\n)*a path"),
        ({"with_": [3]}, "--with\n(.|\n)*a list of texts"),
        ({"folds": "many"}, "--folds\n(.|\n)*a whole number"),
    ],
)
def test_what_is_wrong_is_named_by_its_flag(given: dict[str, Any], text: str):
    with pytest.raises(UsageError, match=f"wrong value for {text}"):
        Tea(**given)


def test_names_from_python_are_the_flags():
    names = {entry.name: keyword(entry) for entry, _ in options_of(Tea)}
    assert names == {
        "kind": "kind", "minutes": "minutes", "cups": "cups", "file": "to", "with_": "with_", "folds": "folds",
        "zscore": "zscore", "set": "set",
    }  # fmt: skip
    assert {entry.name for entry in fields(Tea)} - names.keys() == {"lukewarm"}


def test_what_was_given_is_named():
    assert Tea().given() == []
    assert Tea("black", file="x", zscore=False, lukewarm=True).given() == ["--kind", "--to", "--zscore"]


def test_settings_are_overridden_by_name_and_flags_win():
    tea = Tea(folds=5, zscore=False, set={"train.epochs": 3, "targets.label": "ä"})
    assert overrides(tea) == [
        "train.epochs=3", 'targets.label="ä"', "train.folds=5", "train.zscore=false",
    ]  # fmt: skip
    assert overrides(Tea(), Tea(set="a.b=c")) == ["a.b=c"]
