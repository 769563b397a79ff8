"""No text of a CSV is a formula, and names come back as they were."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpf.tables.text.expression import read_text_matrix
from dpf.tables.text.spreadsheet import as_named, to_csv, write_csv
from dpf.tables.text.wells_table import read_text_table

FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+cmd",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "-COOH",
    "'=1",
    "''@x",
    '=HYPERLINK("x")',
]
PLAIN = ["(+)-JQ1", "a=b", "C-3PO", "-", "=", "O'Brien", "'quoted'", "", "-0.5", "+1e-3", "-.5", "α-ketoglutarate"]


def test_formulas_are_texts_and_all_else_stays():
    table = pl.DataFrame({"compound": FORMULAS + PLAIN, "x": [-1.5] * len(FORMULAS + PLAIN)})
    found = pl.read_csv(to_csv(table).encode(), schema_overrides={"compound": pl.String})
    assert found["compound"].to_list() == [f"'{text}" for text in FORMULAS] + PLAIN
    assert found["x"].to_list() == table["x"].to_list()
    assert pl.DataFrame({"compound": ["a", None]}).equals(
        pl.read_csv(to_csv(pl.DataFrame({"compound": ["a", None]})).encode())
    )


def test_a_heading_is_a_text_too(tmp_path):
    write_csv(pl.DataFrame({"well_id": ["A01"], "=2+5": [1.0], "-3": [2.0]}), tmp_path / "x.csv")
    assert (tmp_path / "x.csv").read_text().splitlines()[0] == "well_id,'=2+5,-3"


@given(st.lists(st.text("='+-@a1 ,\"", max_size=6).map(lambda text: f"{text}x"), min_size=1, max_size=20))
def test_what_is_read_is_what_was_written(tmp_path_factory, names):
    path = tmp_path_factory.mktemp("csv") / "wells.csv"
    write_csv(pl.DataFrame({"well_id": [f"A{i}" for i in range(len(names))], "compound": names}), path)
    assert read_text_table(path).texts("compound") == [name.strip() for name in names]


def test_genes_and_wells_of_an_expression_come_back(tmp_path):
    genes, wells = ["=g", "-h1", "'+i", "TP53"], ["=A01", "@A02", "A03"]
    table = pl.DataFrame({"well_id": wells, **{gene: [1.5, 2.5, 4.5] for gene in genes}})
    write_csv(table, tmp_path / "x.csv")
    found = read_text_matrix(tmp_path / "x.csv")
    assert (found.column_names, found.row_names) == (genes, wells)


@pytest.mark.parametrize("text", PLAIN)
def test_what_was_not_protected_is_read_as_it_is(text):
    assert as_named(text) == text
