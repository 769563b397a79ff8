"""`dpf check`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dpf.cli.options import TableSession
from dpf.cli.session import Session
from dpf.config.options import overrides
from dpf.errors import DataError, UsageError
from dpf.workflows.options import LAYOUT_PANEL, CheckOptions, LayoutWish, SettingOptions

if TYPE_CHECKING:
    from dpf.analysis.design.item import CheckItem


def command(
    run: TableSession,
    project: Annotated[
        Path | None,
        typer.Argument(help="The project's folder; not needed with --compound-list.", show_default=False),
    ] = None,
    *,
    options: CheckOptions,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 4 if anything fails.")] = False,
    suggest_layout: Annotated[
        Path | None,
        typer.Option(
            "--suggest-layout", help="Write a randomised layout here (CSV) instead.", rich_help_panel=LAYOUT_PANEL
        ),
    ] = None,
    compound_list: Annotated[
        Path | None,
        typer.Option(
            "--compound-list",
            help="Lay out these instead of the project's: one a line, or a table with a column of compounds.",
            rich_help_panel=LAYOUT_PANEL,
        ),
    ] = None,
    wish: LayoutWish,
    settings: SettingOptions,
) -> None:
    """Is the project whole, and has its plate layout already decided the answer? Or: suggest the next layout."""
    from dpf.analysis.design.item import Verdict

    if suggest_layout is not None:
        items = _suggest(run, suggest_layout, project, compound_list, wish, options, settings)
    elif given := [*wish.given(), *["--compound-list"] * (compound_list is not None)]:
        raise UsageError("these options are of --suggest-layout FILE", found=", ".join(given))
    else:
        items = _check(run, project, options, settings)
    failing = sum(item.verdict == Verdict.FAIL for item in items)
    if strict and failing:
        run.say(f"--strict: {failing} of {len(items)} checks fail")
        raise typer.Exit(DataError.exit_code)


def _check(run: Session, path: Path | None, options: CheckOptions, settings: SettingOptions) -> Sequence[CheckItem]:
    from dpf.project.directory import open_project
    from dpf.workflows.check.check import check_project
    from dpf.workflows.check.stored import counted

    if path is None:
        raise UsageError("check needs a project", hint="dpf check PROJECT")
    result = check_project(open_project(path, overrides(settings)), options, progress=run.progress)
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
    run: Session, target: Path, path: Path | None, compounds: Path | None, wish: LayoutWish, options: CheckOptions,
    settings: SettingOptions,
) -> Sequence[CheckItem]:  # fmt: skip
    from dataclasses import replace

    from dpf.project.directory import open_project
    from dpf.workflows.check.next_layout import suggest

    project = open_project(path, overrides(settings)) if path is not None else None
    layout = suggest(target, project, compounds, replace(wish, seed=options.seed), fdr=options.fdr)
    for note in layout.notes:
        run.say(f"note: {note}")
    _show(run, layout.items, layout=str(layout.path), wells=layout.table.to_dicts(), notes=layout.notes)
    run.say(f"layout: {layout.text}")
    run.say(f"table: {layout.path}")
    return layout.items


def _show(run: Session, items: Sequence[CheckItem], **data: Any) -> None:
    """Items as a text, as CSV (without their details), or in the JSON envelope (with them)."""
    from dataclasses import asdict

    if run.format == "json":
        run.envelope({"rows": [asdict(item) for item in items], **data})
    elif run.format == "csv":
        from dpf.workflows.check.stored import items_table

        run.show(items_table(items).drop("table"), "check")
    else:
        from dpf.cli.display.verdicts import print_items

        run.close()
        print_items(items)
