"""TensorBoard events of a training (extra `tensorboard`): the numbers of its history, as scalars."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from dpf.errors import UsageError

_SIDES = ("train", "validation")


class TensorBoardEvents:
    """Writes one folder for each start of a training and in it one for each member: runs, as TensorBoard calls them.

    A start never touches the events of an earlier one, and a resumed run tells its history from the first epoch on, so
    that every folder shows a whole curve.

    Parameters
    ----------
    folder
        Where the folder of this start goes, which is named after the time.

    Raises
    ------
    UsageError
        TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError(
                "--tensorboard needs TensorBoard, which is not installed",
                expected="the extra 'tensorboard'",
                hint="pip install 'drugseq-perturbformer[tensorboard]' (with pipx: pipx inject drugseq-perturbformer "
                "tensorboard), or watch history.running.parquet, which needs nothing",
            ) from None
        self._make = SummaryWriter
        self._folder = folder / f"{datetime.now():%Y-%m-%d-%H%M%S}"
        self._writers: dict[int, Any] = {}

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Write one row of the history: `train/total`, `validation/r2_NAME`, `run/learning_rate`, ..., by epoch."""
        member = row["member"]
        if member not in self._writers:
            self._writers[member] = self._make(str(self._folder / f"member-{member}"), flush_secs=5)
        for name, value in row.items():
            if name not in ("member", "epoch"):
                side, _, rest = name.partition("_")
                tag = f"{side}/{rest}" if side in _SIDES else f"run/{name}"
                self._writers[member].add_scalar(tag, float(value), row["epoch"])

    def close(self) -> None:
        """Write what is still to be written."""
        for writer in self._writers.values():
            writer.close()
