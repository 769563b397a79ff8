from __future__ import annotations

import gzip

import numpy as np
import polars as pl
import pytest

from dpf.errors import DataError, UsageError
from dpf.tables.formats.reading import FORMAT_NAMES, read_matrix, read_table
from dpf.tables.importing import read_expression
from dpf.tables.options import Roles
from dpf.tables.screen import summarise
from tests.support.reading import read_screen

COUNTS = "gene,A01,A02,A03\nCD3,1,2,3\nIL2,4,5,7\n"
WELLS = "Well,Drug,score\nA01,DMSO,1\nA02,x,2\nA03,y,3\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "counts.csv").write_text(COUNTS)
    (tmp_path / "wells.csv").write_text(WELLS)
    return tmp_path


def read(folder, *sources, wells=("wells.csv",), **roles):
    roles = {"scores": ("score",), **roles}
    return read_screen([folder / name for name in sources], [folder / name for name in wells], Roles(**roles))


def said(screen):
    return " | ".join(note.text for note in screen.notes)


def test_every_format_and_orientation_gives_the_same_screen(folder):
    plain = read(folder, "counts.csv")
    frame = pl.read_csv(folder / "counts.csv")
    frame.write_parquet(folder / "counts.parquet")
    frame.write_ipc(folder / "counts.feather")
    frame.transpose(include_header=True, header_name="w", column_names="gene").write_csv(
        folder / "wide.tsv", separator="\t"
    )
    (folder / "packed.txt").write_bytes(gzip.compress(COUNTS.encode(), mtime=0))
    header = "#1.2\n2\t3\nName\tDescription\tA01\tA02\tA03\n"
    (folder / "counts.gct").write_text(header + "CD3\tna\t1\t2\t3\nIL2\tna\t4\t5\t7\n")
    for name in ("counts.parquet", "counts.feather", "wide.tsv", "packed.txt", "counts.gct"):
        screen = read(folder, name)
        np.testing.assert_array_equal(screen.expression, plain.expression, err_msg=name)
        assert screen.gene_names == plain.gene_names, name
        assert screen.wells.equals(plain.wells), name
    pl.read_csv(folder / "wells.csv").write_parquet(folder / "wells.parquet")
    assert read(folder, "counts.csv", wells=("wells.parquet",)).wells.equals(plain.wells)


def test_a_file_that_knows_its_wells_needs_no_table(folder):
    lines = ["#1.3", "1\t3\t0\t2", "id\tA01\tA02\tA03", "pert_iname\tDMSO\tx\ty", "score\t1\t2\t3", "CD3\t4\t5\t6"]
    (folder / "own.gct").write_text("\n".join(lines) + "\n")
    screen = read(folder, "own.gct", wells=())
    assert screen.wells.get_column("compound").to_list() == ["DMSO", "x", "y"]
    assert screen.wells.get_column("well_id").to_list() == ["A01", "A02", "A03"]
    assert screen.wells.get_column("score").to_list() == [1, 2, 3]
    assert screen.wells.columns == [
        "well_id",
        "compound",
        "is_control",
        "row",
        "column",
        "score",
        "pert_iname",
        "set_aside",
    ]
    assert "not used, as --wells is given: pert_iname, score" in said(read(folder, "own.gct"))
    with pytest.raises(UsageError, match="there is nothing about the wells"):
        read(folder, "counts.csv", wells=())


def test_labels_of_several_files_are_whole_words_of_their_names(folder):
    for plate in ("DGE1", "DGE10"):
        (folder / f"{plate}-counts.csv").write_text(COUNTS.replace("5", str(len(plate))))
        (folder / f"{plate}-class.csv").write_text(WELLS)
    sources, wells = ("DGE1-counts.csv", "DGE10-counts.csv"), ("DGE1-class.csv", "DGE10-class.csv")
    screen = read(folder, *sources, wells=wells)
    assert screen.wells.get_column("plate").unique().sort().to_list() == ["DGE1", "DGE10"]
    assert screen.wells.get_column("well_id").to_list()[3] == "DGE10_A01"
    assert screen.wells.get_column("column").to_list() == [1, 2, 3] * 2


