"""Error types, each with its exit code on the command line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager


def count(number: int, noun: str) -> str:
    """``1 well``, ``2,541 genes``: regular plurals."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class DpfError(Exception):
    """An error a user can act on: what happened, where, what was found, what was expected, what to do next.

    Parameters
    ----------
    what
        One sentence, no full stop needed.
    where
        The file, and in it the row, column, well or setting.
    found, expected
        The value that was found, and what was expected.
    hint
        The next step, preferably a command or a flag.
    """

    exit_code = 1
    kind = "error"

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        found: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.found = None if found is None else str(found)
        self.expected = None if expected is None else str(expected)
        self.hint = hint
        super().__init__(str(self))

    def details(self) -> list[tuple[str, str]]:
        """The parts that are there, in reading order, as (name, text)."""
        parts = [("where", self.where), ("found", self.found), ("expected", self.expected), ("next", self.hint)]
        return [(name, text) for name, text in parts if text]

    def __str__(self) -> str:
        return "\n".join([self.what, *(f"  {name}: {text}" for name, text in self.details())])


class UsageError(DpfError):
    """An option, or a combination of options, is wrong (exit code 2)."""

    exit_code = 2
    kind = "usage"


class ProjectError(DpfError):
    """The project directory or its settings are wrong (exit code 3)."""

    exit_code = 3
    kind = "project"


class DataError(DpfError):
    """The tables are wrong (exit code 4)."""

    exit_code = 4
    kind = "data"


class ModelError(DpfError):
    """The model file is missing, damaged, foreign, or of another data set (exit code 5)."""

    exit_code = 5
    kind = "model"


class DeviceError(DpfError):
    """The device or the memory is not available (exit code 6)."""

    exit_code = 6
    kind = "device"


def repeated(names: Iterable[str]) -> list[str]:
    """The names that appear more than once, in alphabetical order."""
    return sorted(name for name, times in Counter(names).items() if times > 1)


@contextmanager
def translated(error: Callable[[BaseException], DpfError]) -> Iterator[None]:
    """Whatever a library raises over the bytes of a file, as the `error` that says which file.

    Which exceptions damaged bytes lead a library to, nobody lists; the panics of Rust's are not even of `Exception`.
    Errors of dpf's own, lack of memory and interruptions pass.
    """
    try:
        yield
    except (DpfError, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as cause:
        raise error(cause) from cause


def first_line(error: BaseException) -> str:
    """What an exception says, in one line, with its type where that is all it says."""
    text = str(error).strip().partition("\n")[0]
    return text if " " in text else f"{type(error).__name__}: {text}".rstrip(": ")


def listed(names: Sequence[object], limit: int = 10) -> str:
    """``a, b, c`` or, when there are more than `limit`, ``a, b, ... and 12 more``."""
    shown = ", ".join(str(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown}, ... and {len(names) - limit:,} more"


def spelling_hint(known: Iterable[str], unknown: Iterable[str]) -> str | None:
    """What to do where unknown genes are known ones in another case, or as R writes names; None where they are not."""
    names, others = list(known), list(unknown)
    for key, text in (
        (str.casefold, "differ in upper and lower case only: another species' names?"),
        (_as_r_writes, "have points for other signs, as R writes names: check.names = FALSE keeps them"),
    ):
        keys = set(map(key, names))
        if same := sum(key(name) in keys for name in others):
            return f"{same:,} of them {text}"
    return None


def _as_r_writes(name: str) -> str:
    return re.sub(r"^X(?=\d)", "", re.sub(r"[^\w.]", ".", name))
