"""Tables come back as they were written, say what they are, and are refused where they are something else."""

from __future__ import annotations

import datetime
import errno
import json
import os

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from dpf import __version__
from dpf.config.settings import FORMAT
from dpf.errors import DataError, DeviceError, ProjectError
from dpf.tables import storage
from dpf.tables.storage import (
    is_in_file,
    let_go,
    new_matrix,
    read_about,
    read_expression,
    read_table,
    wells_in_blocks,
    write_expression,
    write_table,
)

FRAME = pl.DataFrame(
    {
        "well_id": ["a", "b", "µ"],
        "compound": ["x", "DMSO", "µ"],
        "is_control": [False, True, False],
        "fluorescent": [True, False, None],
        "column": [1, None, 3],
        "dose": [0.1, float("nan"), None],
        "single": pl.Series([1.5, 2.5, None], dtype=pl.Float32),
        "day": [datetime.date(2024, 2, 29), None, None],
        "kind": pl.Series(["x", "y", "x"], dtype=pl.Categorical),
        "nothing": pl.Series([None, None, None], dtype=pl.String),
    }
)
#: As little as a wells table may have.
LEAST = FRAME.select("well_id", "compound", "is_control")


def expression(wells=5, genes=3, seed=0):
    values = np.random.default_rng(seed).normal(size=(wells, genes)).astype(np.float32)
    return [f"w{i}" for i in range(wells)], [f"g{i}" for i in range(genes)], values


def with_footer(path, footer):
    """The same table with another footer."""
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(footer), path)


@pytest.mark.parametrize("frame", [FRAME, FRAME.clear(), LEAST])
def test_a_table_comes_back(tmp_path, frame):
    write_table(tmp_path / "t.parquet", frame, "wells")
    assert_frame_equal(read_table(tmp_path / "t.parquet", "wells"), frame)


@given(
    st.lists(
        st.tuples(
            st.none() | st.text(), st.none() | st.floats(), st.none() | st.integers(-(2**63), 2**63 - 1), st.booleans()
        ),
        max_size=20,
    )
)
@settings(max_examples=30, deadline=None)
def test_any_values_come_back(tmp_path_factory, rows):
    schema = {"text": pl.String, "number": pl.Float64, "whole": pl.Int64, "flag": pl.Boolean}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    frame = frame.select(pl.lit("w").alias("well_id"), pl.lit("c").alias("compound"), pl.lit(True).alias("is_control"),
                         pl.all())  # fmt: skip
    path = tmp_path_factory.mktemp("t") / "t.parquet"
    write_table(path, frame, "wells")
    assert_frame_equal(read_table(path, "wells"), frame)


def test_some_columns_can_be_read(tmp_path):
    write_table(tmp_path / "t.parquet", FRAME, "wells")
    got = read_table(tmp_path / "t.parquet", "wells", ["column", "well_id"])
    assert_frame_equal(got.select("well_id", "column"), FRAME.select("well_id", "column"))


def test_the_footer_says_what_the_table_is(tmp_path):
    write_table(tmp_path / "t.parquet", FRAME, "wells", {"model_sha256": "abc", "n": 3})
    expected = {"format": FORMAT, "kind": "wells", "dpf": __version__, "model_sha256": "abc", "n": 3}
    assert read_about(tmp_path / "t.parquet", "wells") == expected
    # Any reader of Parquet finds it, not ours alone.
    assert json.loads(pq.read_schema(tmp_path / "t.parquet").metadata[b"dpf"]) == expected
    assert pl.read_parquet(tmp_path / "t.parquet").height == 3


def test_writing_twice_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_table(tmp_path / f"{name}.parquet", FRAME, "wells", {"x": 1})
        write_expression(tmp_path / f"{name}2.parquet", *expression())
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert (tmp_path / "a2.parquet").read_bytes() == (tmp_path / "b2.parquet").read_bytes()


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(ProjectError, match="a file of the project is missing") as caught:
        read_table(tmp_path / "t.parquet", "wells")
    assert caught.value.where == str(tmp_path / "t.parquet")


def test_what_is_not_a_file_or_may_not_be_read_is_said(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"cannot be read[\s\S]*is a directory"):
        read_about(tmp_path, "wells")

    write_table(tmp_path / "t.parquet", LEAST, "wells")

    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(pq, "ParquetFile", refuse)
    with pytest.raises(ProjectError, match="may not be read"):
        read_about(tmp_path / "t.parquet", "wells")


@pytest.mark.parametrize("read", [read_table, read_about, lambda path, _: read_expression(path)])
@pytest.mark.parametrize("keep", [0, 3, 100, -1, -200])
def test_a_truncated_table_is_refused(tmp_path, read, keep):
    path = tmp_path / "t.parquet"
    write_table(path, FRAME, "wells")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError) as caught:
        read(path, "wells")
    assert caught.value.what == "a table cannot be read: it is truncated or is not a Parquet file"
    assert caught.value.where == str(path)
    assert caught.value.hint == "restore it from a copy, or make it again with the command that wrote it"


