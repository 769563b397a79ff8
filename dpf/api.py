"""dpf from Python: a project, and one method a command, with the options of the command line as keywords.

What the keywords are, `help(dpf.Project.rank)` tells: they are made from the same classes as the command line. A
workflow is imported when its method is called.
"""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import Field
from functools import wraps
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

from dpf.config.options import Options, keyword, options_of, overrides
from dpf.tables.options import PrepareOptions, Roles
from dpf.workflows.options import (
    CheckOptions,
    ComputeOptions,
    DemoOptions,
    EvaluateOptions,
    ExplainOptions,
    ExportOptions,
    LatentOptions,
    LayoutWish,
    PredictOptions,
    RunOptions,
    SettingOptions,
    SourceOptions,
    TrainOptions,
)
from dpf.workflows.progress import Silent
from dpf.workflows.rank.choices import RankChoices

if TYPE_CHECKING:
    from dpf.config.settings import Settings
    from dpf.project import directory
    from dpf.workflows.check.check import CheckResult
    from dpf.workflows.check.next_layout import SuggestedLayout
    from dpf.workflows.evaluate.evaluate import EvaluateResult
    from dpf.workflows.explain import ExplainResult
    from dpf.workflows.export import ExportResult
    from dpf.workflows.info import ProjectInfo
    from dpf.workflows.predict.latent import LatentResult
    from dpf.workflows.predict.predict import PredictResult
    from dpf.workflows.rank.rank import RankResult
    from dpf.workflows.train.run import TrainResult

Result = TypeVar("Result")


class _Warnings(Silent):
    """What a user should know before believing a result, as Python's warnings; the rest of the progress is quiet."""

    def warn(self, text: str) -> None:
        warnings.warn(text, stacklevel=2)


