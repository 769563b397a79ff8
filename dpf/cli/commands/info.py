"""`dpf info`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from dpf.cli.display.summaries import summary_lines
from dpf.cli.options import InfoSession, ProjectArgument
from dpf.cli.session import Session
from dpf.config.options import overrides
from dpf.errors import UsageError, listed
from dpf.workflows.options import SettingOptions

if TYPE_CHECKING:
    from dpf.workflows.info import DivergedInfo, ProjectInfo, RunInfo


def command(
    run: InfoSession,
    project: ProjectArgument,
    changed: SettingOptions,
    settings: Annotated[bool, typer.Option("--settings", help="Show every setting with its meaning instead.")] = False,
    columns: Annotated[
        str, typer.Option("--columns", metavar="TABLE", help="Explain the columns of a table, e.g. ranking, instead.")
    ] = "",
) -> None:
    """What is in a project: wells, targets, models with their metrics, results and whether they are stale."""
    if run.requested == "csv" and not columns:
        raise UsageError("this result is no table", found="--format csv", expected="--format table or json")
    from dpf.config.toml import template
    from dpf.project.directory import open_project
    from dpf.workflows.info import project_info

    opened = open_project(project, overrides(changed))
    if columns:
        _show_columns(run, columns)
    elif settings and run.format == "json":
        run.envelope(opened.settings.as_dict())
    elif settings:
        run.print(template(opened.settings))
    elif run.format == "json":
        run.envelope(asdict(project_info(opened)))
    else:
        from dpf.workflows.check.stored import design_lines

        found = project_info(opened)
        run.print("\n".join(_lines(found, design_lines(found.design, project))))


def _show_columns(run: Session, name: str) -> None:
    from dpf.cli.display.columns import print_columns
    from dpf.tables.schemas.registry import describe, find_schema

    schema = find_schema(name)
    if run.format == "table":
        print_columns(schema)
    else:
        run.show(describe(schema), "", file=schema.file, made_by=schema.made_by, row=schema.row)


def _lines(found: ProjectInfo, design: list[str]) -> list[str]:
    lines = [f"project  {found.path}", *summary_lines(found.summary), *design]
    for model in found.models:
        lines.append(f"model    {model.name}: {model.members} member(s), {model.genes:,} genes, {model.mib:.1f} MiB, ")
        lines[-1] += f"trained on {model.device} in {model.precision}"
        lines[-1] += "; STALE: the inputs have changed since" if model.stale else ""
        lines[-1] += "; an interrupted run waits (--resume)" if model.interrupted else ""
        for row in model.metrics.get("members", []):
            numbers = [
                f"{key.removeprefix('validation_')} {value:.3f}"
                for key, value in row.items()
                if key.startswith("validation_") and value is not None
            ]
            lines.append(f"  member {row['member']}: best epoch {row['best_epoch']}; validation {', '.join(numbers)}")
    lines += [_run_line(run) for run in found.runs]
    lines += [
        f"run      {name}: interrupted before its first epoch had ended; --resume goes on" for name in found.waiting
    ]
    lines += [_diverged_line(diverged) for diverged in found.diverged]
    if not found.models and not found.runs and not found.waiting:
        lines.append(f"model    none yet; train one: dpf train {found.path}")
    lines += [f"result   {r.path}{f'  STALE: {r.stale}' if r.stale else ''}" for r in found.results]
    return [*lines, *(f"PROBLEM  {problem}" for problem in found.problems)]


def _run_line(run: RunInfo) -> str:
    text = f"run      {run.model}: {run.state}; "
    text += f"member {run.member} of 0-{run.members - 1}, " if run.members > 1 else ""
    text += f"epoch {run.epoch} of {run.epochs}, validation total {run.validation_total:.3f}, {_ago(run.seconds_ago)}"
    if run.state == "done":
        return f"{text}; it waits for the other members"
    return text + ("; --resume goes on" if run.resumable and run.state != "at work" else "")


def _diverged_line(found: DivergedInfo) -> str:
    text = f"diverged {found.path}: the loss stopped being a number"
    text += f" in {found.where}" if found.where else ""
    text += f", {_ago(found.seconds_ago)}; holds the best weights before (epoch {listed(found.best_epochs)})"
    return text + ("; STALE: the inputs have changed since" if found.stale else "")


def _ago(seconds: float) -> str:
    from dpf.workflows.train.time_left import duration

    return f"{duration(seconds)} ago"
