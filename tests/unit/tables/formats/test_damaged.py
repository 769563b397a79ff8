"""Damaged binary files: refused by name before any arithmetic, never followed out of the file, never a crash."""

from __future__ import annotations

import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse

from dpf.errors import DataError
from dpf.tables.formats.columnar import read_columnar_matrix, read_columnar_table, read_xlsx_table
from dpf.tables.formats.gct import read_gct
from dpf.tables.formats.gctx import read_gctx
from dpf.tables.formats.h5ad import read_h5ad
from dpf.tables.formats.mtx import read_mtx
from tests.fuzz.damage import damage_bytes
from tests.fuzz.screens import write_screens, write_workbook


@pytest.fixture(scope="module")
def screens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("screens")
    write_screens(folder)
    return folder


def _h5ad(path: Path, x: Any) -> Path:
    names = [f"n{at}" for at in range(12)]
    obs, var = pd.DataFrame(index=names[: x.shape[0]]), pd.DataFrame(index=names[: x.shape[1]])
    anndata.AnnData(X=x, obs=obs, var=var).write_h5ad(path)
    return path


@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.csc_matrix])
@pytest.mark.parametrize(
    ("part", "at", "value"),
    [("indices", 0, 12), ("indices", 3, 2**30), ("indices", -1, -1), ("indptr", 2, 7), ("indptr", 0, 1),
     ("indptr", -1, 10), ("indptr", 1, -3)],
)  # fmt: skip
def test_an_index_that_leads_out_of_a_sparse_matrix_is_refused(tmp_path, kind, part, at, value):
    path = _h5ad(tmp_path / "screen.h5ad", kind(np.eye(12, dtype=np.float32)))
    with h5py.File(path, "r+") as file:
        file[f"X/{part}"][at] = value
    with pytest.raises(DataError, match="a sparse matrix is damaged") as caught:
        read_h5ad(path)
    assert caught.value.where == f"{path}, /X"


@pytest.mark.parametrize("kind", [scipy.sparse.csr_matrix, scipy.sparse.csc_matrix])
def test_a_sparse_matrix_in_blocks_is_the_matrix(tmp_path, kind, monkeypatch):
    x = np.round(np.random.default_rng(1).random((12, 7)), 3).astype(np.float32)
    x[x < 0.6] = 0
    path = _h5ad(tmp_path / "screen.h5ad", kind(x))
    monkeypatch.setattr("dpf.tables.formats.h5ad._BLOCK_CELLS", 20)
    np.testing.assert_array_equal(read_h5ad(path).values, x)


def _outside(file: h5py.File, name: str, kind: str, other: str) -> None:
    del file[name]
    if kind == "link":
        file[name] = h5py.ExternalLink(other, "/x")
    elif kind == "stored":
        file.create_dataset(name, (28, 20), "f4", external=[(other, 0, 28 * 20 * 4)])
    else:
        layout = h5py.VirtualLayout((28, 20), "f4")
        layout[:] = h5py.VirtualSource(other, "x", (28, 20))
        file.create_virtual_dataset(name, layout)


@pytest.mark.parametrize("kind", ["link", "stored", "virtual"])
@pytest.mark.parametrize("other", ["other.h5", r"\\host\share\other.h5", "/etc/passwd"])
@pytest.mark.parametrize(
    ("format_name", "name"), [("dense.h5ad", "X"), ("dense.h5ad", "obs"), ("e.gctx", "0/META/ROW")]
)
def test_nothing_leads_out_of_an_hdf5_file(screens, tmp_path, kind, other, format_name, name):
    path, read = tmp_path / format_name, read_gctx if format_name == "e.gctx" else read_h5ad
    path.write_bytes((screens / format_name).read_bytes())
    with h5py.File(path, "r+") as file:
        _outside(file, name, kind, other)
    with pytest.raises(DataError, match="lies in another file, which is not read") as caught:
        read(path)
    assert caught.value.where == f"{path}, {name}"
    assert other in str(caught.value.found)


