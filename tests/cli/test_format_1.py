"""An archived project of format 1 (tests/data/make_format_1.py) opens with every command and says what it said then."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer.main

from dpf.cli.app import app

pytestmark = pytest.mark.usefixtures("sketches")

ARCHIVE = Path(__file__).resolve().parents[1] / "data" / "format-1"
COMMANDS = {"predict": "predictions", "latent": "latent", "explain": "importance"}


@pytest.fixture(params=["kept", "computed"])
def project(request, tmp_path) -> Path:
    """The archive, with the results it was stored with, or without, so that the model has to speak."""
    path = Path(shutil.copytree(ARCHIVE / "project", tmp_path / "project"))
    if request.param == "computed":
        shutil.rmtree(path / "results")
    return path


def assert_close(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Every archived column is there, with the same texts, and numbers that agree to 1e-4."""
    assert set(expected.columns) <= set(found.columns)
    for name in expected.columns:
        if expected.schema[name].is_float():
            np.testing.assert_allclose(
                found[name].cast(pl.Float64).to_numpy(), expected[name].to_numpy(), rtol=1e-4, atol=1e-4, err_msg=name
            )
        else:
            assert found[name].to_list() == expected[name].to_list(), name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_result_is_what_it_was(project, ok, command):
    expected = pl.read_csv(ARCHIVE / "expected" / f"{COMMANDS[command]}.csv", infer_schema_length=None)
    assert_close(ok(command, project).rows, expected)


def test_the_ranking_has_the_same_compounds(project, ok):
    """How they are compared may get better; who they are, and how many wells each has, stays."""
    expected = pl.read_csv(ARCHIVE / "expected/ranking.csv").select("compound", "n").sort("compound")
    assert ok("rank", project).rows.select("compound", "n").sort("compound").equals(expected)


def test_new_wells_get_what_they_got(ok, tmp_path):
    words = ["--input", ARCHIVE / "new_wells.csv", "--output", tmp_path / "o.parquet"]
    model = ARCHIVE / "project/models/default/model.safetensors"
    shutil.copytree(ARCHIVE / "project", tmp_path / "project")
    found = ok("predict", tmp_path / "project", "--model", model, *words).rows
    assert_close(found, pl.read_csv(ARCHIVE / "expected/new_wells.csv", infer_schema_length=None))


@pytest.mark.parametrize("command", sorted(typer.main.get_command(app).commands.keys() - {"init", *COMMANDS}))
def test_every_other_command_opens_it(ok, tmp_path, command):
    path = Path(shutil.copytree(ARCHIVE / "project", tmp_path / "project"))
    ran = ok(command, path, *(["--epochs", 1, "--model", "again"] if command == "train" else []))
    assert "internal" not in ran.err
    if command == "info":
        assert "24 x 12 genes" in ran.out
        assert "2 member(s), 12 genes" in ran.out
        stale = [line.split("STALE")[1] for line in ran.out.splitlines() if "STALE" in line]
        assert stale == [": its verdicts are by the rule of an earlier dpf; dpf rank makes it again"]
        assert "PROBLEM" not in ran.out
        assert "made up: the archive of format 1" in ran.out


def test_the_archive_is_small_and_names_no_machine():
    files = [path for path in ARCHIVE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000
    assert not [path for path in files if path.name == ".lock" or path.suffix == ".part"]
    for path in files:
        assert not re.search(rb"/(home|tmp|work|root|Users)/", path.read_bytes()), path
