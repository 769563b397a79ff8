"""Ways to damage a file: of bytes, of JSON, of what lies in its place. Each draws what it needs from a generator."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

Bytes = Callable[[bytearray, random.Random], bytes]


def _flip(content: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice([1, 1, 1, 3, 30])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _cut(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[: rng.randrange(len(content))])


def _zero(content: bytearray, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(content)), rng.choice([1, 8, 64, 512])
    content[start : start + length] = bytes(len(content[start : start + length]))
    return bytes(content)


def _double(content: bytearray, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(content)), rng.choice([1, 8, 64, 512, len(content)])
    return bytes(content[: start + length] + content[start:])


def _swap(content: bytearray, rng: random.Random) -> bytes:
    length = rng.choice([4, 32, 256])
    one, other = rng.randrange(len(content)), rng.randrange(len(content))
    block = bytes(content[one : one + length])
    content[other : other + len(block)] = block
    return bytes(content)


def _fill(content: bytearray, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(content)), rng.choice([1, 2, 4, 8])
    content[start : start + length] = b"\xff" * len(content[start : start + length])
    return bytes(content)


def _empty(_content: bytearray, _rng: random.Random) -> bytes:
    return b""


def _noise(content: bytearray, rng: random.Random) -> bytes:
    return bytes(content[:8]) + rng.randbytes(len(content))


#: Whatever is in the file. The first are tried most.
BYTES: dict[str, Bytes] = {
    "flip": _flip, "cut": _cut, "zero": _zero, "double": _double, "swap": _swap, "fill": _fill, "empty": _empty,
    "noise": _noise,
}  # fmt: skip
_WEIGHTS = [8, 4, 3, 3, 2, 2, 1, 1]


def damage_bytes(path: Path, rng: random.Random) -> str:
    """Change the bytes of a file; the name of what was done."""
    name = rng.choices(list(BYTES), _WEIGHTS)[0]
    content = bytearray(path.read_bytes()) or bytearray(b"\0")
    path.write_bytes(BYTES[name](content, rng))
    return name


def in_its_place(path: Path, rng: random.Random, *, pipes: bool) -> str:
    """Put something that is no file where the file was. (Of a user's own pipes one waits for what comes.)"""
    kind = rng.choice(["directory", "FIFO" if pipes else "device", "link to itself", "link to nothing", "device"])
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to({"link to itself": path.name, "link to nothing": "absent", "device": "/dev/zero"}[kind])
    return kind


DEEP = "[" * 5000 + "]" * 5000
LONG = "9" * 5000


def strange_json(value: Any, rng: random.Random) -> str:
    """The text of a JSON value, one place of which is not as it was: gone, of another type, too deep or too long."""
    mark = "\x00here\x00"
    odd = rng.choice(
        ["null", "[]", "{}", '"x"', "-1", "true", "NaN", "1e999", '["a", 1]', '{"a": {}}', DEEP, LONG, '"\\u0000"']
    )
    parents = list(_containers(value))
    if not parents or rng.random() < 0.1:
        return odd
    parent = rng.choice(parents)
    key = rng.choice(list(parent) if isinstance(parent, dict) else list(range(len(parent))))
    if rng.random() < 0.25:
        del parent[key]
        return json.dumps(value)
    parent[key] = mark
    return json.dumps(value).replace(json.dumps(mark), odd)


def _containers(value: Any) -> Any:
    if isinstance(value, dict | list) and value:
        yield value
        for one in value.values() if isinstance(value, dict) else value:
            yield from _containers(one)
