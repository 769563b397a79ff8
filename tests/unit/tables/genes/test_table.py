"""Every gene gets one name of its own, and nothing is merged or left out."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpf.tables.formats.gct import read_gct
from dpf.tables.formats.mtx import read_mtx
from dpf.tables.genes.table import describe_genes


def _genes(names: list[str], table: pl.DataFrame | None = None) -> list[str]:
    return describe_genes(names, table)[0]["gene"].to_list()


def _texts(names: list[str], table: pl.DataFrame | None = None) -> list[str]:
    return [note.text for note in describe_genes(names, table)[1]]


def test_ids_and_symbols_of_10x() -> None:
    ids = ["ENSG00000141510.18", "ENSG00000198888.2", "ENSG00000278869.2", "ENSG00000000001.1", "ENSG00000000002.1"]
    symbols = ["TP53", "MT-ND1", "ENSG00000278869", "Y_RNA", "Y_RNA"]
    genes, notes = describe_genes(ids, pl.DataFrame({"gene_id": ids, "symbol": symbols}))
    assert genes.to_dict(as_series=False) == {
        "gene": ["TP53", "MT-ND1", "ENSG00000278869", "Y_RNA|ENSG00000000001", "Y_RNA|ENSG00000000002"],
        "gene_id": [name.split(".")[0] for name in ids],
        "symbol": ["TP53", "MT-ND1", None, "Y_RNA", "Y_RNA"],
        "kind": ["gene", "mitochondrial", "gene", "gene", "gene"],
        "source_name": ids,
    }
    assert [note.severity for note in notes] == ["info", "warning", "info"]
    assert notes[1].text.startswith("1 gene names stand for 2 rows, which were kept apart: Y_RNA|ENSG00000000001")


def test_names_with_ids_do_not_depend_on_the_order() -> None:
    table = pl.DataFrame({"gene_id": ["ENSG1", "ENSG2", "ENSG3"], "symbol": ["A", "A", "B"]})
    forward = dict(zip(table["gene_id"], _genes(["x", "y", "z"], table), strict=True))
    back = table.reverse()
    assert dict(zip(back["gene_id"], _genes(["z", "y", "x"], back), strict=True)) == forward


@pytest.mark.parametrize(
    ("headings", "names"),
    [
        (["gene_ids", "feature_types"], ["TP53", "GAPDH"]),
        (["feature_name", "feature_length"], ["ENSG00000141510", "ENSG00000111640"]),
        (["Description"], ["ENSG00000141510.1", "ENSG00000111640.2"]),
        (["pr_gene_symbol", "pr_gene_id"], ["200814_at", "217140_s_at"]),
        (["Gene name", "Gene.ID"], ["1", "2"]),
    ],
)
def test_headings_of_the_usual_tools(headings: list[str], names: list[str]) -> None:
    values = {"gene_ids": ["ENSG1", "ENSG2"], "pr_gene_id": [7157, 2597], "Gene.ID": ["ENSG1", "ENSG2"]}
    table = pl.DataFrame({heading: values.get(heading, ["TP53", "GAPDH"]) for heading in headings})
    genes, _ = describe_genes(names, table)
    assert genes["gene"].to_list() == ["TP53", "GAPDH"]
    assert genes["gene_id"].null_count() == 0


def test_free_text_is_no_symbol() -> None:
    table = pl.DataFrame({"Description": ["tumor protein p53"]})
    assert _genes(["ENSG00000141510"], table) == ["ENSG00000141510"]


def test_versions_stay_where_they_alone_tell_rows_apart() -> None:
    names = ["ENSG00000141510.3", "ENSG00000141510.4", "ENSMUSG00000000001.5", "ENSG00000182378.15_PAR_Y"]
    assert _genes(names) == [*names[:2], "ENSMUSG00000000001", "ENSG00000182378_PAR_Y"]
    assert any("differ in their version only" in text for text in _texts(names))


def test_dots_in_other_names_are_no_versions() -> None:
    names = ["RP11-34P13.7", "HLA.A", "AC1.2"]
    assert _genes(names) == names
    assert _texts(names) == []


def test_duplicated_and_empty_names() -> None:
    names = ["TP53", "TP53", "", "NA", "A|1", "A", "A", " B "]
    assert _genes(names) == ["TP53|1", "TP53|2", "unnamed|3", "unnamed|4", "A|1|1", "A|1|2", "A|2", "B"]
    texts = _texts(names)
    assert texts[0] == "2 genes have no name, and are called unnamed|3, unnamed|4"
    assert texts[1].startswith("2 gene names stand for 4 rows, which were kept apart: TP53|1, TP53|2")


def test_probes_of_one_gene_are_told_apart_by_probe() -> None:
    table = pl.DataFrame({"pr_gene_symbol": ["TP53", "TP53"], "pr_gene_id": [7157, 7157]})
    assert _genes(["201746_at", "211300_s_at"], table) == ["TP53|201746_at", "TP53|211300_s_at"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("MT-CO1", "mitochondrial"),
        ("mt-Nd1", "mitochondrial"),
        ("MT.ATP6", "mitochondrial"),
        ("ENSG00000198804.2", "mitochondrial"),
        ("MT1A", "gene"),
        ("MTOR", "gene"),
        ("ERCC-00130", "spike_in"),
        ("ERCC1", "gene"),
        ("ERCC6L2", "gene"),
    ],
)
def test_kinds(name: str, kind: str) -> None:
    assert describe_genes([name])[0]["kind"].to_list() == [kind]


def test_names_that_a_spreadsheet_broke_are_noted() -> None:
    (text,) = _texts(["1-Mar", "Sep-02", "2-SEPT", "MARCH1", "DEC1"])
    assert text.startswith("dates or rounded numbers among the gene names (3)")


_NAMES = st.sampled_from(["A", "B", "A|1", "A|2", "A|1|1", "", "NA", "ENSG00000141510.1", "ENSG00000141510.2", "x y"])


@given(st.lists(_NAMES, max_size=12), st.booleans(), st.randoms(use_true_random=False))
def test_names_are_unique_and_none_is_lost(names: list[str], with_table: bool, random: object) -> None:
    symbols = list(names)
    random.shuffle(symbols)  # type: ignore[attr-defined]
    genes, _ = describe_genes(names, pl.DataFrame({"symbol": symbols}) if with_table else None)
    assert genes.height == len(names)
    assert genes["gene"].n_unique() == len(names)
    assert genes["gene"].null_count() == 0


def test_real_gene_tables(real_data: Path) -> None:
    matrix = read_mtx(real_data / "macpie-macseq" / "filtered_matrix")
    genes, notes = describe_genes(matrix.row_names or [], matrix.row_table)
    assert genes["gene"].n_unique() == genes.height == 62_700
    assert (genes["kind"] == "mitochondrial").sum() == 37
    assert notes[1].text.startswith("343 gene names stand for 1,815 rows")
    by_id = describe_genes(matrix.row_names or [])[0].filter(kind="mitochondrial")
    assert set(by_id["gene_id"]) < set(genes.filter(kind="mitochondrial")["gene_id"])
    assert by_id.height == 15
    l1000 = read_gct(real_data / "l1000-ljp005-ljp009" / "LJP009_QNORM_n371x978.gct.gz")
    genes, notes = describe_genes(l1000.row_names or [], l1000.row_table)
    assert genes["gene"].to_list() == genes["symbol"].to_list()
    assert notes == ()


@pytest.mark.parametrize(
    "date", ["1-Mar", "2-Sep", "Dec-1", "1. Mrz", "01-Mär", "2-Okt", "1-sept.", "2021-03-01 00:00:00", "2.31E+13"]
)
def test_dates_of_spreadsheets_are_told_in_several_languages(date):
    notes = describe_genes(["CD3", date, "IL2"])[1]
    assert any("dates or rounded" in note.text and date in note.text for note in notes)


@pytest.mark.parametrize("name", ["MARCH1", "SEPT2", "DEC1", "MAR-AS1", "1-8D", "OCT4"])
def test_symbols_are_no_dates(name):
    assert not any("dates or rounded" in note.text for note in describe_genes(["CD3", name, "IL2"])[1])


def test_the_x_that_r_puts_before_entrez_ids_is_taken_off():
    genes, notes = describe_genes(["X7157", "X920", "X3558"])
    assert genes["gene"].to_list() == ["7157", "920", "3558"]
    assert genes["source_name"].to_list() == ["X7157", "X920", "X3558"]
    assert "X7157 was taken as 7157" in notes[0].text
    for names in (["X1", "X2", "X3"], ["X7157", "XIST"]):
        assert describe_genes(names)[0]["gene"].to_list() == names
