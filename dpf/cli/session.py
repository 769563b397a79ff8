"""The edge of the program: results to stdout, everything else to stderr, errors to exit codes. Nothing else prints."""

from __future__ import annotations

import json
import math
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import typer

from dpf.cli.memory import no_memory
from dpf.cli.streams import harmless
from dpf.errors import DpfError, ProjectError

if TYPE_CHECKING:
    import polars as pl

    from dpf.cli.display.bar import Bar

_INTERRUPTED = 130

#: How a result is shown on stdout.
OutputFormat = Literal["table", "csv", "json"]


class Session:
    """One run of one command: its name, how its result is shown, its progress, whether tracebacks are."""

    def __init__(self, command: str, output: OutputFormat | None = None, *, debug: bool = False) -> None:
        self.command = command
        self.debug = debug
        #: What the user asked for by --format, if anything.
        self.requested = output
        self.format: OutputFormat = output or ("table" if sys.stdout.isatty() else "csv")
        #: Whether this process, of several that train together, may report why the run ends.
        self.may_report: Callable[[], bool] = lambda: True
        #: What to do next where the run is interrupted; nothing if empty.
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
        typer.echo(harmless(text), err=True)

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
        if self.format == "json":
            self.envelope({"rows": shown.to_dicts(), **data})
        elif self.format == "csv":
            from dpf.tables.text.spreadsheet import to_csv

            self._write(to_csv(shown))
        else:
            from dpf.cli.display.tables import print_table

            print_table(shown, kind, title, sorted_by)

    def print(self, text: str) -> None:
        """The result, on stdout, where it is a text."""
        self.close()
        self._write(f"{text}\n")

    def envelope(self, data: Mapping[str, Any]) -> None:
        """The JSON envelope of a result."""
        self._write_json(status="ok", data=_plain(data))

    def _write_json(self, **content: Any) -> None:
        text = json.dumps({"dpf": 1, "command": self.command, **content}, ensure_ascii=False, default=str)
        # A byte of a path that is no UTF-8 must not be one of JSON: it is written as JSON writes it, \udcXX.
        # Nor may a terminal take what it has in it for a command; JSON itself escapes the characters before the space.
        text = re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text)
        self._write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()

    def fail(self, text: str, kind: str, what: str, details: Mapping[str, str], *, title: str = "") -> None:
        """Show why there is no result: on stderr after a red title, and with --format json in an envelope on stdout."""
        self.close()
        if not self.may_report():
            return
        if self.format == "json":
            with suppress(DpfError, OSError):  # where stdout is what has failed
                self._write_json(status="error", errors=[{"kind": kind, "what": what, **details}])
        typer.echo((typer.style(title, fg="red", bold=True) + " " if title else "") + harmless(text), err=True)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


@contextmanager
def session(command: str, output: OutputFormat | None = None, *, debug: bool = False) -> Iterator[Session]:
    """The one place where errors become messages and exit codes.

    0 done; 1 a bug; 2 usage; 3 project or settings; 4 data; 5 model file; 6 device or memory; 130 interrupted.
    """
    current = Session(command, output, debug=debug)
    try:
        with _signals_interrupt(), _encodable(), _refusals():
            yield current
    except DpfError as error:
        if debug:
            raise
        current.fail(str(error), error.kind, error.what, dict(error.details()), title="error:")
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        hint = current.after_interruption()
        text = f"interrupted{f'; {hint}' if hint else ''}"
        current.fail(text, "interrupted", "interrupted", {"next": hint} if hint else {})
        raise typer.Exit(_INTERRUPTED) from None
    except BrokenPipeError:
        pass  # the reader of the pipe has had enough (`dpf rank | head`)
    except typer.Exit:
        raise
    except Exception as error:
        if debug:
            raise
        what = f"{type(error).__name__}: {error}"
        hint = f"this is a bug in dpf; run `dpf --debug {command} ...` and report what it prints"
        current.fail(f"{what}\n  next: {hint}", "internal", what, {"next": hint}, title="internal error:")
        raise typer.Exit(1) from None
    finally:
        current.close()


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM, which clusters send before they stop a job, and SIGHUP, which ends with a terminal, act as Ctrl-C.

    What is ignored already, as `nohup` has it, stays so.
    """
    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in known}
    taken = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in taken:
            if signal.getsignal(number) is _interrupt:
                signal.signal(number, before[number] or signal.SIG_DFL)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def _refusals() -> Iterator[None]:
    """What the system refuses, and no workflow has put in words of its own: memory, a name too long, a full disk."""
    try:
        yield
    except MemoryError as error:
        raise no_memory(error) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error) and type(error).__name__ != "OutOfMemoryError":  # PyTorch's two ways
            raise
        raise no_memory(error) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise ProjectError(
            "the system refuses a file or folder",
            where=error.filename,
            found=error.strerror or error,
            hint="look at the name, the rights and the room on that disk; what was there before is untouched",
        ) from error


@contextmanager
def _encodable() -> Iterator[None]:
    """A path that the system has and UTF-8 has not: polars cannot open it, and no table can name it as its source."""
    try:
        yield
    except UnicodeEncodeError as error:
        if error.reason != "surrogates not allowed":
            raise
        raise ProjectError(
            "a name cannot be written as UTF-8",
            found=error.object[max(0, error.start - 200) : error.end + 200],
            hint="rename the file or folder, or set a UTF-8 locale (LC_ALL=C.UTF-8): dpf keeps names in UTF-8",
        ) from error
