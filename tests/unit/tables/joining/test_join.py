from __future__ import annotations

import numpy as np
import pytest

from dpf.errors import DataError, UsageError
from dpf.tables.joining.join import join_wells
from dpf.tables.joining.well_tables import merge_tables
from dpf.tables.text.expression import read_text_matrix
from dpf.tables.text.wells_table import read_text_table

COUNTS = "gene,A01,A02,B01\nCD3,1,2,3\nIL2,4,5,6\n"
WELLS = "Well,Drug\nB01,x\nA01,DMSO\nA02,y\n"


def files(tmp_path, **texts):
    paths = {}
    for name, text in texts.items():
        paths[name] = tmp_path / f"{name}.csv"
        paths[name].write_text(text)
    return paths


def join(tmp_path, counts, wells, **options):
    """Join tables given as texts; lists of texts are several files."""
    counts, wells = ([text] if isinstance(text, str) else text for text in (counts, wells))
    paths = files(tmp_path, **{f"c{i}": text for i, text in enumerate(counts)})
    paths |= files(tmp_path, **{f"w{i}": text for i, text in enumerate(wells)})
    matrices = [read_text_matrix(paths[f"c{i}"]) for i in range(len(counts))]
    tables = [read_text_table(paths[f"w{i}"]) for i in range(len(wells))]
    return join_wells(matrices, tables, [f"P{i + 1}" for i in range(len(counts))], **options)


def said(joined):
    return " | ".join(note.text for note in joined.notes)


def transposed(text):
    return "\n".join(",".join(cells) for cells in zip(*(line.split(",") for line in text.split()), strict=True))


@pytest.mark.parametrize("counts", [COUNTS, transposed(COUNTS)])
def test_either_orientation_in_the_order_of_the_wells_table(tmp_path, counts):
    joined = join(tmp_path, counts, WELLS)
    assert joined.well_ids == ["B01", "A01", "A02"]
    assert joined.genes.get_column("gene").to_list() == ["CD3", "IL2"]
    np.testing.assert_array_equal(joined.expression, [[3, 6], [1, 4], [2, 5]])
    assert joined.table.texts("Drug") == ["x", "DMSO", "y"]
    assert "matched on column Well (3 names in common)" in said(joined)


def test_rows_in_order_are_not_copied(tmp_path):
    paths = files(tmp_path, c=transposed(COUNTS), w="Well\nA01\nA02\nB01\n")
    matrix = read_text_matrix(paths["c"])
    joined = join_wells([matrix], [read_text_table(paths["w"])], ["c"])
    assert np.shares_memory(joined.expression, matrix.values)


@pytest.mark.parametrize("seed", range(5))
def test_any_permutation_of_wells_and_genes_gives_the_same_values(tmp_path, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 100, size=(600, 5))
    wells, genes = rng.permutation(600), rng.permutation(5)
    text = "well," + ",".join(f"G{g}" for g in genes) + "\n"
    text += "\n".join(f"w{w}," + ",".join(str(values[w, g]) for g in genes) for w in wells)
    joined = join(tmp_path, text, "id\n" + "\n".join(f"w{w}" for w in range(600)))
    place = {name: at for at, name in enumerate(joined.genes.get_column("gene"))}
    np.testing.assert_array_equal(joined.expression[:, [place[f"G{g}"] for g in range(5)]], values)


def test_wells_that_one_side_knows_are_left_out_and_named(tmp_path):
    joined = join(tmp_path, COUNTS, "Well,Drug\nA01,x\nC07,y\nC08,y\n,empty\n")
    assert joined.well_ids == ["A01"]
    text = said(joined)
    assert "2 wells not in the wells table, left out: A02, B01" in text
    assert "2 wells without expression, left out: C07, C08" in text
    assert "1 row without a well id, left out: line 5" in text


def test_the_column_with_the_wells_is_the_one_that_shares_most_names_once_each(tmp_path):
    counts = "gene,A01,A02,A03,A04\nCD3,1,2,3,4\nIL2,1,2,3,4\nTNF,1,2,3,4\n"
    knockouts = "Target,Well\nCD3,A01\nCD3,A02\nIL2,A03\nTNF,Z9\n"
    assert join(tmp_path, counts, knockouts).well_columns == ("Well",)
    assert join(tmp_path, counts, knockouts, well_column="well").well_columns == ("Well",)
    with pytest.raises(DataError, match="has no column 'Wel'") as error:
        join(tmp_path, counts, knockouts, well_column="Wel")
    assert "did you mean Well" in str(error.value)


