"""What a model file says of itself, read without loading a weight (and without importing torch)."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from dpf.config.settings import refuse_later
from dpf.errors import ModelError

#: The one metadata key. Several keys would be written in hash order, and the file would differ from run to run.
KEY = "dpf"


class DamagedModelError(ModelError):
    """The file is truncated, or what it says of itself is garbled: it is not what dpf wrote (exit code 5)."""


def read_model_header(path: Path) -> dict[str, Any]:
    """The canonical JSON that a dpf model file carries, checked for kind and format.

    Raises
    ------
    ModelError
        The file is missing, not of dpf, or of a later format.
    DamagedModelError
        It is truncated or not a safetensors file.
    """
    metadata = _metadata(path)
    if KEY not in metadata:
        raise ModelError(
            "the safetensors file was not written by dpf",
            where=path,
            expected="a model.safetensors of dpf train",
            hint="name a model of the project, or the path of a model.safetensors that dpf wrote",
        )
    try:
        about: dict[str, Any] = json.loads(metadata[KEY])
        refuse_later(about, "model", path, ModelError)
    except (ValueError, TypeError, KeyError):
        raise _damaged(path, f"its description under {KEY!r} is not one that dpf writes") from None
    return about


def _metadata(path: Path) -> dict[str, str]:
    try:
        with path.open("rb") as stream:
            prefix = stream.read(8)
            length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            size = path.stat().st_size
            header = stream.read(length) if 2 <= length <= size - 8 else b""
    except FileNotFoundError:
        raise ModelError("no such model file", where=path) from None
    except OSError as error:
        raise ModelError("the model file cannot be read", where=path, found=error.strerror) from error
    try:
        content = json.loads(header)
        metadata = dict(content.pop("__metadata__", {}))
        end = max((entry["data_offsets"][1] for entry in content.values()), default=0)
    except (ValueError, TypeError, LookupError, AttributeError):
        raise _damaged(path, "it does not begin with a safetensors header") from None
    if end != size - 8 - length:
        raise _damaged(path, f"{size - 8 - length:,} bytes of weights where its header announces {end:,}")
    return metadata


def _damaged(path: Path, found: str) -> DamagedModelError:
    return DamagedModelError(
        "the model file is truncated or is not a safetensors file",
        where=path,
        found=found,
        hint="restore it from a copy, or train again",
    )
