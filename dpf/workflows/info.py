"""`dpf info`: what is in a project, and what of it is stale."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from dpf.errors import DpfError, listed
from dpf.files import read_object, require_regular
from dpf.project.directory import ModelFolder, Project, ResultsFolder, tables_in
from dpf.project.lock import is_held
from dpf.project.model_header import read_model_header
from dpf.tables.screen import Note, Screen, Summary, Targets, summarise
from dpf.tables.storage import expression_digest, read_about, read_table
from dpf.workflows.check.stored import StoredCheck, stored_check
from dpf.workflows.project.calibration import read_calibration
from dpf.workflows.project.model_file import ModelFile, elsewhere, find_model
from dpf.workflows.project.provenance import CARD, Now, current, why_stale

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class ModelInfo:
    """A trained model: its settings, metrics and size, and whether it was trained on today's inputs."""

    name: str
    mib: float
    members: int
    genes: int
    device: str
    precision: str
    best_epochs: list[int]
    settings: dict[str, Any]
    metrics: dict[str, Any]
    stale: bool
    interrupted: bool


@dataclass(frozen=True)
class RunInfo:
    """A training that has not become a model yet, of a whole model or of a member that is trained alone.

    `epoch` of `epochs` is the last finished one of `member` (of `members`, counted from 0), `validation_total` its
    loss, and the history was written `seconds_ago`. `resumable`: there is a state that `--resume` can go on from.
    `state`: "done" (a member that waits for the others), "at work", "interrupted", or "not finished" where it cannot be
    found out which of these two.
    """

    model: str
    member: int
    members: int
    epoch: int
    epochs: int
    validation_total: float
    seconds_ago: float
    resumable: bool
    state: str


@dataclass(frozen=True)
class DivergedInfo:
    """The best weights that a training left whose loss stopped being a finite number.

    `where` it stopped (None in files that do not say), the best epoch of each member that is in it, how long ago it was
    written, and whether the inputs have changed since.
    """

    path: str
    where: str | None
    best_epochs: list[int]
    seconds_ago: float
    stale: bool


@dataclass(frozen=True)
class ResultInfo:
    """A result table, a model's card or its calibration, and why it is stale, or None."""

    path: str
    stale: str | None


@dataclass(frozen=True)
class ProjectInfo:
    """What `project_info` found; `design` is the last `dpf check`, None where there is none that can be read.

    `waiting` are models, or members, that have nothing but a run that was interrupted before its first epoch had ended.
    """

    path: str
    summary: Summary
    models: list[ModelInfo]
    runs: list[RunInfo]
    waiting: list[str]
    diverged: list[DivergedInfo]
    results: list[ResultInfo]
    problems: list[str]
    design: StoredCheck | None


def project_info(project: Project) -> ProjectInfo:
    """Describe a project; a damaged model or result is listed as a problem, not raised.

    Raises
    ------
    DpfError
        The inputs themselves cannot be read.
    """
    now, problems = current(project), list[str]()
    _each(_whole_expression, [project.expression], problems)
    files = {file.name: file for file in _each(partial(find_model, project), project.model_names(), problems)}
    folders = project.training_folders()
    running = [folder for folder in folders if folder.running_history.is_file()]
    waiting = [
        _name(folder) if folder.number is None else f"{_name(folder)}, member {folder.number}"
        for folder in folders
        if folder.interrupted and not folder.running_history.is_file() and not folder.best.is_file()
    ]
    diverged = [folder.diverged for folder in folders if folder.diverged.is_file()]
    return ProjectInfo(
        str(project.path),
        _summary(project),
        _each(lambda file: _model(file, now, problems), files.values(), problems),
        _each(_run, running, problems),
        waiting,
        _each(lambda path: _diverged(path, now), diverged, problems),
        _each(lambda path: _result(path, now, files), _result_files(project), problems),
        problems,
        next(iter(_each(stored_check, [now], problems)), None),
    )


def _each(look: Callable[[T], R], there: Iterable[T], problems: list[str]) -> list[R]:
    """What is found of each: one that cannot be read is a problem, one that has gone in the meantime is nothing."""
    found = []
    for one in there:
        try:
            found.append(look(one))
        except FileNotFoundError:
            continue
        except DpfError as error:
            problems.append(str(error))
        except (OSError, ValueError, TypeError, LookupError, AttributeError, pl.exceptions.PolarsError) as error:
            what = one if isinstance(one, Path | str) else "a part of the project"
            problems.append(f"{what} cannot be read\n  found: {type(error).__name__}: {error}")
    return found


def _whole_expression(path: Path) -> None:
    read_about(path, "expression")
    expression_digest(path)


def _name(folder: ModelFolder) -> str:
    """The name of the model that a folder is, or is a member of."""
    return folder.path.name if folder.number is None else folder.path.parent.parent.name


def _summary(project: Project) -> Summary:
    wells, genes = read_table(project.wells, "wells"), read_table(project.genes, "genes")
    named = project.settings.targets
    activation = named.activation if named.activation in wells.columns else None
    scores = tuple(name for name in named.scores if name in wells.columns)
    targets = Targets(scores, named.label if named.label in wells.columns else None, activation)
    notes = tuple(Note(**note) for note in read_about(project.wells, "wells").get("notes", []))
    screen = Screen(wells, genes, np.empty((wells.height, 0), np.float32), targets, notes)
    return summarise(screen, keep_flagged=project.settings.quality.keep_flagged)


