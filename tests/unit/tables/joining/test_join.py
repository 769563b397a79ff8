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
        (COUNTS, "Well,Drug\nC1,x\nC2,y\n", "no column of the wells table names the wells", "names such as C1, C2"),
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
    counts = "well,Purity,CD3\nA01,1,5\nA02,2,6\n"
    with pytest.raises(DataError, match="stand among the genes") as error:
        join(tmp_path, counts, "well,purity\nA01,1\nA02,NA\n")
    assert error.value.found == "purity"
    joined = join(tmp_path, counts, "well,CD3\nA01,100\nA02,200\n")
    assert "genes and columns of the wells table, with other numbers: CD3" in said(joined)


def test_tables_about_the_same_wells_are_merged(tmp_path):
    paths = files(
        tmp_path,
        counts="gene,AACC,GGTT,TTAA\nCD3,1,2,3\n",
        map="Barcode,Well,Drug,Dose\nAACC,A01,x,1\nGGTT,A02,y,1\nTTAA,A03,z,1\n",
        viability="well_name,viability,Drug,Dose\nA02,0.5,Y,1.0\nA01,0.9,x,\nH12,1,q,1\n",
    )
    tables = [read_text_table(paths[name]) for name in ("viability", "map")]
    merged = merge_tables(tables, read_text_matrix(paths["counts"]))
    assert merged.texts("Barcode") == ["AACC", "GGTT", "TTAA"]
    assert merged.texts("viability") == ["0.9", "0.5", ""]
    assert merged.frame.columns == ["Barcode", "Well", "Drug", "Dose", "well_name", "viability"]
    assert merged.texts("Dose") == ["1", "1", "1"]
    text = " | ".join(note.text for note in merged.notes)
    assert "joined to map.csv on column Well" in text
    assert "left out: H12" in text
    assert "says nothing about 1 well" in text
    with pytest.raises(DataError, match="no column of well names in common"):
        merge_tables(
            [tables[1], read_text_table(files(tmp_path, o="a,b\n1,2\n")["o"])], read_text_matrix(paths["counts"])
        )


MAP = "no,well,compound\n1,A01,x\n2,A02,y\n3,B01,DMSO\n"
READER = "no,well,viability\n1,A01,0.1\n2,B01,0.2\n3,A02,0.3\n"


def merge(tmp_path, counts, *tables):
    paths = files(tmp_path, counts=counts, **{f"t{at}": text for at, text in enumerate(tables)})
    read = [read_text_table(paths[f"t{at}"]) for at in range(len(tables))]
    return merge_tables(read, read_text_matrix(paths["counts"]))


