"""An AnnData file reads as anndata reads it, or is refused with what there is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse

from dpf.errors import DataError, UsageError
from dpf.tables.formats import h5ad as formats_h5ad
from dpf.tables.formats import hdf5
from dpf.tables.formats.h5ad import H5AD, read_h5ad

_OBS = pd.DataFrame(
    {
        "compound": pd.Categorical(["DMSO", "β-ionone", None]),
        "dose": [np.nan, 0.1, 10.0],
        "column": [1, 2, 3],
        "control": [True, False, False],
        "note": ["a", "", None],
    },
    index=["A01", "A02", "A03"],
)
_VAR = pd.DataFrame({"gene_ids": ["ENSG1", "ENSG2", "ENSG3", "ENSG4"]}, index=["TP53", "TP53", "MT-CO1", "x"])
_X = np.array([[0, 1, 0, 3], [4, 0, 0, 0], [0, 0, 2.5, 16_777_217]])


def _write(path: Path, x: object, **parts: object) -> Path:
    with pytest.warns(UserWarning, match="not unique"):
        data = anndata.AnnData(X=x, obs=_OBS, var=_VAR, **parts)
    data.write_h5ad(path)
    return path


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_matrix, scipy.sparse.csc_matrix, scipy.sparse.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize("block", [1, 1 << 23])
def test_round_trip_against_anndata(
    tmp_path: Path, kind: type, dtype: type, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats_h5ad, "_BLOCK_CELLS", block)
    monkeypatch.setattr(hdf5, "_BLOCK_CELLS", block)
    path = _write(tmp_path / "screen.h5ad", kind(_X.astype(dtype)))
    matrix = read_h5ad(path)
    np.testing.assert_array_equal(matrix.values, _X.astype(dtype).astype(np.float32))
    assert (matrix.row_names, matrix.column_names) == (["A01", "A02", "A03"], ["TP53", "TP53", "MT-CO1", "x"])
    assert [note.text[:8] for note in matrix.notes] == ([] if dtype is np.float32 else ["1 values"])
    assert matrix.orientation == "wells-by-genes"


def test_obs_and_var(tmp_path: Path) -> None:
    matrix = read_h5ad(_write(tmp_path / "screen.h5ad", _X.astype(np.float32)))
    assert matrix.row_table is not None
    assert matrix.column_table is not None
    assert matrix.row_table.to_dict(as_series=False) == {
        "compound": ["DMSO", "β-ionone", None],
        "dose": [None, 0.1, 10.0],
        "column": [1, 2, 3],
        "control": [True, False, False],
        "note": ["a", "", None],
    }
    assert matrix.row_table["compound"].dtype == pl.String
    assert matrix.column_table["gene_ids"].to_list() == ["ENSG1", "ENSG2", "ENSG3", "ENSG4"]


def test_named_layer_and_raw(tmp_path: Path) -> None:
    x = _X.astype(np.float32)
    path = _write(tmp_path / "screen.h5ad", x, layers={"counts": scipy.sparse.csr_matrix(2 * x)})
    np.testing.assert_array_equal(read_h5ad(path, "counts").values, 2 * x)
    data = anndata.AnnData(X=x, obs=_OBS, var=_VAR.set_axis(list("abcd")))
    data.raw = data
    data[:, ["a", "c"]].copy().write_h5ad(path)
    assert read_h5ad(path).values.shape == (3, 2)
    raw = read_h5ad(path, "raw")
    np.testing.assert_array_equal(raw.values, x)
    assert raw.column_names == list("abcd")


def test_absent_layer_lists_those_there_are(tmp_path: Path) -> None:
    x = _X.astype(np.float32)
    path = _write(tmp_path / "screen.h5ad", x, layers={"counts": x, "vst": x})
    with pytest.raises(DataError) as caught:
        read_h5ad(path, "count")
    assert "no layer 'count'" in str(caught.value)
    assert caught.value.found == "layers counts, vst"
    with pytest.raises(DataError, match="no X") as caught:
        read_h5ad(_write(tmp_path / "no_x.h5ad", None, layers={"counts": x}))
    assert caught.value.found == "layers counts"


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = _write(tmp_path / "screen.h5ad", _X.astype(np.float32))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot read an HDF5 file"):
        read_h5ad(path)
    path.write_text("gene,A01\n")
    with pytest.raises(DataError, match="cannot read an HDF5 file"):
        read_h5ad(path)
    with pytest.raises(DataError, match="cannot read an HDF5 file"):
        read_h5ad(tmp_path / "absent.h5ad")
    with h5py.File(path, "w") as file:
        file["matrix"] = [1, 2]
    with pytest.raises(DataError, match="not an AnnData file") as caught:
        read_h5ad(path)
    assert caught.value.found == "an HDF5 file with matrix"


def test_text_instead_of_numbers(tmp_path: Path) -> None:
    path = _write(tmp_path / "screen.h5ad", _X.astype(np.float32))
    with h5py.File(path, "a") as file:
        del file["X"]
        file["X"] = [b"a", b"b"]
    with pytest.raises(DataError, match="not a table of numbers"):
        read_h5ad(path)


def test_missing_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "screen.h5ad", _X.astype(np.float32))
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "anndata" else real(name))
    with pytest.raises(UsageError, match=r"drugseq-perturbformer\[h5ad\]"):
        read_h5ad(path)
    assert H5AD.recognises(path, path.read_bytes()[:64])


def test_recognised_by_content(tmp_path: Path) -> None:
    path = _write(tmp_path / "screen.h5ad", _X.astype(np.float32))
    other = path.rename(tmp_path / "screen.hdf5")
    assert H5AD.recognises(other, other.read_bytes()[:64])
    assert not H5AD.recognises(tmp_path / "screen.csv", b"gene,A01")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["matrix"] = [1]
    assert not H5AD.recognises(tmp_path / "other.h5", (tmp_path / "other.h5").read_bytes()[:64])