def _group(file: h5py.File, name: str) -> None:
    file.create_group(name)["a"] = 1


def _huge(file: h5py.File, name: str) -> None:
    file.create_dataset(name, (10**10, 20), "f4", chunks=(1000, 20))


def _complex(file: h5py.File, name: str) -> None:
    file[name] = np.ones((28, 20), complex)


def _scalar(file: h5py.File, name: str) -> None:
    file[name] = 3.0


@pytest.mark.parametrize("wrong", [_group, _huge, _complex, _scalar])
@pytest.mark.parametrize(
    ("format_name", "read", "name"), [("dense.h5ad", read_h5ad, "X"), ("e.gctx", read_gctx, "0/DATA/0/matrix")]
)
def test_what_stands_for_the_matrix_is_no_matrix(screens, tmp_path, wrong, format_name, read, name):
    path = tmp_path / format_name
    path.write_bytes((screens / format_name).read_bytes())
    with h5py.File(path, "r+") as file:
        del file[name]
        wrong(file, name)
    with pytest.raises(DataError, match="not a table of numbers") as caught:
        read(path)
    assert str(path) in caught.value.where
    assert name in caught.value.where
    assert caught.value.hint


@pytest.mark.parametrize("gone", ["X/data", "X/indptr", "obs/viability", "var/_index", "obs/compound/categories"])
def test_a_part_of_an_h5ad_file_is_missing(screens, tmp_path, gone):
    path = tmp_path / "csr.h5ad"
    path.write_bytes((screens / path.name).read_bytes())
    with h5py.File(path, "r+") as file:
        del file[gone]
    with pytest.raises(DataError, match="cannot read an HDF5 file") as caught:
        read_h5ad(path)
    assert caught.value.where == str(path)


READ_ALL = """
import sys
from pathlib import Path
from dpf.errors import DpfError
from dpf.tables.formats.columnar import read_columnar_matrix, read_columnar_table
for path in sorted(Path(sys.argv[1]).iterdir()):
    for read in (read_columnar_matrix, read_columnar_table):
        try:
            read(path)
        except (DpfError, MemoryError):
            pass
"""


