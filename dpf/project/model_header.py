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


_TEXT, _TEXTS, _ANY = str | None, [str], dict[str, Any]()
#: The types of what every model's description has.
_MODEL = {
    "members": int, "best_epochs": [int], "genes": _TEXTS, "wells": _TEXTS, "parts": _TEXTS,
    "genes_sha256": str, "inputs_sha256": str, "expression_sha256": str, "split_sha256": str,
    "device": str, "precision": str, "activation_source": _TEXT,
    "targets": {"scores": _TEXTS, "label": _TEXT, "activation": _TEXT},
    "settings": {"model": _ANY, "train": _ANY, "targets": _ANY, "latent": _ANY},
    "controls": {"well_ids": _TEXTS, "plates": [_TEXT], "clusters": [_TEXT], "parts": [_TEXTS]},
}  # fmt: skip


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


def require_complete(about: dict[str, Any], path: Path) -> None:
    """Refuse the description of a trained model that lacks what commands take from it.

    Raises
    ------
    DamagedModelError
        A part is missing or of another type, or parts contradict each other.
    """
    if wrong := _misfit(about, _MODEL, KEY) or _contradiction(about):
        raise _damaged(path, f"its description is not one that dpf writes: {wrong}")


def _misfit(value: Any, shape: Any, name: str) -> str | None:
    """The name of a part that is not of the types that `shape` has in its place; None where all are."""
    if isinstance(shape, dict) and isinstance(value, dict):
        return next(
            (odd for key, part in shape.items() if (odd := _misfit(value.get(key), part, f"{name}.{key}"))), None
        )
    if isinstance(shape, list) and isinstance(value, list):
        return next((odd for at, one in enumerate(value) if (odd := _misfit(one, shape[0], f"{name}[{at}]"))), None)
    fits = not isinstance(shape, dict | list) and isinstance(value, shape) and not isinstance(value, bool)
    return None if fits else name


def _contradiction(about: dict[str, Any]) -> str | None:
    """What of a description does not go together, or None."""
    members, wells, controls = about["members"], len(about["wells"]), about["controls"]
    if members < 1 or {len(about[name]) for name in ("parts", "best_epochs")} != {members}:
        return f"{members} members, and another number of parts or best epochs"
    if any(len(row) != wells or not set(row) <= set("012") for row in about["parts"]):
        return f"parts that are not those of {wells:,} wells"
    if len({len(controls[name]) for name in ("well_ids", "plates", "clusters")}) > 1:
        return "controls of several numbers"
    return None


def _metadata(path: Path) -> dict[str, str]:
    try:
        require_regular(path)
        with safe_open(path, framework="numpy") as file:
            metadata: dict[str, str] | None = file.metadata()
    except FileNotFoundError:
        raise ModelError("no such model file", where=path) from None
    except OSError as error:
        raise ModelError(
            "the model file cannot be read",
            where=path,
            found=error.strerror or error,
            hint="name a file that is there and that you may read",
        ) from error
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
