"""Where a well sits and what was put in it at which concentration, from columns or from the well's name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from dpf.errors import DataError, count, listed
from dpf.tables.roles.controls import as_key
from dpf.tables.roles.headings import find_column, guess_columns
from dpf.tables.roles.well_names import parse_well_names, row_letters
from dpf.tables.screen import Note
from dpf.tables.text.cells import as_numbers, commas, is_missing
from dpf.tables.text.wells_table import Table

PLATE_HEADINGS = (r"plate", r"plate[ _.]?(id|name|barcode|number|no)", r"(rna|det|assay|compound)[ _.]?plate")
_ROW = (r"row", r"(well|plate)[ _.]?row")
_COLUMN = (r"col(umn)?", r"(well|plate)[ _.]?col(umn)?")
WELL_HEADINGS = (r"well", r"well[ _.]?(id|name|pos|position)", r"position", r"(det|rna)[ _.]?well")
_UNIT = r"[munp\u00b5\u03bc]m(ol(/l)?)?|[un\u00b5\u03bc]?g/ml"
_CONCENTRATION = (
    rf"(final[ _.]?)?(concentration|conc|dose)([ _.([]*({_UNIT})[)\]]*)?(_1)?",
    r"pert_i?dose",
)
_WITH_UNIT = re.compile(r"([+-]?[\d.,]+(?:[eE][+-]?\d+)?)\s*([A-Za-z\u00b5\u03bc%][^\d.,]*)")


def read_plates(
    table: Table, named: str | None, taken: Sequence[str]
) -> tuple[pl.Series | None, str | None, tuple[Note, ...]]:
    """The plate of every well from its column (named, or found by its heading), and which column that is."""
    column = find_column(table, named, "--plate-column") if named is not None else None
    notes: tuple[Note, ...] = ()
    if column is None:
        guesses = [name for name in guess_columns(table, PLATE_HEADINGS) if name not in taken]
        if not guesses:
            return None, None, ()
        column = guesses[0]
        notes = _found("plate", column, guesses[1:], "--plate-column")
    return _names(table, column, "plate"), column, notes


def _found(what: str, column: str, others: Sequence[str], flag: str | None) -> tuple[Note, ...]:
    rest = f"; {listed(others)} could be it too ({flag})" if others and flag else ""
    return (Note("info", f"{what} is column {column}{rest}"),) if column != what or rest else ()


def _names(table: Table, column: str, name: str) -> pl.Series:
    return pl.Series(name, [text or None for text in table.texts(column)], dtype=pl.String)


def read_groups(table: Table, name: str, taken: Sequence[str]) -> tuple[pl.Series | None, str | None, tuple[Note, ...]]:
    """The `name` (``cluster``, ``batch``) of every well, where a column is headed so, and which column that is."""
    guesses = [column for column in guess_columns(table, (name, rf"{name}[ _.]?id")) if column not in taken]
    if not guesses:
        return None, None, ()
    return _names(table, guesses[0], name), guesses[0], _found(name, guesses[0], (), None)


@dataclass(frozen=True)
class Positions:
    """Where N wells sit, as far as it is known.

    Attributes
    ----------
    columns
        ``row`` (letters), ``column`` (from 1) and ``plate`` (as in the wells' names), those that are known.
    sources
        The columns of the table that row and column were read from, by canonical name.
    notes
        What was odd.
    """

    columns: dict[str, pl.Series]
    sources: dict[str, str]
    notes: tuple[Note, ...]


def read_positions(
    table: Table,
    local_ids: Sequence[str],
    plates: Sequence[str] | None,
    pattern: str | None,
    taken: Sequence[str],
    compounds: Sequence[str],
) -> Positions:
    """Row and column of every well: from their columns, else from the wells' names, else from another column of names.

    Parameters
    ----------
    table
        N rows.
    local_ids
        The well ids as in the file.
    plates
        Which file each well came from, where there are several: names are parsed file by file.
    pattern
        The user's ``--well-pattern``.
    taken
        Columns that have another role.
    compounds
        What is in each well: a name that begins with it (``Metformin_A01``) does not begin with a plate.
    """
    given = _from_columns(table, taken)
    texts = {"the well ids": list(local_ids)}
    if pattern is None:
        texts |= {
            f"column {name}": table.texts(name) for name in guess_columns(table, WELL_HEADINGS) if name not in taken
        }
    for source, names in texts.items():
        parsed = _parsed(names, plates, pattern)
        if parsed is not None:
            no_plates = () if pattern is not None or plates is not None else _no_plates(parsed, compounds, source)
            found = _with_names(given, parsed.drop("plate") if no_plates else parsed, source)
            return replace(found, notes=(*found.notes, *no_plates))
    return given


def _no_plates(parsed: pl.DataFrame, compounds: Sequence[str], source: str) -> tuple[Note, ...]:
    """A warning where what stands before the wells in their names does not behave as plates do."""
    prefixes = parsed.get_column("plate")
    different, wells = prefixes.n_unique(), parsed.height
    if prefixes.null_count() or different == 1:
        return ()
    own = zip(prefixes, compounds, strict=True)
    same = sum(_has_part(as_key(prefix), as_key(compound)) for prefix, compound in own)
    if 2 * same > wells:
        why = f"has the compound in it in {count(same, 'well')}"
    elif different == wells:
        why = "is another one in every well"
    elif not parsed.select("row", "column").is_duplicated().any():
        why = f"has {different:,} values, and no position is used by two of them"
    else:
        return ()
    text = f"what stands before the well in {source} ({listed(prefixes.unique(maintain_order=True).to_list(), 3)})"
    return (Note("warning", f"{text} {why}: not taken as plates; name them with --plate-column or --well-pattern"),)


def _has_part(name: str, part: str) -> bool:
    """Whether a name is `part`, or begins or ends with it at a separator."""
    return name == part or re.fullmatch(rf"(.*[_:\-./| ])?{re.escape(part)}([_:\-./| ].*)?", name) is not None


def _from_columns(table: Table, taken: Sequence[str]) -> Positions:
    columns: dict[str, pl.Series] = {}
    sources: dict[str, str] = {}
    notes: list[Note] = []
    for name, patterns in (("row", _ROW), ("column", _COLUMN)):
        guesses = [heading for heading in guess_columns(table, patterns) if heading not in taken]
        if not guesses:
            continue
        heading = guesses[0]
        texts = [None if is_missing(text) else text for text in table.texts(heading)]
        values = [_position(text, name) for text in texts]
        bad = [text for text, value in zip(texts, values, strict=True) if text is not None and value is None]
        if bad:
            text = f"column {heading} holds no plate {name}s ({listed(sorted(set(bad)), 3)}): kept as it is"
            notes.append(Note("warning", text))
            continue
        columns[name] = pl.Series(name, values, dtype=pl.String if name == "row" else pl.Int64)
        sources[name] = heading
        if name == "row" and any(text is not None and text.isdecimal() for text in texts):
            notes.append(Note("info", f"rows in column {heading} are numbers: 1 became A"))
    return Positions(columns, sources, tuple(notes))


def _position(text: str | None, name: str) -> str | int | None:
    if text is None:
        return None
    number = int(text) if text.isdecimal() else None
    if name == "column":
        return number if number is not None and 1 <= number <= 48 else None
    if number is not None:
        return row_letters(number) if 1 <= number <= 32 else None
    return text.upper() if re.fullmatch(r"[A-Za-z]|[Aa][A-Fa-f]", text) else None


def _parsed(names: list[str], plates: Sequence[str] | None, pattern: str | None) -> pl.DataFrame | None:
    """`plate`, `row`, `column` of every name, in order; None when a file has a name that is no well."""
    files = list(plates) if plates is not None else [""] * len(names)
    schema = {"at": pl.Int64, "plate": pl.String, "row": pl.String, "column": pl.Int64}
    parts = []
    for file in dict.fromkeys(files):
        at = [index for index, own in enumerate(files) if own == file]
        parsed = parse_well_names([names[index] for index in at], pattern)
        if parsed is None:
            return None
        found: dict[str, object] = {"at": at, "plate": parsed.plate, "row": parsed.row, "column": parsed.column}
        parts.append(pl.DataFrame(found, schema=schema))
    return pl.concat(parts).sort("at") if parts else None


def _with_names(given: Positions, parsed: pl.DataFrame, source: str) -> Positions:
    """The positions in the columns, completed by those in the names; a warning where the two disagree."""
    columns, notes = dict(given.columns), list(given.notes)
    read = [name for name in ("row", "column") if name not in columns]
    for name in ("row", "column"):
        own = parsed.get_column(name)
        if name in read:
            columns[name] = own
        elif differing := int((columns[name] != own).sum()):
            text = f"{name}s in column {given.sources[name]} and in {source} differ in {count(differing, 'well')}"
            notes.append(Note("warning", f"{text}: the column was taken"))
    if read:
        notes.append(Note("info", f"{' and '.join(read)} were read from {source}"))
    if "plate" in parsed.columns and parsed.get_column("plate").null_count() == 0:
        columns["plate"] = parsed.get_column("plate")
    return Positions(columns, given.sources, tuple(notes))


def shared_positions(canonical: Mapping[str, pl.Series]) -> tuple[Note, ...]:
    """A warning about positions of one plate that hold more than one well: a plate column may be missing."""
    if not {"row", "column"} <= set(canonical):
        return ()
    places = pl.DataFrame([canonical[name] for name in ("plate", "row", "column") if name in canonical]).drop_nulls()
    shared = places.filter(places.is_duplicated()).unique(maintain_order=True)
    if shared.is_empty():
        return ()
    named = listed([" ".join(str(part) for part in place) for place in shared.iter_rows()], 5)
    text = f"{count(shared.height, 'position')} with more than one well: {named}. Is a plate missing (--plate-column)?"
    return (Note("warning", text),)


def _negative(table: Table, column: str, below: list[str], *, is_named: bool) -> Note:
    """What to say of concentrations below 0; an error where the user named the column."""
    many, hint = count(len(below), "well"), "write doses as concentrations, not as logarithms, and empty where missing"
    if is_named:
        raise DataError(
            "a concentration is below 0",
            where=f"{table.name}, column {column}",
            found=f"{many}: {listed(below, 8)}",
            expected="concentrations of 0 or more",
            hint=f"{hint}, or leave out --concentration-column",
        )
    text = f"column {column} is below 0 in {many} ({listed(below, 8)}): not taken as concentration; {hint}"
    return Note("warning", text)


def read_concentrations(
    table: Table, wells: Sequence[str], named: str | None, taken: Sequence[str]
) -> tuple[pl.Series | None, str | None, tuple[Note, ...]]:
    """The concentration of every well in the unit of its column, and which column that is.

    Cells such as ``10 uM`` are read where all have the same unit. A column with a value below 0 holds no concentrations
    (logarithms, or a code for missing): one the user named is an error, another is not taken, with a warning.

    Raises
    ------
    DataError
        The column the user named holds something else.
    """
    column = find_column(table, named, "--concentration-column") if named is not None else None
    notes: tuple[Note, ...] = ()
    if column is None:
        guesses = [name for name in guess_columns(table, _CONCENTRATION) if name not in taken]
        if not guesses:
            return None, None, ()
        column = guesses[0]
        notes = _found("concentration", column, guesses[1:], "--concentration-column")
    texts = table.texts(column)
    units = Counter(match[2] for text in texts if (match := _WITH_UNIT.fullmatch(text)) and not is_missing(text))
    if len(units) == 1:
        texts = [match[1] if (match := _WITH_UNIT.fullmatch(text)) else text for text in texts]
        notes = (*notes, Note("info", f"concentrations in column {column} are in {next(iter(units))}"))
    decimal_comma = not table.comma_separated and commas(texts) == "decimal"
    numbers = as_numbers(pl.Series("concentration", texts, dtype=pl.String), decimal_comma)
    if numbers is not None:
        below = [f"{well} ({value:g})" for well, value in zip(wells, numbers, strict=True) if (value or 0) < 0]
        if not below:
            return numbers.cast(pl.Float64), column, notes
        return None, None, (_negative(table, column, below, is_named=named is not None),)
    odd = [text for text in dict.fromkeys(texts) if as_numbers(pl.Series([text]), decimal_comma) is None]
    if named is not None:
        raise DataError(
            "the concentration column holds something that is no number",
            where=f"{table.name}, column {column}",
            found=listed(odd or list(units)),
            expected="numbers, or numbers with one unit",
            hint="convert them to one unit, or leave out --concentration-column",
        )
    text = f"column {column} holds no plain numbers ({listed(odd or list(units), 3)}): not taken as concentration"
    return None, None, (Note("warning", text),)
