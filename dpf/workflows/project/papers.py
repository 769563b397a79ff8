"""The papers of a model: the card and the calibration that `dpf evaluate` leaves beside its weights.

Both name the weights that they are of, so that neither can be mistaken for another model's. No torch is imported here.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpf import __version__
from dpf.config.settings import FORMAT
from dpf.errors import ModelError
from dpf.files import canonical_json, sha256_file, write_text
from dpf.project.directory import ModelFolder


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
    """What is stored beside a model.

    Attributes
    ----------
    model_sha256
        The weights it was fitted for; it is used with no others.
    basis
        "held_out", or "validation": fitted on wells that chose the epoch.
    level
        The coverage that the intervals aim at.
    label, scores
        The label's temperature (None without a label) and each score's interval.
    """

    model_sha256: str
    basis: str
    level: float
    label: LabelCalibration | None
    scores: dict[str, ScoreInterval]


def calibration_path(model: Path) -> Path:
    """Where the calibration of a model file is: beside it."""
    return model.with_name("calibration.json")


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write `calibration.json`, atomically."""
    content = {"format": FORMAT, "kind": "calibration", "dpf": __version__, **asdict(calibration)}
    write_text(path, canonical_json(content) + "\n")


def read_calibration(path: Path, model_sha256: str) -> Calibration | None:
    """The calibration in a file; None where there is no file, or it belongs to other weights.

    Raises
    ------
    ModelError
        The file is damaged or of a later format.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = content.pop("format")
        if version > FORMAT:
            raise ModelError(
                "the calibration has a later format than this dpf reads",
                where=path,
                found=f"format {version}, written by dpf {content.get('dpf')}",
                expected=f"format {FORMAT} or earlier",
                hint="update dpf: pipx upgrade drugseq-perturbformer",
            )
        label = content["label"]
        return None if content["model_sha256"] != model_sha256 else Calibration(
            content["model_sha256"],
            content["basis"],
            content["level"],
            None if label is None else LabelCalibration(**label),
            {name: ScoreInterval(**interval) for name, interval in content["scores"].items()},
        )  # fmt: skip
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            "the model's calibration cannot be read",
            where=path,
            found=f"{type(error).__name__}: {error}",
            hint="run dpf evaluate again, or remove the file to predict without intervals",
        ) from error


#: How the lines of a card begin that name the weights and the inputs it is of (the latter by their first characters).
WEIGHTS = "weights sha256 "
EVALUATED_ON = "evaluated on inputs "


def card_says(card: Path, line: str) -> str:
    """The rest of the line of a card that begins so; empty where there is none.

    Raises
    ------
    ModelError
        The card is not text.
    """
    try:
        lines = card.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ModelError(
            "the model card cannot be read", where=card, found=error, hint="run dpf evaluate again, or remove it"
        ) from error
    return next((text.removeprefix(f"- {line}") for text in lines if text.startswith(f"- {line}")), "")


def is_of_weights(paper: Path, sha256: str) -> bool:
    """Whether a card, or a calibration, is of these weights.

    Raises
    ------
    ModelError
        It cannot be read.
    """
    if paper.suffix == ".md":
        return card_says(paper, WEIGHTS) == sha256
    return read_calibration(paper, sha256) is not None


def card_is_of_other_weights(folder: ModelFolder) -> bool:
    """Whether there is a card beside a trained model that is of another one; one that cannot be read is of none."""
    if not folder.card.is_file():
        return False
    try:
        return not is_of_weights(folder.card, sha256_file(folder.best))
    except ModelError:
        return True
