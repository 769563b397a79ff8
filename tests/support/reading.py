"""A screen read as `dpf init` reads it, nothing asked of its values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dpf.tables import importing
from dpf.tables.preparing.options import Preparation
from dpf.tables.preparing.prepare import prepare
from dpf.tables.roles.assign import Roles
from dpf.tables.screen import Screen


def read_screen(sources: Sequence[Path], wells: Sequence[Path], roles: Roles, format_name: str | None = None) -> Screen:
    """The checked screen of these files, values as they are."""
    return prepare(importing.read_screen(sources, wells, roles, format_name), Preparation(keep_flagged=True)).screen
