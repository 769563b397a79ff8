"""`dpf evaluate`: the scoreboard against baselines, the latent's quality, the calibration, the model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from dpf.errors import UsageError, listed
from dpf.files import together, write_text
from dpf.project.directory import ModelFolder, Project, ResultsFolder
from dpf.splits.parts import Part, split_fingerprint
from dpf.tables.storage import write_table
from dpf.workflows.check.stored import StoredCheck, design_lines, design_of
from dpf.workflows.evaluate.calibrate import fit_calibration
from dpf.workflows.evaluate.card import CardContent, card_text
from dpf.workflows.evaluate.figures import draw_reliability, draw_scoreboard
from dpf.workflows.evaluate.latent import latent_table
from dpf.workflows.evaluate.methods import Method, Truth, baseline_methods, model_methods, truth_of
from dpf.workflows.evaluate.notes import notes
from dpf.workflows.evaluate.scoreboard import Scoreboard, scoreboard
from dpf.workflows.evaluate.scoreboard_text import summary_table, verdict_lines
from dpf.workflows.evaluate.wells import EvaluatedWells, evaluated_wells
from dpf.workflows.options import EvaluateOptions
from dpf.workflows.predict.outputs import Outputs, project_outputs
from dpf.workflows.progress import Progress, Silent
from dpf.workflows.project.calibration import Calibration, write_calibration
from dpf.workflows.project.inputs import Inputs, Measured, read_inputs, read_measured
from dpf.workflows.project.model_file import ModelFile, find_model
from dpf.workflows.project.provenance import CARD, Now, current, made_of


@dataclass(frozen=True)
class EvaluateResult:
    """What was measured.

    Attributes
    ----------
    table
        One row a target and method (`dpf.workflows.evaluate.scoreboard_text.summary_table`).
    board
        All metrics and comparisons.
    latent, calibration
        None for baselines alone, or where the model was trained on every well.
    notes, verdicts
        Caveats; the best method by target.
    design
        What `dpf check` found about the design, or None.
    files, figures
        What was written.
    """

    table: pl.DataFrame
    board: Scoreboard
    latent: pl.DataFrame | None
    calibration: Calibration | None
    notes: tuple[str, ...]
    verdicts: tuple[str, ...]
    design: StoredCheck | None
    files: tuple[Path, ...] = ()
    figures: tuple[Path, ...] = ()


def evaluate_project(
    project: Project,
    model: str = "default",
    options: EvaluateOptions | None = None,
    *,
    progress: Progress | None = None,
) -> EvaluateResult:
    """Compare a model with baselines on wells that it has not trained on.

    Tables go to `results/<model>/` (of baselines alone: `baselines/`); the card and the calibration, which `predict`
    uses from then on, to `models/<model>/`. A model from a path elsewhere gets a card in `results/` and no calibration.

    Baselines alone are fitted in the folds that the settings ask for, or 5.

    Raises
    ------
    UsageError
        No such column, or a model that has trained on every well.
    DpfError
        The model or the inputs cannot be used, or the wells do not allow the split.
    """
    options, progress = options or EvaluateOptions(), progress or Silent()
    file = None if options.baselines_only else find_model(project, model)
    subject = _read(project, file, options.classes, progress)
    parts = None if subject.outputs is None else subject.outputs.parts
    wells = evaluated_wells(project, subject.inputs, subject.measured, parts, in_sample=options.in_sample)
    calibration, methods = _methods(subject, wells, options, progress)
    progress.start("comparing methods", 1, "scoreboard")
    board = scoreboard(subject.truth, methods, wells, seed=project.settings.train.seed)
    result = EvaluateResult(
        summary_table(board),
        board,
        _latent(subject, wells),
        calibration,
        notes(wells, subject.truth, subject.inputs, subject.outputs, in_sample=options.in_sample),
        tuple(verdict_lines(board)),
        subject.design,
    )
    choices = {"in_sample": options.in_sample, "level": options.level, "classes": options.classes}
    with together(progress.warn):
        files, figures = _write(subject, wells, methods, result, choices)
    return replace(result, files=files, figures=figures)


@dataclass(frozen=True)
class _Subject:
    """What is evaluated: the project's wells and targets, and a model with its outputs, or none."""

    now: Now
    inputs: Inputs
    measured: Measured
    truth: Truth
    classes: Sequence[str | None] | None
    design: StoredCheck | None
    outputs: Outputs | None

    @property
    def is_own(self) -> bool:
        """Whether the model is one of the project's own, whose folder keeps a card and a calibration."""
        return self.now.model is not None and self.now.model.name in self.now.project.model_names()

    @property
    def folder(self) -> ResultsFolder:
        """Where tables and figures go; for baselines, which belong to no model, a folder of their own."""
        if self.now.model is None:
            return self.now.project.baselines
        return self.now.project.results(self.now.model.name)


