"""stdout and stderr as dpf needs them, whatever they are: closed, full, a pipe that has ended, of another encoding."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

from dpf.errors import ProjectError

#: What moves a terminal's cursor, changes its colours or reorders what it shows; not the line end and the tab.
_COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def harmless(text: str, *, one_line: bool = False) -> str:
    r"""A text as a terminal may get it: control characters, which names from files can hold, as ``\x1b``.

    With `one_line`, as in a cell of a table, line ends and tabs too.
    """
    if one_line:
        text = text.replace("\n", r"\n").replace("\t", r"\t")
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _Results(io.TextIOWrapper):
    """stdout: a result that cannot be written there is an error."""

    def write(self, text: str) -> int:
        with _refused(self):
            return super().write(text)

    def flush(self) -> None:
        with _refused(self):
            super().flush()


class _Messages(io.TextIOWrapper):
    """stderr: a message that cannot be written is lost, which is no reason to end what is being done."""

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            super().flush()


@contextmanager
def _refused(stream: io.TextIOWrapper) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # What is still in the buffer goes nowhere: Python would try again when it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise ProjectError(
            "the result cannot be written",
            where="stdout",
            found=error.strerror or error,
            hint="write it somewhere else; what the command keeps in the project is there",
        ) from error


def prepare_streams() -> None:
    """Make stdout and stderr what the program counts on; once, before anything is written.

    Results in a file or a pipe are UTF-8, names of files as the system has them; a terminal keeps its encoding. A
    stream that is closed takes everything and keeps nothing.
    """
    for descriptor in (0, 1, 2):  # else the next file that is opened would take its number, and its messages
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = _nowhere()
    if sys.stderr is None:
        sys.stderr = _nowhere()
    if isinstance(sys.stdout, io.TextIOWrapper):
        own = sys.stdout.isatty()
        encoding, errors = (sys.stdout.encoding, "replace") if own else ("utf-8", "surrogateescape")
        sys.stdout = _Results(sys.stdout.detach(), encoding, errors, line_buffering=own)
    if isinstance(sys.stderr, io.TextIOWrapper):
        encoding = sys.stderr.encoding
        sys.stderr = _Messages(sys.stderr.detach(), encoding, "backslashreplace", line_buffering=True)


def _nowhere() -> io.TextIOWrapper:
    return Path(os.devnull).open("w", encoding="utf-8")


@contextmanager
def silence() -> Iterator[None]:
    """Write nothing meanwhile: another process of the run does."""
    with _nowhere() as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        yield
