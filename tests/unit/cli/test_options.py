"""The command line is made from the classes of options: nothing is said twice, and nothing is lost on the way."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import typer.main

from dpf.cli.app import app
from dpf.cli.options import grouped, typer_parameters
from dpf.config.options import Options, flag, options_of
from dpf.errors import UsageError
from dpf.workflows.options import LayoutWish, PredictOptions
from dpf.workflows.rank.choices import RankChoices
from tests.support.commands import FUNCTIONS, ok

SHOWN = typer.main.get_command(app).commands


def classes(command) -> list[type[Options]]:
    annotations = [p.annotation for p in inspect.signature(command, eval_str=True).parameters.values()]
    return [kind for kind in annotations if isinstance(kind, type) and issubclass(kind, Options)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_field_is_an_option_with_its_help_and_default(name):
    by_flag = {text: shown for shown in SHOWN[name].params for text in shown.opts}
    for kind in classes(FUNCTIONS[name]):
        for entry, _ in options_of(kind):
            shown = by_flag[flag(entry)]
            assert shown.help == entry.metadata["doc"]
            assert shown.default in (entry.default, None), flag(entry)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_without_options_a_command_gets_the_defaults(name):
    command = FUNCTIONS[name]
    defaults = {parameter.name: parameter.default for parameter in typer_parameters(command)}
    for value in grouped(command, defaults).values():
        if isinstance(value, Options):
            assert value == type(value)()


def test_what_is_typed_arrives():
    command = FUNCTIONS["rank"]
    defaults = {parameter.name: parameter.default for parameter in typer_parameters(command)}
    given = {"fdr": 0.1, "trend": False, "gene_sets": Path("a.gmt"), "null": "none", "set": ["train.seed=1"]}
    made = grouped(command, defaults | given)
    assert made["choices"] == RankChoices(fdr=0.1, trend=False, gene_sets=Path("a.gmt"), null="none")
    assert made["using"].set == ("train.seed=1",)
    with pytest.raises(UsageError, match="less than 1"):
        grouped(command, defaults | {"fdr": 1.0})


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("rank", "exchange|none"), ("rank", "auto|plate|batch|donor|block|screen"), ("rank", "none|plate|position"),
        ("train", "classic|linear-start|recommended"), ("train", "exact|induced"), ("train", "auto|fp32|tf32"),
        ("init", "none|log-cpm|vst"), ("init", "wells-by-genes|genes-by-wells"), ("init", "rename|refuse|sum"),
        ("check", "96|384|1536"), ("predict", "auto|normalised|counts"), ("export", "tables|classic"),
        ("latent", "all|plate"), ("info", "table|csv|json"),
    ],
)  # fmt: skip
def test_help_shows_the_choices(name, choices, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    assert choices in ok(name, "--help").out


def test_options_that_need_another_one():
    with pytest.raises(UsageError, match="--output, --missing-genes is for new wells"):
        PredictOptions(missing_genes="impute", output="x.parquet")
    with pytest.raises(UsageError, match="written as Parquet"):
        PredictOptions(input="wells.csv", output="x.csv")
    assert LayoutWish(plate_format=96, seed=3).given() == ["--plate-format"]
