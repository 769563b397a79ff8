"""What differs between two nested dictionaries of settings and fingerprints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """A value that two dictionaries do not share: its dotted name and both values as JSON."""

    name: str
    one: str
    other: str


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[Difference]:
    """Every value that differs, by name; a value that is not there is null."""
    found: list[Difference] = []
    for key in sorted(set(one) | set(other)):
        a, b = one.get(key), other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            found.append(Difference(f"{prefix}{key}", json.dumps(a), json.dumps(b)))
    return found