def test_missing_expression_is_refused_with_well_and_gene(folder):
    (folder / "counts.csv").write_text(COUNTS.replace(",5,", ",NA,"))
    with pytest.raises(DataError, match="missing or infinite") as error:
        read(folder, "counts.csv")
    assert error.value.found == "well A02, gene IL2: missing"


def test_orientation_where_names_do_not_tell(folder):
    (folder / "square.csv").write_text("x,A01,A02\nA01,1,2\nA02,3,4\n")
    (folder / "two.csv").write_text("Well,Drug,score\nA01,DMSO,1\nA02,x,2\n")
    with pytest.raises(DataError, match="--orientation"):
        read(folder, "square.csv", wells=("two.csv",))
    screen = read(folder, "square.csv", wells=("two.csv",), orientation="genes-by-wells")
    np.testing.assert_array_equal(screen.expression, [[1, 3], [2, 4]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xd0\xcf\x11\xe0rest", "old Excel"),
        (b"PK\x03\x04rest", "zip archive"),
        (gzip.compress(b"X\n\x00\x00", mtime=0), "rds"),
        (gzip.compress(b"RDX3\n", mtime=0), "RData"),
        (b"FEA1rest", "Feather of version 1"),
        (b"\x00\x01\x02", "not a table of text"),
    ],
)
def test_foreign_files_say_what_they_are(folder, content, message):
    (folder / "odd.csv").write_bytes(content)
    for reader in (read_matrix, read_table):
        with pytest.raises(DataError, match=message):
            reader(folder / "odd.csv")


def test_what_is_not_there_or_does_not_fit(folder):
    with pytest.raises(DataError, match="is not there") as error:
        read(folder, "count.csv", wells=("well.csv",))
    assert "count.csv" in str(error.value)
    assert "well.csv" in str(error.value)
    with pytest.raises(UsageError, match="nothing to read"):
        read_screen([], [], Roles())
    with pytest.raises(UsageError, match="there is no such format") as error:
        read_matrix(folder / "counts.csv", "hdf")
    assert all(name in str(error.value) for name in FORMAT_NAMES)
    with pytest.raises(UsageError, match="only h5ad files have layers"):
        read_matrix(folder / "counts.csv", layer="counts")
    with pytest.raises(DataError, match="a wells table is a file"):
        read_table(folder)
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="holds no screen"):
        read_matrix(folder / "empty")


def test_expression_for_a_model_is_named_as_a_screen_names_it(folder):
    (folder / "new.csv").write_text("id,w1,w2\nENSG00000141510.18,1,2\nENSG00000111111.1,3,4\n")
    wells = read_expression(folder / "new.csv", ["ENSG00000141510"])
    assert wells.column_names == ["ENSG00000141510", "ENSG00000111111"]
    assert wells.row_names == ["w1", "w2"]
    np.testing.assert_array_equal(wells.values, [[1, 3], [2, 4]])
    with pytest.raises(DataError, match="cannot tell which side"):
        read_expression(folder / "new.csv", ["TP53"])


def test_the_prepared_screen(real_data):
    folder = real_data / "driad-dge" / "prepared"
    scores = ("interferon", "proliferation", "stress")
    screen = read_screen(
        [folder / "expression.parquet"], [folder / "wells.csv"], Roles(scores=scores, label="stressed")
    )
    stored = pl.read_parquet(folder / "expression.parquet")
    np.testing.assert_array_equal(screen.expression, stored.drop("well_id").to_numpy())
    assert screen.wells.get_column("well_id").to_list() == stored.get_column("well_id").to_list()
    summary = summarise(screen, keep_flagged=True)
    assert (summary.wells, summary.genes, summary.controls) == (681, 2541, {"dmso": 23})
    assert summary.plates == {"dge1": 347, "dge2": 334}
    assert "lipo control (2)" in said(screen)
    classic = read_screen([real_data / "driad-dge" / "classic"], [], Roles())
    np.testing.assert_allclose(classic.expression, screen.expression, atol=5.1e-4)  # stored with five digits
    assert classic.targets.scores == ("proliferation_z", "stress_z", "interferon_z")
    np.testing.assert_allclose(classic.wells["stress_z"], screen.wells["stress"], atol=1e-5)


