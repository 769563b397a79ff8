"""`dpf check`."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpf.cli.options import FdrOption, FormatOption, SetOption
from dpf.cli.session import OutputFormat, Session, session
from dpf.errors import DataError, UsageError

if TYPE_CHECKING:
    from dpf.analysis.design.item import CheckItem
    from dpf.workflows.check.next_layout import LayoutWish

_LAYOUT = "The next layout"


class _PlateFormat(StrEnum):
    small = "96"
    middle = "384"
    large = "1536"


def command(
    project: Annotated[
        Path | None,
        typer.Argument(help="The project's folder; not needed with --compound-list.", show_default=False),
    ] = None,
    fdr: FdrOption = 0.05,
    permutations: Annotated[int, typer.Option("--permutations", help="Rearrangements for each p-value.")] = 999,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of permutations, folds and the layout.")] = 614,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 4 if anything fails.")] = False,
    suggest_layout: Annotated[
        Path | None,
        typer.Option("--suggest-layout", help="Write a randomised layout here (CSV) instead.", rich_help_panel=_LAYOUT),
    ] = None,
    compound_list: Annotated[
        Path | None,
        typer.Option(
            "--compound-list",
            help="Lay out these instead of the project's: one a line, or a table with a column of compounds.",
            rich_help_panel=_LAYOUT,
        ),
    ] = None,
    replicates: Annotated[
        int | None,
        typer.Option(
            "--replicates",
            min=1,
            help="Wells of each compound. (Default: the project's, else 2.)",
            rich_help_panel=_LAYOUT,
        ),
    ] = None,
    controls_per_plate: Annotated[
        int | None,
        typer.Option(
            "--controls-per-plate",
            min=1,
            help="Control wells on each plate. (Default: the project's, else as many as a plate has rows.)",
            rich_help_panel=_LAYOUT,
        ),
    ] = None,
    plates: Annotated[
        int | None,
        typer.Option(
            "--plates", min=1, help="Plates. (Default: the project's, and as many as needed.)", rich_help_panel=_LAYOUT
        ),
    ] = None,
    plate_format: Annotated[
        _PlateFormat | None,
        typer.Option(
            "--plate-format", help="Wells of a plate. (Default: the project's, else 384.)", rich_help_panel=_LAYOUT
        ),
    ] = None,
    edge_free: Annotated[
        bool, typer.Option("--edge-free", help="Leave the outermost wells empty.", rich_help_panel=_LAYOUT)
    ] = False,
    set_: SetOption = None,
    output: FormatOption = None,
) -> None:
    """Is the project whole, and has its plate layout already decided the answer? Or: suggest the next layout."""
    with session("check", output) as run:
        asked = {"replicates": replicates, "controls": controls_per_plate, "plates": plates}
        asked |= {"plate_format": int(plate_format) if plate_format else None}
        if suggest_layout is None:
            _refuse_layout_options(compound_list, edge_free, asked)
            items = _check(run, project, set_ or [], fdr, permutations, seed)
        else:
            from dpf.workflows.check.next_layout import LayoutWish

            wish = LayoutWish(**asked, edge_free=edge_free, seed=seed)  # type: ignore[arg-type]
            items = _suggest(run, suggest_layout, project, set_ or [], compound_list, wish, fdr)
        failing = sum(item.verdict == "fail" for item in items)
        if strict and failing:
            run.say(f"--strict: {failing} of {len(items)} checks fail")
            raise typer.Exit(DataError.exit_code)


def _refuse_layout_options(compound_list: Path | None, edge_free: bool, asked: dict[str, int | None]) -> None:
    given = [f"--{name.replace('_', '-')}" for name, value in asked.items() if value is not None]
    given += ["--compound-list"] * (compound_list is not None) + ["--edge-free"] * edge_free
    if given:
        given = [name.replace("--controls", "--controls-per-plate") for name in given]
        raise UsageError("these options are of --suggest-layout FILE", found=", ".join(given))


def _check(
    run: Session, path: Path | None, changed: list[str], fdr: float, permutations: int, seed: int
) -> Sequence[CheckItem]:
    from dpf.project.directory import open_project
    from dpf.workflows.check.check import check_project
    from dpf.workflows.check.stored import counted

    if path is None:
        raise UsageError("check needs a project", hint="dpf check PROJECT")
    project = open_project(path, changed)
    result = check_project(project, fdr=fdr, permutations=permutations, seed=seed, progress=run.progress)
    summary = result.summary
    figures = [str(figure) for figure in result.figures]
    _show(run, result.items, verdict=summary.verdict, counts=summary.counts, path=str(result.path), figures=figures)
    for text in result.read_as:
        run.say(f"{text.replace(': ', ': column ')}")
    run.say(f"check: {counted(summary.counts)}")
    run.say(f"table: {result.path}")
    if figures:
        run.say(f"figures: {', '.join(figures)}")
    return result.items


def _suggest(
    run: Session,
    target: Path,
    path: Path | None,
    changed: list[str],
    compounds: Path | None,
    wish: LayoutWish,
    fdr: float,
) -> Sequence[CheckItem]:
    from dpf.project.directory import open_project
    from dpf.workflows.check.next_layout import suggest

    project = open_project(path, changed) if path is not None else None
    layout = suggest(target, project, compounds, wish, fdr=fdr)
    for note in layout.notes:
        run.say(f"note: {note}")
    _show(run, layout.items, layout=str(layout.path), wells=layout.table.to_dicts(), notes=layout.notes)
    run.say(f"layout: {layout.text}")
    run.say(f"table: {layout.path}")
    return layout.items


def _show(run: Session, items: Sequence[CheckItem], **data: Any) -> None:
    """Items as a text, as CSV (without their details), or in the JSON envelope (with them)."""
    from dataclasses import asdict

    if run.format is OutputFormat.json:
        run.envelope({"rows": [asdict(item) for item in items], **data})
    elif run.format is OutputFormat.csv:
        from dpf.workflows.check.stored import items_table

        run.show(items_table(items).drop("table"), "check")
    else:
        from dpf.cli.display.verdicts import print_items

        run.close()
        print_items(items)
