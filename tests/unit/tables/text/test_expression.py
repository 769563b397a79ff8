from __future__ import annotations

import csv
import gzip
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpf.errors import DataError
from dpf.tables import storage
from dpf.tables.text import expression as text_matrix
from dpf.tables.text.expression import parse_matrix, read_text_matrix


def write(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def texts(matrix):
    return [note.text for note in matrix.notes]


@pytest.mark.parametrize("characters", [40, 300, 1 << 20])
def test_a_large_table_grows_from_file_to_file(tmp_path, monkeypatch, characters):
    values = np.arange(40 * 5, dtype=np.float32).reshape(40, 5) / 8
    lines = ["well," + ",".join(f"g{n}" for n in range(5))]
    lines += [f"w{n}," + ",".join(f"{value:g}" for value in row) for n, row in enumerate(values)]
    lines.insert(21, "," * 5)  # an empty line, which is left out
    path = write(tmp_path, "\n".join(lines) + "\n")
    monkeypatch.setattr(text_matrix, "_BLOCK_CHARACTERS", characters)
    inside = read_text_matrix(path)
    monkeypatch.setattr(storage, "CELLS_IN_MEMORY", 30)
    found = read_text_matrix(path)
    assert storage.is_in_file(found.values)
    np.testing.assert_array_equal(found.values, values)
    np.testing.assert_array_equal(inside.values, values)
    assert found.row_names == inside.row_names
    assert texts(found) == texts(inside)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 9),
    st.sampled_from([",", "\t", ";"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_golden_against_python_own_reader_and_float(tmp_path_factory, rows, columns, delimiter, end, quoted, seed):
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(-8, 9, size=(rows, columns))).tolist()
    names = [f"gene {delimiter if quoted else '-'} {row}" for row in range(rows)]
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(["gene", *(f"W{column}" for column in range(columns))])
    writer.writerows([name, *map(repr, line)] for name, line in zip(names, values, strict=True))
    path = write(tmp_path_factory.mktemp("golden"), out.getvalue().rstrip(end))
    matrix = read_text_matrix(path)
    np.testing.assert_array_equal(matrix.values, np.array(values, dtype=np.float32))
    assert matrix.row_names == names
    assert matrix.column_names == [f"W{column}" for column in range(columns)]
    assert matrix.values.dtype == np.float32


def test_blocks_do_not_show(tmp_path, monkeypatch):
    values = np.random.default_rng(0).normal(size=(200, 7)).astype(np.float32)
    text = "g," + ",".join("abcdefg") + "\n" + "\n".join(f"r{i}," + ",".join(map(str, v)) for i, v in enumerate(values))
    whole = read_text_matrix(write(tmp_path, text))
    monkeypatch.setattr(text_matrix, "_BLOCK_CHARACTERS", 997)
    cut = read_text_matrix(write(tmp_path, text))
    np.testing.assert_array_equal(cut.values, values)
    np.testing.assert_array_equal(cut.values, whole.values)
    assert cut.row_names == whole.row_names


@pytest.mark.parametrize(
    ("text", "names", "columns"),
    [
        ("gene,A,B\nx,1,2\ny,3,4\n", ["x", "y"], ["A", "B"]),
        ("A,B\nx,1,2\ny,3,4\n", ["x", "y"], ["A", "B"]),  # R: the line of headings is one short
        (',A,B\n"x",1,2\n"y",3,4\n', ["x", "y"], ["A", "B"]),  # R: write.csv
        ("Unnamed: 0,A,B\n0,1,2\n1,3,4\n", ["0", "1"], ["A", "B"]),  # pandas
        ("A,B\n1,2\n3,4\n", None, ["A", "B"]),  # the classic layout
        ("entrez,A,B\n7157,1,2\n672,3,4\n", ["7157", "672"], ["A", "B"]),
        (",well,A,B\n1,x,1,2\n2,y,3,4\n", ["x", "y"], ["A", "B"]),  # an index before the names
        ("gene,A,B,,\nx,1,2,,\ny,3,4,,\n", ["x", "y"], ["A", "B"]),  # empty columns of a spreadsheet
        ("gene,A,B\nx,1,2,\ny,3,4,\n", ["x", "y"], ["A", "B"]),  # a delimiter at the end of every line
        ("gene,A,B\nx,1,2\n\ny,3,4\n,,\n", ["x", "y"], ["A", "B"]),  # empty lines
        ("# a comment\ngene,A,B\nx, 1 ,2\ny,3,4\n", ["x", "y"], ["A", "B"]),
        ("\ufeffgene,A,B\r\nx,1,2\r\ny,3,4", ["x", "y"], ["A", "B"]),
    ],
)
def test_the_shapes_tables_come_in(tmp_path, text, names, columns):
    matrix = read_text_matrix(write(tmp_path, text))
    assert matrix.row_names == names
    assert matrix.column_names == columns
    np.testing.assert_array_equal(matrix.values, [[1, 2], [3, 4]])


def test_columns_that_describe_genes_are_no_expression(tmp_path):
    text = "# Program:featureCounts\nGeneid\tChr\tStart\tEnd\tStrand\tLength\tA\nENSG1\t1;1\t5;6\t7\t+\t10\t3\n"
    text += "ENSG2\tX\t5\t7\t+\t10\t4\n"
    matrix = read_text_matrix(write(tmp_path, text))
    assert matrix.column_names == ["A"]
    assert matrix.row_table is not None
    assert matrix.row_table.columns == ["Chr", "Start", "End", "Strand", "Length"]
    assert "describe the rows" in " ".join(texts(matrix))


def test_missing_and_infinite_cells_are_left_for_the_screen_to_judge(tmp_path):
    matrix = read_text_matrix(write(tmp_path, "gene,A,B,C\nx,NA,inf,\ny,null,1e400,#N/A\n"))
    np.testing.assert_array_equal(np.isnan(matrix.values), [[True, False, True], [True, False, True]])
    assert np.isinf(matrix.values[:, 1]).all()


def test_cells_that_are_no_numbers_are_named_with_line_column_and_content(tmp_path):
    text = "gene,A01,A02\nx,1,2\ny,oops,2\n\nz,1,1_000\n"
    with pytest.raises(DataError) as error:
        read_text_matrix(write(tmp_path, text))
    assert str(error.value).startswith("2 cells of the table are no numbers")
    assert error.value.found == "line 3, column A01: 'oops'; line 5, column A02: '1_000'"
    assert "line 3, column A01" in str(error.value.where)


def test_no_more_than_ten_cells_are_listed(tmp_path):
    text = "gene,A\n" + "ok,1\n" * 40 + "".join(f"g{i},bad\n" for i in range(14))
    with pytest.raises(DataError) as error:
        read_text_matrix(write(tmp_path, text))
    assert str(error.value.found).count("'bad'") == 10
    assert "and 4 more" in str(error.value.found)


def test_decimal_commas(tmp_path):
    matrix = read_text_matrix(write(tmp_path, "gene;A;B\nx;1,5;2\ny;-0,25;3,125e2\n"))
    np.testing.assert_array_equal(matrix.values, [[1.5, 2], [-0.25, 312.5]])
    assert any("decimal commas" in text for text in texts(matrix))


@pytest.mark.parametrize(
    ("text", "found", "hint"),
    [
        ("gene;A\nx;1,5\ny;1.234,5\n", "line 3, column A: '1.234,5'", "correct"),
        ("gene;A\nx;1,5\ny;1.234\n", "line 3, column A: '1.234'", "correct"),
        ("gene;A\nx;1,234,567\ny;2\n", "line 2, column A: '1,234,567'", "correct"),
        ("gene;A\nx;1,234\ny;2\n", "line 2, column A: '1,234'", "may be a decimal comma or a thousands separator"),
        ('gene,A\nx,"1,234"\ny,2\n', "line 2, column A: '1,234'", "correct"),
    ],
)
def test_thousands_separators_are_refused(tmp_path, text, found, hint):
    with pytest.raises(DataError, match="thousands separators") as error:
        read_text_matrix(write(tmp_path, text))
    assert error.value.found == found
    assert hint in str(error.value.hint)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gene,A,B\nx,1,2\ny,3\n", "line 3"),
        ("gene,A,B\nx,1,2\ny,3,4,5\n", "line 3"),
        ('gene,A,B\nx,1,2\n"y,3,4\n', "line 3"),
        ("", "a table is empty"),
        ("\n\n", "a table is empty"),
        ("gene,A,B\n", "a table has no rows"),
    ],
)
def test_broken_tables(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_text_matrix(write(tmp_path, text))


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_matrix, "_LONGEST_LINE", 1000)
    monkeypatch.setattr(text_matrix, "_BLOCK_CHARACTERS", 100)
    with pytest.raises(DataError, match="too long to be one of a table"):
        read_text_matrix(write(tmp_path, "gene" + ",A" * 2000 + "\nx" + ",1" * 2000))


