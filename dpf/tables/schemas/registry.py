"""Every table of dpf by its kind; what a frame lacks of its schema; the schema as a table."""

from __future__ import annotations

import difflib
from collections.abc import Collection

import polars as pl

from dpf.errors import UsageError, listed
from dpf.tables.schemas import evaluation, inputs, models, ranking, signatures
from dpf.tables.schemas.column import Column, Schema, Type

#: In the order of a project's life.
SCHEMAS = {
    schema.kind: schema
    for schema in (
        *(inputs.WELLS, inputs.GENES, inputs.EXPRESSION_TABLE, inputs.COUNTS_TABLE, inputs.NORMALISATION),
        *(inputs.CHECK, inputs.LAYOUT),
        *(models.SPLITS, models.HISTORY, models.TRAINING, models.TUNING),
        *(evaluation.EVALUATION, evaluation.SCOREBOARD, evaluation.COMPARISONS, evaluation.LATENT_QUALITY),
        *(models.OUTPUTS, models.PREDICTIONS, models.LATENT_TABLE, models.LATENT_CORRELATIONS, models.IMPORTANCE),
        *(ranking.RANKING, ranking.RANKING_BY_DOSE, ranking.RANKING_WELLS),
        *(ranking.CHALLENGES, ranking.DOSES, ranking.CLASSES),
        *(signatures.SIGNATURES, signatures.ENRICHMENT, signatures.CONNECTIVITY, signatures.SIMILARITY),
        *(inputs.TRUTH, inputs.TRUTH_GENES),
    )
}
POLARS: dict[Type, type[pl.DataType]] = {
    Type.TEXT: pl.String, Type.WHOLE: pl.Int64, Type.NUMBER: pl.Float64, Type.FLAG: pl.Boolean
}  # fmt: skip


def find_schema(kind: str) -> Schema:
    """The schema of that name.

    Raises
    ------
    UsageError
        There is no such table; those there are, are listed.
    """
    if kind in SCHEMAS:
        return SCHEMAS[kind]
    near = difflib.get_close_matches(kind, SCHEMAS, n=1, cutoff=0.5)
    raise UsageError(
        "dpf has no such table",
        found=kind,
        expected=f"one of {listed(list(SCHEMAS), 40)}",
        hint=f"did you mean {near[0]}?" if near else None,
    )


def polars_schema(kind: str) -> dict[str, type[pl.DataType]]:
    """Names and types of the columns of a table whose names are fixed: what to make an empty frame of."""
    fixed = [column for column in SCHEMAS[kind].columns if not column.parameters and not column.may_be_own]
    return {column.name: POLARS[column.type] for column in fixed}


def misfits(schema: Schema, frame: pl.DataFrame, needed: Collection[str]) -> list[str]:
    """What of a frame is not as declared: a column that is needed and absent, a wrong type, an empty cell; texts.

    Columns that are not declared are left to `undeclared`.
    """
    found = [f"no column {name}" for name in needed if name not in frame.columns]
    for series in frame:
        columns = schema.candidates(series.name)
        typed = [column for column in columns if _is_of(series.dtype, column.type)]
        if columns and not typed:
            expected = " or ".join(dict.fromkeys(column.type for column in columns))
            found.append(f"column {series.name} is of type {series.dtype}, not {expected}")
        elif typed and not any(column.empty for column in typed) and (empty := _empty_cells(series)):
            found.append(f"column {series.name} is empty in {empty:,} of {len(series):,} rows")
    return found


def always_there(schema: Schema, *, stored: bool = False) -> list[str]:
    """The columns that every table has; of `stored` ones, also those that earlier versions wrote."""
    always = [column for column in schema.columns if not column.parameters and not column.when]
    return [column.name for column in always if not (stored and column.newer)]


def undeclared(schema: Schema, frame: pl.DataFrame) -> list[str]:
    """The columns of a frame that its schema does not have."""
    return [name for name in frame.columns if not schema.candidates(name)]


def _is_of(dtype: pl.DataType, kind: Type) -> bool:
    if kind is Type.ANY:
        return True
    if kind is Type.WHOLE:
        return dtype.is_integer()
    return dtype.is_float() if kind is Type.NUMBER else dtype == POLARS[kind]


def _empty_cells(series: pl.Series) -> int:
    return series.null_count() + (int(series.is_nan().sum()) if series.dtype.is_float() else 0)


def describe(schema: Schema) -> pl.DataFrame:
    """The columns of a table as a table: name, type, unit, better, meaning, when a cell is empty, when it is there."""
    return pl.DataFrame(
        [
            (column.name, column.type.value, column.unit.text, column.better, column.meaning, column.empty, column.when)
            for column in schema.columns
        ],
        schema=["name", "type", "unit", "better", "meaning", "empty", "there"],
        orient="row",
    )


def explained(column: Column) -> str:
    """The meaning of a column, with when it is there and when it is empty."""
    there = column.when[:1].upper() + column.when[1:] if column.parameters else f"Only {column.when}"
    text = f"{column.meaning} {there}." if column.when else column.meaning
    return f"{text} Empty {column.empty}." if column.empty else text
