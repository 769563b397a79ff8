"""The history of a training: one row a member and epoch, its line in the log, and the curves of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.evaluation.metrics import auroc, r2
from dpf.model.losses import PARTS
from dpf.model.network import TargetLayout
from dpf.training.member import EpochRecord, MemberTraining

_SIDES = ("train", "validation")


def history_row(layout: TargetLayout, training: MemberTraining, member: int, record: EpochRecord) -> dict[str, Any]:
    """One epoch: every part of the loss, each score's R² and the label's AUROC on the validation wells, seconds."""
    row: dict[str, Any] = {"member": member, "epoch": record.epoch}
    losses = ((record.train, record.train_total), (record.validation, record.validation_total))
    for side, (parts, total) in zip(_SIDES, losses, strict=True):
        row |= {f"{side}_{name}": value for name, value in zip(PARTS, parts, strict=True)} | {f"{side}_total": total}
    targets = training.data.targets.rows(training.data.validation)
    for index, name in enumerate(layout.scores):
        row[f"validation_r2_{name}"] = r2(
            targets.scores[:, index].cpu().numpy(), record.prediction.scores[:, index].numpy()
        )
    if record.prediction.label_logit is not None:
        row["validation_auroc"] = auroc(targets.label.cpu().numpy(), record.prediction.label_logit.numpy())
    return row | {"seconds": record.seconds, "learning_rate": record.learning_rate, "is_best": record.is_best}


def history_table(layout: TargetLayout, rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """The rows as a table. Its columns have one order: rows that come back from an interrupted run have another."""
    names = ["member", "epoch", *(f"{side}_{part}" for side in _SIDES for part in (*PARTS, "total"))]
    names += [f"validation_r2_{score}" for score in layout.scores]
    names += ["validation_auroc"] if layout.label else []
    return pl.DataFrame(rows, infer_schema_length=None).select(*names, "seconds", "learning_rate", "is_best")


def _number(value: float) -> str:
    """Two digits; a dash where it is not defined, as of one class or a target that does not vary among the wells."""
    return "-" if value != value else f"{value:.2f}"


def epoch_line(row: dict[str, Any], members: int, epochs: int, wells: int, left: str = "") -> str:
    """The row as a line to read; `wells` were trained on, `left` is how long the run will still take.

    A star marks the best epoch so far.
    """
    r2s = [value for name, value in row.items() if name.startswith("validation_r2_")]
    text = f"member {row['member']}  " if members > 1 else ""
    text += f"epoch {row['epoch']:>3}/{epochs}  "
    text += f"train {row['train_total']:.3f}  "
    text += f"validation {row['validation_total']:.3f}"
    if r2s:
        text += f"  R² {' / '.join(_number(value) for value in r2s)}"
    if "validation_auroc" in row:
        text += f"  AUROC {_number(row['validation_auroc'])}"
    text += f"  {wells / row['seconds']:.0f} wells/s" if row["epoch"] else ""
    text += f"  {left}" if left else ""
    return text + ("  *" if row["is_best"] else "")


def draw_loss_curve(history: pl.DataFrame, best_epochs: list[int], path: Path) -> None:
    """Draw the losses of a history table, one panel a part, every member."""
    from dpf.figures.drawing.style import save
    from dpf.figures.loss_curve import loss_curve

    names = {"total": "total", "mse": "scores (MSE)", "bce": "label (BCE)", "reg": "activation (MSE)"}
    epoch = history.get_column("epoch").to_numpy()
    first, last = int(epoch.min()), int(epoch.max())  # the first is 0 where there was an initial regression
    members = history.get_column("member").n_unique()
    rows = (history.get_column("member").to_numpy(), epoch - first)

    def curves(column: str) -> NDArray[np.float64]:
        """(M, E), NaN where a member had stopped."""
        values = np.full((members, last - first + 1), np.nan)
        values[rows] = history.get_column(column).to_numpy()
        return values

    sides = {
        side: {
            shown: curves(f"{side}_{name}")
            for name, shown in names.items()
            if name == "total" or history.get_column(f"{side}_{name}").abs().max()  # of a constant target all are 0
        }
        for side in _SIDES
    }
    figure = loss_curve(np.arange(first, last + 1), sides["train"], sides["validation"], best_epochs=best_epochs)
    save(figure, path, formats=("png",))
