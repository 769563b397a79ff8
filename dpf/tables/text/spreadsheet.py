"""CSV that a spreadsheet opens as what it is: a text that it would take for a formula is written with a ``'`` first.

A spreadsheet computes a cell that begins with ``=``, ``+``, ``-`` or ``@``, and may run what it names; a tab or a line
end before it does not help (https://owasp.org/www-community/attacks/CSV_Injection). Numbers, also those in a column of
text, stay as they are. What is written with a ``'`` more is read without it, so that names come back as they were.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

_FORMULA = r"^'*[=+\-@\t\r\n](?s:.)"
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_PROTECTED = re.compile(r"'+[=+\-@\t\r\n]")


def write_csv(table: pl.DataFrame | pl.LazyFrame, path: Path) -> None:
    """Write a table as CSV, part by part, no text or heading of it a formula."""
    _protected(table.lazy()).sink_csv(path)


def to_csv(table: pl.DataFrame) -> str:
    """The text that `write_csv` writes."""
    return _protected(table.lazy()).collect().write_csv()


def as_named(cell: str) -> str:
    """A cell or a heading of a CSV file as it was before `write_csv` protected it."""
    return cell[1:] if cell.startswith("'") and _PROTECTED.match(cell) else cell


def _protected(table: pl.LazyFrame) -> pl.LazyFrame:
    def protected(texts: pl.Expr) -> pl.Expr:
        formula = texts.str.contains(_FORMULA) & ~texts.str.contains(_NUMBER)
        return pl.when(formula).then(pl.lit("'") + texts).otherwise(texts).name.keep()

    names = table.collect_schema().names()
    headings = pl.DataFrame({"heading": names}).select(protected(pl.col("heading"))).to_series()
    return table.with_columns(protected(pl.col(pl.String))).rename(dict(zip(names, headings, strict=True)))
