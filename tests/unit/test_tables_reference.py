"""What is generated from the program stands in the documents as it is today."""

from __future__ import annotations

from pathlib import Path

from dpf.tables.schemas.registry import SCHEMAS
from tests import tables_reference

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_reference_of_tables_is_of_today():
    text = (REPOSITORY / "docs/reference/tables.md").read_text(encoding="utf-8")
    assert text == tables_reference.reference(), "python -m tests.tables_reference docs/reference/tables.md"
    for schema in SCHEMAS.values():
        assert f"\n## {schema.kind}\n" in text
    assert text.count("\n| `") == sum(len(schema.columns) for schema in SCHEMAS.values())
