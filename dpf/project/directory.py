"""The project directory: every path of it, and how one is opened or begun."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dpf.config.settings import Settings
from dpf.config.toml import read_settings, template
from dpf.errors import ProjectError, UsageError, listed
from dpf.files import write_text

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class ModelFolder:
    """The paths of one trained model, `models/<name>/`, or of a member of it, `models/<name>/members/<number>/`.

    A member that is trained alone has a folder of its own until the model is assembled; that knows its number (from 0),
    which is None for a model's.
    """

    path: Path
    number: int | None = None

    @property
    def best(self) -> Path:
        """The weights of every member's best epoch; self-describing, and all that prediction needs."""
        return self.path / "model.safetensors"

    @property
    def last(self) -> Path:
        """The weights of every member's last epoch."""
        return self.path / "last.safetensors"

    @property
    def resume(self) -> Path:
        """Everything an interrupted run needs to go on; removed when training has finished."""
        return self.path / "resume.safetensors"

    @property
    def finished(self) -> Path:
        """What a member that was trained alone has come to, as long as its model is not assembled."""
        return self.path / "finished.safetensors"

    @property
    def tuning(self) -> Path:
        """What was tried when the model's members chose settings for themselves."""
        return self.path / "tuning.parquet"

    @property
    def running_tuning(self) -> Path:
        """The same of a run that has not finished; it lets an interrupted search go on."""
        return self.path / "tuning.running.parquet"

    @property
    def members(self) -> Path:
        """The folders of members that are trained one by one; removed when the model is assembled."""
        return self.path / "members"

    def member(self, number: int) -> ModelFolder:
        """The folder of one of them, numbered from 0."""
        return ModelFolder(self.members / str(number), number)

    def begun_members(self) -> list[int]:
        """The numbers of the members that have been trained alone, finished or not, or diverged."""
        numbers = sorted(int(path.name) for path in self.members.glob("*") if path.name.isdecimal())
        return [number for number in numbers if self.member(number).has_files]

    @property
    def has_files(self) -> bool:
        """Whether anything is there; lock files and unfinished writes, whose names begin with a dot, are not."""
        return any(not path.name.startswith(".") for path in self.path.glob("*"))

    @property
    def diverged(self) -> Path:
        """The best weights before the loss stopped being a finite number; a model file, until a training succeeds."""
        return self.path / "diverged.safetensors"

    @property
    def resumable(self) -> bool:
        """Whether there is a state of an interrupted run to go on with."""
        return self.resume.is_file() or previous_state(self.resume).is_file()

    @property
    def interrupted(self) -> bool:
        """Whether a run has left anything to go on with: a state, or a search that had not ended."""
        return self.resumable or self.running_tuning.is_file()

    @property
    def history(self) -> Path:
        """One row an epoch and member."""
        return self.path / "history.parquet"

    @property
    def running_history(self) -> Path:
        """The same of a run that has not finished; removed when it has."""
        return self.path / "history.running.parquet"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard events, a folder for each start of a training; where they were asked for."""
        return self.path / "tensorboard"

    @property
    def splits(self) -> Path:
        """Which member used which well for what."""
        return self.path / "splits.parquet"

    @property
    def metrics(self) -> Path:
        """Best epoch and validation metrics of every member."""
        return self.path / "metrics.json"

    @property
    def card(self) -> Path:
        """The model card that `dpf evaluate` writes."""
        return self.path / "card.md"

    @property
    def calibration(self) -> Path:
        """Temperature and interval widths that `dpf evaluate` fits and `dpf predict` uses."""
        return self.path / "calibration.json"

    @property
    def loss_curve(self) -> Path:
        """The training and validation losses, drawn."""
        return self.path / "loss_curve.png"


def previous_state(resume: Path) -> Path:
    """Where the state of a run before the one in `resume` is kept, in case that one is damaged."""
    return resume.with_suffix(f".previous{resume.suffix}")


@dataclass(frozen=True)
class ResultsFolder:
    """The paths of what was computed with one model, `results/<name>/`."""

    path: Path

    def table(self, name: str, part: tuple[int, int] | None = None) -> Path:
        """The table of that name, such as `ranking`, or part i of n of it, in a folder of their own."""
        if part is None:
            return self.path / f"{name}.parquet"
        number, of = part
        return self.path / f"{name}_in_{of}" / f"part-{number:0{len(str(of))}}.parquet"

    def in_parts(self) -> dict[Path, int]:
        """The folders of tables in parts, and how many parts each is to have."""
        found = {path: path.name.rpartition("_in_")[2] for path in sorted(self.path.glob("predictions_*_in_*/"))}
        return {path: int(of) for path, of in found.items() if of.isdecimal() and tables_in(path)}

    def figure(self, name: str) -> Path:
        """The figure of that name, without its ending."""
        return self.path / "figures" / name


@dataclass(frozen=True)
class Project:
    """An opened project: where it is and its settings (with any overrides of this run)."""

    path: Path
    settings: Settings

    @property
    def expression(self) -> Path:
        """One row a well: `well_id`, then one float32 column a gene."""
        return self.path / "inputs" / "expression.parquet"

    @property
    def counts(self) -> Path:
        """The counts that it was made from, in the same order; where counts came in."""
        return self.path / "inputs" / "counts.parquet"

    @property
    def wells(self) -> Path:
        """One row a well: the canonical columns, the targets, the user's own columns."""
        return self.path / "inputs" / "wells.parquet"

    @property
    def genes(self) -> Path:
        """One row a gene, in the order of the expression columns."""
        return self.path / "inputs" / "genes.parquet"

    @property
    def normalisation(self) -> Path:
        """How counts became the expression; not there where the values were taken as they were."""
        return self.path / "inputs" / "normalisation.parquet"

    def model(self, name: str = "default") -> ModelFolder:
        """The folder of the model of that name.

        Raises
        ------
        UsageError
            The name is not a plain folder name.
        """
        _require_name(name)
        return ModelFolder(self.path / "models" / name)

    def results(self, name: str = "default") -> ResultsFolder:
        """The folder of the results of the model of that name."""
        _require_name(name)
        return ResultsFolder(self.path / "results" / name)

    @property
    def check(self) -> ResultsFolder:
        """What `dpf check` found. It is of the inputs and of no model, so it stands beside `results/`, not in it."""
        return ResultsFolder(self.path / "check")

    @property
    def without_model(self) -> ResultsFolder:
        """What `dpf rank` found where there was no model: of the inputs too."""
        return ResultsFolder(self.path / "ranking")

    @property
    def baselines(self) -> ResultsFolder:
        """What `dpf evaluate --baselines-only` found: of the inputs too."""
        return ResultsFolder(self.path / "baselines")

    def model_names(self) -> list[str]:
        """The names of the trained models."""
        return sorted(path.parent.name for path in (self.path / "models").glob("*/model.safetensors"))

    def training_folders(self) -> list[ModelFolder]:
        """Where trainings leave their files: the folder of every model, each before those of its begun members."""
        paths = sorted(path for path in (self.path / "models").glob("*") if path.is_dir())
        folders = [ModelFolder(path) for path in paths]
        return [one for model in folders for one in (model, *(model.member(n) for n in model.begun_members()))]

    def trained_model(self, name: str = "default") -> ModelFolder:
        """The folder of a model that has been trained.

        Raises
        ------
        ProjectError
            There is no such model; the message lists those there are.
        """
        folder = self.model(name)
        if not folder.best.is_file():
            others = self.model_names()
            found = f"trained models: {listed(others)}" if others else "no trained model at all"
            hint = f"dpf train {self.path}" + (f" --model {name}" if name != "default" else "")
            if begun := folder.begun_members():
                found = f"members trained one by one (finished or not): {listed(begun)}"
                hint += " --assemble makes the model of its members when all of them are there"
            raise ProjectError(
                f"the project has no trained model named {name!r}", where=folder.best, found=found, hint=hint
            )
        return folder