def test_another_kind_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, FRAME, "wells")
    with pytest.raises(ProjectError) as caught:
        read_table(path, "genes")
    assert (caught.value.what, caught.value.found, caught.value.expected) == (
        "the table is of another kind",
        "wells",
        "genes",
    )
    with pytest.raises(ProjectError, match="of another kind"):
        read_expression(path)


def test_a_table_of_somebody_else_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    FRAME.write_parquet(path)
    with pytest.raises(ProjectError, match=r"not written by dpf[\s\S]*a dpf table of kind 'wells'"):
        read_table(path, "wells")


def test_a_later_format_is_refused_by_name(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, LEAST, "wells")
    with_footer(path, {b"dpf": b'{"format":%d,"kind":"wells","dpf":"9.9"}' % (FORMAT + 1)})
    with pytest.raises(ProjectError) as caught:
        read_table(path, "wells")
    assert caught.value.what == "the table has a later format than this dpf reads"
    assert caught.value.found == f"format {FORMAT + 1}, written by dpf 9.9"
    assert caught.value.expected == f"format {FORMAT} or earlier"
    assert caught.value.hint == "update dpf: pipx upgrade drugseq-perturbformer"


@pytest.mark.parametrize("footer", [b"", b"maybe", b"[]", b"{}", b'{"format":"1"}', b"\xff"])
def test_a_footer_that_dpf_does_not_write_is_refused(tmp_path, footer):
    path = tmp_path / "t.parquet"
    write_table(path, LEAST, "wells")
    with_footer(path, {b"dpf": footer})
    with pytest.raises(DataError, match="footer is not one that dpf writes"):
        read_table(path, "wells")


@pytest.mark.parametrize(("wells", "genes"), [(5, 3), (0, 3), (1, 1), (4, 0)])
def test_the_expression_comes_back(tmp_path, wells, genes):
    ids, names, values = expression(wells, genes)
    write_expression(tmp_path / "e.parquet", ids, names, values, {"source": "x"})
    got = read_expression(tmp_path / "e.parquet")
    assert (got.well_ids, got.genes) == (ids, names)
    assert got.values.dtype == np.float32
    np.testing.assert_array_equal(got.values, values)
    assert read_about(tmp_path / "e.parquet", "expression")["source"] == "x"


def test_more_wells_than_one_row_group_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "_WELLS_A_GROUP", 4)
    ids, names, values = expression(wells=11)
    write_expression(tmp_path / "e.parquet", ids, names, np.asfortranarray(values))
    assert pq.ParquetFile(tmp_path / "e.parquet").num_row_groups == 3
    got = read_expression(tmp_path / "e.parquet")
    assert got.well_ids == ids
    np.testing.assert_array_equal(got.values, values)


@settings(max_examples=25, deadline=None)
@given(wells=st.integers(1, 40), genes=st.integers(1, 9), group=st.integers(1, 50), block=st.integers(1, 400))
def test_a_matrix_in_a_file_is_the_one_in_memory(tmp_path_factory, wells, genes, group, block):
    """Whatever the sizes of groups and blocks."""
    path = tmp_path_factory.mktemp("large") / "expression.parquet"
    values = np.random.default_rng(wells).normal(size=(wells, genes)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(storage, "_WELLS_A_GROUP", group)
        patched.setattr(storage, "_CELLS_A_BLOCK", block)
        write_expression(path, [f"w{n}" for n in range(wells)], [f"g{n}" for n in range(genes)], values)
        inside = read_expression(path).values
        patched.setattr(storage, "CELLS_IN_MEMORY", 0)
        found = read_expression(path).values
        seen = np.concatenate([found[rows] for rows in wells_in_blocks(found)])
    assert is_in_file(found)
    assert not is_in_file(inside)
    np.testing.assert_array_equal(inside, values)
    np.testing.assert_array_equal(seen, values)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_matrix_in_a_file_keeps_what_is_let_go(monkeypatch, tmp_path, order):
    monkeypatch.setattr(storage, "CELLS_IN_MEMORY", 0)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    values = new_matrix(30, 7, order)
    assert not values.any()
    values[3:5] = 2.5
    let_go(values[3:, ::2].T)
    assert values.sum() == 35
    assert not list(tmp_path.iterdir())  # it has no name, so nothing of it is left by a process that is killed


def test_no_room_for_a_file_is_said_before_anything_is_read(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, "posix_fallocate", full)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(DeviceError, match="no room for a temporary file") as raised:
        new_matrix(200_000, 1_000)
    assert "No space left" in str(raised.value.found)
    assert "TMPDIR" in str(raised.value.hint)


def test_the_expression_is_a_plain_table_for_other_readers(tmp_path):
    ids, names, values = expression()
    write_expression(tmp_path / "e.parquet", ids, names, values)
    frame = pl.read_parquet(tmp_path / "e.parquet")
    assert frame.columns == ["well_id", *names]
    assert frame.schema["g0"] == pl.Float32
    np.testing.assert_array_equal(frame.select(names).to_numpy(), values)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_by_well_and_gene(tmp_path, value):
    ids, names, values = expression()
    values[1, 2] = values[4, 0] = value
    write_expression(tmp_path / "e.parquet", ids, names, values)
    with pytest.raises(DataError) as caught:
        read_expression(tmp_path / "e.parquet")
    assert caught.value.what == "the expression has values that are not finite"
    assert caught.value.found == f"2: w1 / g2 = {value}, w4 / g0 = {value}"
    assert caught.value.hint == "run dpf init again from the source files"
    np.testing.assert_array_equal(read_expression(tmp_path / "e.parquet", check=False).values, values)


def changed(path, change):
    """The expression as someone else left it, our footer still on it."""
    ids, names, values = expression()
    write_expression(path, ids, names, values)
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata({b"dpf": table.schema.metadata[b"dpf"]}), path)


