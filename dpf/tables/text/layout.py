"""How a text table of numbers is built: its delimiter, its headings, its columns of names, its decimal mark."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from dpf.errors import DataError, listed
from dpf.tables.text.cells import commas, is_missing, number, points_are_unclear
from dpf.tables.text.encodings import leading_comments, require_delimiter, sniff_delimiter, split_line
from dpf.tables.text.spreadsheet import as_named
from dpf.tables.text.wells_table import is_unnamed

_SAMPLE_LINES = 50

#: Headings of a first column that names rows even where its cells look like numbers (Entrez ids, wells 1E01).
NAME_HEADINGS = frozenset(
    """
    gene genes gene_id geneid gene_name gene_symbol symbol hugo hgnc ensembl ensembl_id entrez entrez_id entrezid
    id index name names feature probe probe_id rownames row_names row_name well wells well_id wellid well_name
    sample sample_id barcode cell x
    """.split()  # noqa: SIM905
)
#: Headings of further columns that describe genes, as count tables (featureCounts and others) carry them.
_GENE_HEADINGS = NAME_HEADINGS.union(
    """
    chr chrom chromosome start end strand length description biotype gene_biotype gene_type
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Layout:
    """How the lines of one table are built.

    Attributes
    ----------
    path
        The file.
    delimiter
        What separates cells.
    leading
        The headings of the columns on the left that hold no expression: row names first.
    columns
        The headings of the numbers.
    trailing
        How many of `columns`, at the right, have no heading.
    decimal_comma, unclear_commas
        Whether numbers are written 1,5; whether they have commas that could be thousands separators.
    """

    path: Path
    delimiter: str
    leading: list[str]
    columns: list[str]
    trailing: int
    decimal_comma: bool = False
    unclear_commas: bool = False

    @property
    def width(self) -> int:
        """How many cells a line has."""
        return len(self.leading) + len(self.columns)


def detect_layout(texts: list[str], path: Path) -> tuple[Layout, int]:
    """The layout of the table whose first lines these are, and how many of them are comments and headings.

    Raises
    ------
    DataError
        There is nothing but empty lines and comments.
    """
    sample = [text for text in texts[: 4 * _SAMPLE_LINES] if text.strip()][:_SAMPLE_LINES]
    skipped = leading_comments(sample)
    if not sample[skipped:]:
        raise DataError("a table is empty", where=path, expected="a line of headings and the table below it")
    require_delimiter(sample[skipped:], path)
    delimiter = sniff_delimiter(sample[skipped:])
    headings = [as_named(heading.strip()) for heading in split_line(sample[skipped], delimiter)]
    rows = [split_line(text, delimiter) for text in sample[skipped + 1 :]]
    headings = _complete(headings, rows)
    leading = _leading(headings, rows)
    trailing = 0
    while trailing < len(headings) - leading and not headings[-1 - trailing]:
        trailing += 1
    _refuse_data_as_headings(headings[leading:], path)
    layout = Layout(path, delimiter, headings[:leading], headings[leading:], trailing)
    at = texts.index(sample[skipped]) + 1
    if delimiter != "," and any("," in text for text in texts[at:]):
        cells = [cell for text in texts[at:] for cell in text.split(delimiter)[leading:] if "," in cell]
        meaning = commas(cell.strip('" ') for cell in cells)
        layout = replace(layout, decimal_comma=meaning == "decimal", unclear_commas=meaning == "unclear")
    if delimiter == ";" and not layout.decimal_comma and any("." in text for text in texts[at:]):
        cells = [cell.strip('" ') for text in texts[at:] for cell in text.split(delimiter)[leading:] if "." in cell]
        if points_are_unclear(cells):
            raise DataError(
                "a point may be a decimal point or part thousands",
                where=path,
                found=listed(cells, 5),
                expected="numbers without thousands separators",
                hint="write 1020 for one thousand and twenty, 1.02 for the other",
            )
    return layout, at


def _refuse_data_as_headings(headings: list[str], path: Path) -> None:
    """Refuse headings that are a line of data: mostly numbers, with fractions or repeated. Entrez ids are neither."""
    numbers = [heading for heading in headings if number(heading.replace(",", ".")) is not None]
    repeated = len(set(numbers)) < len(numbers)
    if 2 * len(numbers) > len(headings) and (repeated or any(set(heading) & set(".,eE") for heading in numbers)):
        raise DataError(
            "the line of headings holds numbers",
            where=path,
            found=listed(headings, 5),
            expected="names of genes or wells in the first line",
            hint="the line of headings is missing: write the table again with it",
        )


def _complete(headings: list[str], rows: list[list[str]]) -> list[str]:
    """Headings as many as cells: R writes none above the row names, some programs end lines with a delimiter."""
    if not rows:
        return headings
    width = Counter(len(row) for row in rows).most_common(1)[0][0]
    full = [row for row in rows if len(row) == width]
    if width == len(headings) + 1:
        return [*headings, ""] if all(not row[-1].strip() for row in full) else ["", *headings]
    if width < len(headings) and not any(headings[width:]):
        return headings[:width]
    return headings


def _leading(headings: list[str], rows: list[list[str]]) -> int:
    """How many columns on the left hold no expression."""
    count = 0
    for position, heading in enumerate(headings[:-1] if len(headings) > 1 else []):
        cells = [row[position] for row in rows if position < len(row) and not is_missing(row[position])]
        words = sum(number(cell.replace(",", ".")) is None for cell in cells)
        if position == 0:
            is_text = is_unnamed(heading) or heading.casefold() in NAME_HEADINGS or words > len(cells) / 2
        else:
            is_text = (bool(cells) and words == len(cells)) or heading.casefold() in _GENE_HEADINGS
        if not is_text:
            break
        count += 1
    return count


def cut_line(text: str, line: int, layout: Layout) -> tuple[list[str], str]:
    r"""The leading cells of a line, and its numbers joined by ``\n``.

    Raises
    ------
    DataError
        The line has too many or too few cells. Empty cells at its end do not count.
    """
    wanted = len(layout.columns)
    if '"' not in text:
        *names, body = text.split(layout.delimiter, len(layout.leading))
        if len(names) == len(layout.leading) and body.count(layout.delimiter) == wanted - 1:
            return names, body.replace(layout.delimiter, "\n")
    elif len(layout.leading) == 1 and text.startswith('"'):  # R quotes row names and nothing else
        name, _, body = text[1:].partition(f'"{layout.delimiter}')
        if '"' not in name and '"' not in body and body.count(layout.delimiter) == wanted - 1:
            return [name], body.replace(layout.delimiter, "\n")
    cells = split_line(text, layout.delimiter)
    if len(cells) > layout.width and not any(cell.strip() for cell in cells[layout.width :]):
        cells = cells[: layout.width]
    if layout.width - layout.trailing <= len(cells) < layout.width:
        cells = [*cells, *[""] * (layout.width - len(cells))]
    if len(cells) != layout.width:
        raise DataError(
            "a line has too many or too few cells",
            where=f"{layout.path}, line {line}",
            found=f"{len(cells):,} cells",
            expected=f"{layout.width:,}, as in the lines above",
            hint="is the file whole? a name with the delimiter in it needs quotes around it",
        )
    return cells[: len(layout.leading)], "\n".join(cell.replace("\n", " ") for cell in cells[len(layout.leading) :])