@pytest.mark.parametrize(
    ("counts", "wells", "message", "detail"),
    [
        (COUNTS, "Well,Drug\nA1,x\nA2,y\n", "no column of the wells table names the wells", "A1 is not A01"),
        (COUNTS, "Well,Drug\nA01,x\nA02,y\nA01,z\n", "a well id is there more than once", "A01 (line 2, line 4)"),
        ("gene,A01,A01\nCD3,1,2\n", "Well\nA01\n", "more than once in the expression table", "'A01' (wells 1, 2)"),
        ("CD3,IL2\n1,2\n", "Well,n\nA01,CD3\n", "no names to match wells by", "CD3"),
    ],
)
def test_what_cannot_be_joined(tmp_path, counts, wells, message, detail):
    with pytest.raises(DataError, match=message) as error:
        join(tmp_path, counts, wells)
    assert detail in str(error.value)


def test_plates_in_files_of_their_own(tmp_path):
    other = "gene,A01,A02\nTNF,9,9\nIL2,7,8\nCD3,5,6\n"
    joined = join(tmp_path, [COUNTS, other], [WELLS, "Well,Drug,Dose\nA01,z,1\nA02,DMSO,2\n"])
    assert joined.well_ids == ["P1_B01", "P1_A01", "P1_A02", "P2_A01", "P2_A02"]
    assert joined.local_ids == ["B01", "A01", "A02", "A01", "A02"]
    assert joined.plates == ["P1"] * 3 + ["P2"] * 2
    np.testing.assert_array_equal(joined.expression, [[3, 6], [1, 4], [2, 5], [5, 7], [6, 8]])
    assert joined.table.texts("Dose") == ["", "", "", "1", "2"]
    text = said(joined)
    assert "2 expression tables share 2 genes" in text
    assert "P2: 1 gene not in every table, left out: TNF" in text
    assert "not every wells table has these columns, empty elsewhere: Dose" in text
    assert "prefixed with P1, P2, as P1_B01" in text


def test_one_wells_table_for_several_files(tmp_path):
    other = "gene,C01\nCD3,8\nIL2,9\n"
    joined = join(tmp_path, [COUNTS, other], "Well,Drug\nA01,x\nC01,y\nA02,z\nB01,u\nD01,v\n")
    assert joined.well_ids == ["A01", "A02", "B01", "C01"]
    assert joined.table.texts("Drug") == ["x", "z", "u", "y"]
    assert "1 well without expression, left out: D01" in said(joined)
    with pytest.raises(DataError, match="cannot tell them apart"):
        join(tmp_path, [COUNTS, COUNTS], WELLS)


def test_files_that_do_not_go_together(tmp_path):
    with pytest.raises(DataError, match="no gene in common"):
        join(tmp_path, [COUNTS, "gene,A01\nTNF,1\n"], [WELLS, WELLS])
    with pytest.raises(UsageError, match="one wells table a source"):
        join(tmp_path, [COUNTS] * 3, [WELLS] * 2)


def test_a_column_of_the_wells_table_among_the_genes_is_refused(tmp_path):
    counts = "well,plate_column,CD3\nA01,1,5\nA02,2,6\n"
    with pytest.raises(DataError, match="stand among the genes") as error:
        join(tmp_path, counts, "well,plate_column\nA01,1\nA02,2\n")
    assert error.value.found == "plate_column"
    joined = join(tmp_path, counts, "well,CD3\nA01,100\nA02,200\n")
    assert "genes and columns of the wells table, with other numbers: CD3" in said(joined)


def test_tables_about_the_same_wells_are_merged(tmp_path):
    paths = files(
        tmp_path,
        counts="gene,AACC,GGTT,TTAA\nCD3,1,2,3\n",
        map="Barcode,Well,Drug,Dose\nAACC,A01,x,1\nGGTT,A02,y,1\nTTAA,A03,z,1\n",
        viability="well_name,viability,Drug,Dose\nA02,0.5,y,7\nA01,0.9,x,1\nH12,1,q,1\n",
    )
    tables = [read_text_table(paths[name]) for name in ("viability", "map")]
    merged = merge_tables(tables, read_text_matrix(paths["counts"]))
    assert merged.texts("Barcode") == ["AACC", "GGTT", "TTAA"]
    assert merged.texts("viability") == ["0.9", "0.5", ""]
    assert merged.frame.columns == ["Barcode", "Well", "Drug", "Dose", "viability", "Dose.2"]
    text = " | ".join(note.text for note in merged.notes)
    assert "joined to map.csv on column Well" in text
    assert "left out: H12" in text
    assert "says nothing about 1 well" in text
    with pytest.raises(DataError, match="no column of well names in common"):
        merge_tables(
            [tables[1], read_text_table(files(tmp_path, o="a,b\n1,2\n")["o"])], read_text_matrix(paths["counts"])
        )
