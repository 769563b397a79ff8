"""A 10x folder reads as scipy reads it, or is refused with the line."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from dpf.errors import DataError
from dpf.tables.formats.mtx import MTX, mtx_files, read_mtx
from dpf.tables.genes.names import name_genes

_COUNTS = np.array([[0, 3, 0], [2, 0, 0], [0, 0, 7], [1, 1, 16_777_216]])  # genes × wells
_BARCODES = "AACA\nAACC\nAACG\n"
_FEATURES = "".join(
    f"{names}\tGene Expression\n" for names in ("ENSG1.4\tTP53", "ENSG2\tMT-CO1", "ENSG3\t", "ENSG4\tGAPDH")
)
_BODY = "1 2 3\n2 1 2\n3 3 7\n4 1 1\n4 2 1\n4 3 16777216\n"
_HEAD = "%%MatrixMarket matrix coordinate integer general\n%a comment\n4 3 6\n"


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def make(matrix: str | bytes = _HEAD + _BODY, barcodes: str = _BARCODES, features: str = _FEATURES) -> Path:
        (tmp_path / "matrix.mtx").write_bytes(matrix.encode() if isinstance(matrix, str) else matrix)
        (tmp_path / "barcodes.tsv").write_bytes(barcodes.encode())
        (tmp_path / "features.tsv").write_bytes(features.encode())
        return tmp_path

    return make


def test_reads_what_is_written(folder: Callable[..., Path]) -> None:
    matrix = read_mtx(folder())
    np.testing.assert_array_equal(matrix.values, _COUNTS)
    assert matrix.values.T.flags.c_contiguous
    assert (matrix.column_names, matrix.row_names) == (["AACA", "AACC", "AACG"], ["ENSG1.4", "ENSG2", "ENSG3", "ENSG4"])
    assert matrix.row_table is not None
    assert matrix.row_table.columns == ["gene_id", "symbol", "feature_type"]
    assert matrix.row_table["symbol"].to_list() == ["TP53", "MT-CO1", "", "GAPDH"]
    assert (matrix.orientation, matrix.notes, matrix.column_table) == ("genes-by-wells", (), None)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("real", [False, True])
def test_round_trip_against_scipy(folder: Callable[..., Path], seed: int, real: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 40)), int(rng.integers(1, 40)))
    dense = rng.normal(size=shape) if real else rng.integers(0, 10 ** rng.integers(1, 7), size=shape)
    sparse = scipy.sparse.coo_array(dense * (rng.random(shape) < 0.4))
    written = io.BytesIO()
    scipy.io.mmwrite(written, sparse, symmetry="general")
    order = rng.permutation(sparse.nnz)
    head, body = written.getvalue().split(b"\n")[:3], written.getvalue().split(b"\n")[3:-1]
    shuffled = b"\n".join([*head, *(body[i] for i in order), b""])
    names = "".join(f"W{i}\n" for i in range(shape[1]))
    genes = "".join(f"G{i}\n" for i in range(shape[0]))
    matrix = read_mtx(folder(shuffled, names, genes))
    np.testing.assert_array_equal(matrix.values, scipy.io.mmread(io.BytesIO(shuffled)).toarray().astype(np.float32))


@pytest.mark.parametrize("packed", [(), ("matrix.mtx",), ("matrix.mtx", "barcodes.tsv", "features.tsv")])
@pytest.mark.parametrize("named_gz", [False, True])
def test_gzip_is_seen_in_the_content_not_the_name(
    folder: Callable[..., Path], packed: tuple[str, ...], named_gz: bool
) -> None:
    path = folder()
    for file in list(path.iterdir()):
        if file.name in packed:
            file.write_bytes(gzip.compress(file.read_bytes(), mtime=0))
        if named_gz:
            file.rename(path / f"{file.name}.gz")
    np.testing.assert_array_equal(read_mtx(path).values, _COUNTS)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(" ", "\t"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", " \n  ").rstrip(" "),
        lambda text: text.rstrip("\n"),
        lambda text: text + "\n\n",
        lambda text: text.replace(" 7\n", " 7\n\n"),
    ],
)
def test_white_space_is_free(folder: Callable[..., Path], change: Callable[[str], str]) -> None:
    np.testing.assert_array_equal(read_mtx(folder(_HEAD + change(_BODY))).values, _COUNTS)


def test_long_comments_and_blank_lines_before_the_sizes(folder: Callable[..., Path]) -> None:
    head = "%%MatrixMarket matrix coordinate integer general\n%" + "x" * 200_000 + "\n%\n\n4 3 6\n"
    np.testing.assert_array_equal(read_mtx(folder(head + _BODY)).values, _COUNTS)


def test_wells_in_rows_are_turned(folder: Callable[..., Path]) -> None:
    turned = "".join("{1} {0} {2}\n".format(*line.split()) for line in _BODY.splitlines())
    matrix = read_mtx(folder(_HEAD.replace("4 3 6", "3 4 6") + turned))
    np.testing.assert_array_equal(matrix.values, _COUNTS)
    assert "wells in its rows" in matrix.notes[0].text


def test_values_beyond_float32_are_noted(folder: Callable[..., Path]) -> None:
    matrix = read_mtx(folder(_HEAD + _BODY.replace("16777216", "16777217")))
    assert [note.text for note in matrix.notes] == ["1 values beyond 16,777,216 were rounded to the 24 bits of float32"]


def test_names_with_mark_quotes_crlf_and_more_columns(folder: Callable[..., Path]) -> None:
    matrix = read_mtx(folder(barcodes='\ufeff"AACA"\tA01\r\n"AACC"\tA02\r\n"AACG"\tA03'))
    assert matrix.column_names == ["AACA", "AACC", "AACG"]
    assert matrix.column_table is not None
    assert matrix.column_table["column_2"].to_list() == ["A01", "A02", "A03"]


def test_features_that_are_no_genes_are_left_out(folder: Callable[..., Path]) -> None:
    matrix = read_mtx(folder(features=_FEATURES.replace("GAPDH\tGene Expression", "CD3\tAntibody Capture")))
    named = name_genes(matrix.transposed())
    assert named.genes["gene"].to_list() == ["TP53", "MT-CO1", "ENSG3"]
    np.testing.assert_array_equal(named.values, _COUNTS[:3].T)
    assert "no gene expression, left out: 1 Antibody Capture" in named.notes[0].text


def test_identifiers_in_the_column_of_symbols_are_identifiers(folder: Callable[..., Path]) -> None:
    ids = [f"ENSG{at:011d}" for at in range(4)]
    swapped = "".join(f"{name}\t{id_}\tGene Expression\n" for name, id_ in zip(("A", "B", "C", "D"), ids, strict=True))
    named = name_genes(read_mtx(folder(features=swapped)).transposed())
    assert named.genes["gene"].to_list() == ["A", "B", "C", "D"]
    assert named.genes["gene_id"].to_list() == ids
    assert "stand in the column of symbols" in named.notes[0].text


def test_latin_1_names_are_noted(folder: Callable[..., Path]) -> None:
    path = folder()
    (path / "barcodes.tsv").write_bytes("AACA\nAACÉ\nAACG\n".encode("latin-1"))
    matrix = read_mtx(path)
    assert matrix.column_names[1] == "AACÉ"
    assert "not UTF-8" in matrix.notes[0].text


@pytest.mark.parametrize(
    ("matrix", "what", "where"),
    [
        ("gene,A01\nTP53,3\n", "not a MatrixMarket file", "line 1"),
        ("", "not a MatrixMarket file", "line 1"),
        (_HEAD.replace("coordinate", "array") + _BODY, "kind of MatrixMarket", "line 1"),
        (_HEAD.replace("integer", "pattern") + _BODY, "kind of MatrixMarket", "line 1"),
        (_HEAD.replace("general", "symmetric") + _BODY, "kind of MatrixMarket", "line 1"),
        (_HEAD.replace("4 3 6", "4 3"), "size line", "line 3"),
        (_HEAD.replace("4 3 6", "4 -3 6"), "size line", "line 3"),
        ("%%MatrixMarket matrix coordinate integer general\n", "size line", "line 2"),
        (_HEAD + _BODY.replace("3 3 7", "3 4 7"), "no entry of the matrix", "line 6"),
        (_HEAD + _BODY.replace("3 3 7", "5 3 7"), "no entry of the matrix", "line 6"),
        (_HEAD + _BODY.replace("3 3 7", "0 3 7"), "no entry of the matrix", "line 6"),
        (_HEAD + _BODY.replace("3 3 7", "3 3"), "no entry of the matrix", "line 6"),
        (_HEAD + _BODY.replace("3 3 7", "3 3 7.5"), "no entry of the matrix", "line 6"),
        (_HEAD + _BODY.replace("3 3 7", "3 3 NA"), "no entry of the matrix", "line 6"),
        (_HEAD + _BODY.replace("3 3 7", "3 3 7 9"), "no entry of the matrix", "line 6"),
        (_HEAD + _BODY.replace("3 3 7", "3 3 7e1"), "no entry of the matrix", "line 6"),
        (_HEAD + _BODY.replace("3 3 7", "3 3 1,234"), "no entry of the matrix", "line 6"),
        (_HEAD + _BODY.replace("3 3 7", "3 3 99999999999999999999"), "no entry of the matrix", "line 6"),
        (_HEAD.replace("integer", "real") + _BODY.replace("3 3 7", "3 3 1.5.2"), "no entry of the matrix", "line 6"),
        (_HEAD.replace("integer", "real") + _BODY.replace("3 3 7", "3 3 1,5"), "no entry of the matrix", "line 6"),
        (_HEAD.replace("4 3 6", f"4 3 {10**15}") + _BODY, "another number of entries", "matrix.mtx"),
        (_HEAD + _BODY.replace("4 3 16777216", "4 3"), "no entry of the matrix", "line 9"),
        (_HEAD + _BODY.replace("4 3 16777216\n", ""), "another number of entries", "matrix.mtx"),
        (_HEAD.replace("4 3 6", "4 3 5") + _BODY, "another number of entries", "matrix.mtx"),
        (_HEAD + _BODY.replace("4 2 1", "4 1 1"), "more than once", "matrix.mtx"),
        (_HEAD.replace("4 3 6", "5 3 6") + _BODY, "do not have the same size", "matrix.mtx"),
        (_HEAD.replace("4 3 6", f"{10**12} {10**12} 6") + _BODY, "do not have the same size", "matrix.mtx"),
        (gzip.compress((_HEAD + _BODY).encode(), mtime=0)[:-12], "ends early or is damaged", "matrix.mtx"),
        (gzip.compress((_HEAD + _BODY).encode(), mtime=0) + b"junk", "ends early or is damaged", "matrix.mtx"),
    ],
)
def test_wrong_matrix_is_refused(folder: Callable[..., Path], matrix: str | bytes, what: str, where: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        read_mtx(folder(matrix))
    assert caught.value.where is not None
    assert caught.value.where.endswith(where)


def test_header_in_the_names_is_guessed(folder: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match="remove it"):
        read_mtx(folder(barcodes="barcode\n" + _BARCODES))


@pytest.mark.parametrize(("broken", "line"), [("AACA\n\nAACG\n", 2), ("AACA\nAACC\tx\nAACG\n", 1)])
def test_uneven_names_are_refused(folder: Callable[..., Path], broken: str, line: int) -> None:
    with pytest.raises(DataError, match="a line has") as caught:
        read_mtx(folder(barcodes=broken))
    assert f"line {line}" in str(caught.value.where)


def test_missing_and_doubled_files(folder: Callable[..., Path]) -> None:
    path = folder()
    (path / "features.tsv").rename(path / "genes.tsv")
    assert mtx_files(path).features.name == "genes.tsv"
    (path / "genes.tsv.gz").write_bytes(gzip.compress(_FEATURES.encode(), mtime=0))
    with pytest.raises(DataError, match="several files") as caught:
        read_mtx(path)
    assert caught.value.found == "genes.tsv, genes.tsv.gz"
    for name in ("genes.tsv", "genes.tsv.gz"):
        (path / name).unlink()
    with pytest.raises(DataError, match=r"no features\.tsv"):
        read_mtx(path)


@pytest.mark.parametrize(
    "names",
    [
        ("GSM1_matrix.mtx.gz", "GSM1_barcodes.tsv.gz", "GSM1_features.tsv.gz"),
        ("cells_x_genes.mtx", "cells_x_genes.barcodes.txt", "cells_x_genes.genes.txt"),
        ("counts.mtx", "barcodes.tsv", "genes.tsv"),
    ],
)
def test_prefixes(folder: Callable[..., Path], names: tuple[str, str, str]) -> None:
    path = folder()
    for old, new in zip(("matrix.mtx", "barcodes.tsv", "features.tsv"), names, strict=True):
        (path / old).rename(path / new)
    (path / "GSM2_barcodes.tsv").write_text("another sample's\n")
    assert [file.name for file in mtx_files(path)] == list(names)
    assert [file.name for file in mtx_files(path / names[0])] == list(names)
    np.testing.assert_array_equal(read_mtx(path).values, _COUNTS)


def test_recognised_by_content(folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = folder()
    assert MTX.recognises(path, b"")
    assert MTX.recognises(path / "matrix.mtx", b"%%MatrixMarket matrix")
    assert not MTX.recognises(path / "barcodes.tsv", b"AACA")
    assert not MTX.recognises(tmp_path_factory.mktemp("empty"), b"")


@pytest.mark.parametrize(
    ("name", "shape", "total"), [("mini_mac_1000", (1000, 384), 267_742), ("filtered_matrix", (62_700, 95), 31_670_644)]
)
def test_macpie(real_data: Path, name: str, shape: tuple[int, int], total: int) -> None:
    matrix = read_mtx(real_data / "macpie-macseq" / name)
    assert matrix.values.shape == shape
    assert matrix.values.sum(dtype=np.float64) == total
    assert {note.text.split(" is ")[1] for note in matrix.notes} <= {"plain text in spite of its name"}


def test_a_square_matrix_whose_orientation_nothing_tells_is_asked_about(folder: Callable[..., Path]) -> None:
    square = folder(_HEAD.replace("4 3 6", "3 3 4") + "1 2 3\n2 1 2\n3 3 7\n1 3 5\n", features="G1\nG2\nG3\n")
    with pytest.raises(DataError, match="cannot tell which side") as caught:
        read_mtx(square)
    assert "--orientation genes-by-wells" in str(caught.value.hint)
    genes = read_mtx(square, "genes-by-wells")
    wells = read_mtx(square, "wells-by-genes")
    np.testing.assert_array_equal(genes.values, [[0, 3, 5], [2, 0, 0], [0, 0, 7]])
    np.testing.assert_array_equal(wells.values, genes.values.T)
    assert genes.row_names == wells.row_names == ["G1", "G2", "G3"]


def test_other_matrices_of_the_folder_are_named(folder: Callable[..., Path]) -> None:
    place = folder()
    (place / "UniqueAndMult-EM.mtx").write_text(_HEAD + _BODY)
    (note,) = read_mtx(place).notes
    assert note.severity == "warning"
    assert "matrix.mtx was read; other matrices of the folder were not: UniqueAndMult-EM.mtx" in note.text
    assert read_mtx(place / "matrix.mtx").notes == ()
