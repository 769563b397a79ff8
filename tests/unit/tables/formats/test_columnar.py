from __future__ import annotations

import importlib.util
import zipfile

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from dpf.errors import DataError, UsageError
from dpf.tables.formats import columnar
from dpf.tables.formats.columnar import (
    read_columnar_matrix,
    read_columnar_table,
    read_xlsx_matrix,
    read_xlsx_table,
    table_from_frame,
)
from dpf.tables.screen import SourceFile


def stored(tmp_path, table, kind):
    path = tmp_path / f"table.{kind}"
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        feather.write_feather(table, path)
    return path


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_golden_against_pyarrow(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(columnar, "_COLUMNS_AT_A_TIME", 3)
    values = np.random.default_rng(0).normal(size=(5, 8))
    columns = {f"g.{at}": values[:, at] for at in range(8)}
    path = stored(tmp_path, pa.table({"well_id": list("abcde"), **columns}), kind)
    matrix = read_columnar_matrix(path)
    np.testing.assert_array_equal(matrix.values, values.astype(np.float32))
    assert matrix.row_names == list("abcde")
    assert matrix.corner == "well_id"
    assert matrix.column_names == list(columns)


def test_types_of_all_kinds(tmp_path):
    table = pa.table(
        {
            "gene": pa.array(["x", "y"]).dictionary_encode(),
            "symbol": ["X", None],
            "int": pa.array([1, None], pa.int8()),
            "big": pa.array([2**63 + 1024, 0], pa.uint64()),
            "decimal": pa.array([1, 2], pa.decimal128(5, 2)),
        }
    )
    matrix = read_columnar_matrix(stored(tmp_path, table, "parquet"))
    assert matrix.row_names == ["x", "y"]
    assert matrix.row_table is not None
    assert matrix.row_table.to_dict(as_series=False) == {"symbol": ["X", ""]}
    assert np.isnan(matrix.values[1, 0])
    assert matrix.values[0, 1] == np.float32(2**63)


def test_the_index_of_pandas_stands_first_wherever_it_is_stored(tmp_path):
    table = pa.table({"g1": [1.0, 2.0], "__index_level_0__": ["w1", "w2"]})
    table = table.replace_schema_metadata({"pandas": '{"index_columns": ["__index_level_0__"]}'})
    path = stored(tmp_path, table, "parquet")
    matrix = read_columnar_matrix(path)
    assert (matrix.row_names, matrix.column_names, matrix.corner) == (["w1", "w2"], ["g1"], None)
    assert read_columnar_table(path).frame.columns == ["row_name", "g1"]


def test_a_column_of_text_among_the_numbers_is_refused(tmp_path):
    path = stored(tmp_path, pa.table({"w": ["a"], "g1": [1.0], "g2": ["x"]}), "parquet")
    with pytest.raises(DataError, match="a column of the table holds no numbers") as error:
        read_columnar_matrix(path)
    assert "column g2" in str(error.value)


@pytest.mark.parametrize("kind", ["parquet", "feather"])
def test_a_cut_file_is_refused(tmp_path, kind):
    path = stored(tmp_path, pa.table({"w": ["a"] * 1000, "g1": np.arange(1000.0)}), kind)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="damaged or cut short"):
        read_columnar_matrix(path)


def test_a_table_reads_as_its_text(tmp_path):
    frame = pl.DataFrame(
        {"well": [1.0, 2.0], "drug": ["x ", None], "score": [0.1, float("nan")], "on": [True, False]},
    )
    frame.write_parquet(tmp_path / "wells.parquet")
    table = read_columnar_table(tmp_path / "wells.parquet")
    assert table.frame.to_dict(as_series=False) == {
        "well": ["1", "2"],
        "drug": ["x ", ""],
        "score": ["0.1", "NaN"],
        "on": ["true", "false"],
    }
    assert table.places[1].endswith("row 2")
    own = table_from_frame(frame, tmp_path / "a.h5ad", SourceFile("a.h5ad", ""))
    assert own.frame.equals(table.frame)


def test_excel_without_its_reader_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    path = tmp_path / "wells.xlsx"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(UsageError, match=r"drugseq-perturbformer\[xlsx\]"):
        read_xlsx_table(path)