@pytest.mark.parametrize("name", ["plain.feather", "lz4.feather", "w.feather"])
def test_a_damaged_feather_file_never_ends_the_process(screens, tmp_path, name):
    for number in range(150):
        (tmp_path / f"{number}.feather").write_bytes((screens / name).read_bytes())
        damage_bytes(tmp_path / f"{number}.feather", random.Random(number))
    ran = subprocess.run([sys.executable, "-c", READ_ALL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "panicked" not in ran.stderr


@pytest.mark.parametrize("text", ["[]", "{", "[" * 5000 + "]" * 5000, '{"a": ' + "9" * 5000 + "}"])
@pytest.mark.parametrize("read", [read_columnar_matrix, read_columnar_table])
def test_what_pandas_is_said_to_have_stored_is_no_such_thing(tmp_path, text, read):
    table = pa.table({"well": ["A", "B"], "x": [1.0, 2.0]}).replace_schema_metadata({"pandas": text})
    pq.write_table(table, path := tmp_path / "a.parquet")
    with pytest.raises(DataError, match="damaged or cut short") as caught:
        read(path)
    assert caught.value.where == str(path)


def test_text_that_is_no_utf_8_is_refused_where_columns_are_text(tmp_path):
    wrong = pa.StringArray.from_buffers(2, pa.py_buffer(np.array([0, 1, 2], np.int32)), pa.py_buffer(b"\xff\xfe"))
    pq.write_table(pa.table({"well": wrong, "x": [1.0, 2.0]}), path := tmp_path / "a.parquet")
    with pytest.raises(DataError, match="damaged or cut short"):
        read_columnar_table(path)


@pytest.mark.parametrize("cell", ["XFD1048576", "A99999999999", "ZZZZZZZZ1"])
def test_a_cell_at_the_far_corner_of_a_sheet(tmp_path, cell):
    pytest.importorskip("fastexcel", reason="the extra xlsx is not installed")
    path = tmp_path / "wells.xlsx"
    write_workbook(path, [["well", "dose"], ["A01", 1.5]], f'<row><c r="{cell}"><v>1</v></c></row>')
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_xlsx_table(path)
    assert "cells up to row" in caught.value.found
    assert caught.value.where == str(path)


def test_a_far_row_and_a_far_column_make_a_far_corner(tmp_path):
    pytest.importorskip("fastexcel", reason="the extra xlsx is not installed")
    far = '<row r="1048576"><c><v>1</v></c></row>'
    write_workbook(path := tmp_path / "wells.xlsx", [["well"], ["A01"]], f"<row><c r='XFD3'><v>1</v></c></row>{far}")
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_xlsx_table(path)
    assert "row 1,048,576 and column 16,384" in caught.value.found


def test_a_part_of_a_workbook_that_unpacks_to_far_more(tmp_path, monkeypatch):
    pytest.importorskip("fastexcel", reason="the extra xlsx is not installed")
    monkeypatch.setattr("dpf.tables.formats.columnar.UNPACKED_AT_LEAST", 1 << 20)
    write_workbook(path := tmp_path / "wells.xlsx", [["well", " " * 2_000_000], ["A01", 1]])
    with pytest.raises(DataError, match="cannot be read") as caught:
        read_xlsx_table(path)
    assert "sheet1.xml unpacks to 2," in caught.value.found


def test_a_workbook_that_lies_about_its_parts(tmp_path):
    pytest.importorskip("fastexcel", reason="the extra xlsx is not installed")
    with zipfile.ZipFile(path := tmp_path / "wells.xlsx", "w") as book:
        book.writestr("xl/worksheets/sheet1.xml", "<worksheet>")
    with pytest.raises(DataError, match="cannot be read"):
        read_xlsx_table(path)


def test_sizes_that_a_file_cannot_hold_are_refused_before_memory_is_asked_for(screens, tmp_path, monkeypatch):
    def no_array(*_args: object, **_kwargs: object) -> None:
        pytest.fail("memory was asked for")

    (path := tmp_path / "e.gct").write_text("#1.2\n9999999999\t2\nName\tDescription\tA\tB\nx\tna\t1\t2\n")
    monkeypatch.setattr(np, "empty", no_array)
    with pytest.raises(DataError, match="another number of rows than it says") as caught:
        read_gct(path)
    assert "9,999,999,999 rows" in caught.value.expected
    for name in ("barcodes.tsv", "features.tsv"):
        (tmp_path / name).write_text("".join(f"n{at}\n" for at in range(100_000)))
    (tmp_path / "matrix.mtx").write_text(
        "%%MatrixMarket matrix coordinate integer general\n100000 100000 9999999999\n1 1 1\n"
    )
    with pytest.raises(DataError, match="another number of entries than it says"):
        read_mtx(tmp_path, "genes-by-wells")


def test_undamaged_files_are_read(screens):
    reads: dict[str, Callable[[Path], object]] = {
        "e.parquet": read_columnar_matrix, "plain.feather": read_columnar_matrix, "w.feather": read_columnar_table,
        "dense.h5ad": read_h5ad, "csr.h5ad": read_h5ad, "csc.h5ad": read_h5ad, "e.gctx": read_gctx, "e.gct": read_gct,
    }  # fmt: skip
    for name, read in reads.items():
        read(screens / name)
    both = [read_h5ad(screens / f"{kind}.h5ad").values for kind in ("dense", "csr", "csc")]
    assert (both[0] == both[1]).all()
    assert (both[0] == both[2]).all()
    assert isinstance(read_h5ad(screens / "csr.h5ad").row_table, pl.DataFrame)
