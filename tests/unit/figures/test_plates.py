"""The plate figure: every quantity on every plate, at the right place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure

from dpf.errors import DataError
from dpf.figures.drawing.style import save
from dpf.figures.plates import PlateQuantity, plate_heatmaps

ROWS = [letter for letter in "ABCDEFGH" for _ in range(12)]
COLUMNS = [number for _ in range(8) for number in range(1, 13)]
NOBODY = np.zeros(96, dtype=bool)


def pictures(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images]


def test_wells_stand_where_they_stood() -> None:
    values = np.full(96, 5.0)
    values[12 * 2 + 6] = 90.0  # C7
    values[0] = np.nan
    figure = plate_heatmaps([PlateQuantity("size", values, "UMIs", "sequential")], None, ROWS, COLUMNS, NOBODY)
    (picture,) = pictures(figure)
    assert picture.shape == (8, 12, 4)
    background = picture[4, 4]
    different = {(int(r), int(c)) for r, c in np.argwhere((picture != background).any(axis=2))}
    assert different == {(0, 0), (2, 6)}
    np.testing.assert_allclose(picture[0, 0, :3], 0xBF / 255)


def test_quantities_by_plates_with_one_scale_each() -> None:
    rng = np.random.default_rng(0)
    plate = [name for name in ("x", "y", "z", "u", "v") for _ in range(96)]
    quantities = [PlateQuantity(name, rng.normal(size=480), "z-score") for name in ("Tscore", "size")]
    quantities.append(PlateQuantity("label", rng.integers(0, 2, size=480), "class", "binary"))
    control = rng.random(480) < 0.1
    figure = plate_heatmaps(quantities, plate, ROWS * 5, COLUMNS * 5, control)
    plates = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title(loc="left") for ax in plates] == ["u", "v", "x", "y", "z"] * 3
    assert sum(len(c.get_paths()) for ax in plates[:5] for c in ax.collections if isinstance(c, PatchCollection)) == (
        control.sum()
    )
    bars = [ax for ax in figure.axes if not ax.images]
    assert [ax.get_ylabel() for ax in bars] == ["z-score", "z-score", "class"]
    assert [text.get_text() for text in plates[0].get_yticklabels()] == list("ABCDEFGH")
    assert [text.get_text() for text in plates[4].get_xticklabels()] == [str(n) for n in range(1, 13)]


def test_the_diverging_scale_is_white_at_the_controls() -> None:
    values = np.linspace(-1, 5, 96)
    control = np.abs(values - 2) < 0.1
    figure = plate_heatmaps([PlateQuantity("score", values, "")], None, ROWS, COLUMNS, control)
    (picture,) = pictures(figure)
    assert picture.reshape(96, 4)[control][:, :3].min() > 0.93
    assert picture[7, 11, 0] > picture[7, 11, 2]  # high: red
    assert picture[0, 0, 2] > picture[0, 0, 0]  # low: blue


@pytest.mark.parametrize(("plate_format", "shape"), [(96, (8, 12)), (384, (16, 24)), (1536, (32, 48))])
def test_every_format(plate_format: int, shape: tuple[int, int]) -> None:
    quantity = PlateQuantity("score", np.arange(96.0), "")
    figure = plate_heatmaps([quantity], None, ROWS, COLUMNS, NOBODY, plate_format=plate_format)  # type: ignore[arg-type]
    assert pictures(figure)[0].shape[:2] == shape
    assert plate_heatmaps([quantity], None, [*ROWS[:95], "AF"], COLUMNS, NOBODY).axes[0].images[
        0
    ].get_array().shape == (
        *(32, 48),
        4,
    )


def test_wells_without_a_position_are_counted() -> None:
    row: list[str | None] = [None, None, *ROWS[2:]]
    column = [1.0, float("nan"), np.nan, *COLUMNS[3:]]
    figure = plate_heatmaps([PlateQuantity("score", np.arange(96.0), "")], None, row, column, NOBODY)
    assert any("3 wells without a position are not shown" in text.get_text() for text in figure.texts)


@pytest.mark.parametrize("values", [np.full(96, np.nan), np.full(96, 3.0)])
@pytest.mark.parametrize("scale", ["diverging", "sequential", "binary"])
def test_nothing_measured_or_nothing_that_varies(values: np.ndarray, scale: str, tmp_path: Path) -> None:
    quantity = PlateQuantity("score", values, "", scale)  # type: ignore[arg-type]
    figure = plate_heatmaps([quantity], None, ROWS, COLUMNS, NOBODY)
    (path,) = save(figure, tmp_path / "plates", formats=("png",))
    assert path.stat().st_size > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantities": []}, "nothing to draw"),
        ({"quantities": [PlateQuantity("t", np.zeros(3), "")]}, "wrong shape\n  where: t"),
        ({"column": [*COLUMNS[:95], 99]}, "not on the plate"),
        ({"column": [*COLUMNS[:95], 13], "plate_format": 96}, "not on the plate"),
        ({"row": [*ROWS[:95], "7"]}, "not a row letter"),
        ({"row": [None] * 96}, "wells with a position"),
        ({"plate": ["p"]}, "plates"),
        ({"column": [*COLUMNS[:95], 1]}, "several wells have the same position.*\n.*\n  found: H1"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes: dict[str, object], message: str) -> None:
    parts: dict[str, object] = {
        "quantities": [PlateQuantity("score", np.zeros(96), "")],
        "plate": None,
        "row": ROWS,
        "column": COLUMNS,
        "is_control": NOBODY,
    }
    with pytest.raises(DataError, match=message):
        plate_heatmaps(**(parts | changes))  # type: ignore[arg-type]
