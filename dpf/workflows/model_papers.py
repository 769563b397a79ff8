"""The papers of a model: the card and the calibration that `dpf evaluate` leaves beside its weights.

Both name the weights that they are of, so that neither can be mistaken for another model's. No torch is imported here.
"""

from __future__ import annotations

from pathlib import Path

from dpf.errors import ModelError
from dpf.files import sha256_file
from dpf.project.directory import ModelFolder
from dpf.workflows.calibration_file import read_calibration

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
