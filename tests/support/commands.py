"""The command line within this process: words in, exit code and the two streams out."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
from typer.testing import CliRunner

from dpf.cli.app import app
from dpf.cli.commands import check, evaluate, explain, export, info, init, latent, predict, rank, train

#: The functions behind the commands, by name.
FUNCTIONS: dict[str, Any] = {
    module.__name__.rpartition(".")[2]: module.command
    for module in (init, check, train, evaluate, predict, latent, rank, explain, info, export)
}


class Ran(NamedTuple):
    """What a command left."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What is in the one JSON envelope of a command that succeeded."""
        assert self.out.count("\n") == 1
        envelope = json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        assert envelope["dpf"] == 1
        assert envelope["status"] == "ok"
        return envelope["data"]


def dpf(*words: object) -> Ran:
    """Run a command."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    return Ran(result.exit_code, result.stdout, result.stderr)


def ok(*words: object) -> Ran:
    """Run a command that must succeed."""
    ran = dpf(*words)
    assert ran.code == 0, ran.err
    return ran
