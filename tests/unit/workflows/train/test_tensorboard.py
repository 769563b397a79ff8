"""TensorBoard events: read back by TensorBoard where it is installed, else an error that names the extra."""

from __future__ import annotations

import math
import sys

import pytest

from dpf.errors import UsageError
from dpf.workflows.train.tensorboard import TensorBoardEvents
from tests.unit.workflows.train.test_history import row


def test_without_tensorboard_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it could not be imported
    with pytest.raises(UsageError) as caught:
        TensorBoardEvents(tmp_path)
    assert caught.value.what == "--tensorboard needs TensorBoard, which is not installed"
    assert caught.value.expected == "the extra 'tensorboard'"
    assert "drugseq-perturbformer[tensorboard]" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_reads_what_the_history_says(tmp_path):
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = [row(member, epoch) for member in (0, 1) for epoch in (1, 2, 3)]
    rows[-1]["validation_auroc"] = math.nan
    events = TensorBoardEvents(tmp_path / "tensorboard")
    for entry in rows:
        events.epoch(entry)
    events.close()
    (start,) = (tmp_path / "tensorboard").iterdir()
    assert sorted(path.name for path in start.iterdir()) == ["member-0", "member-1"]
    for member in (0, 1):
        read = EventAccumulator(str(start / f"member-{member}")).Reload()
        tags = read.Tags()["scalars"]
        assert {"train/total", "validation/mse", "validation/r2_a", "validation/auroc", "run/learning_rate"} <= set(
            tags
        )
        for tag in tags:
            name = tag.removeprefix("run/").replace("/", "_", 1)
            found = [(event.step, event.value) for event in read.Scalars(tag)]
            expected = [(entry["epoch"], float(entry[name])) for entry in rows if entry["member"] == member]
            assert [step for step, _ in found] == [step for step, _ in expected]
            assert [value for _, value in found] == pytest.approx([value for _, value in expected], nan_ok=True)
        assert len(tags) == len(rows[0]) - 2
