"""Names from files are shown, drawn and written, and do nothing: to a terminal, an SVG, a spreadsheet or a path."""

from __future__ import annotations

import os
import pty
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

TERMINAL = ["\x1b[31mred\x1b]0;title\x07", "two\x9b2J", "left\u202eright", "back\x08space"]
SPREADSHEET = ["=cmd|' /C calc'!A0", "-COOH", "@SUM(A1:A9)"]
MARKUP = ["[bold]loud[/bold]", "[link=http://x.example]here[/link]", ":bug: $x_1$", "<script>&\"'", "../../up"]
NAMES = [*TERMINAL, *SPREADSHEET, *MARKUP]
#: What a terminal acts upon, but for the line end.
COMMANDS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


@pytest.fixture(scope="module")
def project(tmp_path_factory, screen_tables, ok):
    """A screen whose compounds, genes and one column have such names, trained and with every result."""
    folder = tmp_path_factory.mktemp("names")
    expression, wells = screen_tables(compounds=len(NAMES), replicates=2)
    genes = {f"GENE{index + 1}": name for index, name in enumerate(NAMES)}
    number = pl.int_range(pl.len()) // 2
    named = (
        pl.when(number < len(NAMES))
        .then(number.replace_strict(dict(enumerate(NAMES)), default=""))
        .otherwise(pl.lit("DMSO"))
    )
    expression.rename(genes).write_parquet(folder / "expression.parquet")
    wells.with_columns(compound=named, pathway=named).rename({"size": SPREADSHEET[1]}).write_parquet(
        folder / "wells.parquet"
    )
    path = folder / "p"
    ok(
        "init",
        path,
        "--from",
        folder / "expression.parquet",
        "--wells",
        folder / "wells.parquet",
        "--scores",
        f"viability,{SPREADSHEET[1]}",
        "--label",
        "active",
    )
    small = ["--set", "model.width=8", "--set", "model.heads=1", "--set", "model.layers=1", "--threads", 1]
    ok("train", path, *small, "--epochs", 1, "--folds", 2)
    members = "\t".join([*SPREADSHEET, *MARKUP])
    (folder / "sets.gmt").write_text(f"=set\t\t{members}\n[red]set\t\t{members}\n")
    ok("check", path, "--permutations", 199)
    ok("rank", path, "--signatures", "--gene-sets", folder / "sets.gmt")
    ok("explain", path)
    return path


EVERY = [["check", "--permutations", 199], ["predict"], ["latent"], ["rank"], ["explain"], ["info"], ["evaluate"]]


@pytest.mark.parametrize("command", EVERY, ids=lambda words: words[0])
def test_a_terminal_gets_no_commands_from_names(project, ok, command):
    ran = ok(command[0], project, *command[1:], "--format", "table")
    assert not COMMANDS.search(ran.out + ran.err)
    if command[0] in ("rank", "predict"):
        assert "[bold]loud" in ran.out
        assert ":bug:" in ran.out


@pytest.mark.parametrize("shown", ["csv", "json"])
def test_nor_from_csv_or_json_where_stdout_is_a_terminal(project, start, shown):
    above, below = pty.openpty()
    with start("rank", project, "--format", shown, stdout=below) as running:
        os.close(below)
        shows = b""
        try:
            while chunk := os.read(above, 65536):
                shows += chunk
        except OSError:  # the other end is closed
            pass
        os.close(above)
        running.communicate(timeout=120)
    text = shows.decode().replace("\r\n", "\n")
    assert "red" in text
    assert not COMMANDS.search(text)


def test_a_pipe_gets_names_as_they_are(project, dpf, ok):
    rows = dpf("rank", project, "--format", "json").envelope["data"]["rows"]
    assert {row["compound"] for row in rows} == set(NAMES)
    compounds = set(ok("rank", project, "--format", "csv").rows["compound"])
    assert compounds == {f"'{name}" if name in SPREADSHEET else name for name in NAMES}


def test_an_error_shows_names_harmlessly(project, dpf, tmp_path):
    ran = dpf("predict", project, "--input", tmp_path / "no\x1b[2Jsuch.csv")
    assert ran.code == 4
    assert "\\x1b[2J" in ran.err
    assert not COMMANDS.search(ran.err)


def test_every_figure_is_valid_xml(project):
    drawings = sorted(project.rglob("*.svg"))
    assert len(drawings) >= 4
    texts = []
    for path in drawings:
        tree = ElementTree.parse(path)
        texts += [text for element in tree.iter() for text in element.itertext()]
        assert not [element for element in tree.iter() if element.tag.endswith("script")]
    assert any("[bold]loud" in text for text in texts)


def test_an_export_is_read_back_with_the_same_names(project, ok, tmp_path):
    ok("export", project, "--output", tmp_path / "out")
    for path in (tmp_path / "out").glob("*.csv"):
        table = pl.read_csv(path, infer_schema=False)
        cells = [cell for column in table for cell in (column.name, *column.drop_nulls().to_list())]
        assert not [
            cell
            for cell in cells
            if re.match(r"[=+\-@\t\r].", cell) and not re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", cell)
        ], path
    again = tmp_path / "again"
    score = SPREADSHEET[1]
    ok(
        "init",
        again,
        "--from",
        tmp_path / "out/expression.csv",
        "--wells",
        tmp_path / "out/wells.csv",
        "--scores",
        f"viability,{score}",
        "--label",
        "active",
    )
    for name in ("wells", "genes", "expression"):
        one, other = (pl.read_parquet(path / f"inputs/{name}.parquet") for path in (project, again))
        assert one.columns == [column for column in other.columns if column != "set_aside_original"]
        if name != "expression":
            assert one.get_column(one.columns[1]).to_list() == other.get_column(one.columns[1]).to_list()
    compounds = [pl.read_parquet(path / "inputs/wells.parquet")["compound"].to_list() for path in (project, again)]
    assert compounds[0] == compounds[1]


def test_no_file_is_written_outside_its_place(project):
    folder = project.parent
    assert {path.name for path in folder.iterdir()} == {"expression.parquet", "wells.parquet", "sets.gmt", "p"}
    assert not Path(shutil.which("calc") or "/nowhere").is_dir()
    assert not [path for path in folder.rglob("*") if COMMANDS.search(path.name) or "bold" in path.name]