@pytest.mark.parametrize(
    "reader",
    [
        READER,
        READER.replace("A01", "A1").replace("B01", "B1").replace("A02", "A2"),
        READER.replace("A01", "a01").replace("B01", "b01").replace("A02", "a02"),
        READER.replace("A01", "R01C01").replace("B01", "R02C01").replace("A02", "R1C2"),
        READER.replace("A01", "P7_A-01").replace("B01", "P7_B-01").replace("A02", "P7_A-02"),
        READER.replace("no,", "number,").replace(",well,", ",position,"),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_a_running_number_in_two_tables_joins_nothing(tmp_path, reader, swapped):
    tables = [READER if reader is None else reader, MAP]
    merged = merge(tmp_path, COUNTS, *(tables if swapped else tables[::-1]))
    at = {name[-2:] if name[0] != "R" else name: row for row, name in enumerate(merged.texts("compound"))}
    viability = merged.texts("viability")
    assert {name: viability[row] for name, row in at.items()} == {"x": "0.1", "y": "0.3", "SO": "0.2"}


def test_tables_that_contradict_each_other_are_refused(tmp_path):
    with pytest.raises(DataError, match="contradict each other") as error:
        merge(tmp_path, COUNTS, MAP, READER.replace("viability", "Compound").replace("0.1", "y"))
    assert "column compound, joined on well" in error.value.where
    assert "x (line 2) and y (line 2)" in error.value.found


def test_tables_without_the_expressions_names_join_on_names_and_never_on_numbers(tmp_path):
    counts = "gene,AACC,GGTT,TTAA\nCD3,1,2,3\nIL2,1,1,1\n"
    map_ = "no,Barcode,Well\n1,AACC,A01\n2,GGTT,A02\n3,TTAA,A03\n"
    merged = merge(tmp_path, counts, map_, "no,Well,v\n3,A3,0.3\n1,A1,0.1\n2,A2,0.2\n")
    assert merged.texts("v") == ["0.1", "0.2", "0.3"]
    with pytest.raises(DataError, match="no column of well names in common"):
        merge(tmp_path, counts, map_, "no,v\n1,0.1\n2,0.2\n3,0.3\n")
    with pytest.raises(DataError, match="joined in several ways"):
        merge(tmp_path, counts, map_.replace("no,", "sample,").replace("1,AACC", "s1,AACC").replace("2,GG", "s2,GG"),
              "sample,Well,v\ns2,A01,1\ns1,A02,2\n9,A03,3\n")  # fmt: skip


def numbered(columns):
    """Expression rows 3, 1, 2 and a wells table with two columns that are permutations of 1, 2, 3."""
    return columns + ",drug\n1,3,x\n2,1,y\n3,2,DMSO\n"


def test_two_columns_that_could_name_the_wells(tmp_path):
    counts = "sample,CD3,IL2\n1,10,0\n2,20,0\n3,30,0\n"
    joined = join(tmp_path, counts, numbered("pipetted,sample"))
    assert joined.well_columns == ("sample",)
    np.testing.assert_array_equal(joined.expression[:, 0], [30, 10, 20])
    assert "column pipetted could name wells too" in said(joined)
    assert join(tmp_path, counts, numbered("sample,pipetted")).well_columns == ("sample",)
    with pytest.raises(DataError, match="they disagree") as error:
        join(tmp_path, counts, numbered("pipetted,dispensed"))
    assert "--well-column pipetted" in error.value.hint
    assert join(tmp_path, counts, numbered("pipetted,dispensed"), well_column="dispensed").well_ids == ["3", "1", "2"]
    source = "well,source_well,drug\nA01,B01,x\nA02,A01,y\nB01,A02,DMSO\n"
    assert join(tmp_path, COUNTS, source).well_columns == ("well",)
    with pytest.raises(DataError, match="they disagree"):
        join(tmp_path, COUNTS, source.replace("well,source_well", "from,to"))
    almost = source.replace("B01,A02", "B01,H12")
    with pytest.raises(DataError, match="they disagree"):
        join(tmp_path, COUNTS, almost.replace("well,source_well", "from,to"))


@pytest.mark.parametrize(
    ("names", "rows", "rule"),
    [
        ("A01,A02,B01", "A1,A2,B1", "by row and column"),
        ("A01,A02,B01", "a01,a02,b01", "without case"),
        ("A01,A02,B01", "A-01,A-02,B-01", "by row and column"),
        ("A01,A02,B01", "R01C01,R01C02,R02C01", "by row and column"),
        ("A01,A02,B01", "P1_A1,P1_A2,P1_B1", "by row and column"),
        ("P1_A01,P1_A02,P1_B01", "A1,A2,B1", "by row and column"),
        ("X384.A01,X384.A02,X384.B01", "384-A01,384-A02,384-B01", "as R rewrites names"),
        ("X384.A01,X384.A02,X384.B01", "384-A1,384-A2,384-B1", "by row and column"),
        ("A01-1,A02-1,B01-1", "A01,A02,B01", "without the -1"),
        ("AACC-1,GGTT-1,TTAA-1", "AACC,GGTT,TTAA", "without the -1"),
        ("/data/run 1/A01.bam,/data/run 1/A02.bam,/data/run 1/B01.bam", "A01,A02,B01", "path"),
        ("/data/A01.sorted.bam,/data/A02.sorted.bam,/data/B01.sorted.bam", "A1,A2,B1", "by row and column"),
        ("A01,A02,B01", '"=""A01""","=""A02""","=""B01"""', "quotes"),
        ("sample.1,sample.2,sample.3", "sample 1,sample 2,sample 3", "as R rewrites names"),
    ],
)
def test_names_that_mean_the_same_wells(tmp_path, names, rows, rule):
    counts = f"gene,{names}\nCD3,1,2,3\nIL2,4,5,6\n"
    first, second, third = rows.split(",")
    joined = join(tmp_path, counts, f"Name,Drug\n{third},x\n{first},y\n{second},DMSO\n")
    np.testing.assert_array_equal(joined.expression[:, 0], [3, 1, 2])
    assert f"names of wells were compared {rule}" in said(joined).replace("without case, quotes, path", rule)


def test_names_that_could_be_two_wells_are_refused(tmp_path):
    with pytest.raises(DataError, match="could be the same well") as error:
        join(tmp_path, COUNTS, "Well,Drug\nA1,x\nA01,y\nB1,z\n")
    assert error.value.found == "A1, A01"
    with pytest.raises(DataError, match="no column of the wells table") as error:
        join(tmp_path, "gene,P1_A01,P1_A02\nCD3,1,2\n", "Well,Drug\nP2_A01,x\nP2_A02,y\n")
    assert "plates p2 here, p1 in the expression" in error.value.hint


def test_names_word_for_word_are_not_compared_otherwise(tmp_path):
    joined = join(tmp_path, "gene,a,A,b\nCD3,1,2,3\nIL2,1,1,1\n", "Well\nA\nb\na\n")
    np.testing.assert_array_equal(joined.expression[:, 0], [2, 3, 1])
    assert "compared" not in said(joined)


PLATES = "plate,well,drug\nP1,A01,x\nP1,A02,y\nP1,B01,z\nP2,A01,u\nP2,A02,v\nP2,B01,w\n"


def test_one_table_with_plate_and_well_for_several_files(tmp_path):
    other = COUNTS.replace("1,2,3", "7,8,9")
    joined = join(tmp_path, [COUNTS, other], PLATES)
    assert joined.well_ids == ["P1_A01", "P1_A02", "P1_B01", "P2_A01", "P2_A02", "P2_B01"]
    np.testing.assert_array_equal(joined.expression[:, 0], [1, 2, 3, 7, 8, 9])
    assert joined.table.texts("drug") == list("xyzuvw")
    swapped = PLATES.replace("P1", "P0").replace("P2", "P1").replace("P0", "P2")
    assert join(tmp_path, [COUNTS, other], swapped).table.texts("drug") == list("uvwxyz")
    numbers = PLATES.replace("P1", "1").replace("P2", "2").replace("A01", "A1").replace("A02", "A2")
    np.testing.assert_array_equal(join(tmp_path, [COUNTS, other], numbers).expression[:, 0], [1, 2, 3, 7, 8, 9])
    with pytest.raises(DataError, match="which plate of the wells table is which expression file"):
        join(tmp_path, [COUNTS, other], PLATES.replace("P1", "left").replace("P2", "right"))


def test_one_table_with_plate_and_well_for_one_file_of_several_plates(tmp_path):
    counts = "sample,CD3,IL2\n" + "".join(f"{p}_{w},{v},0\n" for v, (p, w) in enumerate(
        [("P2", "A02"), ("P1", "A01"), ("P1", "A02"), ("P2", "A01"), ("P1", "B01"), ("P2", "B01")]))  # fmt: skip
    joined = join(tmp_path, counts, PLATES)
    assert joined.well_ids[0] == "P1_A01"
    np.testing.assert_array_equal(joined.expression[:, 0], [1, 2, 4, 3, 0, 5])
    joined = join(tmp_path, counts, PLATES.replace("A0", "A"))
    np.testing.assert_array_equal(joined.expression[:, 0], [1, 2, 4, 3, 0, 5])


def test_wells_tables_in_another_order_than_their_files_are_refused(tmp_path):
    paths = files(tmp_path, pA=COUNTS, pB=COUNTS, mA=WELLS, mB=WELLS)

    def joined(sources, tables):
        matrices = [read_text_matrix(paths[name]) for name in sources]
        return join_wells(matrices, [read_text_table(paths[name]) for name in tables], sources)

    assert joined(["pA", "pB"], ["mA", "mB"]).plates[0] == "pA"
    with pytest.raises(DataError, match="another order"):
        joined(["pA", "pB"], ["mB", "mA"])
    paths |= files(
        tmp_path,
        one=WELLS.replace("\n", ",pB\n").replace("Drug,pB", "Drug,Plate"),
        two=WELLS.replace("\n", ",pA\n").replace("Drug,pA", "Drug,Plate"),
    )
    with pytest.raises(DataError, match="another order") as error:
        joined(["pA", "pB"], ["one", "two"])
    assert "plate pB in one.csv" in error.value.found
    assert joined(["pB", "pA"], ["one", "two"]).table.texts("Plate")[0] == "pB"


def test_a_map_that_lies_as_the_plate_lies_is_refused(tmp_path):
    with pytest.raises(DataError, match="lies as the plate does") as error:
        join(tmp_path, COUNTS, "row,1,2,3\nA,x,y,z\nB,u,DMSO,v\n")
    assert error.value.found == "rows A to B, columns 1 to 3"


def test_how_names_were_compared_is_told_also_between_tables(tmp_path):
    merged = merge(tmp_path, COUNTS, MAP, READER.replace("A0", "A").replace("B0", "B"))
    assert any("joined to t0.csv on column well; names of wells were compared by row" in n.text for n in merged.notes)


@pytest.mark.parametrize(
    ("counts", "wells", "plate", "told"),
    [
        ("plate1_counts", "plate2_map", None, "joined with plate2_map.csv"),
        ("counts-P01", "map_P1", None, None),
        ("counts-P01", "map_P12", None, "joined with map_P12.csv"),
        ("GSM123_counts", "GSM124_wells", None, "joined with GSM124_wells.csv"),
        ("counts_v1", "wells_v2", None, None),
        ("plate1_counts", "map", "plate_2", "joined with plate plate_2 of map.csv"),
        ("plate1_counts", "map", "2", "joined with plate 2 of map.csv"),
        ("plate1_counts", "map", "1", None),
        ("counts", "map", "2", None),
    ],
)
def test_one_pair_of_files_that_name_different_plates_is_warned_of(tmp_path, counts, wells, plate, told):
    rows = WELLS if plate is None else "Well,Drug,plate\n" + "".join(f"{well},x,{plate}\n" for well in ("A01", "B01"))
    paths = files(tmp_path, **{counts: COUNTS, wells: rows})
    joined = join_wells([read_text_matrix(paths[counts])], [read_text_table(paths[wells])], [counts])
    warnings = [note.text for note in joined.notes if "the same plate" in note.text]
    assert (told is None) == (warnings == [])
    assert told is None or told in warnings[0]


@pytest.mark.parametrize(
    "rows",
    [["A,1", "A,2", "B,1"], ["1,1", "1,2", "2,1"], ["a,01", "a,02", "b,01"]],
    ids=["letters", "numbers", "padded"],
)
def test_row_and_column_in_columns_of_their_own_name_the_wells(tmp_path, rows):
    wells = "Drug,Row,Col\n" + "".join(f"{drug},{row}\n" for drug, row in zip("xyz", rows, strict=True))
    joined = join(tmp_path, COUNTS, wells)
    np.testing.assert_array_equal(joined.expression, [[1, 4], [2, 5], [3, 6]])
    assert "matched on column Row and Col" in said(joined)
    plates = COUNTS.replace("A01,A02,B01", "P1_A01,P2_A01,P2_B02")
    joined = join(tmp_path, plates, "Drug,plate,row,column\nx,P2,A,1\ny,P1,A,1\nz,P2,B,2\n")
    np.testing.assert_array_equal(joined.expression, [[2, 5], [1, 4], [3, 6]])


@pytest.mark.parametrize("name", ["A - 01", "Well A01", "a_1"])
def test_wells_are_the_same_however_they_are_set(tmp_path, name):
    joined = join(tmp_path, COUNTS, WELLS.replace("A01", name))
    np.testing.assert_array_equal(joined.expression, [[3, 6], [1, 4], [2, 5]])


def test_the_counts_of_genes_that_one_table_lacks_are_told(tmp_path):
    joined = join(tmp_path, [COUNTS, COUNTS + "NEW,7,7,7\n"], [WELLS, WELLS])
    assert "P2: 1 gene not in every table, left out: NEW; they hold 50% of its counts" in said(joined)
    logs = COUNTS.replace("1,2,3", "1.5,2,3") + "NEW,7,7,7\n"
    assert "left out: NEW |" in said(join(tmp_path, [COUNTS, logs], [WELLS, WELLS]))