def _read(project: Project, file: ModelFile | None, classes: str, progress: Progress) -> _Subject:
    inputs = read_inputs(project)
    measured = read_measured(inputs.wells, project.settings.targets, project.wells)
    named = inputs.texts(classes) if classes else None
    if classes and named is None:
        raise UsageError(
            "no such column of classes", found=classes, expected=f"one of {listed(inputs.wells.columns, 20)}"
        )
    now = current(project, file, inputs)
    design = design_of(now, progress)
    outputs = None if file is None else project_outputs(project, inputs, file, progress)
    return _Subject(now, inputs, measured, truth_of(measured), named, design, outputs)


def _methods(
    subject: _Subject, wells: EvaluatedWells, options: EvaluateOptions, progress: Progress
) -> tuple[Calibration | None, list[Method]]:
    """The calibration, and all methods: the model's (with calibrated probabilities), then the baselines."""
    truth, outputs = subject.truth, subject.outputs
    measurable = bool(wells.tested.any())
    calibration, probability, ours = None, None, list[Method]()
    if outputs is not None:
        if measurable:
            as_trained = model_methods(outputs, truth, wells, None, in_sample=False)[0]
            calibration, probability = fit_calibration(
                outputs, truth, wells, as_trained, subject.inputs.is_control, options.level
            )
        ours = model_methods(outputs, truth, wells, probability, in_sample=options.in_sample)
    theirs = baseline_methods(subject.now.project, subject.inputs, truth, wells, progress) if measurable else []
    return calibration, [*ours, *theirs]


def _latent(subject: _Subject, wells: EvaluatedWells) -> pl.DataFrame | None:
    if subject.outputs is None or not wells.tested.any():
        return None
    return latent_table(subject.outputs, subject.inputs, subject.measured.scores, wells, subject.classes)


def _write(
    subject: _Subject, wells: EvaluatedWells, methods: Sequence[Method], result: EvaluateResult, choices: dict[str, Any]
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    now, folder, inputs = subject.now, subject.folder, subject.inputs
    kinds, split_file = _made_as(now, wells)
    about = made_of(now, *kinds, files=split_file) | {
        "choices": choices,
        "split_sha256": split_fingerprint(wells.parts, inputs.well_ids),
        "basis": wells.basis,
        "notes": list(result.notes),
        "verdicts": list(result.verdicts),
    }
    tables = {"scoreboard": result.board.values, "comparisons": result.board.comparisons}
    if result.latent is not None:
        tables["latent_quality"] = result.latent
    files = [folder.table(name) for name in tables]
    if now.model is not None:
        home = now.model.folder if subject.is_own else ModelFolder(folder.path)
        # The card is passed on to others: no absolute path in it.
        card = CardContent(
            now.model, inputs, subject.truth, result.board, result.notes, result.verdicts, result.calibration,
            result.latent, design_lines(subject.design, Path("PROJECT")), now.project.wells,
        )  # fmt: skip
        write_text(home.card, card_text(card))
        files.append(home.card)
        about[CARD] = made_of(now, *kinds, "card", files=split_file)
        if subject.is_own and result.calibration is not None:
            write_calibration(home.calibration, result.calibration, made_of(now, "calibration"))
            files.append(home.calibration)
    for name, table in tables.items():
        write_table(folder.table(name), table, name, about)
    figures = draw_scoreboard(folder, result.board)
    figures += draw_reliability(folder, result.board, subject.truth, methods, wells.tested)
    return tuple(files), figures


def _made_as(now: Now, wells: EvaluatedWells) -> tuple[list[str], tuple[Path, ...]]:
    """What shapes the tables, and the split file if one does: the settings' split, where no model brings its own."""
    kinds = ["evaluation"] if now.model is not None else []
    if kinds and (wells.parts == Part.TRAIN).any():
        return kinds, ()
    train = now.project.settings.train
    return [*kinds, "baselines"], (now.project.path / train.split_file,) if train.split == "file" else ()
