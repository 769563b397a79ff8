"""What the columns of a wells table mean: the user's words and the headings become the canonical wells table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import polars as pl

from dpf.errors import DataError, listed
from dpf.tables.options import Roles
from dpf.tables.roles.compound_names import one_name_each, read_aliases
from dpf.tables.roles.controls import DEFAULT_CONTROL, find_controls, kept_apart, read_compounds, read_flags
from dpf.tables.roles.headings import find_column, guess_columns
from dpf.tables.roles.positions import read_concentrations, read_groups, read_plates, read_positions, shared_positions
from dpf.tables.roles.targets import read_targets
from dpf.tables.screen import CANONICAL_COLUMNS, Note, Targets
from dpf.tables.text.cells import as_numbers, is_missing, typed
from dpf.tables.text.wells_table import Table

#: Headings under which compounds stand, the likeliest first (`dpf.tables.roles.headings.guess_columns`).
COMPOUND_HEADINGS = (
    r"compound",
    r"compound[ _.]?name",
    r"drug([ _.]?name)?",
    r"pert[ _.]?iname",
    r"treatment([ _.]?(name|1))?",
    r"metabolite([ _.]?name)?",
    r"compound[ _.]?id",
    r"(perturbation|perturbagen|molecule|substance|inhibitor)([ _.]?(name|id))?",
    r"pert[ _.]?id",
)


class Identified(NamedTuple):
    """Wells that are known by name: unique ids, names as in their file, and the file each came from (if several)."""

    well_ids: list[str]
    local_ids: list[str]
    plates: list[str] | None
    columns: tuple[str, ...]


def assign_roles(table: Table, wells: Identified, roles: Roles) -> tuple[pl.DataFrame, Targets, tuple[Note, ...]]:
    """The canonical wells table: `CANONICAL_COLUMNS` that are known, then the targets, then the user's own columns.

    A column that a canonical one was read from stays under its own heading where that is another. A column of the
    user's that has a canonical name and another meaning is called ``<name>_original``.

    Parameters
    ----------
    table
        N rows.
    wells
        Who they are.
    roles
        The options given.

    Raises
    ------
    UsageError, DataError
        A column named is not there or does not hold what its role needs; there is no compound or control.
    """
    untargeted = () if roles.scores or roles.label or roles.activation or roles.targets_follow else _no_targets(table)
    columns, targets, notes = read_targets(table, roles.scores, roles.label, roles.activation, roles.positive)
    taken = [*wells.columns, *targets.columns]
    compound_column, compound_notes = _compound_column(table, roles.compound_column, taken)
    compounds, spelling_notes = read_compounds(table, compound_column)
    aliases = read_aliases(roles.aliases) if roles.aliases is not None else {}
    rename, joined = one_name_each(compounds, aliases, roles.merge_names, str(roles.aliases))
    compounds = [rename(name) for name in compounds]
    spelling_notes = (*spelling_notes, *joined, *kept_apart(compounds))
    roles = replace(roles, controls=tuple(rename(name) for name in roles.controls))
    is_control, control_notes, control_column = _controls(table, compounds, compound_column, roles)
    canonical, sources, place_notes = _places(table, wells, roles, [*taken, compound_column], compounds, is_control)
    canonical |= {
        "well_id": pl.Series("well_id", wells.well_ids, dtype=pl.String),
        "compound": pl.Series("compound", compounds, dtype=pl.String),
        "is_control": pl.Series("is_control", is_control, dtype=pl.Boolean),
    }
    sources |= {"compound": compound_column, "is_control": control_column}
    sources["well_id"] = wells.columns[0] if wells.well_ids == wells.local_ids and len(wells.columns) == 1 else None
    frame, targets, clash_notes = _assembled(table, canonical, sources, columns, targets)
    every = (*untargeted, *notes, *compound_notes, *spelling_notes, *control_notes, *place_notes, *clash_notes)
    return frame, targets, every


def _no_targets(table: Table) -> tuple[Note, ...]:
    candidates = []
    for name in table.frame.columns:
        numbers = as_numbers(table.frame.get_column(name))
        if numbers is not None and numbers.drop_nulls().n_unique() > 1:
            candidates.append(name)
    found = f"columns of numbers: {listed(candidates, 20)}" if candidates else "there is no column of numbers"
    text = "nothing is named for a model to learn: dpf check and dpf rank need nothing more, dpf train needs --scores, "
    return (Note("info", f"{text}--label, --activation or a gene set (--signature); {found}"),)


def _compound_column(table: Table, named: str | None, taken: Sequence[str]) -> tuple[str, tuple[Note, ...]]:
    if named is not None:
        return find_column(table, named, "--compound-column"), ()
    guesses = [name for name in guess_columns(table, COMPOUND_HEADINGS) if name not in taken]
    if not guesses:
        raise DataError(
            "no column of the wells table looks like the compound",
            where=table.name,
            found=f"columns {listed(table.frame.columns, 20)}",
            expected="a column such as compound, drug or treatment",
            hint="name it with --compound-column",
        )
    others = f"; {listed(guesses[1:])} could be it too (--compound-column)" if guesses[1:] else ""
    notes = (Note("info", f"compound is column {guesses[0]}{others}"),) if guesses != ["compound"] else ()
    return guesses[0], notes


def _controls(
    table: Table, compounds: list[str], compound_column: str, roles: Roles
) -> tuple[list[bool], tuple[Note, ...], str | None]:
    """Control wells by name; by an `is_control` column where there is one and the user names no control."""
    flagged = guess_columns(table, (r"is[ _.]?control",)) if not roles.controls else []
    if flagged:
        found = read_flags(table, flagged[0], compounds)
        return *found, flagged[0]
    is_control, notes = find_controls(compounds, roles.controls, f"{table.name}, column {compound_column}")
    if not roles.controls:
        notes = (Note("info", f"controls are the wells of {DEFAULT_CONTROL}"), *notes)
    return is_control, notes, None


def _places(
    table: Table,
    wells: Identified,
    roles: Roles,
    taken: Sequence[str],
    compounds: Sequence[str],
    is_control: Sequence[bool],
) -> tuple[dict[str, pl.Series], dict[str, str | None], list[Note]]:
    """Plate, row, column, concentration, cluster, batch and donor, where known, and the columns they were read from."""
    canonical: dict[str, pl.Series] = {}
    sources: dict[str, str | None] = {}
    notes: list[Note] = []
    positions = read_positions(table, wells.local_ids, wells.plates, roles.well_pattern, taken, compounds)
    readings = {
        "plate": read_plates(table, roles.plate_column, taken),
        "concentration": read_concentrations(table, wells.well_ids, is_control, roles.concentration_column, taken),
        "cluster": read_groups(table, "cluster", None, taken),
        "batch": read_groups(table, "batch", roles.batch_column, taken),
        "donor": read_groups(table, "donor", roles.donor_column, taken),
    }
    for name, (column, source, column_notes) in readings.items():
        notes += column_notes
        if column is not None:
            canonical[name], sources[name] = column, source
    if "plate" not in canonical and wells.plates is not None:
        canonical["plate"] = pl.Series("plate", wells.plates, dtype=pl.String)
        notes.append(Note("info", f"one plate a file: {listed(list(dict.fromkeys(wells.plates)))}"))
    elif "plate" not in canonical and "plate" in positions.columns:
        names = positions.columns["plate"].unique().sort().to_list()
        notes.append(Note("info", f"plates were read from the well ids: {listed(names)}"))
    canonical = {**positions.columns, **canonical}
    shared = shared_positions(canonical)
    return canonical, {**sources, **positions.sources}, [*notes, *positions.notes, *shared]


def _assembled(
    table: Table,
    canonical: dict[str, pl.Series],
    sources: dict[str, str | None],
    target_columns: Sequence[pl.Series],
    targets: Targets,
) -> tuple[pl.DataFrame, Targets, list[Note]]:
    notes: list[Note] = []
    new_names: dict[str, str] = {}
    for name in table.frame.columns:
        if name in CANONICAL_COLUMNS and sources.get(name) != name:
            new_names[name] = f"{name}_original"
            notes.append(Note("info", f"column {name} of the wells table is called {name}_original here"))
    as_names = set(sources.values())
    wanted = {column.name: column for column in target_columns}
    columns = [canonical[name] for name in CANONICAL_COLUMNS if name in canonical]
    own: list[pl.Series] = []
    for name in table.frame.columns:
        if name in wanted or (name in CANONICAL_COLUMNS and name not in new_names):
            continue
        raw = table.frame.get_column(name)
        column = typed(raw, table.decimal_comma) if name not in as_names else _text(raw)
        own.append(column.alias(new_names.get(name, name)))
    columns += [column.alias(new_names.get(column.name, column.name)) for column in target_columns]
    named = Targets(
        tuple(new_names.get(name, name) for name in targets.scores),
        new_names.get(targets.label or "", targets.label),
        new_names.get(targets.activation or "", targets.activation),
    )
    return pl.DataFrame([*columns, *own]), named, notes


def _text(raw: pl.Series) -> pl.Series:
    return pl.Series(
        raw.name, [None if is_missing(text) and not text.strip() else text for text in raw], dtype=pl.String
    )
