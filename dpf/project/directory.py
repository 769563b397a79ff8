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
    """The paths of one trained model, `models/<name>/`.

    Of processes that train whole members each, every one keeps its unfinished part of the run in files of its own,
    which have its number, `rank`, in their names; everything else is the model's.
    """

    path: Path
    rank: int | None = None

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
        return self._of_rank("resume", ".safetensors")

    @property
    def tuning(self) -> Path:
        """What was tried when the model's members chose settings for themselves."""
        return self.path / "tuning.parquet"

    @property
    def running_tuning(self) -> Path:
        """The same of a run that has not finished; it lets an interrupted search go on."""
        return self._of_rank("tuning.running", ".parquet")

    def _of_rank(self, name: str, suffix: str) -> Path:
        return self.path / (name + ("" if self.rank is None else f".rank-{self.rank}") + suffix)

    @property
    def rank_files(self) -> list[Path]:
        """The files that processes, any number of them, have kept for themselves."""
        return sorted([*self._rank_states(), *self.path.glob("tuning.running.rank-*.parquet")])

    def _rank_states(self) -> list[Path]:
        found = self.path.glob("resume.rank-*.safetensors")
        return sorted(found, key=lambda path: (len(path.name), path.name))  # the last states before those before them

    @property
    def diverged(self) -> Path:
        """The best weights before the loss stopped being a finite number; a model file, until a training succeeds."""
        return self.path / "diverged.safetensors"

    @property
    def resumable(self) -> bool:
        """Whether there is an interrupted run to go on with."""
        return bool(self.states)

    @property
    def interrupted(self) -> bool:
        """Whether a run has left anything to go on with: a state, or a search that had not ended."""
        return self.resumable or self.running_tuning.is_file() or bool(self.rank_files)

    @property
    def states(self) -> list[Path]:
        """The states of an interrupted run: of this process, or, of a model, those of all processes."""
        own = [path for path in (self.resume, previous_state(self.resume)) if path.is_file()]
        return own if self.rank is not None else [*own, *self._rank_states()]

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

    def table(self, name: str) -> Path:
        """The table of that name, such as `ranking`."""
        return self.path / f"{name}.parquet"

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
    def baselines(self) -> ResultsFolder:
        """What `dpf evaluate --baselines-only` found: of the inputs too."""
        return ResultsFolder(self.path / "baselines")

    def model_names(self) -> list[str]:
        """The names of the trained models."""
        return sorted(path.parent.name for path in (self.path / "models").glob("*/model.safetensors"))

    def unfinished_names(self) -> list[str]:
        """The names of the models that a run has begun to train and not finished."""
        return sorted(path.parent.name for path in (self.path / "models").glob("*/history.running.parquet"))

    def waiting_names(self) -> list[str]:
        """The names of models that have nothing but a run that was interrupted before its first epoch had ended."""
        told = {*self.model_names(), *self.unfinished_names()}
        folders = (path for path in (self.path / "models").glob("*") if path.is_dir() and path.name not in told)
        return sorted(path.name for path in folders if ModelFolder(path).interrupted)

    def diverged_files(self) -> list[Path]:
        """What trainings left whose loss stopped being a finite number."""
        return sorted((self.path / "models").glob("*/diverged.safetensors"))

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
            raise ProjectError(
                f"the project has no trained model named {name!r}",
                where=folder.best,
                found=f"trained models: {listed(others)}" if others else "no trained model at all",
                hint=f"dpf train {self.path}" + (f" --model {name}" if name != "default" else ""),
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


def require_new(path: Path) -> None:
    """Refuse to begin a project where something already is.

    Raises
    ------
    ProjectError
        The path is a file or a folder that is not empty.
    """
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        what = "a project already is there" if settings_path(path).exists() else "that folder is not empty"
        raise ProjectError(what, where=path, hint="name a new folder; dpf init never overwrites")


def write_settings(path: Path, settings: Settings) -> None:
    """Write the commented `dpf.toml`. Written last by `init`, so that a half-made project is not taken for one."""
    write_text(settings_path(path), template(settings))
