"""Parquet, Feather (Arrow) and Excel files: as a table of numbers or as a table about wells."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import ipc

from dpf.errors import DataError, UsageError, listed
from dpf.files import sha256_file
from dpf.tables.matrix import Matrix, MatrixFormat
from dpf.tables.screen import Note, SourceFile
from dpf.tables.storage import let_go, new_matrix
from dpf.tables.text.cells import as_numbers, commas
from dpf.tables.text.expression import matrix_from_cells
from dpf.tables.text.layout import NAME_HEADINGS
from dpf.tables.text.wells_table import Table, is_unnamed, table_from_rows

_COLUMNS_AT_A_TIME, _CELLS_AT_A_TIME = 512, 1 << 24
_ARROW_MAGIC, _PARQUET_MAGIC, _ZIP_MAGIC = b"ARROW1", b"PAR1", b"PK\x03\x04"


@dataclass(frozen=True)
class _Columns:
    """A columnar file: its schema, its row count, and a way to read some of its columns."""

    schema: pa.Schema
    rows: int
    read: Callable[[list[int]], pa.Table]


def recognises_parquet(path: Path, head: bytes) -> bool:
    """Whether a file begins as Parquet does."""
    return not path.is_dir() and head.startswith(_PARQUET_MAGIC)


def recognises_feather(path: Path, head: bytes) -> bool:
    """Whether a file begins as Feather 2 does, which is the Arrow IPC file."""
    return not path.is_dir() and head.startswith(_ARROW_MAGIC)


def recognises_xlsx(path: Path, head: bytes) -> bool:
    """Whether a file is an Excel workbook: a zip archive, as its name says."""
    return not path.is_dir() and head.startswith(_ZIP_MAGIC) and path.suffix.lower() in {".xlsx", ".xlsm", ".xlsb"}


def _open(path: Path) -> _Columns:
    with path.open("rb") as stream:
        head = stream.read(8)
    try:
        if head.startswith(_PARQUET_MAGIC):
            file = pq.ParquetFile(path)
            schema = file.schema_arrow  # every look at this property builds it again
            return _Columns(schema, file.metadata.num_rows, lambda at: _read_parquet(file, schema.names, at))
        with pa.memory_map(str(path)) as source:
            schema = ipc.open_file(source).schema
        return _Columns(schema, _read_arrow(path, [0]).num_rows, lambda at: _read_arrow(path, at))
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _read_parquet(file: pq.ParquetFile, names: list[str], at: list[int]) -> pa.Table:
    return file.read(columns=[names[position] for position in at])


def _read_arrow(path: Path, at: list[int]) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return ipc.open_file(source, options=ipc.IpcReadOptions(included_fields=at)).read_all()


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        "a Parquet or Feather file is damaged or cut short",
        where=path,
        found=str(error).splitlines()[0],
        hint="copy or download it again, and compare checksums",
    )


def read_columnar_matrix(path: Path) -> Matrix:
    """Read a table of numbers from Parquet or Feather, a few hundred columns at a time.

    The index that pandas stored names the rows, else the first column where it holds text, has no heading, or whole
    numbers under a heading such as ``sample``; further columns of text beside it describe the rows (`row_table`). Nulls
    become NaN.

    Raises
    ------
    DataError
        The file is damaged, a column appears twice, or a column is neither numbers nor on the left.
    """
    file = _open(path)
    names = [str(name) for name in file.schema.names]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise DataError("a column appears twice", where=path, found=listed(twice), expected="unique column names")
    leading = _leading(file.schema, names)
    numeric = [position for position in range(len(names)) if position not in set(leading)]
    for position in numeric:
        if not _is_numeric(file.schema.field(position).type):
            raise DataError(
                "a column of the table holds no numbers",
                where=f"{path}, column {names[position]}",
                found=str(file.schema.field(position).type),
                expected="numbers; columns of text stand on the left of them",
                hint="take that column out of the table, or store it as numbers",
            )
    try:
        values = _values(file, numeric)
        text = [_as_text(column) for column in file.read(leading).columns] if leading else []
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    described = dict(zip([names[position] for position in leading[1:]], text[1:], strict=True))
    notes = [Note("info", f"{path.name}: columns {listed(list(described))} describe the rows")] if described else []
    corner = names[leading[0]] if leading and not is_unnamed(names[leading[0]]) else None
    return Matrix(
        values=values,
        row_names=[name.strip() for name in text[0]] if text else None,
        column_names=[names[position].strip() for position in numeric],
        source=SourceFile(str(path), sha256_file(path)),
        corner=corner,
        row_table=pl.DataFrame(described, schema=dict.fromkeys(described, pl.String)) if described else None,
        notes=tuple(notes),
    )


def _values(file: _Columns, numeric: list[int]) -> NDArray[np.float32]:
    values = new_matrix(file.rows, len(numeric), "F")
    step = min(_COLUMNS_AT_A_TIME, max(1, _CELLS_AT_A_TIME // max(1, file.rows)))
    for start in range(0, len(numeric), step):
        chunk = numeric[start : start + step]
        for offset, column in enumerate(file.read(chunk).columns):
            values[:, start + offset] = column.cast(pa.float64(), safe=False).to_numpy()
        let_go(values)
    return values


def _leading(schema: pa.Schema, names: list[str]) -> list[int]:
    """Positions of the columns that hold no expression: the row names first."""
    index = _stored_index(schema, names)
    rest = [position for position in range(len(names)) if position not in index]
    leading: list[int] = []
    for position in rest:
        first = not index and not leading
        named = names[position].casefold() in NAME_HEADINGS and pa.types.is_integer(schema.field(position).type)
        unnamed = first and (named or is_unnamed(names[position]))
        if not unnamed and _is_numeric(schema.field(position).type):
            break
        leading.append(position)
    return index + leading


def _stored_index(schema: pa.Schema, names: list[str]) -> list[int]:
    """Positions of the columns that pandas stored an index in: they stand at the end of the file."""
    stored = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
    return [names.index(name) for name in stored if isinstance(name, str) and name in names]


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _as_text(column: pa.ChunkedArray) -> list[str]:
    """The cells of a column as a text file would have them: empty where null, whole numbers without a point."""
    series = pl.Series(values=column) if not pa.types.is_dictionary(column.type) else pl.Series(column.to_pylist())
    return cells_as_text(series)


def cells_as_text(series: pl.Series) -> list[str]:
    """The cells of a column as a text file would have them: empty where null, whole numbers without a point."""
    if series.dtype.is_float():
        present = series.drop_nulls().drop_nans()
        if present.len() and bool((present.is_finite() & (present == present.round()) & (present.abs() < 2**53)).all()):
            series = series.fill_nan(None).cast(pl.Int64)
    elif series.dtype == pl.Binary:
        series = series.cast(pl.String, strict=False)
    return [str(text) for text in series.cast(pl.String).fill_null("").to_list()]


def table_from_frame(frame: pl.DataFrame, path: Path, source: SourceFile) -> Table:
    """A table about wells from a frame of any types: `obs` of an h5ad file, or a Parquet file.

    Raises
    ------
    DataError
        The frame has no rows.
    """
    if frame.height == 0:
        raise DataError("a table has no rows", where=path, expected="one row a well")
    texts = {name.strip(): cells_as_text(frame.get_column(name)) for name in frame.columns}
    as_text = pl.DataFrame(texts, schema=dict.fromkeys(texts, pl.String))
    return Table(as_text, [f"{path}, row {row}" for row in range(1, frame.height + 1)], (source,))


def read_columnar_table(path: Path) -> Table:
    """Read a table about wells from Parquet or Feather.

    Raises
    ------
    DataError
        The file is damaged or has no rows.
    """
    file = _open(path)
    names = [str(name) for name in file.schema.names]
    index = _stored_index(file.schema, names)
    order = index + [position for position in range(len(names)) if position not in index]
    try:
        columns = [_as_text(column) for column in file.read(list(range(len(names)))).columns]
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    rows = [[names[position] for position in order]]
    rows += [list(row) for row in zip(*(columns[position] for position in order), strict=True)]
    source = SourceFile(str(path), sha256_file(path))
    table = table_from_rows(list(enumerate(rows)), path, source, comma_separated=True)
    return replace(table, places=[place.replace(", line ", ", row ") for place in table.places])


def read_xlsx_matrix(path: Path) -> Matrix:
    """Read a table of numbers from the first sheet of an Excel workbook, by the rules for text tables.

    Raises
    ------
    UsageError
        The reader for Excel is not installed (extra ``xlsx``).
    DataError
        The workbook is damaged, or its first sheet is not such a table.
    """
    cells, notes = _first_sheet(path)
    matrix = matrix_from_cells(cells, path)
    return replace(matrix, notes=(*notes, *matrix.notes))


def read_xlsx_table(path: Path) -> Table:
    """Read a table about wells from the first sheet of an Excel workbook.

    Raises
    ------
    UsageError
        The reader for Excel is not installed (extra ``xlsx``).
    DataError
        The workbook is damaged, or its first sheet has no rows.
    """
    cells, notes = _first_sheet(path)
    source = SourceFile(str(path), sha256_file(path))
    table = table_from_rows(list(enumerate(cells, 1)), path, source, comma_separated=True)
    for name in table.frame.columns:  # numbers have points, whatever Excel shows; those kept as text may have commas
        column = table.texts(name)
        if commas(column) == "decimal" and as_numbers(pl.Series(column), decimal_comma=True) is not None:
            table = table.with_column(name, [text.replace(",", ".") for text in column])
    return replace(table, notes=(*notes, *table.notes))


def _first_sheet(path: Path) -> tuple[list[list[str]], tuple[Note, ...]]:
    if importlib.util.find_spec("fastexcel") is None:
        raise UsageError(
            "reading Excel files needs a package that is not installed",
            where=path,
            found="no fastexcel",
            hint="pip install 'drugseq-perturbformer[xlsx]', or save the sheet as CSV",
        )
    fastexcel = importlib.import_module("fastexcel")
    try:
        book = fastexcel.read_excel(path)
        sheet = book.load_sheet(0, header_row=None, dtypes="string").to_arrow()
    except fastexcel.FastExcelError as error:
        raise DataError("an Excel file cannot be read", where=path, found=error, hint="save it as CSV") from error
    others = book.sheet_names[1:]
    text = f"{path.name}: read the first sheet, {book.sheet_names[0]}; not read: {listed(others)}"
    columns = [[cell or "" for cell in pa.table(sheet).column(at).to_pylist()] for at in range(sheet.num_columns)]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return rows, (Note("warning", text),) if others else ()


PARQUET = MatrixFormat("parquet", recognises_parquet, read_columnar_matrix)
FEATHER = MatrixFormat("feather", recognises_feather, read_columnar_matrix)
XLSX = MatrixFormat("xlsx", recognises_xlsx, read_xlsx_matrix)
