"""The edge of the program: results to stdout, everything else to stderr, errors to exit codes. Nothing else prints."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dpf.errors import DpfError

if TYPE_CHECKING:
    import polars as pl

    from dpf.cli.display.bar import Bar

_INTERRUPTED = 130


class OutputFormat(StrEnum):
    """How a result is shown on stdout."""

    table = "table"
    csv = "csv"
    json = "json"


class _Debug:
    on = False


def set_debug(on: bool) -> None:
    """Show tracebacks, or not. Set once, by the root command."""
    _Debug.on = on


class _Silence:
    on = False


def be_silent() -> None:
    """Say nothing from here on, but for an error that nobody else tells: another process of this run speaks."""
    _Silence.on = True
    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  until the process ends


class Session:
    """One run of one command: its name, how its result is shown, its progress."""

    def __init__(self, command: str, output: OutputFormat | None) -> None:
        self.command = command
        default = OutputFormat.table if sys.stdout.isatty() else OutputFormat.csv
        self.format = output or default
        #: Whether this process, of several that train together, may tell why the run ends.
        self.speaks: Callable[[], bool] = lambda: os.environ.get("RANK", "0") == "0"
        #: What to do next where the run is interrupted; nothing to be said if empty.
        self.after_interruption: Callable[[], str] = lambda: ""
        self._bar: Bar | None = None

    @property
    def progress(self) -> Bar:
        """The bar and the log on stderr, made when first asked for."""
        if self._bar is None:
            from dpf.cli.display.bar import Bar

            self._bar = Bar()
        return self._bar

    def close(self) -> None:
        """End the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()

    def say(self, text: str) -> None:
        """A line for the reader, on stderr."""
        self.close()
        typer.echo(text, err=True)

    def show(
        self, table: pl.DataFrame, kind: str, *, top: int | None = None, title: str = "", sorted_by: str = "",
        **data: Any,
    ) -> None:  # fmt: skip
        """The result, its first `top` rows, on stdout: a table of chosen columns, or all of it as CSV or JSON.

        Its schema is that of `kind` (`dpf.tables.schemas`). `data` are further parts of the JSON envelope's data,
        beside `rows`.
        """
        self.close()
        shown = table if top is None else table.head(top)
        if self.format is OutputFormat.json:
            self.envelope({"rows": shown.to_dicts(), **data})
        elif self.format is OutputFormat.csv:
            self._write(shown.write_csv())
        else:
            from dpf.cli.display.tables import print_table

            print_table(shown, kind, title, sorted_by)

    def envelope(self, data: Mapping[str, Any]) -> None:
        """The JSON envelope of a result."""
        content = {"dpf": 1, "command": self.command, "status": "ok", "data": _plain(data)}
        self._write(json.dumps(content, ensure_ascii=False, default=str) + "\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def fail(self, text: str, kind: str, what: str, details: Mapping[str, str]) -> None:
        """Show why there is no result: `text` on stderr, and with --format json an envelope on stdout."""
        self.close()
        if not self.speaks():
            return
        if _Silence.on:
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        if self.format is OutputFormat.json:
            errors = [{"kind": kind, "what": what, **details}]
            content = {"dpf": 1, "command": self.command, "status": "error", "errors": errors}
            self._write(json.dumps(content, ensure_ascii=False) + "\n")
        typer.echo(text, err=True)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _red(text: str) -> str:
    return typer.style(text, fg="red", bold=True)


@contextmanager
def session(command: str, output: OutputFormat | None = None) -> Iterator[Session]:
    """The one place where errors become messages and exit codes.

    0 done; 1 a bug; 2 usage; 3 project or settings; 4 data; 5 model file; 6 device or memory; 130 interrupted.
    """
    current = Session(command, output)
    try:
        yield current
    except DpfError as error:
        if _Debug.on:
            raise
        current.fail(f"{_red('error:')} {error}", error.kind, error.what, dict(error.details()))
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        hint = current.after_interruption()
        text = f"interrupted{f'; {hint}' if hint else ''}"
        current.fail(text, "interrupted", "interrupted", {"next": hint} if hint else {})
        raise typer.Exit(_INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of the pipe has had enough (`dpf rank | head`). Python would complain again on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except typer.Exit:
        raise
    except Exception as error:
        if _Debug.on:
            raise
        what = f"{type(error).__name__}: {error}"
        hint = f"this is a bug in dpf; run `dpf --debug {command} ...` and report what it prints"
        current.fail(f"{_red('internal error:')} {what}\n  next: {hint}", "internal", what, {"next": hint})
        raise typer.Exit(1) from None
    finally:
        current.close()
