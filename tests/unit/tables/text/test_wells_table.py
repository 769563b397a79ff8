from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpf.errors import DataError
from dpf.tables.text.wells_table import is_unnamed, read_text_table, unique_names


def table_of(tmp_path, text, name="wells.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_text_table(path)


@pytest.mark.parametrize(
    "text",
    [
        "Well,Drug\nA01,x\nA02,y\n",
        "\ufeffWell,Drug\r\nA01,x\r\nA02,y",
        "Well\tDrug\nA01\tx\nA02\ty\n",
        "Well;Drug\nA01;x\nA02;y\n",
        '"","Well","Drug"\n"1","A01","x"\n"2","A02","y"\n',
        '"Well","Drug"\n"1","A01","x"\n"2","A02","y"\n',
        "Unnamed: 0,Well,Drug\n0,A01,x\n1,A02,y\n",
        "Well,Drug,,,\nA01,x,,,\nA02,y,,,\n,,,,\n",
        "Well,Drug,,\nA01,x\nA02,y\n",
        "Well,Drug\nA01,x,,\n\nA02,y,,\n",
        "# plate map\nWell,Drug\nA01,x\nA02,y\n",
    ],
)
def test_the_shapes_tables_come_in(tmp_path, text):
    table = table_of(tmp_path, text)
    assert table.frame.to_dict(as_series=False) == {"Well": ["A01", "A02"], "Drug": ["x", "y"]}


def test_rows_know_their_lines_across_quoted_line_breaks_and_empty_lines(tmp_path):
    table = table_of(tmp_path, 'Well,Drug\nA01,"a, b\nc"\n\nA02,y\n')
    assert [place.rsplit(", ", 1)[1] for place in table.places] == ["line 3", "line 5"]
    assert table.texts("Drug") == ["a, b\nc", "y"]


def test_names_of_rows_without_a_heading_are_kept_when_they_are_names(tmp_path):
    assert table_of(tmp_path, "Drug\nA01,x\nA02,y\n").frame.columns == ["row_name", "Drug"]


def test_an_empty_cell_in_a_single_column_is_a_row(tmp_path):
    assert table_of(tmp_path, '"x"\n"a"\n\n""\n\n').frame.get_column("x").to_list() == ["a", "", ""]


def test_headings_that_repeat_are_kept_apart_and_noted(tmp_path):
    table = table_of(tmp_path, "Well,v,v\nA01,1,2\n")
    assert table.frame.columns == ["Well", "v", "v.2"]
    assert table.notes[0].severity == "warning"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Well,Drug\nA01,x\nA02,2,6-diol\n", "line 3"),
        ("Well,Drug,Dose\nA01,x,1\nA02,x\n", "line 3"),
        ("Well,Drug\n", "headings only"),
        ("", "an empty file"),
    ],
)
def test_broken_tables(tmp_path, text, message):
    with pytest.raises(DataError) as error:
        table_of(tmp_path, text)
    assert message in str(error.value)


def test_unnamed_headings():
    assert all(map(is_unnamed, ["", " ", "Unnamed: 0", "...1", "__index_level_0__"]))
    assert not is_unnamed("x")


@given(st.lists(st.sampled_from(["a", "b", "a.2", "a.2.2", "b.2"]), max_size=12))
def test_unique_names_are_unique_and_leave_first_ones_alone(names):
    unique = unique_names(names)
    assert len(set(unique)) == len(names)
    for position, name in enumerate(names):
        if name not in names[:position]:
            assert unique[position] == name


@pytest.mark.parametrize("text", ["A01,DMSO,1.5\nA02,x,2.5\n", "A01,DMSO\nA02,x\n", "0\n1\n1\n", "A01\nA02\nB01\n"])
def test_a_line_of_data_is_no_line_of_headings(tmp_path, text):
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(DataError, match="the line of headings holds data"):
        read_text_table(tmp_path / "w.csv")


def test_one_decimal_mark_a_table(tmp_path):
    (tmp_path / "w.csv").write_text("well;a;b\nA01;1,234;0,5\nA02;2,345;1,5\n")
    assert read_text_table(tmp_path / "w.csv").decimal_comma
    (tmp_path / "w.csv").write_text("well;a;b\nA01;1,234;5\nA02;2,345;15\n")
    assert not read_text_table(tmp_path / "w.csv").decimal_comma
