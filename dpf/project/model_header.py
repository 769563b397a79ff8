"""What a model file says of itself, read without loading a weight (or importing torch)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from dpf.config.settings import refuse_later
from dpf.errors import ModelError
from dpf.files import parse_object, require_regular

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
        about = parse_object(metadata[KEY])
        refuse_later(about, "model", path, ModelError)
    except (ValueError, TypeError, KeyError):
        raise _damaged(path, f"its description under {KEY!r} is not one that dpf writes") from None
    return about


def _metadata(path: Path) -> dict[str, str]:
    try:
        require_regular(path)
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] | None = file.metadata()
    except FileNotFoundError:
        raise ModelError("no such model file", where=path) from None
    except OSError as error:
        raise ModelError("the model file cannot be read", where=path, found=error.strerror or error) from error
    except SafetensorError as error:
        raise _damaged(path, str(error)) from None
    return metadata or {}


def _damaged(path: Path, found: str) -> DamagedModelError:
    return DamagedModelError(
        "the model file is truncated or is not a safetensors file",
        where=path,
        found=found,
        hint="restore it from a copy, or train again",
    )