def _require_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            "a model's name is a folder's name",
            found=repr(name),
            expected="letters, digits, '.', '_' and '-', not starting with a sign",
        )


def tables_in(folder: Path) -> list[Path]:
    """The tables in a folder, but for what a killed process has left half-written."""
    return sorted(path for path in folder.glob("*.parquet") if not path.name.startswith("."))


def settings_path(project: Path) -> Path:
    """Where a project's settings are."""
    return project / "dpf.toml"


def open_project(path: Path, overrides: Sequence[str] = ()) -> Project:
    """Open a project directory, with `section.name=value` overrides of its settings for this run.

    Raises
    ------
    ProjectError
        It is not a project, is of a later format, its settings are wrong, or its inputs are missing.
    """
    if not path.is_dir():
        raise ProjectError("no such project", where=path, hint=f"make one: dpf init {path} --demo")
    project = Project(path, read_settings(settings_path(path), overrides))
    missing = [file for file in (project.expression, project.wells, project.genes) if not file.is_file()]
    if missing:
        raise ProjectError(
            "the project's inputs are not complete",
            where=path,
            found=f"missing: {listed([file.relative_to(path) for file in missing])}",
            hint="run dpf init again into a new folder",
        )
    return project


def write_settings(path: Path, settings: Settings) -> None:
    """Write the commented `dpf.toml`. Without it a folder is no project."""
    write_text(settings_path(path), template(settings))