def test_an_empty_cell_is_refused_as_not_finite(tmp_path):
    cells = pa.array([1.0, None, 2.0, 3.0, 4.0], pa.float32())
    changed(tmp_path / "e.parquet", lambda table: table.set_column(2, "g1", cells))
    with pytest.raises(DataError, match=r"1: w1 / g1 = nan"):
        read_expression(tmp_path / "e.parquet")


def test_columns_of_another_type_or_order_are_refused(tmp_path):
    path = tmp_path / "e.parquet"
    changed(path, lambda table: table.append_column("note", pa.array(["x"] * 5)))
    with pytest.raises(DataError, match=r"gene columns are not float32[\s\S]*note \(string\)"):
        read_expression(path)
    changed(path, lambda table: table.set_column(0, "well_id", pa.array([1.0] * 5)))
    with pytest.raises(DataError, match=r"the well ids of the expression are no text[\s\S]*double"):
        read_expression(path)
    changed(path, lambda table: table.select(["g0", "well_id", "g1"]))
    with pytest.raises(DataError, match=r"the first column of the expression must be well_id[\s\S]*g0"):
        read_expression(path)
    changed(path, lambda table: table.select([]))
    with pytest.raises(DataError, match="the first column"):
        read_expression(path)


def test_a_table_damaged_inside_is_refused(tmp_path):
    ids, names, values = expression(200, 40)
    for name, write, read in (
        ("e", lambda path: write_expression(path, ids, names, values), read_expression),
        (
            "t",
            lambda path: write_table(path, LEAST.join(pl.DataFrame({"x": values[:, 0]}), how="cross"), "wells"),
            lambda path: read_table(path, "wells"),
        ),
    ):
        path = tmp_path / name
        write(path)
        data = bytearray(path.read_bytes())
        data[4:300] = b"\xff" * 296
        path.write_bytes(data)
        with pytest.raises(DataError, match="damaged") as caught:
            read(path)
        assert caught.value.where == str(path)


@pytest.mark.parametrize("kind", ["wells", "expression"])
def test_a_flipped_bit_anywhere_is_named(tmp_path, kind):
    """Or it changes nothing: a bit of what no reader looks at."""
    path = tmp_path / "t.parquet"
    if kind == "wells":
        write_table(path, FRAME, kind, {"x": 1})
    else:
        write_expression(path, *expression(20, 4))

    def read():
        about = read_about(path, kind)
        if kind == "wells":
            return about, read_table(path, kind).write_json()
        digest = storage.expression_digest(path)
        found = read_expression(path)
        return about, found.well_ids, found.genes, found.values.tolist(), bool(digest)

    expected, whole, rng = read(), path.read_bytes(), np.random.default_rng(0)
    named = 0
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            found = read()
        except DataError as error:
            named += error.where == str(path)
        else:
            assert found == expected, place
    assert named > 0.9 * len(whole)


def test_a_table_of_before_there_were_checksums_is_read(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, LEAST, "wells", {"x": 1})
    with_footer(path, {b"dpf": pq.read_schema(path).metadata[b"dpf"]})
    assert read_about(path, "wells")["x"] == 1
    assert_frame_equal(read_table(path, "wells"), LEAST)
    changed(path, lambda table: table)
    assert len(storage.expression_digest(path)) == 64


@pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFOs")
def test_a_fifo_in_a_tables_place_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="no regular file"):
        read_about(tmp_path / "t.parquet", "wells")


def test_a_full_disk_is_said_and_the_old_table_stays(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    write_table(path, FRAME, "wells")
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for write in (
        lambda: write_table(path, FRAME.head(1), "wells"),
        lambda: write_expression(path, *expression()),
    ):
        with pytest.raises(ProjectError, match="No space left on device"):
            write()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
