"""Suspicious names in the wells table, shown by `dpf check`, before a training and above a ranking."""

from __future__ import annotations

import polars as pl

from dpf.analysis.design.item import CheckItem, Verdict, columns_of
from dpf.tables.roles.controls import find_controls, spelled_in_several_ways, spelling_key

_AGAIN = "run dpf init again with --control for each name of a control, and --merge-names for compounds"


def suspicious_names(wells: pl.DataFrame) -> list[str]:
    """Sentences about controls spelled in several ways, compounds named like controls (``Drug control``), and
    compounds whose names differ in case, spaces or hyphens only: they are ranked as different ones.
    """
    compounds = wells.get_column("compound").to_list()
    is_control = wells.get_column("is_control").fill_null(value=False).to_list()
    controls = sorted({name for name, control in zip(compounds, is_control, strict=True) if control})
    notes = []
    if controls:
        texts = [note.text for note in find_controls(compounds, controls, "the wells table")[1]]
        notes += [text for text in texts if text.startswith("spelled in several ways")]
        hint = "if they are controls, run dpf init again with --control for each of their names"
        notes += [f"ranked as compounds, {text}; {hint}" for text in texts if "look like" in text]
    treated = [name for name, control in zip(compounds, is_control, strict=True) if not control]
    if several := spelled_in_several_ways(treated, spelling_key):
        notes.append(f"spelled in several ways, and ranked as different compounds: {'; '.join(several)}")
    return notes


def names_item(wells: pl.DataFrame) -> CheckItem:
    """`suspicious_names` as an item of `dpf check`."""
    notes = suspicious_names(wells)
    text = " ".join(f"{one[0].upper()}{one[1:]}." for one in notes)
    return CheckItem(
        name="names",
        group="integrity",
        verdict=Verdict.WARN if notes else Verdict.GOOD,
        value=float(len(notes)),
        text=text or "No name is spelled in two ways, and no compound is named like a control.",
        advice=_AGAIN if notes else "",
        rule="kinds of suspicious names: any warns",
        table=columns_of({"note": one} for one in notes),
    )
