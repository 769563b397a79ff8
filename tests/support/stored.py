"""Tables as somebody else left them: dpf's footer on what dpf would not write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq


def write_anything(path: Path, frame: pl.DataFrame, kind: str, about: dict[str, Any] | None = None) -> None:
    """Write a frame with the footer of a kind, whatever its columns are."""
    footer = {b"dpf": json.dumps({"format": 1, "kind": kind, "dpf": "0.1.0", **(about or {})}).encode()}
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    pq.write_table(table.replace_schema_metadata(footer), path)


def spoil(path: Path, change: Any) -> None:
    """Change a stored table, its footer kept as it is."""
    footer = pq.read_schema(path).metadata
    table = change(pl.read_parquet(path)).to_arrow(compat_level=pl.CompatLevel.oldest())
    pq.write_table(table.replace_schema_metadata(footer), path)
