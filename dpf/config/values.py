"""A value that a user gave, in `dpf.toml`, on the command line or from Python, as the type it should have."""

from __future__ import annotations

import difflib
import json
import math
import types
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

_NAMES: dict[Any, str] = {
    int: "a whole number", float: "a number", bool: "true or false", str: 'a text in "quotes"', Path: "a path",
}  # fmt: skip


def converted(value: Any, kind: Any, bounds: Mapping[str, Any]) -> tuple[Any, str]:
    """The value as `kind`, and what was expected instead (empty where nothing is wrong with it).

    Parameters
    ----------
    kind
        int, float, bool, str, Path, a `Literal`, a tuple of any number of texts or paths, or one of these or None.
    bounds
        `minimum`, `above`, `maximum`, `below` of a number, None or not there where it has none; `choices` of a text.
    """
    if get_origin(kind) in (Union, types.UnionType):
        if value is None:
            return None, ""
        (kind,) = (one for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is Literal:
        return value, _not_among(value, get_args(kind))
    if get_origin(kind) is tuple:
        return _several(value, get_args(kind)[0])
    if hasattr(value, "item"):  # a number of numpy's
        value = value.item()
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        # TOML's whole numbers have no bound here; those that no float reaches are caught as not finite.
        value = float(value) if abs(value) < 1 << 1023 else math.inf
    if kind is Path and isinstance(value, str | PathLike):
        value = Path(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return None, _NAMES[kind]
    return value, _out_of_bounds(value, bounds)


def shown(value: Any) -> str:
    """A value as TOML has it, and messages show it."""
    return json.dumps(value, ensure_ascii=False, default=str)


def _several(value: Any, kind: Any) -> tuple[Any, str]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str | PathLike) for item in value):
        return None, 'a list of texts, such as ["a", "b"]'
    return tuple(kind(fspath(item)) for item in value), ""


def _not_among(value: Any, choices: Sequence[Any]) -> str:
    if value in choices:
        return ""
    close = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"one of {', '.join(map(str, choices))}{hint}"


def _out_of_bounds(value: Any, bounds: Mapping[str, Any]) -> str:
    if choices := bounds.get("choices"):
        return _not_among(value, choices)
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if (minimum := bounds.get("minimum")) is not None and value < minimum:
        return f"at least {minimum}"
    if (above := bounds.get("above")) is not None and value <= above:
        return f"more than {above}"
    if (maximum := bounds.get("maximum")) is not None and value > maximum:
        return f"at most {maximum}"
    if (below := bounds.get("below")) is not None and value >= below:
        return f"less than {below}"
    return ""