def test_gzip_latin_1_and_open_text(tmp_path):
    path = write(tmp_path, gzip.compress("gene,A\nβ".encode() + b",1\n"), "a.csv.gz")
    assert read_text_matrix(path).row_names == ["β"]
    latin = read_text_matrix(write(tmp_path, "gene,A\nµ,1\n".encode("latin-1")))
    assert latin.row_names == ["µ"]
    assert "Latin-1" in texts(latin)[0]
    assert parse_matrix(io.StringIO("gene,A\nx,1\n"), path).values.tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A01,4.9542,2.8074\nA02,1,2\n", "4.9542, 2.8074"),
        ("A01,30,6,6\nA02,1,2,3\n", "30, 6, 6"),
        ("A01;4,95;2\nA02;1;2,5\n", "4,95, 2"),
        ("A01\t1e-3\t2\nA02\t1\t2\n", "1e-3, 2"),
    ],
)
def test_a_line_of_data_is_no_line_of_headings(tmp_path, text, found):
    (tmp_path / "e.csv").write_text(text)
    with pytest.raises(DataError, match="the line of headings holds numbers") as error:
        read_text_matrix(tmp_path / "e.csv")
    assert error.value.found == found


@pytest.mark.parametrize("headings", ["well,1001,1002", "gene,1,2", ",7157,920"])
def test_ids_that_are_numbers_are_headings(tmp_path, headings):
    (tmp_path / "e.csv").write_text(f"{headings}\na,1,2\nb,3,4\n")
    assert read_text_matrix(tmp_path / "e.csv").column_names == headings.split(",")[1:]


def test_points_that_may_part_thousands_are_asked_about(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("well;A;B\nx;805;2.080\ny;1.755;12\n")
    with pytest.raises(DataError, match="a point may be a decimal point or part thousands") as error:
        read_text_matrix(path)
    assert error.value.found == "2.080, 1.755"
    for text in ("well;A;B\nx;0.805;2.080\ny;1.755;12\n", "well;A;B\nx;8.5;2.080\ny;1.755;12\n"):
        path.write_text(text)
        assert read_text_matrix(path).values[0, 1] == np.float32(2.08)
    path.write_text("well,A,B\nx,805,2.080\ny,1.755,12\n")
    assert read_text_matrix(path).values[0, 1] == np.float32(2.08)
