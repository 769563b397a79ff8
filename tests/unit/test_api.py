"""`import dpf`: every command as a method, its options as keywords, and nothing heavy before it is needed."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
import warnings
from pathlib import Path

import polars as pl
import pytest

import dpf
from dpf import api
from dpf.cli.options import typer_parameters
from dpf.errors import ProjectError, UsageError
from tests.support.commands import FUNCTIONS

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = {
    "model.width": 8, "model.heads": 1, "model.layers": 1, "model.feed_forward": 8, "model.latent": 6,
    "model.start": "none", "train.epochs": 1, "train.folds": 3, "train.batch_size": 12, "compute.threads": 1,
    "compute.precision": "fp32", "compute.device": "cpu",
}  # fmt: skip
#: Of the command line alone: where it is shown, and what a method of its own or a result's attributes give.
ONLY_TYPED = {"project", "top", "shown_as", "strict", "suggest_layout", "compound_list", "settings", "columns"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a trained project, `demo`; figures are composed and not rendered."""
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpf.figures.drawing.style._bytes", lambda _figure, _format: b"\x89PNG of a test")
        dpf.init(folder / "demo", demo=True, wells=48, genes=20, set=SMALL).train()
        yield folder


def public() -> list[tuple[str, object]]:
    found = {name: value for name, value in vars(api).items() if getattr(value, "__module__", "") == api.__name__}
    found |= {f"Project.{name}": value for name, value in vars(api.Project).items()}
    return [(name, value) for name, value in found.items() if ">>>" in (getattr(value, "__doc__", "") or "")]


@pytest.mark.parametrize(("name", "value"), public(), ids=[name for name, _ in public()])
def test_the_examples_run(folder, monkeypatch, name, value):
    monkeypatch.chdir(folder)
    (test,) = doctest.DocTestFinder(recurse=False).find(value, name, globs={})
    found = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(test)
    assert found.attempted > 0
    assert not found.failed


def test_every_public_function_has_an_example():
    assert {name for name, _ in public()} == {
        "Project", "open", "init", "Project.settings", "Project.suggest_layout",
        *(f"Project.{command}" for command in FUNCTIONS if command != "init"),
    }  # fmt: skip


@pytest.mark.parametrize("command", FUNCTIONS)
def test_the_options_are_those_of_the_command_line(command):
    method = dpf.init if command == "init" else getattr(dpf.Project, command)
    given = {name for name in inspect.signature(method).parameters if name not in ("self", "path")}
    typed = {parameter.name for parameter in typer_parameters(FUNCTIONS[command])} - ONLY_TYPED
    if command == "check":
        typed -= set(inspect.signature(dpf.Project.suggest_layout).parameters) - given
    assert given == typed
    shown = inspect.getdoc(method)
    assert all(f"\n{name} : " in shown for name in given)


def test_options_that_are_not_there_or_not_right(folder):
    project = dpf.open(folder / "demo")
    with pytest.raises(TypeError, match=r"rank\(\) has no option 'fdrr'; did you mean fdr\?"):
        project.rank(fdrr=0.1)
    with pytest.raises(UsageError, match=r"wrong value for --null(.|\n)*one of exchange, none"):
        project.rank(null="pseudo")
    with pytest.raises(ProjectError, match="did you mean epochs"):
        project.train(set={"train.epoch": 3})
    with pytest.raises(dpf.DpfError, match="no such project"):
        dpf.open(folder / "absent")
    with pytest.raises(AttributeError, match="has no attribute 'opne'"):
        dpf.opne  # noqa: B018


def test_settings_of_open_hold_in_every_call_and_a_call_wins(folder):
    project = dpf.open(folder / "demo", set={"train.seed": 7, "train.folds": 2})
    assert (project.settings.train.seed, project.settings.train.folds) == (7, 2)
    trained = project.train(model="seven", folds=3)
    assert trained.folder.path == folder / "demo/models/seven"
    assert trained.table.height == 3


def test_a_screen_from_files(folder, tmp_path):
    wells = [f"A{number:02d}" for number in range(1, 13)]
    values = {f"G{gene}": [float(gene + well % 5 + well * gene % 3) for well in range(12)] for gene in range(1, 9)}
    pl.DataFrame({"well": wells} | values).write_csv(tmp_path / "counts.csv")
    about = {"well": wells, "drug": ["DMSO"] * 4 + list("abcdefgh"), "size": [float(k % 7) for k in range(12)]}
    pl.DataFrame(about).write_csv(tmp_path / "wells.csv")
    made = dpf.init(tmp_path / "p", from_=tmp_path / "counts.csv", wells=tmp_path / "wells.csv", scores="size")
    assert made.info().summary.controls == {"DMSO": 4}
    pl.DataFrame({"well": [*wells, "Z99"]} | {name: [*column, 1.0] for name, column in values.items()}).write_csv(
        tmp_path / "more.csv"
    )
    with pytest.warns(UserWarning, match="Z99"):
        dpf.init(tmp_path / "r", from_=tmp_path / "more.csv", wells=tmp_path / "wells.csv", scores="size")
    with pytest.raises(UsageError, match=r"--label(.|\n)*--demo without them"):
        dpf.init(tmp_path / "q", demo=True, label="size")


def test_what_a_result_rests_on_is_a_warning(folder):
    project = dpf.open(folder / "demo")
    project.train(model="alone", folds=1)
    with pytest.warns(UserWarning, match="were trained on"):
        project.predict(model="alone")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert project.predict().table.height == 48


def test_nothing_heavy_is_imported_before_it_is_needed(folder):
    code = (
        "import sys, dpf\n"
        "project = dpf.open('demo')\n"
        "project.settings, dpf.Project.rank, dpf.init, dpf.DpfError, dir(dpf)\n"
        "heavy = {'torch', 'numpy', 'polars', 'pyarrow', 'scipy', 'sklearn', 'matplotlib', 'typer', 'rich'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "project.rank()\n"
        "assert 'polars' in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, env={"PYTHONPATH": str(REPOSITORY)})
