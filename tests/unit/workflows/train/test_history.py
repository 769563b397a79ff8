"""The history: one order of columns whatever order its rows come in, and a line that says what happened."""

from __future__ import annotations

from dpf.model.network import TargetLayout
from dpf.workflows.train.history import draw_loss_curve, epoch_line, history_table

LAYOUT = TargetLayout(("b", "a"), "hit", None)


def row(member: int, epoch: int) -> dict[str, object]:
    losses = {f"{side}_{part}": 1.0 / epoch for side in ("train", "validation") for part in ("mse", "bce", "total")}
    return {
        "member": member, "epoch": epoch, **losses, "train_reg": 0.0, "validation_reg": 0.0, "validation_r2_b": 0.5,
        "validation_r2_a": -0.25, "validation_auroc": 0.75, "seconds": 2.0, "learning_rate": 1e-3, "is_best": True,
    }  # fmt: skip


def test_columns_have_one_order():
    plain = history_table(LAYOUT, [row(0, 1), row(0, 2)])
    resumed = history_table(LAYOUT, [dict(sorted(row(0, 1).items())), row(0, 2)])
    assert resumed.equals(plain)
    assert plain.columns[:6] == ["member", "epoch", "train_mse", "train_bce", "train_reg", "train_total"]
    assert plain.columns[10:] == [
        "validation_r2_b", "validation_r2_a", "validation_auroc", "seconds", "learning_rate", "is_best",
    ]  # fmt: skip
    assert "validation_auroc" not in history_table(TargetLayout(("b", "a"), None, None), [row(0, 1)]).columns


def test_a_line_an_epoch():
    line = epoch_line(row(1, 2), members=3, epochs=10, wells=50)
    assert line == ("member 1  epoch   2/10  train 0.500  validation 0.500  R² 0.50 / -0.25  AUROC 0.75  25 wells/s  *")
    assert epoch_line(row(0, 2) | {"is_best": False}, members=1, epochs=10, wells=50).startswith("epoch   2/10")
    assert epoch_line(row(0, 2), 1, 10, 50, "3 min left").endswith("25 wells/s  3 min left  *")


def test_the_curve_is_drawn_without_the_parts_that_there_are_not(tmp_path):
    table = history_table(LAYOUT, [row(member, epoch) for member in range(2) for epoch in (1, 2, 3)])
    draw_loss_curve(table, [3, 3], tmp_path / "loss_curve.png")
    assert (tmp_path / "loss_curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_loss_that_is_zero_throughout_is_drawn(tmp_path):
    """As that of a target that is the same in every well: its start is exact, and no reason to end a training."""
    zero = {name: 0.0 for name in row(0, 1) if name.endswith(("mse", "bce", "total"))}
    draw_loss_curve(history_table(LAYOUT, [row(0, epoch) | zero for epoch in (1, 2)]), [1], tmp_path / "loss_curve.png")
    assert (tmp_path / "loss_curve.png").is_file()
