from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from dpf.errors import DataError, UsageError
from dpf.tables.matrix import Matrix, orient
from dpf.tables.screen import SourceFile

SOURCE = SourceFile("table.csv", "0" * 64)


def matrix(rows: list[str] | None, columns: list[str], **more) -> Matrix:
    height = len(rows) if rows is not None else 2
    values = np.arange(height * len(columns), dtype=np.float32).reshape(height, len(columns))
    return Matrix(values, rows, columns, SOURCE, **more)


def test_wells_in_the_rows_stay_there():
    assert orient(matrix(["A01", "A02"], ["CD3", "CD8", "IL2"]), {"A01", "A02"}).values.shape == (2, 3)


def test_wells_in_the_columns_become_rows_with_their_metadata_and_without_a_copy():
    about = pl.DataFrame({"symbol": ["x", "y"]})
    read = matrix(["CD3", "CD8"], ["A01", "A02", "A03"], row_table=about)
    wells = orient(read, {"A01", "A02"})
    assert wells.row_names == ["A01", "A02", "A03"]
    assert wells.column_names == ["CD3", "CD8"]
    assert wells.column_table is about
    assert wells.orientation == "wells-by-genes"
    assert np.shares_memory(wells.values, read.values)
    np.testing.assert_array_equal(wells.values, read.values.T)


def test_known_genes_decide_where_there_is_no_wells_table():
    assert orient(matrix(["CD3", "CD8"], ["a", "b", "c"]), None, genes={"CD8"}).column_names == ["CD3", "CD8"]
    assert orient(matrix(["a", "b"], ["CD3", "CD8"]), None, genes={"CD8"}).row_names == ["a", "b"]


def test_the_user_comes_before_the_format_and_the_format_before_the_names():
    read = matrix(["A01", "A02"], ["B01", "B02"], orientation="genes-by-wells")
    assert orient(read, {"A01"}).row_names == ["B01", "B02"]
    assert orient(read, {"A01"}, "wells-by-genes").row_names == ["A01", "A02"]


@pytest.mark.parametrize(
    ("ids", "said"), [({"A01", "B01"}, "2 known names speak for either"), ({"Z9"}, "none of these names is known")]
)
def test_a_tie_asks_for_the_flag(ids, said):
    ids = {"A01", "A02", "B01", "B02"} if "B01" in ids else ids
    with pytest.raises(DataError, match="cannot tell which side") as error:
        orient(matrix(["A01", "A02"], ["B01", "B02"]), ids)
    assert said in str(error.value)
    assert "--orientation wells-by-genes" in str(error.value)


def test_rows_without_names_are_wells_and_cannot_be_genes():
    assert orient(matrix(None, ["CD3"]), {"A01"}).row_names is None
    with pytest.raises(UsageError, match="they cannot be genes"):
        orient(matrix(None, ["CD3"]), None, "genes-by-wells")


def test_names_that_do_not_fit_are_a_bug():
    with pytest.raises(ValueError, match="column_names has 1 entries for 2"):
        Matrix(np.zeros((1, 2), dtype=np.float32), ["a"], ["b"], SOURCE)
    assert matrix(["a"], ["b"], column_table=pl.DataFrame()).column_table is None
    with pytest.raises(ValueError, match="without row names"):
        matrix(None, ["a"]).transposed()