def test_the_screen_of_two_plates_as_found(real_data):
    folder = real_data / "driad-dge" / "as-found"
    screen = read_screen(
        [folder / "DGE1-counts.csv.gz", folder / "DGE2-counts.csv.gz"],
        [folder / "DGE1-meta.csv", folder / "DGE2-meta.csv"],
        Roles(controls=("DMSO", "Drug control"), targets_follow=True),
    )
    assert screen.expression.shape == (765, 17712)
    summary = summarise(screen, keep_flagged=True)
    assert summary.plates == {"DGE1": 381, "DGE2": 384}
    assert summary.controls == {"DMSO": 12, "Drug control": 11}
    assert screen.expression.sum(axis=1).max() < 549_256
    assert "tofacitinib (12) / Tofacitinib (6)" in said(screen)
    assert screen.wells.filter(pl.col("well_id") == "DGE2_P24").get_column("column").item() == 24
    prepared = pl.read_csv(real_data / "driad-dge" / "prepared" / "wells.csv")
    joined = screen.wells.with_columns(pl.col("well_id").str.to_lowercase().alias("key")).join(
        prepared.with_columns(pl.col("well_id").str.to_lowercase().alias("key")), on="key"
    )
    assert joined.height == 681
    assert (joined["compound"].str.to_lowercase() == joined["compound_right"].str.to_lowercase()).mean() > 0.97


def test_the_plate_with_a_viability(real_data):
    folder = real_data / "macpie-macseq"
    wells = [folder / "PMMSq033_metadata.csv", folder / "PMMSq033_CTG_cellcount.csv"]
    screen = read_screen([folder / "mini_mac_1000"], wells, Roles(scores=("cell_viability",)))
    assert screen.expression.shape == (384, 1000)
    assert screen.wells.get_column("cell_viability").null_count() == 76
    assert "joined to PMMSq033_metadata.csv on column Well_ID" in said(screen)


def test_the_screens_that_know_their_wells(real_data):
    folder = real_data / "l1000-ljp005-ljp009"
    sources = [folder / "LJP005_QNORM_n377x978.gct.gz", folder / "LJP009_QNORM_n371x978.gct"]
    summary = summarise(read_screen(sources, [], Roles(targets_follow=True)))
    assert (summary.wells, summary.genes, summary.compounds) == (748, 978, 117)
    assert summary.controls == {"DMSO": 48}
    assert summary.columns == ("plate", "row", "column", "concentration")


def test_one_table_under_two_names_is_no_second_plate(folder):
    (folder / "P1.csv").write_text(COUNTS)
    (folder / "P2.csv").write_text(COUNTS)
    with pytest.raises(DataError, match="the same, byte for byte") as error:
        read(folder, "P1.csv", "P2.csv", wells=("wells.csv", "wells.csv"))
    assert "P1.csv and " in str(error.value.where)


def test_genes_in_another_case_are_told_to_a_model(folder):
    (folder / "lower.csv").write_text(COUNTS.lower())
    with pytest.raises(DataError, match="cannot tell which side") as error:
        read_expression(folder / "lower.csv", ["CD3", "IL2"])
    assert error.value.hint == "2 of them differ in upper and lower case only: another species' names?"
    assert read_expression(folder / "lower.csv", ["CD3", "IL2"], "genes-by-wells").column_names == ["cd3", "il2"]
