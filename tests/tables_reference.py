"""The reference of tables, docs/reference/tables.md, made from `dpf.tables.schemas`.

`python -m tests.tables_reference docs/reference/tables.md` writes it; a test asserts that it is up to date.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dpf.tables.schemas.column import PARAMETERS, Column, Schema
from dpf.tables.schemas.registry import SCHEMAS, explained

INTRODUCTION = """\
# Tables

Every column of every table that dpf writes. `dpf info PROJECT --columns TABLE` shows the same. This page is made from
the declarations that dpf holds its tables against: `python -m tests.tables_reference docs/reference/tables.md`.

A *number* is a 64-bit float (in `expression`, `outputs` and `signatures` a 32-bit one). *Better* says which end of a
column comes first when `dpf rank --sort` sorts by it: the stronger effect, the surer call, the better fit; names and
what is better low are sorted upwards, everything else downwards. A cell is empty only where the meaning says so.
NAME is a model's name. In the names of columns
"""


def reference() -> str:
    """Markdown: one section a table, one row a column."""
    parameters = [f"- `<{name}>` is {meaning}." for name, meaning in PARAMETERS.items()]
    return "\n".join([INTRODUCTION, *parameters, *(section(schema) for schema in SCHEMAS.values())]) + "\n"


def section(schema: Schema) -> str:
    """One table."""
    lines = [
        f"\n## {schema.kind}\n",
        f"{schema.file}. By `{schema.made_by}`; one row is {schema.row}.\n",
        "| column | type | unit | better | meaning |",
        "| --- | --- | --- | --- | --- |",
        *map(row, schema.columns),
    ]
    return "\n".join(lines)


def row(column: Column) -> str:
    """One column."""
    better = "" if column.better == "neither" else column.better
    cells = [f"`{column.name}`", column.type.value, column.unit.text, better, explained(column).replace("|", r"\|")]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
