"""Any table is read packed or not, from a file or a pipe; what cannot be read says what to do."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
import threading
from functools import partial
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest

from dpf.errors import DataError
from dpf.files import copied, regular_file, sha256_file
from dpf.tables.formats.reading import layers_of_counts, read_matrix, read_table
from dpf.tables.importing import read_screen
from dpf.tables.options import Method, PrepareOptions, Roles
from dpf.tables.preparing.options import Preparation, read_preparation
from dpf.tables.preparing.prepare import prepare

NAMES, GENES = ["A01", "A02", "B01"], ["CD3", "IL2"]
VALUES = np.array([[1, 2], [3, 4], [5, 6.5]], dtype=np.float32)
WELLS = pd.DataFrame({"well": NAMES, "compound": ["x", "DMSO", "y"]})


def _frame() -> pd.DataFrame:
    return pd.DataFrame(VALUES, index=NAMES, columns=GENES)


def _h5ad(path: Path) -> None:
    obs = WELLS.set_index("well").rename_axis(None)
    anndata.AnnData(VALUES, obs=obs, var=pd.DataFrame(index=GENES)).write_h5ad(path)


def _gctx(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["0/DATA/0/matrix"] = VALUES
        file["0/META/ROW/id"], file["0/META/COL/id"] = GENES, NAMES


WRITERS = {
    "s.h5ad": _h5ad,
    "s.gctx": _gctx,
    "s.parquet": lambda path: _frame().to_parquet(path),
    "s.feather": lambda path: _frame().reset_index(names="well").to_feather(path),
    "s.csv": lambda path: _frame().to_csv(path, index_label="well"),
}


def _packed(path: Path) -> Path:
    packed = path.with_name(f"{path.name}.gz")
    with path.open("rb") as plain, gzip.open(packed, "wb") as target:
        shutil.copyfileobj(plain, target)
    return packed


def _pipe(path: Path, fifo: Path) -> Path:
    """A named pipe that holds what `path` holds."""
    os.mkfifo(fifo)
    threading.Thread(target=lambda: fifo.write_bytes(path.read_bytes()), daemon=True).start()
    return fifo


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_is_read_packed_and_from_a_pipe(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    WRITERS[name](tmp_path / name)
    plain, packed = read_matrix(tmp_path / name), read_matrix(_packed(tmp_path / name))
    piped = read_matrix(_pipe(tmp_path / name, tmp_path / "fifo"))
    for matrix in (plain, packed, piped):
        wells = matrix if matrix.row_names == NAMES else matrix.transposed()
        assert (wells.row_names, wells.column_names) == (NAMES, GENES)
        np.testing.assert_array_equal(wells.values, VALUES)
    assert packed.source == (type(packed.source))(str(tmp_path / f"{name}.gz"), sha256_file(tmp_path / f"{name}.gz"))
    assert piped.source == (type(piped.source))(str(tmp_path / "fifo"), sha256_file(tmp_path / name))
    assert not list((tmp_path / "t").iterdir())


def test_wells_tables_are_read_packed_and_from_a_pipe(tmp_path: Path) -> None:
    WELLS.to_parquet(tmp_path / "w.parquet", index=False)
    WELLS.to_csv(tmp_path / "w.csv", index=False)
    expected = read_table(tmp_path / "w.csv").frame
    packed = read_table(_packed(tmp_path / "w.parquet"))
    assert packed.frame.equals(expected)
    assert packed.places[0] == f"{tmp_path / 'w.parquet.gz'}, row 1"
    piped = read_table(_pipe(tmp_path / "w.csv", tmp_path / "fifo"))
    assert piped.frame.equals(expected)
    assert piped.sources[0].path == str(tmp_path / "fifo")


def test_gene_sets_and_lists_are_read_from_pipes(tmp_path: Path) -> None:
    (tmp_path / "a.gmt").write_text("S\t\tCD3\tIL2\n")
    (tmp_path / "genes.txt").write_text("CD3\n")
    sets = _pipe(tmp_path / "a.gmt", tmp_path / "sets")
    found = read_preparation(
        PrepareOptions(signature=(sets,), genes_file=_pipe(tmp_path / "genes.txt", tmp_path / "l"))
    )
    assert found.signatures[0].up == ("CD3", "IL2")
    assert found.gene_list == ("CD3",)
    assert found.sources[0].sha256 == sha256_file(tmp_path / "a.gmt")


def test_errors_in_a_copy_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "s.parquet.gz").write_bytes(gzip.compress(b"PAR1 and nothing else"))
    with pytest.raises(DataError, match="damaged or cut short") as error:
        read_matrix(tmp_path / "s.parquet.gz")
    assert error.value.where == str(tmp_path / "s.parquet.gz")
    (tmp_path / "bad.csv").write_text("well,CD3\nA01,x1\n")
    with pytest.raises(DataError) as error:
        read_matrix(_pipe(tmp_path / "bad.csv", tmp_path / "fifo"))
    assert error.value.where == f"{tmp_path / 'fifo'}, line 2, column CD3"


def test_a_copy_has_a_largest_size_and_a_device_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="unpacks to too much"),
        Path("/dev/zero").open("rb") as stream,
        copied(stream, tmp_path / "a.gz", "a", 1 << 20),
    ):
        pass
    with pytest.raises(DataError, match="a device is no file"), regular_file(Path("/dev/zero")):
        pass


def test_a_lock_on_an_hdf5_file_is_told(tmp_path: Path) -> None:
    _h5ad(tmp_path / "s.h5ad")
    import fcntl

    with (tmp_path / "s.h5ad").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another program has an HDF5 file open") as error:
            read_matrix(tmp_path / "s.h5ad", "h5ad")
    assert "HDF5_USE_FILE_LOCKING=FALSE" in str(error.value.hint)


def test_layers_of_counts(tmp_path: Path) -> None:
    whole = np.array([[0, 12], [3, 0], [7, 7]], dtype=np.float32)
    data = anndata.AnnData(VALUES, obs=pd.DataFrame(index=NAMES), var=pd.DataFrame(index=GENES))
    data.layers["counts"], data.layers["scaled"] = whole, whole / 3
    data.write_h5ad(tmp_path / "s.h5ad")
    assert layers_of_counts(tmp_path / "s.h5ad") == ["counts"]
    assert layers_of_counts(_packed(tmp_path / "s.h5ad")) == ["counts"]
    assert layers_of_counts(tmp_path / "none.h5ad") == []


@pytest.mark.parametrize("separator", [" ", "|"])
def test_other_separators_are_refused_in_a_few_words(separator: str, tmp_path: Path) -> None:
    lines = [["well", *(f"GENE{at}" for at in range(400))], ["A01", *["1.5"] * 400], ["A02", *["2"] * 400]]
    (tmp_path / "x.txt").write_text("\n".join(separator.join(line) for line in lines))
    (tmp_path / "e.csv").write_text("well,CD3\nA01,1\nA02,2\n")
    wells = partial(read_screen, [tmp_path / "e.csv"], [tmp_path / "x.txt"], Roles())
    for read in (partial(read_matrix, tmp_path / "x.txt"), wells):
        with pytest.raises(DataError, match="not separated by comma, tab or semicolon") as error:
            read()
        assert len(str(error.value)) < 500


def test_a_line_that_names_the_separator_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("sep=;\nwell;CD3;IL2\nA01;1,5;2\nA02;3;4\n")
    assert read_matrix(tmp_path / "x.csv").values.tolist() == [[1.5, 2], [3, 4]]
    (tmp_path / "w.csv").write_text('"sep=;"\nwell;compound\nA01;x\nA02;y\n')
    assert read_table(tmp_path / "w.csv").frame.columns == ["well", "compound"]


@pytest.mark.parametrize("method", ["log-cpm", "vst"])
def test_logs_beside_a_layer_of_counts_are_not_taken_for_counts(method: Method, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(30, (12, 8)).astype(np.float32)
    names = [f"A{at:02d}" for at in range(1, 13)]
    obs = pd.DataFrame({"compound": ["DMSO", "x", "y"] * 4, "score": np.arange(12) % 5}, index=names)
    data = anndata.AnnData(np.log2(counts + 1), obs=obs, var=pd.DataFrame(index=[f"G{at}" for at in range(8)]))
    data.layers["umi counts"] = counts
    data.write_h5ad(tmp_path / "s.h5ad")
    screen = read_screen([tmp_path / "s.h5ad"], [], Roles(scores=("score",)))
    with pytest.raises(DataError, match="other layers of the file hold counts") as error:
        prepare(screen, Preparation(normalize=method))
    assert error.value.hint == (
        "read the counts: --layer 'umi counts'; or take the values as they are: --normalize none"
    )
