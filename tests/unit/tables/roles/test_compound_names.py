"""Spellings that are joined when asked, aliases that say what they mean, and everything that was joined is recorded."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpf.errors import DataError
from dpf.tables.roles.compound_names import one_name_each, read_aliases
from dpf.tables.roles.controls import spelling_key

NAMES = ["DMSO", "dmso", "MK-2206", "MK 2206", "mk2206", "MK-2206", "Taxol", "CHEMBL 1-23", "CHEMBL 12-3"]


def renamed(names=NAMES, aliases=None, merge=True):
    rename, notes = one_name_each(names, aliases or {}, merge, "aliases.csv")
    return [rename(name) for name in names], " | ".join(note.text for note in notes)


def test_spellings_are_joined_under_the_commonest() -> None:
    got, said = renamed()
    assert got == ["DMSO", "DMSO", *["MK-2206"] * 4, "Taxol", "CHEMBL 1-23", "CHEMBL 12-3"]
    assert "3 names joined with another: dmso (1) is DMSO, MK 2206 (1) is MK-2206, mk2206 (1) is MK-2206" in said
    assert renamed(merge=False) == (NAMES, "")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("SB-590885", "sb590885", True),
        ("Nutlin 3a", "NUTLIN-3A", True),
        ("a\u2011b", "a-b", True),  # a hyphen that does not break
        ("1-23", "12-3", False),
        ("1-23", "1 23", True),
        ("1-23", "123", False),
        ("(+)-JQ1", "(-)-JQ1", False),  # enantiomers
        ("R-x", "S-x", False),
    ],
)
def test_what_parts_two_numbers_tells_names_apart(one: str, other: str, same: bool) -> None:
    assert (spelling_key(one) == spelling_key(other)) is same


@given(st.lists(st.text("aB1- ", min_size=1, max_size=4).filter(lambda text: text.strip("- ")), max_size=8))
def test_joining_joins_what_has_one_key_and_nothing_else(names: list[str]) -> None:
    got, _ = renamed(names)
    for name, new in zip(names, got, strict=True):
        assert new in names
        assert spelling_key(new) == spelling_key(name)
    assert len(set(got)) == len({spelling_key(name) for name in names})
    assert renamed(got)[0] == got


def test_aliases_go_before_spellings_and_absent_ones_are_told() -> None:
    got, said = renamed(aliases={"taxol": "Paclitaxel", "gone": "Paclitaxel", "mk2206": "MK-2206"})
    assert got[-3] == "Paclitaxel"
    assert "aliases: 1 name joined with another: Taxol (1) is Paclitaxel" in said
    assert "aliases.csv: aliases that no well has: gone" in said


@pytest.mark.parametrize(
    ("aliases", "found"),
    [
        ({"a": "b", "b": "a"}, "a is b, which is a"),
        ({"a": "b", "b": "c"}, "a is b, which is c"),
        ({"a": "B", "b": "c"}, "a is B, which is c"),
        ({"a": "b", "b": "c", "c": "a"}, "c is a, which is b"),
    ],
)
@pytest.mark.parametrize("merge", [True, False])
def test_circles_and_chains_are_refused(aliases: dict[str, str], found: str, merge: bool) -> None:
    with pytest.raises(DataError, match="aliases lead to further aliases") as caught:
        renamed(["a", "b"], aliases, merge)
    assert found in str(caught.value.found)


def test_an_alias_that_is_two_things_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="X-1 is y and z"):
        renamed(["x"], {"x1": "y", "X-1": "z"})
    file = tmp_path / "aliases.csv"
    file.write_text("name,is\nx,y\nx,z\n")
    with pytest.raises(DataError, match="x is y, z"):
        read_aliases(file)


def test_the_table_of_aliases(tmp_path: Path) -> None:
    file = tmp_path / "aliases.csv"
    file.write_text("Is;Name\nPaclitaxel;Taxol\nx;x\n")
    assert read_aliases(file) == {"Taxol": "Paclitaxel", "x": "x"}
    for text, words in (
        ("name,to\nx,y\n", "two columns"),
        ("name,is\nx,\n", "empty cell"),
        ("name,is\n", "no rows|headings only|no line|empty"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=words):
            read_aliases(file)
    assert renamed(["x", "y"], {"x": "x", "y": "x"}, False)[0] == ["x", "x"]