def _model(file: ModelFile, now: Now, problems: list[str]) -> ModelInfo:
    folder, header = file.folder, file.header
    metrics: dict[str, Any] = {}
    if folder.metrics.exists():
        metrics = next(iter(_each(_metrics, [folder.metrics], problems)), {})
    own = replace(now, model=file)
    problems += [
        f"{path} is not of the model in its folder: {why}\n  next: "
        + ("dpf train --resume ends the training that was cut short" if folder.resumable else "train the model again")
        for path, about in [*_each(_made_of, [folder.splits, folder.history], problems), (folder.metrics, metrics)]
        if (why := why_stale(about, own)) is not None
    ]
    return ModelInfo(
        file.name,
        file.path.stat().st_size / 2**20,
        header["members"],
        len(header["genes"]),
        header["device"],
        header["precision"],
        header["best_epochs"],
        header["settings"],
        metrics,
        why_stale(header, now) is not None,
        folder.resumable,
    )


def _made_of(path: Path) -> tuple[Path, dict[str, Any]]:
    return path, read_about(path, path.stem)


def _metrics(path: Path) -> dict[str, Any]:
    metrics = read_object(path)
    for row in metrics.get("members", []):
        numbers = [value for name, value in row.items() if name != "wells"]
        if not {"member", "best_epoch"} <= set(row) or not all(
            isinstance(value, int | float | None) for value in numbers
        ):
            raise ValueError("it is not as dpf writes it")
    return metrics


def _run(folder: ModelFolder) -> RunInfo:
    path = folder.running_history
    written = path.stat().st_mtime
    about, table = read_about(path, "history"), read_table(path, "history")
    last = table.row(-1, named=True)
    states = {True: "at work", False: "interrupted", None: "not finished"}
    return RunInfo(
        _name(folder),
        last["member"],
        about["members"],
        last["epoch"],
        about["epochs"],
        last["validation_total"],
        time.time() - written,
        folder.resumable,
        "done" if folder.finished.is_file() else states[is_held(folder.path)],
    )


def _diverged(path: Path, now: Now) -> DivergedInfo:
    header, written = read_model_header(path), path.stat().st_mtime
    return DivergedInfo(
        str(path.relative_to(now.project.path)),
        header.get("diverged"),
        header["best_epochs"],
        time.time() - written,
        why_stale(header, now) is not None,
    )


def _result_files(project: Project) -> Iterator[Path]:
    """Cards and calibrations of models, then what is in `results/`, then what is of no model."""
    models = [project.model(name) for name in project.model_names()]
    found = [path for model in models for path in (model.card, model.calibration)]
    for folder in sorted((project.path / "results").glob("*/")):
        found += [folder / "card.md", *tables_in(folder), *ResultsFolder(folder).in_parts()]
    without = [folder.path for folder in _without_models(project)]
    yield from filter(Path.exists, [*found, *(path for folder in without for path in tables_in(folder))])


def _without_models(project: Project) -> tuple[ResultsFolder, ...]:
    """Results that are of the inputs and of no model."""
    return project.baselines, project.without_model


def _result(path: Path, now: Now, files: dict[str, ModelFile]) -> ResultInfo:
    if not path.is_dir():
        require_regular(path)
    unmodelled = [folder.path for folder in _without_models(now.project)]
    now = replace(now, model=None if path.parent in unmodelled else files.get(path.parent.name))
    stale = _stale_parts(path, now) if path.is_dir() else _stale(path, path.parent, now)
    return ResultInfo(str(path.relative_to(now.project.path)), stale)


def _stale_parts(folder: Path, now: Now) -> str | None:
    """Why a folder of parts is not the whole table as it would be now: parts are stale, or not there."""
    stale = {path.stem: why for path in tables_in(folder) if (why := _stale(path, folder.parent, now))}
    if stale:
        return f"{listed(list(stale), 3)}: {next(iter(stale.values()))}"
    there = len(tables_in(folder))
    of = ResultsFolder(folder.parent).in_parts()[folder]
    return None if there == of else f"{there:,} of {of:,} parts are there"


def _stale(path: Path, results: Path, now: Now) -> str | None:
    about = _about(path, now.project)
    if about is None:
        return "what it was made of is not known; dpf evaluate writes a new one"
    if results.name == elsewhere(about.get("model_sha256") or ""):  # a file that may lie anywhere
        about = {name: value for name, value in about.items() if name not in ("model_sha256", "calibration_sha256")}
    return why_stale(about, now)


def _about(path: Path, project: Project) -> dict[str, Any] | None:
    """What a result was made of; None of a card without a scoreboard that describes it."""
    if path.suffix == ".json":
        return read_calibration(path)[1]
    if path.suffix == ".md":
        scoreboard = project.path / "results" / path.parent.name / "scoreboard.parquet"
        return read_about(scoreboard, "scoreboard").get(CARD) if scoreboard.is_file() else None
    return read_about(path, _kind(path))


def _kind(path: Path) -> str:
    for kind in ("importance", "predictions"):
        if path.stem.startswith(kind):
            return kind
    return "predictions" if path.parent.name.startswith("predictions_") else path.stem
