from __future__ import annotations

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpf.tables.text.cells import as_numbers, commas, is_missing, is_missing_name, number, truth, typed


@pytest.mark.parametrize("text", ["", " ", "NA", "NaN", "nan", "null", "None", "#N/A", "n/a"])
def test_missing(text):
    assert is_missing(text)


def test_none_is_a_name_but_no_number():
    assert is_missing("None")
    assert not is_missing_name("None")
    assert is_missing_name(" NA ")


@given(st.floats(allow_nan=False))
def test_every_float_python_writes_is_read_back(value):
    assert number(repr(value)) == value


@pytest.mark.parametrize("text", ["1,5", "1_000", "0x1F", "1e", "12 uM", "−5", ".", "1.2.3", "1,234.5"])
def test_what_is_no_number(text):
    assert number(text) is None


def test_decimal_comma_refuses_points():
    assert number("1,5", decimal_comma=True) == 1.5
    assert number("1.234", decimal_comma=True) is None
    assert number("1.234,5", decimal_comma=True) is None


@pytest.mark.parametrize(
    ("cells", "meaning"),
    [
        (["0,5", "1,234"], "decimal"),
        (["12,75"], "decimal"),
        (["1,234,567"], "thousands"),
        (["1,234.5"], "thousands"),
        (["0,5", "1,234,567"], "thousands"),
        (["1,234", "999"], "unclear"),
        (["1.5", "a,b"], "none"),
    ],
)
def test_what_commas_mean(cells, meaning):
    assert commas(cells) == meaning


def test_columns_become_what_they_hold():
    assert typed(pl.Series(["1", "NA", " 3 "])).to_list() == [1, None, 3]
    assert typed(pl.Series(["1", "2.0"])).dtype == pl.Float64
    assert typed(pl.Series(["TRUE", "false", ""])).to_list() == [True, False, None]
    assert typed(pl.Series(["007", "012"])).to_list() == ["007", "012"]
    assert typed(pl.Series(["1", "two"])).to_list() == ["1", "two"]
    assert typed(pl.Series(["", "NA"])).dtype == pl.String
    assert typed(pl.Series(["1,5", "2"]), decimal_comma=True).to_list() == [1.5, 2.0]
    assert typed(pl.Series(["1,234", "2"])).dtype == pl.String


def test_infinities_are_numbers_to_be_judged_later():
    numbers = as_numbers(pl.Series(["inf", "-Infinity", "1"]))
    assert numbers is not None
    assert math.isinf(numbers[0])
    assert as_numbers(pl.Series(["1", "x"])) is None


@pytest.mark.parametrize("text", ["#NV", "#N/D", "#N/A"])
def test_what_spreadsheets_write_where_nothing_is_found_is_missing(text):
    assert is_missing(text)
    assert is_missing_name(text)


@pytest.mark.parametrize(
    ("text", "value"), [("WAHR", True), ("FAUX", False), ("Yes", True), ("1.0", True), ("x", None)]
)
def test_truth_values_of_spreadsheets(text, value):
    assert truth(text) is value
