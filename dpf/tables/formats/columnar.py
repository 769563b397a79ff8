"""Parquet, Feather (Arrow) and Excel files: as a table of numbers or as a table about wells."""

from __future__ import annotations

import importlib.util
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import ipc

from dpf.errors import DataError, UsageError, first_line, listed, repeated, translated
from dpf.files import parse_object, sha256_file
from dpf.tables.matrix import Matrix, MatrixFormat
from dpf.tables.screen import Note, SourceFile
from dpf.tables.storage import let_go, new_matrix
from dpf.tables.text.cells import as_numbers, commas
from dpf.tables.text.encodings import UNPACKED_AT_LEAST, UNPACKED_TIMES
from dpf.tables.text.expression import matrix_from_cells
from dpf.tables.text.layout import NAME_HEADINGS
from dpf.tables.text.wells_table import Table, is_unnamed, table_from_rows

_COLUMNS_AT_A_TIME, _CELLS_AT_A_TIME = 512, 1 << 24
#: Of a workbook's sheet, empty ones included: 4,096 wells x 16,384 genes, at some 50 bytes a cell.
_CELLS_OF_A_SHEET = 1 << 26
_CELL = re.compile(rb"""\br=["']([A-Z]*)([0-9]+)["']""")
_ARROW_MAGIC, _PARQUET_MAGIC, _ZIP_MAGIC = b"ARROW1", b"PAR1", b"PK\x03\x04"


@dataclass(frozen=True)
class _Columns:
    """A columnar file: its schema, its row count, and a way to read some of its columns."""

    schema: pa.Schema
    names: list[str]
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
    with translated(lambda error: _damaged(path, error)):
        if head.startswith(_PARQUET_MAGIC):
            file = pq.ParquetFile(path, page_checksum_verification=True)
            schema = file.schema_arrow  # every look at this property builds it again
            names = schema.names
            return _Columns(schema, names, file.metadata.num_rows, lambda at: _read_parquet(file, names, at))
        with pa.memory_map(str(path)) as source:
            schema = ipc.open_file(source).schema
        return _Columns(schema, schema.names, _read_arrow(path, [0]).num_rows, lambda at: _read_arrow(path, at))


def _read_parquet(file: pq.ParquetFile, names: list[str], at: list[int]) -> pa.Table:
    table = file.read(columns=[names[position] for position in at])
    table.validate(full=True)
    return table


def _read_arrow(path: Path, at: list[int]) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        table = ipc.open_file(source, options=ipc.IpcReadOptions(included_fields=at)).read_all()
        table.validate(full=True)  # offsets and indices that lead out of their buffers, text that is no UTF-8
        return table


def _damaged(path: Path, error: BaseException) -> DataError:
    return DataError(
        "a Parquet or Feather file is damaged or cut short",
        where=path,
        found=first_line(error),
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
    names = file.names
    if twice := repeated(names):
        raise DataError("a column appears twice", where=path, found=listed(twice), expected="unique column names")
    with translated(lambda error: _damaged(path, error)):
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
    with translated(lambda error: _damaged(path, error)):
        values = _values(file, numeric)
        text = [_as_text(column) for column in file.read(leading).columns] if leading else []
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
    stored = parse_object((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
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
    names = file.names
    with translated(lambda error: _damaged(path, error)):
        index = _stored_index(file.schema, names)
        order = index + [position for position in range(len(names)) if position not in index]
        columns = [_as_text(column) for column in file.read(list(range(len(names)))).columns]
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
    with translated(lambda error: _unreadable(path, first_line(error))):
        _refuse_far_cells(path)
        book = fastexcel.read_excel(path)
        sheet = pa.table(book.load_sheet(0, header_row=None, dtypes="string").to_arrow())
    others = book.sheet_names[1:]
    text = f"{path.name}: read the first sheet, {book.sheet_names[0]}; not read: {listed(others)}"
    columns = [[cell or "" for cell in column.to_pylist()] for column in sheet.columns]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return rows, (Note("warning", text),) if others else ()


def _unreadable(path: Path, found: str) -> DataError:
    hint = "open it with a spreadsheet program and save it again, or as CSV"
    return DataError("an Excel file cannot be read", where=path, found=found, hint=hint)


def _refuse_far_cells(path: Path) -> None:
    """Read through the parts of a workbook, and refuse cells so far out that those up to there do not fit into memory.

    The reader asks for all of these at once, and ends the process where it does not get them; so it does with a part
    that unpacks to more than memory.
    """
    with zipfile.ZipFile(path) as book:
        for part in book.infolist():
            if part.file_size > max(UNPACKED_AT_LEAST, UNPACKED_TIMES * part.compress_size):
                raise _unreadable(path, f"{part.filename} unpacks to {part.file_size:,} bytes")
            rows, columns = _reach(book, part.filename)
            if rows * columns > _CELLS_OF_A_SHEET:
                found = f"{part.filename} has cells up to row {rows:,} and column {columns:,}"
                raise _unreadable(path, f"{found}: {rows * columns:,} cells, of which the table is a corner")


def _reach(book: zipfile.ZipFile, name: str) -> tuple[int, int]:
    """The last row and column in which a part, if it is a sheet, has a cell. All of it is read, which tests it too."""
    rows = columns = 1
    with book.open(name) as stream:
        rest = b""
        while block := stream.read(1 << 20):
            places = _CELL.findall(rest + block) if "worksheets/" in name else []
            rows = max([rows, *{int(digits[:9]) for _, digits in places}])
            columns = max([columns, *map(_column_number, {letters for letters, _ in places})])
            rest = block[-32:]
    return rows, columns


def _column_number(letters: bytes) -> int:
    """1 of ``A``, 28 of ``AB``."""
    number = 0
    for letter in letters[:6]:
        number = number * 26 + letter - 64
    return number


PARQUET = MatrixFormat("parquet", recognises_parquet, read_columnar_matrix)
FEATHER = MatrixFormat("feather", recognises_feather, read_columnar_matrix)
XLSX = MatrixFormat("xlsx", recognises_xlsx, read_xlsx_matrix)
