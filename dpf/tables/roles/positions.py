"""Where a well sits and what was put in it at which concentration, from columns or from the well's name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from dpf.errors import DataError, count, listed
from dpf.tables.roles.controls import as_key, spelled_in_several_ways
from dpf.tables.roles.headings import find_column, guess_columns, named_or_headed
from dpf.tables.roles.well_names import parse_well_names, row_letters
from dpf.tables.screen import Note
from dpf.tables.text.cells import as_numbers, is_missing, number
from dpf.tables.text.wells_table import Table, refuse_unclear_points

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
    plates = _names(table, column, "plate")
    if several := spelled_in_several_ways(plates.drop_nulls().to_list(), _plate_key):
        text = f"{count(len(several), 'plate')} written in several ways, kept apart: {listed(several)}"
        notes = (*notes, Note("warning", text))
    return plates, column, notes


def _plate_key(name: str) -> str:
    """The same for ``1``, ``01`` and ``1.0``, and for names that differ in case and spaces only."""
    return re.sub(r"0*(\d+?)(\.0*)?", r"\1", name) if re.fullmatch(r"\d+(\.0*)?", name) else as_key(name)


def _found(what: str, column: str, others: Sequence[str], flag: str | None) -> tuple[Note, ...]:
    rest = f"; {listed(others)} could be it too ({flag})" if others and flag else ""
    return (Note("info", f"{what} is column {column}{rest}"),) if column != what or rest else ()


def _names(table: Table, column: str, name: str) -> pl.Series:
    texts = table.texts(column)
    return pl.Series(name, [None if is_missing(text) else text for text in texts], dtype=pl.String)


def read_groups(
    table: Table, name: str, named: str | None, taken: Sequence[str]
) -> tuple[pl.Series | None, str | None, tuple[Note, ...]]:
    """The `name` (``cluster``, ``batch``, ``donor``) of every well, and the column: the one named, or headed so."""
    columns = named_or_headed(table, named, f"--{name}-column", (name, rf"{name}[ _.]?id"))
    guesses = [column for column in columns if named is not None or column not in taken]
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
    table: Table, wells: Sequence[str], is_control: Sequence[bool], named: str | None, taken: Sequence[str]
) -> tuple[pl.Series | None, str | None, tuple[Note, ...]]:
    """The concentration of every well in the unit of its column, and which column that is.

    Cells such as ``10 uM`` are read where all treated wells have the same unit; a control in another (``0.1 %``) has
    none. Concentrations that are the same to six digits are one. A column with a value below 0 holds no concentrations
    (logarithms, or a code for missing): one the user named is an error, another is not taken, with a warning.

    Raises
    ------
    DataError
        The column the user named holds something else, or units are mixed or missing in some cells.
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
    texts, unit_notes = _without_unit(texts, is_control, f"{table.name}, column {column}")
    notes = (*notes, *unit_notes)
    refuse_unclear_points(table, column)
    decimal_comma = table.decimal_comma
    numbers = as_numbers(pl.Series("concentration", texts, dtype=pl.String), decimal_comma)
    if numbers is not None:
        below = [f"{well} ({value:g})" for well, value in zip(wells, numbers, strict=True) if (value or 0) < 0]
        if not below:
            doses, rounding = _one_dose_each(numbers.cast(pl.Float64))
            return doses, column, (*notes, *rounding)
        return None, None, (_negative(table, column, below, is_named=named is not None),)
    odd = [text for text in dict.fromkeys(texts) if as_numbers(pl.Series([text]), decimal_comma) is None]
    if named is not None:
        raise DataError(
            "the concentration column holds something that is no number",
            where=f"{table.name}, column {column}",
            found=listed(odd),
            expected="numbers, or numbers with one unit",
            hint="convert them to one unit, or leave out --concentration-column",
        )
    text = f"column {column} holds no plain numbers ({listed(odd, 3)}): not taken as concentration"
    return None, None, (Note("warning", text),)


def _without_unit(texts: list[str], is_control: Sequence[bool], where: str) -> tuple[list[str], tuple[Note, ...]]:
    """The cells without the one unit of the treated wells, and what it is.

    Raises
    ------
    DataError
        Treated wells have several units, or some have none.
    """
    parts = [None if is_missing(text) else _WITH_UNIT.fullmatch(text) for text in texts]
    treated = [at for at, control in enumerate(is_control) if not control]
    units = {_unit(part[2]): part[2] for at in treated if (part := parts[at])}
    if not units:
        return texts, ()
    bare = [texts[at] for at in treated if parts[at] is None and not is_missing(texts[at]) and number(texts[at]) != 0]
    if len(units) > 1 or (bare and all(number(text) is not None for text in bare)):
        raise DataError(
            "concentrations have several units" if len(units) > 1 else "some concentrations have a unit and some none",
            where=where,
            found=listed([*units.values(), *dict.fromkeys(bare)], 8),
            expected="one unit in all cells",
            hint="convert them to one unit, or give the column a heading that is no concentration's",
        )
    [(key, unit)] = units.items()
    both = list(zip(texts, parts, strict=True))
    shown = [text if part is None else part[1] if _unit(part[2]) == key else "" for text, part in both]
    notes = [Note("info", f"concentrations are in {unit.strip()}")]
    if others := [text for text, part in both if part is not None and _unit(part[2]) != key]:
        text = f"concentrations of controls in another unit were not read: {listed(list(dict.fromkeys(others)), 3)}"
        notes.append(Note("info", text))
    return shown, tuple(notes)


def _unit(text: str) -> str:
    """One spelling a unit: micro is u, whichever of its two signs it is written with."""
    return unicodedata.normalize("NFKC", text).strip().replace("\u03bc", "u").replace("mL", "ml")


def _one_dose_each(doses: pl.Series) -> tuple[pl.Series, tuple[Note, ...]]:
    """Doses that are the same to six digits as one: the value with the fewest digits."""
    alike: dict[str, set[float]] = {}
    for value in doses.drop_nulls():
        alike.setdefault(f"{value:.6g}", set()).add(value)
    shortest = {key: min(values, key=lambda one: (len(repr(one)), one)) for key, values in alike.items()}
    merged = [listed(sorted(values), 3) for values in alike.values() if len(values) > 1]
    if not merged:
        return doses, ()
    text = f"concentrations that are the same to six digits were taken as one: {'; '.join(merged)}"
    same = pl.Series(
        doses.name, [None if value is None else shortest[f"{value:.6g}"] for value in doses], dtype=pl.Float64
    )
    return same, (Note("warning", text),)
