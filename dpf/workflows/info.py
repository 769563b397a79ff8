"""`dpf info`: what is in a project, and what of it is stale."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dpf.errors import DpfError
from dpf.files import sha256_file
from dpf.project.directory import ModelFolder, Project, ResultsFolder
from dpf.project.lock import is_held
from dpf.project.model_header import read_model_header
from dpf.tables.screen import Note, Screen, Summary, Targets, summarise
from dpf.tables.storage import inputs_fingerprint, read_about, read_table
from dpf.workflows.check.stored import StoredCheck, stored_check
from dpf.workflows.project.papers import EVALUATED_ON, card_says, is_of_weights
from dpf.workflows.rank.choices import VERDICT_RULE

_RETRAINED = "the model has been trained again since"
_CHANGED = "the inputs have changed since"
_OLD_VERDICTS = "its verdicts are by the rule of an earlier dpf; dpf rank makes it again"


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
    """A result table, a model's card or its calibration: whether the model or the inputs have changed since."""

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
    fingerprint = inputs_fingerprint(project.expression, project.wells)
    problems: list[str] = []
    models = []
    for name in project.model_names():
        try:
            models.append(_model(project, name, fingerprint))
        except DpfError as error:
            problems.append(str(error))
    runs, waiting, diverged = [], [], []
    for folder in project.training_folders():
        try:
            if folder.running_history.is_file():
                runs.append(_run(folder))
            elif folder.interrupted and not folder.best.is_file():
                waiting.append(_name(folder) if folder.number is None else f"{_name(folder)}, member {folder.number}")
            if folder.diverged.is_file():
                diverged.append(_diverged(project, folder.diverged, fingerprint))
        except FileNotFoundError:  # it has finished in the meantime
            continue
        except DpfError as error:
            problems.append(str(error))
    results = _results(project, {"inputs_sha256": fingerprint}, problems)
    design = None
    try:
        design = stored_check(project, fingerprint)
    except DpfError as error:
        problems.append(str(error))
    return ProjectInfo(str(project.path), _summary(project), models, runs, waiting, diverged, results, problems, design)


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
    return summarise(Screen(wells, genes, np.empty((wells.height, 0), np.float32), targets, notes))


def _model(project: Project, name: str, fingerprint: str) -> ModelInfo:
    folder = project.model(name)
    header = read_model_header(folder.best)
    metrics = json.loads(folder.metrics.read_text(encoding="utf-8")) if folder.metrics.is_file() else {}
    return ModelInfo(
        name,
        folder.best.stat().st_size / 2**20,
        header["members"],
        len(header["genes"]),
        header["device"],
        header["precision"],
        header["best_epochs"],
        header["settings"],
        metrics,
        header["inputs_sha256"] != fingerprint,
        folder.resumable,
    )


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


def _diverged(project: Project, path: Path, fingerprint: str) -> DivergedInfo:
    header, written = read_model_header(path), path.stat().st_mtime
    return DivergedInfo(
        str(path.relative_to(project.path)),
        header.get("diverged"),
        header["best_epochs"],
        time.time() - written,
        header["inputs_sha256"] != fingerprint,
    )


def _results(project: Project, current: dict[str, str], problems: list[str]) -> list[ResultInfo]:
    """Papers of models, then the tables of results, then those of the baselines, which are of no model."""
    current = {**current, "expression_sha256": sha256_file(project.expression)}
    found: list[Callable[[], ResultInfo]] = [
        partial(_paper, project, path, current["inputs_sha256"])
        for name in project.model_names()
        for path in project.model(name).papers
    ]
    for folder in sorted((project.path / "results").glob("*/")):
        model = project.path / "models" / folder.name / "model.safetensors"
        found += [partial(_foreign_card, project, path, current) for path in folder.glob("card.md")]
        found += [partial(_result, project, path, current, model) for path in sorted(folder.glob("*.parquet"))]
    found += [
        partial(_result, project, path, current, None) for path in sorted(project.baselines.path.glob("*.parquet"))
    ]
    results = []
    for look in found:
        try:
            results.append(look())
        except DpfError as error:
            problems.append(str(error))
    return results


def _paper(project: Project, path: Path, fingerprint: str) -> ResultInfo:
    folder, stale = ModelFolder(path.parent), None
    if not is_of_weights(path, sha256_file(folder.best)):
        stale = _RETRAINED
    elif path == folder.card and not fingerprint.startswith(card_says(path, EVALUATED_ON).rstrip(".")):
        stale = _CHANGED
    return ResultInfo(str(path.relative_to(project.path)), stale)


def _foreign_card(project: Project, path: Path, current: dict[str, str]) -> ResultInfo:
    """The card of a model from elsewhere, whose weights name its folder: only the inputs can have changed."""
    current_inputs = current["inputs_sha256"].startswith(card_says(path, EVALUATED_ON).rstrip("."))
    return ResultInfo(str(path.relative_to(project.path)), None if current_inputs else _CHANGED)


def _result(project: Project, path: Path, current: dict[str, str], model: Path | None) -> ResultInfo:
    about = read_about(path, _kind(path))
    stale = None
    if model and model.is_file() and about.get("model_sha256") not in (None, sha256_file(model)):
        stale = _RETRAINED
    elif any(about.get(name, digest) != digest for name, digest in current.items()):
        stale = _CHANGED
    elif path.stem in ("ranking", "ranking_by_dose") and about.get("verdict_rule") != VERDICT_RULE:
        stale = _OLD_VERDICTS
    return ResultInfo(str(path.relative_to(project.path)), stale)


def _kind(path: Path) -> str:
    for kind in ("importance", "predictions"):
        if path.stem.startswith(kind):
            return kind
    return path.stem


def result_tables(folder: ResultsFolder) -> list[Path]:
    """The tables of a results folder, but for the kept forward pass."""
    return sorted(path for path in folder.path.glob("*.parquet") if path.stem != "outputs")
