"""`calibration.json`, which `dpf evaluate` writes into a model's folder and `dpf predict` uses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpf import __version__
from dpf.config.settings import FORMAT, refuse_later
from dpf.errors import ModelError
from dpf.files import canonical_json, read_object, sha256_text, write_text


@dataclass(frozen=True)
class ScoreInterval:
    """The interval `prediction ± half_width` of one score, in its units; None where there are too few compounds.

    `coverage` is what leaving each compound out in turn gives, `wells` and `compounds` what it rests on.
    """

    half_width: float | None
    coverage: float | None
    wells: int
    compounds: int


@dataclass(frozen=True)
class LabelCalibration:
    """The temperature that the label's logits are divided by; None, with the reason, where none can be fitted.

    The calibration errors are those of the same wells as trained and at temperatures fitted on other compounds.
    """

    name: str
    temperature: float | None
    wells: int
    ece_as_trained: float | None
    ece_calibrated: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Calibration:
    """The calibration of a model.

    Attributes
    ----------
    model_sha256
        Digest of the weights it was fitted for; it is used with no others.
    basis
        "held_out", or "validation": fitted on wells that chose the epoch.
    level
        The nominal coverage of the intervals.
    label, scores
        The label's temperature (None without a label) and each score's interval.
    """

    model_sha256: str
    basis: str
    level: float
    label: LabelCalibration | None
    scores: dict[str, ScoreInterval]


def write_calibration(path: Path, calibration: Calibration, about: Mapping[str, Any]) -> None:
    """Write `calibration.json`, atomically, with what it was made of (`dpf.workflows.project.provenance`)."""
    content = {"format": FORMAT, "kind": "calibration", "dpf": __version__, **about, **asdict(calibration)}
    write_text(path, canonical_json(content | {"sha256": sha256_text(canonical_json(content))}) + "\n")


def read_calibration(path: Path) -> tuple[Calibration, dict[str, Any]]:
    """The calibration in a file, and the file's whole content.

    Raises
    ------
    ModelError
        The file is damaged, has a width or a temperature that no calibration can have, or is of a later format.
    """
    try:
        content = read_object(path)
        refuse_later(content, "calibration", path, ModelError)
        content = _intact(content)
        label = content["label"]
        calibration = Calibration(
            content["model_sha256"],
            content["basis"],
            content["level"],
            None if label is None else LabelCalibration(**label),
            {name: ScoreInterval(**interval) for name, interval in content["scores"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            "the model's calibration cannot be read",
            where=path,
            found=f"{type(error).__name__}: {error}",
            hint="run dpf evaluate again, or remove the file to predict without intervals",
        ) from error
    return calibration, content


def _intact(content: dict[str, Any]) -> dict[str, Any]:
    """The content, if it is what was saved (the first files had no digest) and can be calculated with."""
    saved = {name: value for name, value in content.items() if name != "sha256"}
    if content.get("sha256", digest := sha256_text(canonical_json(saved))) != digest:
        raise ValueError("its content is not what was saved")
    positive = {f"half-width of {name}": interval["half_width"] for name, interval in content["scores"].items()}
    positive |= {"temperature": content["label"]["temperature"]} if content["label"] else {}
    for name, value in positive.items():
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} = {value}, which is no positive number")
    if not 0 < content["level"] < 1:
        raise ValueError(f"level = {content['level']}, which is not between 0 and 1")
    return content
