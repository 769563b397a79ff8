"""README and docs: what they show can be run, every command in them exists, the generated pages are up to date."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.main

from dpf.cli.app import app
from dpf.config.settings import setting_names
from dpf.errors import DpfError
from tests.bench import screens
from tests.options_reference import pages

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
README, TUTORIAL = REPOSITORY / "README.md", DOCS / "tutorial.md"
PAGES = [README, *sorted(DOCS.rglob("*.md"))]

#: What is run, in this order and in one folder: the pages that belong to the README's project, and the tutorial's.
RUN = {
    "README": [README, DOCS / "reference" / "project.md", DOCS / "reference" / "python.md"],
    "tutorial": [TUTORIAL],
}
#: Blocks of README and tutorial that are shown (`console`) and not run, because they install: by their first line.
SHOWN = {
    README: [
        "bash examples/quickstart.sh",
        "python3 -m venv .venv && .venv/bin/pip install -q nox==2026.10.20 && .venv/bin/nox",
    ],
    TUTORIAL: [],
}
COMMANDS = typer.main.get_command(app).commands
OPTIONS = {name: {flag for p in c.params for flag in [*p.opts, *p.secondary_opts]} for name, c in COMMANDS.items()}
#: Flags in running text that are not dpf's.
FOREIGN = {"--signal", "--requeue", "--cpus-per-task"}


class Block(NamedTuple):
    """A fenced block of a page: its language, its text, the line that it begins in."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in found]


def spans(page: Path) -> list[str]:
    """The code in running text."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every dpf command of a page, in blocks and in running text."""
    lines = [span for span in spans(page) if span.startswith("dpf ")]
    for block in blocks(page):
        if block.language in ("bash", "console"):
            lines += block.text.replace("\\\n", " ").splitlines()
    for line in lines:
        words = shlex.split(line, comments=True)
        starts = [at for at, word in enumerate(words) if Path(word).name == "dpf"]
        if starts:
            own = words[starts[0] + 1 :]
            end = next((at for at, word in enumerate(own) if word in ("|", ">", "&&", ">&-")), len(own))
            yield own[:end]


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def test_the_readme_is_a_page():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_run_or_marked(page):
    """A block of shell is `bash` if a test runs it, and `console` if it is only shown."""
    allowed = {"console", "text", "json", "toml"}
    allowed |= {"bash", "python"} if page in SHOWN else {"python"} if page in RUN["README"] else set()
    odd = [f"line {block.line}: {block.language!r}" for block in blocks(page) if block.language not in allowed]
    assert not odd, f"{name_of(page)}: blocks that are neither run nor marked as shown: {odd}"
    if page in SHOWN:
        shown = [block.text.splitlines()[0] for block in blocks(page) if block.language == "console"]
        assert shown == SHOWN[page]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_option_and_setting_exists(page):
    unknown = []
    for words in commands(page):
        while words and words[0].startswith("--"):  # of dpf itself: --version, --debug
            words = words[1:]
        if not words or words[0] == "COMMAND":
            continue
        name, *rest = words
        flags = [word.split("=")[0] for word in rest if word.startswith("--") and word != "--help"]
        unknown += [f"dpf {name}"] * (name not in COMMANDS)
        unknown += [f"dpf {name} {flag}" for flag in flags if flag not in OPTIONS.get(name, set())]
    every = set().union(*OPTIONS.values(), FOREIGN, {"--help", "--version", "--debug"})
    for span in spans(page):
        unknown += [span] * (span.startswith("--") and re.split(r"[ =]", span)[0] not in every)
        setting = re.match(r"(targets|model|train|compute|latent)\.([a-z_]+)", span)
        if setting and setting[2] not in ("parquet", "safetensors"):
            unknown += [span] * (setting[0] not in setting_names())
    assert not unknown, f"{name_of(page)} names what is not there: {unknown}"


def test_links_of_the_readme_lead_somewhere():
    """Those of docs are followed by `mkdocs build --strict`."""
    links = re.findall(r"\]\(([^)#]+)", README.read_text(encoding="utf-8"))
    absent = [link for link in links if "://" not in link and not (REPOSITORY / link).is_file()]
    assert links
    assert not absent


@pytest.mark.parametrize(("path", "text"), list(pages()), ids=[path.name for path, _ in pages()])
def test_the_reference_is_up_to_date(path, text):
    assert path.read_text(encoding="utf-8") == text, "make it anew: python -m tests.options_reference"


def test_the_scoreboards_are_those_that_are_kept():
    kept = json.loads(screens.RESULTS.read_text(encoding="utf-8"))
    found = screens.PAGE.read_text(encoding="utf-8")
    assert found == screens.document(kept), "make them anew: python -m tests.bench.screens --show"


@pytest.mark.parametrize("error", DpfError.__subclasses__(), ids=lambda error: error.kind)
def test_every_exit_code_is_documented(error):
    text = (DOCS / "reference" / "exit-codes.md").read_text(encoding="utf-8")
    assert f"| {error.exit_code} | `{error.kind}` |" in text


@pytest.mark.long
@pytest.mark.parametrize("name", RUN)
def test_every_block_runs_in_order(name, tmp_path):
    """As a reader would: in one folder, block after block, with `dpf` on the path."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "dpf"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dpf "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "Agg"}
    interpreter = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    for page in RUN[name]:
        for block in blocks(page):
            if block.language not in interpreter:
                continue
            words = [*interpreter[block.language], block.text]
            ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert ran.returncode == 0, f"{name_of(page)}, line {block.line}:\n{block.text}\n{ran.stderr[-3000:]}"
            assert ran.stdout
