"""Cells of an Excel workbook that show something and store no value: formulas that nobody computed, errors."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from xml.etree import ElementTree

from dpf.errors import count, listed
from dpf.tables.screen import Note

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_LARGEST_SHEET = 1 << 30


def empty_cell_notes(path: Path, sheet: str) -> tuple[Note, ...]:
    """Warnings about cells of a sheet that are read as missing though they are not empty; none for other formats."""
    formulas, errors = [], []
    try:
        with zipfile.ZipFile(path) as book:
            part = _part_of(book, sheet)
            if part is None or book.getinfo(part).file_size > _LARGEST_SHEET:
                return ()
            with book.open(part) as stream:
                for place, kind, formula, value in _cells(stream):
                    if kind == "e":
                        errors.append(f"{place} ({value})")
                    elif formula and not value:
                        formulas.append(place)
    except (KeyError, zipfile.BadZipFile, ElementTree.ParseError, NotImplementedError, RuntimeError):
        return ()  # a workbook of another kind (.xlsb), or one that its reader judges
    notes = []
    if formulas:
        text = f"{path.name}: {count(len(formulas), 'formula')} without a stored value, missing here"
        notes.append(Note("warning", f"{text}: {listed(formulas, 5)}; a spreadsheet program computes and saves them"))
    if errors:
        notes.append(Note("warning", f"{path.name}: {count(len(errors), 'error')}, missing here: {listed(errors, 5)}"))
    return tuple(notes)


def _part_of(book: zipfile.ZipFile, sheet: str) -> str | None:
    """The part of the archive that holds a sheet."""
    # Expat, which parses here, follows no external entities and bounds the expansion of others.
    sheets = ElementTree.fromstring(book.read("xl/workbook.xml")).iter(f"{_MAIN}sheet")  # noqa: S314
    relations = ElementTree.fromstring(book.read("xl/_rels/workbook.xml.rels"))  # noqa: S314
    ids = {one.get("name"): one.get(_RELATION) for one in sheets}
    targets = {one.get("Id"): one.get("Target", "") for one in relations}
    found = targets.get(ids.get(sheet))
    return None if found is None else posixpath.normpath(posixpath.join("/xl", found)).lstrip("/")


def _cells(stream: IO[bytes]) -> Iterator[tuple[str, str, bool, str]]:
    """Place, type, whether it is a formula, and stored value of every cell."""
    for _, element in ElementTree.iterparse(stream):  # noqa: S314
        if element.tag == f"{_MAIN}row":
            for cell in element:
                value = cell.findtext(f"{_MAIN}v") or cell.findtext(f"{_MAIN}is/{_MAIN}t") or ""
                yield cell.get("r", ""), cell.get("t", ""), cell.find(f"{_MAIN}f") is not None, value
            element.clear()
