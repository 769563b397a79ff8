from __future__ import annotations

import gzip
import shutil

import numpy as np
import pytest

from dpf.errors import DataError, UsageError
from dpf.tables.options import Roles
from tests.support.reading import read_screen


def vector(values, quoted=True):
    mark = '"' if quoted else ""
    return '"x"\n' + "".join(f"{mark}{value}{mark}\n" for value in values)


@pytest.fixture
def folder(tmp_path):
    """Six wells, four genes, as R writes them."""
    files = {
        "expr_mat.csv": '"CD3","IL2","TNF","GZMB"\n' + "".join(f"{i},{i * 2},{i % 2}.5,-{i}e-1\n" for i in range(6)),
        "scores_3_z.csv": '"pseudotime_z","cyto_z","T_z"\n' + "".join(f"{i}.5,{-i},{i % 3}\n" for i in range(6)),
        "labels_cls.csv": vector([0, 1, 0, 1, 1, 0], quoted=False),
        "meta_id.csv": vector(["DMSO", "2,6-Diamino", "β-Estradiol", "2,6-Diamino", "β-Estradiol", "DMSO"]),
        "well_id.csv": vector([f"tc1_A1_A{i}" for i in range(1, 4)] + [f"tc1_A1_B{i}" for i in range(1, 4)]),
        "activation_score_old.csv": vector([0.5, "NA", 2, 3, 4, 5], quoted=False),
        "cluster_id.csv": vector(["C1", "C2", "C1", "C2", "C1", "C1"]),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def read(folder, **roles):
    return read_screen([folder], [], Roles(**roles))


def test_everything_has_its_place(folder):
    screen = read(folder)
    assert screen.expression.dtype == np.float32
    np.testing.assert_array_equal(screen.expression[2], np.array([2, 4, 0.5, -0.2], dtype=np.float32))
    assert screen.gene_names == ["CD3", "IL2", "TNF", "GZMB"]
    assert screen.targets.scores == ("pseudotime_z", "cyto_z", "T_z")
    assert (screen.targets.label, screen.targets.activation) == ("label", "activation_score")
    assert screen.wells.get_column("activation_score").to_list() == [0.5, None, 2, 3, 4, 5]
    assert screen.wells.get_column("is_control").to_list() == [True, False, False, False, False, True]
    assert screen.wells.columns[:7] == ["well_id", "compound", "is_control", "plate", "row", "column", "cluster"]
    assert screen.wells.row(1, named=True)["plate"] == "tc1_A1"
    assert len(screen.sources) == 7


def test_scores_are_taken_by_name_in_whatever_order(folder):
    (folder / "scores_3_z.csv").write_text('"T_z","other"\n' + "".join(f"{i % 3},{i}\n" for i in range(6)))
    assert read(folder).targets.scores == ("T_z", "other")
    assert read(folder, scores=("other",)).targets.scores == ("other",)


def test_the_index_column_of_r_may_stand_in_any_file(folder):
    plain = read(folder)
    for path in folder.glob("*.csv"):
        first, *lines = path.read_text().splitlines()
        path.write_text("\n".join([f'"",{first}', *(f'"{at}",{line}' for at, line in enumerate(lines, 1))]) + "\n")
    indexed = read(folder)
    np.testing.assert_array_equal(indexed.expression, plain.expression)
    assert indexed.wells.equals(plain.wells)
    assert "not used" in " ".join(note.text for note in indexed.notes)


def test_packed_files_and_the_odd_name(folder):
    plain = read(folder)
    (folder / "activation_score_old.csv").rename(folder / "e.activation_score_old.csv")
    path = folder / "expr_mat.csv"
    (folder / "expr_mat.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    screen = read(folder)
    np.testing.assert_array_equal(screen.expression, plain.expression)
    assert "e.activation_score_old.csv was read as activation_score_old.csv" in [note.text for note in screen.notes]


def test_optional_files_may_be_missing_and_required_ones_not(folder):
    for name in ("activation_score_old.csv", "cluster_id.csv", "labels_cls.csv"):
        (folder / name).unlink()
    screen = read(folder)
    assert (screen.targets.label, screen.targets.activation) == (None, None)
    (folder / "meta_id.csv").unlink()
    (folder / "well_id.csv").unlink()
    with pytest.raises(DataError, match=r"no meta_id.csv, well_id.csv"):
        read(folder)


def test_files_of_different_lengths_are_both_named_with_their_counts(folder):
    (folder / "meta_id.csv").write_text(vector(["DMSO"] * 5))
    with pytest.raises(DataError, match="differ in their number of rows") as error:
        read(folder)
    text = str(error.value)
    assert "meta_id.csv" in text
    assert "5 rows" in text
    assert "6, as in" in text
    assert "expr_mat.csv" in text


def test_a_missing_line_of_headings_is_suspected(folder):
    (folder / "labels_cls.csv").write_text("0\n1\n0\n1\n1\n0\n")
    with pytest.raises(DataError, match="the line of headings is missing"):
        read(folder)


def test_wells_in_another_order_are_refused(folder):
    ids = (folder / "well_id.csv").read_text().split()[1:]
    first, *lines = (folder / "expr_mat.csv").read_text().splitlines()
    shuffled = [f"{name},{line}" for name, line in zip([ids[1], ids[0], *ids[2:]], lines, strict=True)]
    (folder / "expr_mat.csv").write_text("\n".join([f'"",{first}', *shuffled]) + "\n")
    with pytest.raises(DataError, match="different orders") as error:
        read(folder)
    assert "row 1" in str(error.value)


def test_other_refusals(folder):
    with pytest.raises(UsageError, match="has its own wells"):
        read_screen([folder], [folder / "meta_id.csv"], Roles())
    with pytest.raises(UsageError, match="is read alone"):
        read_screen([folder, folder], [], Roles())
    (folder / "well_id.csv").write_text(vector(["A01", "A02", "A01", "A03", "A04", "A05"]))
    with pytest.raises(DataError, match="a well id is there more than once"):
        read(folder)
    (folder / "meta_id.csv").write_text('"x","y"\n' + '"a","b"\n' * 6)
    with pytest.raises(DataError, match="too many columns"):
        read(folder)


def test_the_public_metadata_of_this_layout(real_data, tmp_path):
    for path in (real_data / "classic-metadata").iterdir():
        shutil.copy(path, tmp_path / path.name)
    values = np.random.default_rng(0).normal(size=(768, 12)).astype(np.float32)
    lines = [",".join(f'"G{at}"' for at in range(12)), *(",".join(map(str, row)) for row in values)]
    (tmp_path / "expr_mat.csv").write_text("\n".join(lines) + "\n")
    screen = read(tmp_path)
    np.testing.assert_array_equal(screen.expression, values)
    assert screen.targets.scores == ("pseudotime_z", "cytoscore_z", "Tscore_z")
    assert screen.wells.filter("is_control").get_column("column").unique().sort().to_list() == [1, 12]
    assert screen.wells.get_column("compound").n_unique() == 365
    total = screen.wells.select("pseudotime_z", "cytoscore_z", "Tscore_z").sum_horizontal()
    np.testing.assert_allclose(total, screen.wells.get_column("activation_score"), rtol=0, atol=1e-9)
