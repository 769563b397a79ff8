"""`dpf info`: what is in a project, and what of it is stale."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dpf.errors import DpfError
from dpf.project.directory import ModelFolder, Project, tables_in
from dpf.project.model_header import read_model_header
from dpf.tables.screen import Note, Screen, Summary, Targets, summarise
from dpf.tables.storage import expression_digest, read_about, read_table
from dpf.workflows.check.stored import StoredCheck, stored_check
from dpf.workflows.project.calibration import read_calibration
from dpf.workflows.project.model_file import ModelFile, elsewhere, find_model
from dpf.workflows.project.provenance import CARD, Now, current, why_stale


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
    """A training that has not finished, as its running history tells: at work, or interrupted.

    `epoch` of `epochs` is the last finished one of `member` (of `members`, counted from 0), `validation_total` its
    loss, and the file was written `seconds_ago`. `resumable`: there is a state that `--resume` can go on from. Where
    processes train members side by side, `at` has the last finished epoch of every member (0: none yet), and `member`
    is the last of those that have begun; else it is None.
    """

    model: str
    member: int
    members: int
    epoch: int
    epochs: int
    validation_total: float
    seconds_ago: float
    resumable: bool
    at: list[int] | None = None


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

    `waiting` are models that have nothing but a run that was interrupted before its first epoch had ended.
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
    now = current(project)
    problems: list[str] = []
    with _listed_in(problems):
        read_about(project.expression, "expression")
        expression_digest(project.expression)
    models, files = [], dict[str, ModelFile]()
    for name in project.model_names():
        with _listed_in(problems):
            files[name] = find_model(project, name)
            models.append(_model(files[name], now, problems))
    runs = []
    for name in project.unfinished_names():
        with suppress(FileNotFoundError), _listed_in(problems):  # not there: it has finished in the meantime
            runs.append(_run(project.model(name)))
    diverged = []
    for path in project.diverged_files():
        with _listed_in(problems, path):
            diverged.append(_diverged(path, now))
    results = _results(now, files, problems)
    design = None
    with _listed_in(problems, project.check.table("check")):
        design = stored_check(now)
    return ProjectInfo(
        str(project.path), _summary(project), models, runs, project.waiting_names(), diverged, results, problems, design
    )


def _summary(project: Project) -> Summary:
    wells, genes = read_table(project.wells, "wells"), read_table(project.genes, "genes")
    named = project.settings.targets
    activation = named.activation if named.activation in wells.columns else None
    scores = tuple(name for name in named.scores if name in wells.columns)
    targets = Targets(scores, named.label if named.label in wells.columns else None, activation)
    notes = tuple(Note(**note) for note in read_about(project.wells, "wells").get("notes", []))
    return summarise(Screen(wells, genes, np.empty((wells.height, 0), np.float32), targets, notes))


@contextmanager
def _listed_in(problems: list[str], path: Path | None = None) -> Iterator[None]:
    """Whatever damage does not let a part of a project be read is a line among its problems."""
    try:
        yield
    except FileNotFoundError:
        raise
    except DpfError as error:
        problems.append(str(error))
    except (OSError, ValueError, TypeError, LookupError, AttributeError, pl.exceptions.PolarsError) as error:
        problems.append(f"{path or 'a part of the project'} cannot be read\n  found: {type(error).__name__}: {error}")


def _model(file: ModelFile, now: Now, problems: list[str]) -> ModelInfo:
    folder, header = file.folder, file.header
    metrics: dict[str, Any] = {}
    if folder.metrics.exists():
        with _listed_in(problems, folder.metrics):
            metrics = _metrics(folder.metrics)
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


def _metrics(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise OSError("it is no regular file")
    metrics: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if not all({"member", "best_epoch"} <= set(row) for row in metrics.get("members", [])):
        raise ValueError("it is not as dpf writes it")
    return metrics


def _run(folder: ModelFolder) -> RunInfo:
    path = folder.running_history
    written = path.stat().st_mtime
    about, table = read_about(path, "history"), read_table(path, "history")
    last, at = table.row(-1, named=True), None
    if about.get("side_by_side"):
        reached = dict(table.group_by("member").agg(pl.col("epoch").max()).iter_rows())
        at = [reached.get(member, 0) for member in range(about["members"])]
    return RunInfo(
        folder.path.name,
        last["member"],
        about["members"],
        last["epoch"],
        about["epochs"],
        last["validation_total"],
        time.time() - written,
        folder.resumable,
        at,
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


def _results(now: Now, files: dict[str, ModelFile], problems: list[str]) -> list[ResultInfo]:
    """Cards and calibrations of models, then what is in `results/`, then the baselines, which are of no model."""
    project = now.project
    folders = sorted((project.path / "results").glob("*/"))
    models = [project.model(name) for name in project.model_names()]
    found = [path for model in models for path in (model.card, model.calibration)]
    found += [path for folder in folders for path in (folder / "card.md", *tables_in(folder))]
    found += tables_in(project.baselines.path)
    results = []
    for path in found:
        of = None if path.parent == project.baselines.path else files.get(path.parent.name)
        with _listed_in(problems, path):
            if path.is_file():
                results.append(ResultInfo(str(path.relative_to(project.path)), _stale(path, replace(now, model=of))))
            elif path.exists():
                problems.append(f"{path} is no regular file")
    return results


def _stale(path: Path, now: Now) -> str | None:
    about = _about(path, now.project)
    if about is None:
        return "what it was made of is not known; dpf evaluate writes a new one"
    if path.parent.name == elsewhere(about.get("model_sha256") or ""):  # a file that may lie anywhere
        about = {name: value for name, value in about.items() if name not in ("model_sha256", "calibration_sha256")}
    return why_stale(about, now)


def _about(path: Path, project: Project) -> dict[str, Any] | None:
    """What a result says it was made of; None of a card that no scoreboard speaks of."""
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
    return path.stem
