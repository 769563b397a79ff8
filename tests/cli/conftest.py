"""The command line as a user meets it: commands in, exit code and the two streams out, and a few tiny projects."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

REPOSITORY = Path(__file__).resolve().parents[2]

#: Settings that make a network small enough to train within a test, and every machine compute alike.
TINY = [
    *("--set", "model.width=16", "--set", "model.heads=2", "--set", "model.feed_forward=32", "--set", "model.layers=1"),
    *("--set", "model.latent=6", "--set", "compute.threads=1", "--set", "compute.precision=fp32"),
    *("--set", "compute.device=cpu"),
    # A network that learns from nothing, so that what it learns can be seen: the preset classic.
    *("--set", "model.start=none", "--set", "train.schedule=constant", "--set", "train.learning_rate=0.001"),
    *("--set", "train.patience=0"),
]


class Ran(NamedTuple):
    """What a command left: its exit code, and the two streams apart."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> pl.DataFrame:
        """The result as the CSV it must be."""
        assert self.code == 0, self.err
        return pl.read_csv(io.StringIO(self.out), infer_schema_length=None)

    @property
    def envelope(self) -> dict[str, Any]:
        """The result as the one JSON envelope it must be."""
        assert self.out.count("\n") == 1
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


Command = Callable[..., Ran]


def _run(*words: object) -> Ran:
    from dpf.cli.app import app

    result = CliRunner().invoke(app, [str(word) for word in words])
    return Ran(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="session")
def dpf() -> Command:
    """Run a command within this process."""
    return _run


@pytest.fixture(scope="session")
def ok() -> Command:
    """Run a command that must succeed."""

    def run(*words: object) -> Ran:
        ran = _run(*words)
        assert ran.code == 0, ran.err
        return ran

    return run


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """Start a command as a process of its own."""

    def begin(
        *words: object, launcher: Sequence[str] = (), module: Sequence[str] = ("-m", "dpf"), **options: Any
    ) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *launcher, *module, *map(str, words)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options
        return subprocess.Popen(command, env=environment, **streams)

    return begin


@pytest.fixture(scope="session")
def process(start: Callable[..., subprocess.Popen[str]]) -> Command:
    """Run a command as a process of its own, to its end."""

    def run(*words: object, **options: Any) -> Ran:
        with start(*words, **options) as running:
            out, err = running.communicate(timeout=300)
        return Ran(running.returncode, out, err)

    return run


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, ok: Command) -> Path:
    """A simulated project, not trained. To be copied before it is written to."""
    path = tmp_path_factory.mktemp("demo") / "demo"
    ok("init", path, "--demo", "--wells", 48, "--genes", 24, "--set", "train.epochs=3", *TINY)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, demo: Path, ok: Command) -> Path:
    """The simulated project, trained as one member, nothing computed with it yet. To be copied before writing."""
    path = tmp_path_factory.mktemp("trained") / "demo"
    shutil.copytree(demo, path)
    ok("train", path)
    return path


@pytest.fixture(scope="session")
def folded(tmp_path_factory: pytest.TempPathFactory, demo: Path, ok: Command) -> Path:
    """The simulated project, trained in three folds, its outputs kept. Results may come to it, nothing else changes."""
    path = tmp_path_factory.mktemp("folded") / "demo"
    shutil.copytree(demo, path)
    ok("train", path, "--folds", 3)
    ok("predict", path)
    return path


@pytest.fixture(scope="session")
def told(folded: Path, ok: Command) -> Command:
    """What a command says of the folded project; asked again in the same words, it is not run again."""
    answers: dict[tuple[object, ...], Ran] = {}

    def run(command: str, *words: object) -> Ran:
        if (command, *words) not in answers:
            answers[command, *words] = ok(command, folded, *words)
        return answers[command, *words]

    return run


@pytest.fixture
def sketches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are composed and not rendered, which is most of their time; the projects above have real ones."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("dpf.figures.drawing.style._bytes", lambda _figure, _format: b"\x89PNG of a test")


@pytest.fixture
def drawn() -> None:
    """Ask for this where the figures themselves matter, in a file that uses `sketches`."""


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a project, to write to."""

    def make(project: Path, name: str = "copy") -> Path:
        return Path(shutil.copytree(project, tmp_path / name))

    return make


class Files(NamedTuple):
    """A screen as a user's two files: expression and wells."""

    expression: Path
    wells: Path

    @property
    def words(self) -> list[str]:
        """How `dpf init` is told of them."""
        return ["--from", str(self.expression), "--wells", str(self.wells)]


@pytest.fixture
def screen(tmp_path: Path) -> Callable[..., Files]:
    """Write a screen of 28 wells x 20 genes as two CSV files; `change` may spoil the two tables first."""

    def write(change: Callable[[pl.DataFrame, pl.DataFrame], tuple[pl.DataFrame, pl.DataFrame]] | None = None) -> Files:
        expression, wells = tables()
        if change is not None:
            expression, wells = change(expression, wells)
        files = Files(tmp_path / "expression.csv", tmp_path / "wells.csv")
        expression.write_csv(files.expression)
        wells.write_csv(files.wells)
        return files

    return write


def tables(compounds: int = 10, replicates: int = 2, controls: int = 8, genes: int = 20) -> tuple[pl.DataFrame, ...]:
    """Expression and wells of a small screen: compound number k shifts the genes, and two scores follow."""
    rng = np.random.default_rng(7)
    names = [f"drug {k}" for k in range(compounds) for _ in range(replicates)] + ["DMSO"] * controls
    strength = np.array([k / compounds for k in range(compounds) for _ in range(replicates)] + [0.0] * controls)
    loading = rng.standard_normal(genes)
    values = 6.0 + rng.standard_normal((len(names), genes)) * 0.5 + 3.0 * strength[:, None] * loading
    ids = [f"P{1 + n % 2}_{'ABCDEFGH'[n % 8]}{1 + n // 8:02d}" for n in range(len(names))]
    expression = pl.DataFrame(
        {"well_id": ids} | {f"GENE{g + 1}": np.round(values[:, g], 4) for g in range(genes)},
    )
    wells = pl.DataFrame(
        {
            "well_id": ids,
            "compound": names,
            "plate": [name[:2] for name in ids],
            "viability": np.round(100 - 40 * strength + rng.standard_normal(len(names)), 3),
            "size": np.round(strength + 0.1 * rng.standard_normal(len(names)), 4),
            "active": [int(value > 0.45) for value in strength],
        }
    )
    return expression, wells


@pytest.fixture(scope="session")
def screen_tables() -> Callable[..., tuple[pl.DataFrame, ...]]:
    """The tables that `screen` writes, in memory."""
    return tables


@pytest.fixture
def refused(dpf: Command, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Run `dpf init` into a new folder, which must end with exit code 4 (or the one named), and leave nothing."""

    def run(*words: object, code: int = 4) -> str:
        target = tmp_path / "never"
        before = set(tmp_path.rglob("*"))
        ran = dpf("init", target, *words)
        assert ran.code == code, ran.err or ran.out
        assert ran.out == ""
        assert not target.exists()
        assert set(tmp_path.rglob("*")) == before
        assert "internal error" not in ran.err
        return ran.err

    return run