def _takes(*groups: type[Options]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Give a function the options of some classes as keywords; its last parameters are one object a class."""

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        parameters = list(inspect.signature(function).parameters.values())
        own, objects = parameters[: -len(groups)], [parameter.name for parameter in parameters[-len(groups) :]]
        options = [(entry, kind) for group in groups for entry, kind in options_of(group)]
        known = [*(parameter.name for parameter in own), *(keyword(entry) for entry, _ in options)]

        @wraps(function)
        def run(*arguments: Any, **given: Any) -> Result:
            for name in given.keys() - known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise TypeError(f"{function.__name__}() has no option {name!r}{hint}")
            made = {}
            for name, group in zip(objects, groups, strict=True):
                names = {keyword(entry): entry.name for entry, _ in options_of(group)}
                made[name] = group(**{names[word]: given.pop(word) for word in names.keys() & given.keys()})
            return function(*arguments, **given, **made)

        keywords = [
            inspect.Parameter(keyword(entry), inspect.Parameter.KEYWORD_ONLY, default=entry.default, annotation=kind)
            for entry, kind in options
        ]
        shown = inspect.signature(function).replace(parameters=[*own, *keywords])
        run.__signature__ = shown  # type: ignore[attr-defined]
        run.__doc__ = _documented(inspect.getdoc(function) or "", options)
        return run

    return decorate


def _documented(text: str, options: list[tuple[Field[Any], Any]]) -> str:
    """A docstring with the options among its parameters."""
    before, heading, after = text.partition("\nReturns\n-------\n")
    section = [] if "\nParameters\n----------\n" in before else ["", "Parameters", "----------"]
    return "\n".join([before.rstrip("\n"), *section, *_about(options), heading + after])


def _about(options: list[tuple[Field[Any], Any]]) -> Iterator[str]:
    for entry, kind in options:
        default = "the setting's own" if "setting" in entry.metadata else repr(entry.default)
        yield f"{keyword(entry)} : {_name_of(kind)}, default {default}"
        yield f"    {entry.metadata['doc']}"


def _name_of(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return f"{{{', '.join(map(repr, get_args(kind)))}}}"
    if get_origin(kind) is tuple:
        return f"{get_args(kind)[0].__name__} or several"
    if get_args(kind):
        return " or ".join(_name_of(one) for one in get_args(kind) if one is not type(None))
    return str(kind.__name__)


class Project:
    """A project directory, and a method for each command that works on one.

    Every result is a frozen dataclass that names the files it has written; what is a table is a polars `DataFrame`, its
    `table`. Options are those of the command line, as keywords: `--by-dose` is ``by_dose=True``, and any setting of
    `dpf.toml` can be changed for one call by ``set={"train.epochs": 10}``. What the command line says on stderr before
    a result may be believed comes as a warning.

    Parameters
    ----------
    path
        The project's folder; `dpf.open` also looks whether there is one.
    set
        Settings that are changed in every call, as texts ``section.name=value``.

    Examples
    --------
    >>> import dpf
    >>> project = dpf.open("demo")
    >>> ranking = project.rank(fdr=0.1)
    >>> ranking.table.columns[:4]
    ['compound', 'rank', 'verdict', 'direction']
    """

    def __init__(self, path: str | PathLike[str], set: tuple[str, ...] = ()) -> None:  # noqa: A002  as --set
        self.path = Path(path)
        self._set = set

    def __repr__(self) -> str:
        return f"dpf.open({fspath(self.path)!r})"

    def _opened(self, *changed: str) -> directory.Project:
        from dpf.project.directory import open_project

        return open_project(self.path, [*self._set, *changed])

    @property
    def settings(self) -> Settings:
        """The settings as `dpf.toml` has them now.

        >>> import dpf
        >>> dpf.open("demo").settings.train.folds
        3
        """
        return self._opened().settings

    @_takes(CheckOptions, SettingOptions)
    def check(self, *, options: CheckOptions, settings: SettingOptions) -> CheckResult:
        """Ask whether the project is whole, and whether its plate layout has already decided the answer.

        Returns
        -------
        CheckResult
            `items` with verdicts (good, warn, fail), numbers and advice; `table`, one row an item; `summary`.

        Examples
        --------
        >>> import dpf
        >>> found = dpf.open("demo").check(permutations=159)
        >>> found.table.columns
        ['name', 'group', 'verdict', 'value', 'text', 'advice', 'rule']
        """
        from dpf.workflows.check.check import check_project

        return check_project(self._opened(*overrides(settings)), options, progress=_Warnings())

    @_takes(CheckOptions, LayoutWish, SettingOptions)
    def suggest_layout(
        self, target: str | PathLike[str], *, options: CheckOptions, wish: LayoutWish, settings: SettingOptions
    ) -> SuggestedLayout:
        """Lay out the project's compounds at random on the next plates, and check the layout.

        Parameters
        ----------
        target : path
            The CSV file to write; one that holds another layout is left alone.

        Returns
        -------
        SuggestedLayout
            `table`, one row a filled well; `items`, what the check says about it.

        Examples
        --------
        >>> import dpf
        >>> dpf.open("demo").suggest_layout("next.csv", replicates=3, seed=1).table.columns[:4]
        ['well_id', 'plate', 'row', 'column']
        """
        from dataclasses import replace

        from dpf.workflows.check.next_layout import suggest

        opened, wish = self._opened(*overrides(settings)), replace(wish, seed=options.seed)
        return suggest(Path(target), opened, None, wish, fdr=options.fdr)

    @_takes(TrainOptions, ComputeOptions, SettingOptions)
    def train(self, *, options: TrainOptions, compute: ComputeOptions, settings: SettingOptions) -> TrainResult:
        """Train a model; its weights, splits, history and loss curve go to ``models/<model>``.

        Returns
        -------
        TrainResult
            `table`, one row a member with its validation metrics; `folder`, the paths of the model.

        Examples
        --------
        >>> import dpf
        >>> trained = dpf.open("demo").train(model="short", folds=2, epochs=1)
        >>> trained.table.get_column("member").to_list()
        [0, 1]
        """
        from dpf.workflows.train.train import train_project

        opened = self._opened(*options.overrides(compute, settings))
        return train_project(
            opened,
            options.model,
            resume=options.resume,
            overwrite=options.overwrite,
            tensorboard=options.tensorboard,
            progress=_Warnings(),
        )

    @_takes(EvaluateOptions, RunOptions)
    def evaluate(self, *, options: EvaluateOptions, using: RunOptions) -> EvaluateResult:
        """Measure the model beside simple methods on held-out compounds, calibrate it and write its card.

        Returns
        -------
        EvaluateResult
            `table`, one row a target and method; `verdicts`, in words; `notes`, what to know before believing it.

        Examples
        --------
        >>> import dpf
        >>> board = dpf.open("demo").evaluate(baselines_only=True).table
        >>> sorted(board.get_column("metric").unique())
        ['auroc', 'r2']
        """
        from dpf.workflows.evaluate.evaluate import evaluate_project

        opened = self._opened(*overrides(options, using))
        return evaluate_project(opened, using.model, options, progress=_Warnings())

    @_takes(PredictOptions, RunOptions)
    def predict(self, *, options: PredictOptions, using: RunOptions) -> PredictResult:
        """Predict the project's own wells, out of fold wherever a member held them out, or those of a table.

        Returns
        -------
        PredictResult
            `table`, one row a well: every score, label, activation, latent and distance.

        Examples
        --------
        >>> import dpf
        >>> dpf.open("demo").predict().table.get_column("held_out").all()
        True
        """
        from dpf.workflows.predict.new import predict_wells

        return predict_wells(self._opened(*overrides(using)), using.model, options, progress=_Warnings())

    @_takes(LatentOptions, RunOptions)
    def latent(self, *, options: LatentOptions, using: RunOptions) -> LatentResult:
        """Latent vectors, distances to the controls, the activation axis, and a map of the wells.

        Returns
        -------
        LatentResult
            `table`, one row a well; `correlations` with what was measured; `figures`, the map.

        Examples
        --------
        >>> import dpf
        >>> dpf.open("demo").latent(colour="compound").correlations.columns[:2]
        ['measured', 'n']
        """
        from dpf.workflows.predict.latent import latent_project

        opened = self._opened(*overrides(options, using))
        return latent_project(opened, using.model, options, progress=_Warnings())

    @_takes(RankChoices, RunOptions)
    def rank(self, *, choices: RankChoices, using: RunOptions) -> RankResult:
        """Rank compounds by their distance from the controls: which one may call, and what kind of hit each is.

        Returns
        -------
        RankResult
            `table`, one row a compound, best first; `statements`, what the numbers rest on; `power`.

        Examples
        --------
        >>> import dpf
        >>> ranking = dpf.open("demo").rank(sort="activation", match="screen")
        >>> ranking.table.select("p", "q").null_count().row(0)
        (0, 0)
        """
        from dpf.workflows.rank.rank import rank_project

        return rank_project(self._opened(*overrides(using)), using.model, choices, progress=_Warnings())

    @_takes(ExplainOptions, RunOptions)
    def explain(self, *, options: ExplainOptions, using: RunOptions) -> ExplainResult:
        """Genes by Gradient x Input over all wells: which a prediction rests on.

        Returns
        -------
        ExplainResult
            `table`, one row a gene, the most important first; `target`, what was explained.

        Examples
        --------
        >>> import dpf
        >>> dpf.open("demo").explain(target="Tscore").table.columns[:3]
        ['rank', 'gene', 'importance']
        """
        from dpf.workflows.explain import explain_project

        return explain_project(self._opened(*overrides(using)), using.model, options, progress=_Warnings())

    @_takes(ExportOptions, ComputeOptions)
    def export(self, *, options: ExportOptions, compute: ComputeOptions) -> ExportResult:
        """Write inputs and results for other programs, computing first what is missing or stale.

        Returns
        -------
        ExportResult
            `files`, what was written.

        Examples
        --------
        >>> import dpf
        >>> files = dpf.open("demo").export(format="parquet").files
        >>> "ranking.parquet" in {path.name for path in files}
        True
        """
        from dpf.workflows.export import export_project

        opened, folder = self._opened(*overrides(compute)), options.output or self.path / "export"
        return export_project(
            opened, folder, options.model, layout=options.layout, file_format=options.format, progress=_Warnings()
        )

    @_takes(SettingOptions)
    def info(self, *, settings: SettingOptions) -> ProjectInfo:
        """What is in the project: wells, targets, models with their metrics, results and whether they are stale.

        Returns
        -------
        ProjectInfo
            `summary` of the screen, `models`, `results`, `problems`.

        Examples
        --------
        >>> import dpf
        >>> dpf.open("demo").info().summary.wells
        48
        """
        from dpf.workflows.info import project_info

        return project_info(self._opened(*overrides(settings)))


@_takes(SettingOptions)
def open(path: str | PathLike[str], *, settings: SettingOptions) -> Project:  # noqa: A001  dpf.open
    """Open a project.

    Parameters
    ----------
    path : path
        The project's folder.

    Returns
    -------
    Project
        With a method for each command.

    Raises
    ------
    DpfError
        There is no project, it is of a later format, its settings are wrong, or its inputs are missing.

    Examples
    --------
    >>> import dpf
    >>> dpf.open("demo")
    dpf.open('demo')
    """
    project = Project(path, tuple(overrides(settings)))
    project._opened()
    return project


@_takes(DemoOptions, SourceOptions, Roles, PrepareOptions, SettingOptions)
def init(
    path: str | PathLike[str],
    *,
    demo: DemoOptions,
    source: SourceOptions,
    roles: Roles,
    prepare: PrepareOptions,
    settings: SettingOptions,
) -> Project:
    """Make a project from your screen's files, or a simulated one to try, and open it.

    Parameters
    ----------
    path : path
        A new folder.

    Returns
    -------
    Project
        Its `info().summary` says what was understood of the screen, and everything that was odd; of that, what the
        command line calls a warning is one here.

    Raises
    ------
    DpfError
        The folder is not empty, or the files are no screen that can be learnt from.

    Examples
    --------
    >>> import dpf
    >>> project = dpf.init("another", demo=True, wells=32, genes=20)
    >>> [target.name for target in project.info().summary.targets][:3]
    ['Tscore', 'CytoTRACE', 'Pseudotime']
    """
    from dpf.workflows.project.initialise import init_project

    made = init_project(Path(path), source, demo, roles, prepare, overrides(settings))
    for note in made.summary.notes:
        if note.severity == "warning":
            warnings.warn(note.text, stacklevel=3)
    return Project(path)
