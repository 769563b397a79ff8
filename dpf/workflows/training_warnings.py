"""What a user should know before hours are spent on a training."""

from __future__ import annotations

import numpy as np

from dpf.config import TrainSettings
from dpf.tensors.splits import Part, Parts, describe_leaks
from dpf.workflows.inputs import Inputs
from dpf.workflows.progress import Progress


def warn_before_training(inputs: Inputs, parts: Parts, train: TrainSettings, progress: Progress) -> None:
    """Warn of too large a batch, of replicates on both sides of the split, of raw values that nothing will centre."""
    wells = min(int((row == Part.TRAIN).sum()) for row in parts)
    if train.batch_size > wells:
        progress.warn(
            f"train.batch_size = {train.batch_size} is more than the {wells} training wells: one step an epoch"
        )
    leaks = describe_leaks(parts, inputs.texts("compound") or [], inputs.is_control)
    if leaks:
        progress.warn(
            f"{leaks} compounds have replicates on both sides of the split (train.split = {train.split}): "
            "held-out figures will look better than they are"
        )
    mean = np.abs(inputs.expression.mean(0, dtype=np.float64))
    spread = inputs.expression.std(0, dtype=np.float64)
    ratio = float(np.median(mean[spread > 0] / spread[spread > 0])) if (spread > 0).any() else 0.0
    if not train.zscore and ratio > 2:
        progress.warn(
            f"the expression is not centred (the median gene's mean is {ratio:.1f} times its standard deviation) and "
            "z-score is off: the network will see little but the mean. Use --zscore"
        )