def workbook(path, rows, sheets=("Sheet1",)):
    """A workbook by hand: numbers as numbers, text inline, None as no cell, a pair as the type and inside of a cell."""
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    package = "http://schemas.openxmlformats.org/package/2006"
    kinds = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    cells = ""
    for at, row in enumerate(rows, 1):
        cells += f'<row r="{at}">'
        for letter, value in zip("ABCDEFG", row, strict=False):
            if isinstance(value, str):
                cells += f'<c r="{letter}{at}" t="inlineStr"><is><t>{value}</t></is></c>'
            elif isinstance(value, tuple):
                cells += f'<c r="{letter}{at}" t="{value[0]}">{value[1]}</c>'
            elif value is not None:
                cells += f'<c r="{letter}{at}"><v>{value}</v></c>'
        cells += "</row>"
    overrides = "".join(
        f'<Override PartName="/xl/worksheets/sheet{at}.xml" ContentType="{kinds}.worksheet+xml"/>'
        for at in range(1, len(sheets) + 1)
    )
    listing = "".join(f'<sheet name="{name}" sheetId="{at}" r:id="rId{at}"/>' for at, name in enumerate(sheets, 1))
    targets = "".join(
        f'<Relationship Id="rId{at}" Type="{relation}/worksheet" Target="worksheets/sheet{at}.xml"/>'
        for at in range(1, len(sheets) + 1)
    )
    with zipfile.ZipFile(path, "w") as book:
        book.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}/content-types"><Default Extension="rels" ContentType="application/vnd.'
            f'openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="{kinds}'
            f'.sheet.main+xml"/>{overrides}</Types>',
        )
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" '
            f'Type="{relation}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        book.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{relation}"><sheets>{listing}</sheets></workbook>'
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels", f'<Relationships xmlns="{package}/relationships">{targets}</Relationships>'
        )
        for at in range(1, len(sheets) + 1):
            book.writestr(
                f"xl/worksheets/sheet{at}.xml", f'<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>'
            )


def test_excel_as_matrix_and_as_table(tmp_path):
    pytest.importorskip("fastexcel", reason="the extra xlsx is not installed")
    path = tmp_path / "book.xlsx"
    workbook(path, [["gene", "A01", "A02"], ["x", 1.5, 2], ["y", 0.1, None]], sheets=("counts", "notes"))
    matrix = read_xlsx_matrix(path)
    np.testing.assert_array_equal(matrix.values, np.array([[1.5, 2], [0.1, np.nan]], dtype=np.float32))
    assert (matrix.row_names, matrix.column_names) == (["x", "y"], ["A01", "A02"])
    assert "not read: notes" in matrix.notes[0].text
    table = read_xlsx_table(path)
    assert table.frame.to_dict(as_series=False) == {"gene": ["x", "y"], "A01": ["1.5", "0.1"], "A02": ["2", ""]}
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="cannot be read"):
        read_xlsx_table(path)


def test_whole_numbers_under_a_heading_of_names_are_names(tmp_path):
    pl.DataFrame({"sample": [7, 8], "CD3": [1.5, 2.5], "IL2": [3, 4]}).write_parquet(tmp_path / "e.parquet")
    matrix = read_columnar_matrix(tmp_path / "e.parquet")
    assert (matrix.row_names, matrix.column_names, matrix.corner) == (["7", "8"], ["CD3", "IL2"], "sample")


def test_formulas_without_values_and_errors_of_excel_are_told(tmp_path):
    pytest.importorskip("fastexcel", reason="the extra xlsx is not installed")
    formula, known = ("n", "<f>C2/100</f><v/>"), ("n", "<f>C2/100</f><v>0.5</v>")
    rows = [["well", "score"], ["A01", formula], ["A02", known], ["A03", ("e", "<v>#DIV/0!</v>")], ["A04", None]]
    workbook(tmp_path / "w.xlsx", rows)
    table = read_xlsx_table(tmp_path / "w.xlsx")
    assert table.texts("score") == ["", "0.5", "", ""]
    first, second = (note.text for note in table.notes)
    assert "1 formula without a stored value, missing here: B2" in first
    assert "1 error, missing here: B4 (#DIV/0!)" in second


def test_a_hidden_sheet_is_not_the_first(tmp_path):
    pytest.importorskip("fastexcel", reason="the extra xlsx is not installed")
    workbook(tmp_path / "w.xlsx", [["well", "x"], ["A01", 1]], sheets=('old" state="hidden', "wells"))
    assert "is not hidden, wells; not read: old" in read_xlsx_table(tmp_path / "w.xlsx").notes[0].text
