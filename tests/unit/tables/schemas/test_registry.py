"""The declarations are whole and unambiguous, and tables that differ from them are refused, written or read."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from dpf.errors import DataError, UsageError
from dpf.tables.schemas.column import PARAMETERS, Column, Schema, Type
from dpf.tables.schemas.registry import SCHEMAS, describe, find_schema, misfits, polars_schema, undeclared
from dpf.tables.storage import UndeclaredError, read_table, write_table
from tests.support.stored import spoil, write_anything

SPLITS = pl.DataFrame({"well_id": ["a", "b"], "member": [0, 0], "part": ["train", "held_out"]})


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.kind)
def test_every_column_is_explained(schema):
    names = [column.name for column in schema.columns]
    assert len(set(names)) == len(names)
    for column in schema.columns:
        assert column.meaning.endswith("."), column.name
        assert not column.empty.endswith("."), column.name
        assert not column.when.endswith("."), column.name
        assert set(column.parameters) <= set(PARAMETERS)
        # A name that is declared is not taken for one of a pattern.
        assert schema.candidates(column.name)[0] is column
        assert column.better == "neither" or column.type in (Type.NUMBER, Type.WHOLE)


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=lambda schema: schema.kind)
def test_what_is_shown_is_declared(schema):
    shown = [name for text in schema.shown for name in text.split()]
    assert len(shown) == len(set(shown))
    assert set(shown) <= {column.name for column in schema.columns}
    kept = [column.name for column in schema.columns if column.kept]
    assert not schema.shown or set(kept) <= set(shown)


def test_columns_of_a_pattern_are_found_by_name():
    predictions, ranking, outputs = (SCHEMAS[kind] for kind in ("predictions", "ranking", "outputs"))
    names = {
        predictions: {
            "my score_predicted": "<target>_predicted",
            "latent_31": "latent_<k>",
            "a_lower": "<target>_lower",
        },
        ranking: {"viability_measured_shift": "<target>_measured_shift", "q": "q"},
        outputs: {"score:a:b": "score:<target>", "start_score:a": "start_score:<target>"},
    }
    for schema, expected in names.items():
        for name, declared in expected.items():
            assert schema.column(name).name == declared
    assert predictions.column("latent_norm").name == "latent_norm"
    assert predictions.column("latent_x") is None
    assert ranking.column("nobody") is None
    assert predictions.column("x_predicted").heading_of("x_predicted") == "x"
    assert predictions.column("x_probability").heading_of("x_probability") == "P(x)"
    assert ranking.column("t").heading_of("t") == "t"


def test_sorting_goes_by_what_is_better():
    """As it was before one place said so: p, q, names and ranks upwards, what measures an effect downwards."""
    ranking = SCHEMAS["ranking_by_dose"]
    upwards = {"rank", "rank_low", "rank_high", "p", "q", "compound", "verdict", "direction", "smallest_p"}
    upwards |= {"activation_p", "activation_q", "replicate_cosine_p", "replicate_map_p"}
    upwards |= {"part", "t_p", "expression_p", "measured_p", "predicted_p"}  # names too
    upwards |= {"fails", "p_library", "q_library"}
    assert {column.name for column in ranking.columns if ranking.sorts_ascending(column.name)} == upwards
    assert not ranking.sorts_ascending("size_predicted_shift")
    assert not ranking.sorts_ascending("nobody")


def test_what_fits_comes_back(tmp_path):
    path = tmp_path / "splits.parquet"
    write_table(path, SPLITS, "splits")
    assert_frame_equal(read_table(path, "splits"), SPLITS)
    empty = pl.DataFrame(schema=polars_schema("splits"))
    write_table(path, empty, "splits")
    assert_frame_equal(read_table(path, "splits"), empty)


WRONG = {
    "no column part": lambda table: table.drop("part"),
    "column member is of type Float64, not whole number": lambda table: table.with_columns(
        pl.col("member").cast(pl.Float64)
    ),
    "column part is of type Null, not text": lambda table: table.with_columns(part=pl.lit(None)),
    "column well_id is empty in 1 of 2 rows": lambda table: table.with_columns(
        well_id=pl.Series(["a", None], dtype=pl.String)
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_does_not_fit_is_not_written(tmp_path, wrong):
    path = tmp_path / "splits.parquet"
    with pytest.raises(UndeclaredError, match=rf"splits.parquet is not as the schema of 'splits' declares it: {wrong}"):
        write_table(path, WRONG[wrong](SPLITS), "splits")
    assert not path.exists()


def test_undeclared_columns_and_tables_are_not_written(tmp_path):
    with pytest.raises(UndeclaredError, match="column seconds is not declared"):
        write_table(tmp_path / "t.parquet", SPLITS.with_columns(seconds=1.0), "splits")
    with pytest.raises(UndeclaredError, match="no schema declares tables of kind 't'"):
        write_table(tmp_path / "t.parquet", SPLITS, "t")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", WRONG)
def test_a_stored_table_that_does_not_fit_is_named_with_what_to_do(tmp_path, wrong):
    path = tmp_path / "splits.parquet"
    write_table(path, SPLITS, "splits")
    spoil(path, WRONG[wrong])
    with pytest.raises(DataError) as caught:
        read_table(path, "splits")
    assert caught.value.what == "splits.parquet is not as dpf writes it"
    assert (caught.value.where, caught.value.found) == (str(path), wrong)
    assert caught.value.expected == "what dpf info PROJECT --columns splits lists"
    assert caught.value.hint == "restore it from a copy, or run dpf train again"


def test_a_stored_table_may_have_more_and_the_columns_of_an_earlier_version(tmp_path):
    path = tmp_path / "t.parquet"
    write_anything(path, SPLITS.with_columns(note=pl.lit("mine")), "splits")
    assert read_table(path, "splits").columns == [*SPLITS.columns, "note"]
    early = {"rank": 1, "gene": "g", **dict.fromkeys(("importance", "signed", "control_importance"), 0.5)}
    early |= {"control_signed": 0.1, "importance_sd": 0.1}
    write_anything(path, pl.DataFrame([early]), "importance")  # there was no gradient at first
    assert read_table(path, "importance").height == 1
    with pytest.raises(UndeclaredError, match="no column gradient"):
        write_table(path, pl.DataFrame([early]), "importance")


def test_only_what_is_read_must_be_there(tmp_path):
    path = tmp_path / "t.parquet"
    write_anything(path, SPLITS.drop("part"), "splits")
    assert read_table(path, "splits", ["well_id"]).columns == ["well_id"]
    with pytest.raises(DataError, match="no column part"):
        read_table(path, "splits", ["well_id", "part"])
    write_table(path, SPLITS, "splits")
    with pytest.raises(DataError, match="no column score:a"):
        read_table(path, "splits", needed=["score:a"])


def test_a_column_of_the_users_may_have_any_type_but_not_that_of_a_canonical_one(tmp_path):
    wells = pl.DataFrame(
        {"well_id": ["a"], "compound": ["x"], "is_control": [True], "column": ["1"], "detected": ["many"], "x": [None]}
    )
    assert misfits(SCHEMAS["wells"], wells, []) == ["column column is of type String, not whole number"]
    assert not undeclared(SCHEMAS["wells"], wells)


def test_numbers_that_are_none_are_empty():
    kind = Schema(
        "t", "t.parquet", "dpf", "a row", (Column("x", Type.NUMBER, "X."), Column("y", Type.NUMBER, "Y.", empty="so"))
    )
    frame = pl.DataFrame({"x": [1.0, float("nan"), None], "y": [None, float("nan"), float("inf")]})
    assert misfits(kind, frame, []) == ["column x is empty in 2 of 3 rows"]


def test_a_table_nobody_knows_is_refused_with_the_nearest():
    with pytest.raises(UsageError) as caught:
        find_schema("rankings")
    assert caught.value.hint == "did you mean ranking?"
    assert "one of wells, genes" in caught.value.expected
    assert find_schema("ranking") is SCHEMAS["ranking"]


def test_a_schema_is_a_table_itself():
    table = describe(SCHEMAS["dose"])
    assert table.columns == ["name", "type", "unit", "better", "meaning", "empty", "there"]
    assert table.get_column("name").to_list() == [column.name for column in SCHEMAS["dose"].columns]
    assert table.null_count().sum_horizontal().item() == 0
