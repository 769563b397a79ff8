"""GCT files written by hand read as they stand, or are refused with the line and the column."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import polars as pl
import pytest

from dpf.errors import DataError
from dpf.tables.formats.gct import GCT, read_gct
from dpf.tables.formats.gctx import GCTX, read_gctx
from dpf.tables.matrix import Matrix

_GCT_13 = (
    "#1.3\n"
    "3\t2\t2\t4\n"
    "id\tpr_gene_symbol\tpr_gene_id\tX1:A03\tX1:A04\n"
    "pert_iname\tna\tna\tDMSO\tβ-ionone\n"
    "pert_dose\tna\tna\t-666\t10\n"
    "pert_code\tna\tna\t007\t-666\n"
    "well\tna\tna\tA03\t\n"
    "200814_at\tPSME1\t5720\t11.3819\t11.25\n"
    '218597_s_at\tCISD1 "a"\t-666\t-3\t1e-3\n'
    "217140_s_at\t-666.000\t7416\tNaN\t-666\n"
)
_GCT_12 = "#1.2\n2\t3\nName\tDescription\tA01\tA02\tA03\nENSG1\tTP53\t1\t2\t3\nENSG2\tna\t4\t\t16777217\n"
_VALUES_13 = np.array([[11.3819, 11.25], [-3, 1e-3], [np.nan, -666]], dtype=np.float32)


@pytest.fixture
def gct(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(text: str | bytes) -> Path:
        path = tmp_path / "screen.gct"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def _check_13(matrix: Matrix) -> None:
    np.testing.assert_array_equal(matrix.values, _VALUES_13)
    assert matrix.values.T.flags.c_contiguous
    assert (matrix.row_names, matrix.column_names) == (
        ["200814_at", "218597_s_at", "217140_s_at"],
        ["X1:A03", "X1:A04"],
    )
    assert matrix.row_table is not None
    assert matrix.column_table is not None
    assert matrix.row_table.cast({"pr_gene_id": pl.Int64}).to_dict(as_series=False) == {
        "pr_gene_symbol": ["PSME1", 'CISD1 "a"', None],
        "pr_gene_id": [5720, None, 7416],
    }
    assert matrix.column_table.cast({"pert_dose": pl.Float64}).to_dict(as_series=False) == {
        "pert_iname": ["DMSO", "β-ionone"],
        "pert_dose": [None, 10],
        "pert_code": ["007", None],
        "well": ["A03", None],
    }
    assert matrix.orientation == "genes-by-wells"
    assert [note.text for note in matrix.notes] == [
        f"{Path(matrix.path).name}: 4 metadata values of -666 were read as missing"
    ]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.encode(),
        lambda text: gzip.compress(text.encode()),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.rstrip("\n").encode(),
        lambda text: (text + "\n\n").encode(),
        lambda text: text.replace("#1.3", "#1.3\t\t\t\t").replace("2\t4\n", "2\t4\t\t\n").encode(),
    ],
)
def test_gct_13(gct: Callable[[str | bytes], Path], change: Callable[[str], bytes]) -> None:
    _check_13(read_gct(gct(change(_GCT_13))))


def test_gct_12(gct: Callable[[str | bytes], Path]) -> None:
    matrix = read_gct(gct(_GCT_12))
    np.testing.assert_array_equal(matrix.values, np.float32([[1, 2, 3], [4, np.nan, 16_777_216]]))
    assert matrix.row_table is not None
    assert matrix.row_table.to_dict(as_series=False) == {"Description": ["TP53", "na"]}
    assert matrix.column_table is None
    assert [note.text[:8] for note in matrix.notes] == ["1 values"]


def test_latin_1_is_noted_once(gct: Callable[[str | bytes], Path]) -> None:
    text = _GCT_13.replace("β-ionone", "dé").replace("PSME1", "é").replace("CISD1", "è")
    matrix = read_gct(gct(text.encode("latin-1")))
    assert matrix.column_table is not None
    assert matrix.column_table["pert_iname"][1] == "dé"
    assert [note.severity for note in matrix.notes] == ["warning", "info"]


def test_blocks_end_with_lines(gct: Callable[[str | bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpf.tables.formats.gct._BLOCK_BYTES", 7)
    _check_13(read_gct(gct(_GCT_13)))


@pytest.mark.parametrize(
    ("old", "new", "what", "where"),
    [
        ("#1.3", "#1.4", "version 1.2 or 1.3", "line 1"),
        ("3\t2\t2\t4", "3\t2\t2", "size line", "line 2"),
        ("3\t2\t2\t4", "3\t2\t2\tfour", "size line", "line 2"),
        ("3\t2\t2\t4", "3\t3\t2\t4", "another number of columns", "line 3"),
        ("3\t2\t2\t4", "3\t2\t2\t5", "another number of rows", "screen.gct"),
        ("3\t2\t2\t4", "4\t2\t2\t4", "another number of rows", "screen.gct"),
        ("3\t2\t2\t4", "2\t2\t2\t4", "another number of rows", "screen.gct"),
        ("\tA03\t\n", "\tA03\n", "another number of columns", "line 7"),
        ("pert_dose", "pert_iname", "names a metadata field twice", "lines 4 to 7"),
        ("id\tpr_gene_symbol", "id\tpr_gene_id", "names a metadata field twice", "line 3"),
        ("-3\t1e-3", "-3", "another number of columns", "line 9 (218597_s_at)"),
        ("-3\t1e-3", "-3\t0,001", "no number", "line 9 (218597_s_at), column X1:A04"),
        ("-3\t1e-3", "-3\tlow", "no number", "line 9 (218597_s_at), column X1:A04"),
    ],
)
def test_wrong_files_are_refused(gct: Callable[[str | bytes], Path], old: str, new: str, what: str, where: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        read_gct(gct(_GCT_13.replace(old, new, 1)))
    assert str(caught.value.where).endswith(where)


def test_decimal_commas_are_named(gct: Callable[[str | bytes], Path]) -> None:
    with pytest.raises(DataError, match="decimal points, not commas"):
        read_gct(gct(_GCT_13.replace("11.25", "11,25")))


def test_truncated_gzip(gct: Callable[[str | bytes], Path]) -> None:
    with pytest.raises(DataError, match="ends early or is damaged"):
        read_gct(gct(gzip.compress(_GCT_13.encode())[:-10]))


@pytest.fixture
def gctx(tmp_path: Path) -> Path:
    path = tmp_path / "screen.gctx"
    with h5py.File(path, "w") as file:
        file.attrs["version"] = "GCTX1.0"
        file["0/DATA/0/matrix"] = _VALUES_13.T
        file["0/META/ROW/id"] = np.array(["200814_at", "218597_s_at ", "217140_s_at"], dtype="S16")
        file["0/META/ROW/pr_gene_symbol"] = ["PSME1", 'CISD1 "a"', "-666"]
        file["0/META/ROW/pr_gene_id"] = [5720, -666, 7416]
        file["0/META/COL/id"] = ["X1:A03", "X1:A04"]
        file["0/META/COL/pert_iname"] = ["DMSO", "β-ionone"]
        file["0/META/COL/pert_dose"] = [-666.0, 10.0]
        file["0/META/COL/pert_code"] = ["007", "-666"]
        file["0/META/COL/well"] = ["A03", ""]
    return path


def test_gctx_reads_as_its_gct(gctx: Path) -> None:
    matrix = read_gctx(gctx)
    assert matrix.row_table is not None
    assert matrix.column_table is not None
    order = ["pert_iname", "pert_dose", "pert_code", "well"]
    _check_13(
        Matrix(
            **{
                **vars(matrix),
                "row_table": matrix.row_table.select("pr_gene_symbol", "pr_gene_id"),
                "column_table": matrix.column_table.select(order),
            }
        )
    )


def test_wrong_gctx_is_refused(gctx: Path) -> None:
    with h5py.File(gctx, "a") as file:
        file["0/META/COL/short"] = [1]
    with pytest.raises(DataError, match="no column as long as its matrix") as caught:
        read_gctx(gctx)
    assert str(caught.value.where).endswith("/0/META/COL/short")
    with h5py.File(gctx, "a") as file:
        del file["0/META/ROW"]
    with pytest.raises(DataError, match="no 0/META/ROW/id"):
        read_gctx(gctx)


def test_recognised_by_content(gct: Callable[[str | bytes], Path], gctx: Path) -> None:
    assert GCT.recognises(gct(_GCT_12), b"#1.2\n2\t3")
    assert GCT.recognises(gct(_GCT_12), b"\xef\xbb\xbf#1.3\t\t\n")
    assert not GCT.recognises(gct(_GCT_12), b"# 1.2 is a comment")
    assert GCTX.recognises(gctx, gctx.read_bytes()[:64])
    assert not GCTX.recognises(gct(_GCT_12), b"#1.2\n2\t3")
    renamed = gctx.rename(gctx.with_suffix(".h5"))
    assert GCTX.recognises(renamed, renamed.read_bytes()[:64])


@pytest.mark.parametrize(
    ("plate", "wells", "missing", "controls"), [("LJP005", 377, 1755, 26), ("LJP009", 371, 934, 22)]
)
def test_l1000(real_data: Path, plate: str, wells: int, missing: int, controls: int) -> None:
    path = real_data / "l1000-ljp005-ljp009" / f"{plate}_QNORM_n{wells}x978.gct.gz"
    matrix = read_gct(path)
    assert matrix.values.shape == (978, wells)
    assert np.isfinite(matrix.values).all()
    assert matrix.notes[0].text == f"{path.name}: {missing:,} metadata values of -666 were read as missing"
    assert matrix.column_table is not None
    assert matrix.column_table["pert_dose"].cast(pl.Float64).max() == 10
    text = gzip.decompress(path.read_bytes()).decode().split("\n")
    last = text[-2].split("\t")
    assert matrix.row_names is not None
    assert matrix.row_names[-1] == last[0]
    np.testing.assert_array_equal(matrix.values[-1], np.float32(last[12:]))
    assert (matrix.column_table["pert_iname"] == "DMSO").sum() == controls


def test_metadata_that_look_like_numbers_stay_names(tmp_path: Path) -> None:
    ids = ["12E3", "12000", "5E0", "5", "10000000000000000001", "10000000000000000002"]
    plates = ["7E400", "8E400", "1E2", "100", "007", "7"]
    lines = ["#1.3", "1\t6\t0\t2", "id\t" + "\t".join(f"w{at}" for at in range(6))]
    lines += ["compound\t" + "\t".join(ids), "plate\t" + "\t".join(plates), "CD3\t1\t2\t3\t4\t5\t6", ""]
    (tmp_path / "s.gct").write_text("\n".join(lines))
    table = read_gct(tmp_path / "s.gct").column_table
    assert table is not None
    assert table["compound"].to_list() == ids
    assert table["plate"].to_list() == plates


@pytest.mark.parametrize("text", [_GCT_12, _GCT_13])
def test_tabs_that_a_spreadsheet_adds_are_no_cells(gct: Callable[[str | bytes], Path], text: str) -> None:
    plain = read_gct(gct(text))
    for tabs in ("\t", "\t\t\t\r"):
        padded = read_gct(gct("".join(f"{line}{tabs}\n" for line in (*text.splitlines(), ""))))
        np.testing.assert_array_equal(padded.values, plain.values)
        assert (padded.row_names, padded.column_names) == (plain.row_names, plain.column_names)


def test_a_line_with_one_cell_too_many_is_refused(gct: Callable[[str | bytes], Path]) -> None:
    with pytest.raises(DataError, match="another number of columns") as error:
        read_gct(gct(_GCT_12.replace("ENSG1\tTP53\t1\t2\t3", "ENSG1\tTP53\t1\t2\t3\t\t9")))
    assert error.value.hint is None


@pytest.mark.parametrize("missing", ["#N/A", "NA", "n/a", "null", "None", "NaN"])
def test_what_is_missing_in_a_csv_is_missing_in_a_gct(gct: Callable[[str | bytes], Path], missing: str) -> None:
    assert np.isnan(read_gct(gct(_GCT_12.replace("\t2\t3\n", f"\t{missing}\t3\n"))).values[0, 1])


@pytest.mark.parametrize("first", ["#1.1", "#1.2,,,,", "#1.0\t\t"])
def test_other_versions_are_recognised_and_refused(gct: Callable[[str | bytes], Path], first: str) -> None:
    path = gct(_GCT_12.replace("#1.2", first))
    assert GCT.recognises(path, path.read_bytes())
    with pytest.raises(DataError, match=r"not a GCT file of version 1\.2 or 1\.3"):
        read_gct(path)
