"""Run commands one after another, words in and outcome out, as JSON lines: a process that a damaged file may end."""

from __future__ import annotations

import json
import os
import resource
import sys
import warnings

_MEMORY = 24 << 30  # of address space; what asks for more is refused instead of stopping the machine


def main() -> None:
    """Serve until stdin ends. What libraries write to stderr by themselves (panics) is part of the outcome."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w")
    noise = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(noise, 1)
    os.dup2(noise, 2)
    warnings.simplefilter("ignore")  # as a user sees them is another test's matter
    from typer.testing import CliRunner

    import dpf.figures.drawing.style
    from dpf.cli.app import app

    dpf.figures.drawing.style._bytes = lambda _figure, _format: b"\x89PNG of a test"
    for line in sys.stdin:
        os.ftruncate(noise, 0)
        os.lseek(noise, 0, os.SEEK_SET)
        result = CliRunner().invoke(app, json.loads(line))
        size = os.lseek(noise, 0, os.SEEK_END)
        stray = os.pread(noise, min(size, 4000), 0).decode(errors="replace")
        # An exception that passed even the program's edge (a panic is no Exception) shows itself here.
        escaped = "" if result.exception is None or isinstance(result.exception, SystemExit) else repr(result.exception)
        answer = {"code": result.exit_code, "out": result.stdout, "err": result.stderr, "stray": stray + escaped}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
