"""The figures: what they show is what they were given, names never overlap, and equal figures are equal bytes."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression

from dpf.errors import DataError, ProjectError, UsageError
from dpf.figures.dose import DoseFit, dose_curves
from dpf.figures.drawing import style
from dpf.figures.drawing.labels import apart, place_labels
from dpf.figures.genes import top_genes
from dpf.figures.heatmap import similarity_heatmap
from dpf.figures.latent_map import latent_map
from dpf.figures.loss_curve import loss_curve
from dpf.figures.ranking import control_band, ranked_dots
from dpf.figures.reliability import reliability, wilson
from dpf.figures.scoreboard import Metric, scoreboard
from dpf.figures.volcano import volcano

NAMES = [
    "2,6-Diaminoheptanedioic acid",
    "(-)-Epigallocatechin",
    "α-Ketoglutaric acid",
    "Kaempferol 3-O-β-D-glucuronide",
]


def compounds(count: int) -> list[str]:
    return [*NAMES, *(f"{index}-Hydroxy-{index + 1}-methylbutanoic acid" for index in range(count))][:count]


def texts(figure: Figure) -> list[str]:
    """Every word that is drawn, axis numbers too."""
    figure.draw_without_rendering()
    return [artist.get_text() for artist in figure.findobj(Text) if artist.get_visible() and artist.get_text()]


def points(figure: Figure, axes: int = 0) -> int:
    return sum(len(drawn.get_offsets()) for drawn in figure.axes[axes].collections if isinstance(drawn, PathCollection))


def boxes(figure: Figure, words: list[str]) -> list[Bbox]:
    with style.house_style():
        renderer = figure.canvas.get_renderer()
        found = [artist for artist in figure.findobj(Text) if artist.get_visible() and artist.get_text() in words]
        for artist in found:
            if isinstance(artist, Annotation):
                artist.update_positions(renderer)
        return [Text.get_window_extent(artist, renderer) for artist in found]


def touching(found: list[Bbox]) -> int:
    return sum(a.overlaps(b) for index, a in enumerate(found) for b in found[:index])


def draw(figure: Figure, folder: Path) -> None:
    """Draw it for real: a glyph the font lacks is a warning, and warnings are errors here."""
    figure.set_dpi(50)  # quick; sizes in points stay
    (written,) = style.save(figure, folder / "figure", formats=["png"])
    assert written.stat().st_size > 1_000


# -- style -------------------------------------------------------------------------------------------------------------


def small_figure() -> Figure:
    return ranked_dots(NAMES, [3, 2, 1, 0], [1, -1, 0, np.nan], wells=[[3], [1, 3], [1], [0]], controls=np.arange(30))


def test_save_writes_the_same_bytes_twice_whatever_the_users_settings_are(tmp_path):
    figure = small_figure()
    first = style.save(figure, tmp_path / "a", formats=["png", "svg", "pdf"])
    second = style.save(figure, tmp_path / "b", formats=["png", "svg", "pdf"])
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": None, "axes.grid": True, "savefig.dpi": 50}):
        third = style.save(small_figure(), tmp_path / "c.png", formats=["png", "svg", "pdf"])
    assert [path.name for path in third] == ["c.png", "c.svg", "c.pdf"]
    for a, b, c in zip(first, second, third, strict=True):
        assert a.read_bytes() == b.read_bytes() == c.read_bytes()


def test_save_leaves_nothing_half_written(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"not a format of figures[\s\S]*found: bmp[\s\S]*expected: png, svg, pdf"):
        style.save(small_figure(), tmp_path / "a", formats=["png", "bmp"])
    drawn = style._bytes

    def fails_on_svg(figure, name):
        if name == "svg":
            raise MemoryError
        return drawn(figure, name)

    monkeypatch.setattr(style, "_bytes", fails_on_svg)
    with pytest.raises(MemoryError):
        style.save(small_figure(), tmp_path / "a")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("kept")
    with pytest.raises(ProjectError, match="cannot write a file"):
        style.save(small_figure(), tmp_path / "file" / "a", formats=["png"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_dot_in_a_name_is_not_a_suffix(tmp_path):
    (written,) = style.save(small_figure(), tmp_path / "model1.2", formats=["svg"])
    assert written.name == "model1.2.svg"


def test_svg_is_well_formed_and_its_text_is_text(tmp_path):
    names = ["<b>&amp;", "α & β", "$x_1$", "c"]
    (written,) = style.save(ranked_dots(names, [4, 3, 2, 1], [1, 1, -1, -1]), tmp_path / "a", formats=["svg"])
    words = {element.text for element in ET.parse(written).iter() if element.tag.endswith("}text")}
    assert {*names, "activating", "suppressing"} <= words
    assert "matplotlib.org" not in written.read_text()
    assert "<dc:date>" not in written.read_text()


def test_figures_change_no_setting_and_import_no_pyplot():
    before = dict(matplotlib.rcParams.copy())
    small_figure().draw_without_rendering()
    assert dict(matplotlib.rcParams.copy()) == before
    modules = "dose genes heatmap latent_map loss_curve ranking reliability scoreboard volcano"
    code = f"import sys; [__import__('dpf.figures.' + name) for name in '{modules}'.split()]; "
    code += "sys.exit(bool({'matplotlib.pyplot', 'torch', 'scipy', 'polars'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_that_cannot_be_drawn_are_marked_and_stay_on_one_line(tmp_path):
    assert style.printable("a\n\tb  阿司匹林 γ 🧪") == "a b {963f}{53f8}{5339}{6797} γ {1f9ea}"
    names = ["阿司匹林", "a\nb", "$\\frac{1}{0$", "\x07", ""]
    draw(ranked_dots(names, range(5), [1] * 5), tmp_path)


def test_shorten_keeps_names_apart():
    assert style.shorten(["short", "a" * 12], 8) == ["short", "aaaaaaa…"]
    assert style.shorten(["Glycerol phosphate A1", "Glycerol phosphate B2"], 12) == ["Glycer…te A1", "Glycer…te B2"]


@given(st.lists(st.text(), max_size=8), st.integers(8, 30))
def test_shortened_names_fit(names, limit):
    short = style.shorten(names, limit)
    assert len(short) == len(names)
    assert all(len(name) <= limit for name in short)


# -- labels ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.floats(0.1, 4))
def test_apart_is_the_least_squares_answer(wanted, gap):
    wanted = np.sort(wanted)
    last = max(100.0, gap * (len(wanted) - 1))
    got = apart(wanted, gap, last)
    assert (np.diff(got) >= gap - 1e-6).all()
    assert -1e-9 <= got[0] <= got[-1] <= last + 1e-6
    free = wanted - gap * np.arange(len(wanted))
    fit = IsotonicRegression(y_min=0, y_max=last - gap * (len(wanted) - 1)).fit_transform(np.arange(len(free)), free)
    np.testing.assert_allclose(got - gap * np.arange(len(wanted)), fit, atol=1e-6)


@pytest.mark.parametrize("count", [60, 700])
def test_hits_are_named_without_overlap(count):
    random = np.random.default_rng(count)
    where = random.normal(size=(count, 2)) * [3, 1]
    far = np.argsort(-np.abs(where[:, 0]))[:30].reshape(15, 2)
    names = compounds(15)
    figure = latent_map(where, hits={name: list(map(int, rows)) for name, rows in zip(names, far, strict=True)})
    found = boxes(figure, style.shorten(names, 28))
    assert len(found) == 15
    assert touching(found) == 0
    frame = figure.axes[0].get_window_extent()
    assert all(frame.contains(*box.min) and frame.contains(*box.max) for box in found)


def test_more_names_than_room_are_counted():
    names = compounds(12)
    with style.house_style():
        figure = style.new_figure(1.6, 0.9)
        unplaced = place_labels(figure.subplots(), np.full((12, 2), 0.5), names, obstacles=np.empty((0, 2)))
    found = boxes(figure, names)
    assert len(found) == 12 - unplaced
    assert 0 < unplaced < 12
    assert touching(found) == 0


# -- loss curve --------------------------------------------------------------------------------------------------------


def test_loss_curve_draws_every_part_and_marks_the_best_epoch(tmp_path):
    losses = {"total": [3.0, 2.0, 2.5], "label (BCE)": [1.0, 0.8, 0.9], "activation (MSE)": [np.nan] * 3}
    figure = loss_curve([1, 2, 3], losses, losses, best_epochs=[2])
    draw(figure, tmp_path)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(losses)
    assert figure.axes[0].get_ylabel() == "loss (mean over wells)"
    assert figure.axes[0].get_xlabel() == "epoch"
    marks = [line.get_xydata().tolist() for line in figure.axes[1].lines if line.get_marker() == "o"]
    assert marks == [[[2.0, 0.8]]]
    assert "no finite value\n(nothing observed)" in texts(figure)
    assert "best epoch: 2" in texts(figure)


def test_loss_curve_of_members_shows_each_and_their_mean():
    training = np.array([[3.0, 2.0, 1.0], [5.0, 4.0, np.nan]])  # the second member stopped early
    figure = loss_curve([1, 2, 3], {"total": training}, {}, best_epochs=[3, 2])
    lines = [line.get_ydata() for line in figure.axes[0].lines]
    np.testing.assert_array_equal(lines, [*training, [4.0, 3.0, np.nan]])
    assert "best epochs: 2–3" in texts(figure)


def test_loss_curve_of_one_epoch_and_of_a_steep_fall(tmp_path):
    draw(loss_curve([1], {"total": [1.0]}, {"total": [2.0]}, best_epochs=[None]), tmp_path)
    figure = loss_curve(range(1, 30), {"total": np.geomspace(1000, 0.1, 29)}, {})
    assert figure.axes[0].get_yscale() == "log"
    draw(figure, tmp_path)


def test_loss_curve_refuses_other_shapes():
    with pytest.raises(DataError, match=r"wrong shape[\s\S]*training loss, total[\s\S]*found: 2[\s\S]*expected: 3"):
        loss_curve([1, 2, 3], {"total": [1.0, 2.0]}, {})
    with pytest.raises(DataError, match=r"nothing to draw[\s\S]*where: epochs"):
        loss_curve([], {"total": []}, {})


# -- latent map --------------------------------------------------------------------------------------------------------


def test_latent_map_by_class(tmp_path):
    random = np.random.default_rng(0)
    where = random.normal(size=(130, 2))
    classes = [f"C{index % 13:02}" for index in range(128)] + [None, float("nan")]
    controls = np.arange(130) < 13  # one of each class
    figure = latent_map(
        where,
        explained=(0.412, 0.137),
        classes=classes,
        colour_label="cluster",
        controls=controls,
        activation_direction=(1, -1),
        hits={"α-Humulene": [20]},
    )
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("PC 1 (41.2% of variance)", "PC 2 (13.7% of variance)")
    assert points(figure) == 130 + 1  # and a ring
    words = texts(figure)
    assert {"C00 (n = 9)", "C09 (n = 9)", "3 other (n = 25)", "not given (n = 2)", "controls (n = 13)"} <= set(words)
    assert {"activating", "cluster", "α-Humulene"} <= set(words)
    assert "C10 (n = 9)" not in words
    draw(figure, tmp_path)


def test_latent_map_by_value_greys_missing_wells(tmp_path):
    where = np.arange(20.0).reshape(10, 2)
    values = [np.nan, None, *range(8)]
    figure = latent_map(where, method="UMAP", values=values, colour_label="Tscore (SD)")
    assert figure.axes[0].get_xlabel() == "UMAP 1"
    assert points(figure) == 10
    norm = figure.axes[0].collections[1].norm
    assert (norm.vmin, norm.vmax) == (0, 7)
    assert {"Tscore (SD)", "light grey: 2 wells without a value"} <= set(texts(figure))
    draw(figure, tmp_path)


@pytest.mark.parametrize("arguments", [{}, {"values": [np.nan] * 3}, {"values": [1, 1, 1]}, {"classes": [True] * 3}])
def test_latent_map_of_wells_on_one_spot(tmp_path, arguments):
    draw(latent_map(np.ones((3, 2)), explained=(0, 0), activation_direction=(0, 0), **arguments), tmp_path)
    draw(latent_map(np.ones((3, 2)), controls=[True] * 3, hits={"a": [0, 1]}, **arguments), tmp_path)


def test_latent_map_refuses_what_it_cannot_place():
    with pytest.raises(DataError, match=r"no place on the map[\s\S]*where: row 1"):
        latent_map([[0, 0], [np.inf, 0]])
    with pytest.raises(DataError, match="one colour"):
        latent_map([[0, 0]], values=[1], classes=["a"])
    with pytest.raises(DataError, match=r"wrong flags[\s\S]*expected: 1 booleans"):
        latent_map([[0, 0]], controls=[1])


# -- ranking -----------------------------------------------------------------------------------------------------------


def test_ranking_orders_colours_and_fills(tmp_path):
    names = compounds(96)
    statistic = np.arange(96.0)
    statistic[5] = np.nan
    activation = np.where(np.arange(96) % 2, 1.0, -1.0)
    figure = ranked_dots(
        names,
        statistic,
        activation,
        wells=[[value - 1, value + 1] for value in np.nan_to_num(statistic)],
        controls=np.linspace(-2, 2, 41),
        intervals=np.column_stack([statistic - 2, statistic + 2]),
        called=statistic > 90,
        called_label="q ≤ 0.05",
    )
    rows, overview = figure.axes
    assert rows.get_xlabel() == "standardised distance T from the controls (robust SD)"
    assert [label.get_text() for label in rows.get_yticklabels()] == style.shorten(names[::-1], 34)[:30]
    means = [line for line in rows.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in means] == list(range(95, 65, -1))
    assert [line.get_markeredgecolor() for line in means[:2]] == [style.ACTIVATING, style.SUPPRESSING]
    assert [line.get_markerfacecolor() == "white" for line in means] == [False] * 5 + [True] * 25
    assert points(figure) == 60
    assert points(figure, 1) == 95
    assert overview.get_ylabel() == "rank among 95 compounds"
    words = {"activating", "suppressing", "filled: q ≤ 0.05", "control wells, central 95% (n = 41)"}
    assert words | {"not shown: 1 compound without a value"} <= set(texts(figure))
    draw(figure, tmp_path)


@pytest.mark.parametrize("count", [1, 12])
def test_a_ranking_of_few_has_one_panel_and_names_that_do_not_touch(tmp_path, count):
    names = compounds(count)
    figure = ranked_dots(names, [0.0] * count, [np.nan] * count, wells=[[0.0]] * count, controls=[0.0])
    assert len(figure.axes) == 1
    draw(figure, tmp_path)
    assert touching(boxes(figure, style.shorten(names, 34))) == 0
    assert {"no direction", "control wells, range (n = 1)"} <= set(texts(figure))


def test_control_band():
    assert control_band(np.array([])) is None
    assert control_band(np.array([np.nan, 1.0, 3.0]))[:2] == (1.0, 3.0)
    assert control_band(np.linspace(0, 1, 1001))[:2] == pytest.approx((0.025, 0.975))


def test_ranking_refuses_nothing_and_wrong_lengths():
    with pytest.raises(DataError, match=r"nothing to draw[\s\S]*compounds with a value"):
        ranked_dots(["a"], [np.nan], [1])
    with pytest.raises(DataError, match=r"where: wells[\s\S]*found: 1[\s\S]*expected: 2"):
        ranked_dots(["a", "b"], [1, 2], [1, 1], wells=[[1]])
    with pytest.raises(DataError, match="not a number"):
        ranked_dots(["a"], ["many"], [1])


# -- genes -------------------------------------------------------------------------------------------------------------


def test_top_genes(tmp_path):
    genes = [f"G{index}" for index in range(50)]
    signed = np.tile([1.0, -1.0], 25)
    figure = top_genes(genes, np.arange(50.0), signed, spread=np.ones(50), top=10)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == genes[::-1][:10]
    assert [bar.get_width() for bar in axes.patches] == list(range(49, 39, -1))
    assert matplotlib.colors.to_hex(axes.patches[0].get_facecolor()).upper() == style.SUPPRESSING
    words = {"towards activation", "towards suppression", "10 of 50 genes; whiskers: SD over members"}
    assert words <= set(texts(figure))
    draw(figure, tmp_path)


def test_top_genes_of_another_target_and_of_one_gene(tmp_path):
    figure = top_genes(["IL2RA"], [0.0], [np.nan], target="Tscore")
    assert {"Tscore: more of the gene", "raises it", "lowers it", "no sign", "1 of 1 gene"} <= set(texts(figure))
    draw(figure, tmp_path)


# -- volcano -----------------------------------------------------------------------------------------------------------


def test_volcano_names_tied_hits_above_the_axes(tmp_path):
    names = compounds(300)
    random = np.random.default_rng(1)
    distance = random.gamma(2, 1, 300)
    q = np.clip(np.exp(3 - 3 * distance), 1e-3, 1)
    q[7] = np.nan
    figure = volcano(names, distance, q, random.normal(size=300))
    draw(figure, tmp_path)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "standardised distance T from the controls (robust SD)"
    assert axes.get_ylabel() == "q (false discovery rate), small is up"
    assert points(figure) == 299
    assert {"0.001", "0.1", "1", "q = 0.05", "not shown: 1 compound without a q-value"} <= set(texts(figure))
    named = [names[index] for index in np.lexsort((-distance, q))[:15]]
    slanted = [artist for artist in axes.texts if artist.get_rotation() == 65]
    assert sorted(artist.get_text() for artist in slanted) == sorted(style.shorten(named, 26))
    places = sorted(artist.get_position()[0] for artist in slanted)
    width = np.ptp(axes.get_xlim()) / (axes.get_window_extent().width / figure.dpi * 72)
    assert (np.diff(places) > 7 * width).all()  # points along the axis: a line of text is 6 high


@pytest.mark.parametrize("count", [1, 12])
def test_volcano_without_hits(tmp_path, count):
    figure = volcano(compounds(count), np.arange(count), np.ones(count), np.zeros(count))
    assert {"activating hit (0)", "suppressing hit (0)", f"not called ({count})"} <= set(texts(figure))
    draw(figure, tmp_path)


def test_volcano_names_the_farthest_hits_as_well_as_the_surest():
    names = [f"many {i}" for i in range(40)] + ["farthest", "no hit"]
    distance, q = np.r_[np.linspace(2, 5, 40), 20.0, 30.0], np.r_[np.linspace(0.001, 0.02, 40), 0.04, 0.2]
    written = set(texts(volcano(names, distance, q, np.ones(42))))
    assert {"farthest", "many 0", "many 39"} <= written
    assert not {"no hit", "many 20"} & written


def test_volcano_refuses_q_of_zero():
    with pytest.raises(DataError, match=r"where: b[\s\S]*found: 0[\s\S]*expected: 0 < q ≤ 1"):
        volcano(["a", "b"], [1, 2], [0.5, 0], [1, 1])
    with pytest.raises(DataError, match=r"where: fdr[\s\S]*found: 5"):
        volcano(["a"], [1], [0.5], [1], fdr=5)


# -- dose --------------------------------------------------------------------------------------------------------------


def test_dose_curves(tmp_path):
    dose = [0, 0.01, 0.1, 1, 10, 10]
    fit = DoseFit([0.01, 1, 10], [0, 1, 2], 1.25, 0.5, 3)
    names = compounds(7)
    figure = dose_curves(
        names,
        [dose] * 7,
        [[0, 0, 1, 2, 3, np.nan]] * 7,
        [1, -1, 0, 1, 1, 1, 1],
        fits=[fit, None, fit._replace(ec50=np.nan), fit._replace(low=np.nan), fit, fit, fit],
        signed=True,
    )
    titles = [axes.get_title(loc="left") for axes in figure.axes[:4]]
    assert [title.split("\n")[1] for title in titles] == ["EC₅₀ 1.2 (0.5–3)", "no fit", "no EC₅₀", "EC₅₀ 1.2"]
    assert points(figure) == 5
    said = dose_curves(["a", "b"], [dose] * 2, [[0] * 6] * 2, [1, 1], fits=[None, None], notes=["flat", None])
    assert [axes.get_title(loc="left") for axes in said.axes] == ["a\nflat", "b\nno fit"]
    bounds = [fit._replace(ec50=np.nan, low=0.0), fit._replace(ec50=np.nan, high=np.inf)]
    said = dose_curves(["a", "b"], [dose] * 2, [[0] * 6] * 2, [1, 1], fits=bounds, notes=["rising", None])
    assert [axes.get_title(loc="left") for axes in said.axes] == ["a\nrising, EC₅₀ ≤ 3", "b\nEC₅₀ ≥ 0.5"]
    assert "EC₅₀ (its interval)" not in texts(said)
    words = {
        "concentration\nabove 0: activating; below 0: suppressing",
        "standardised distance T",
    }
    assert words | {"0", "0.01", "10", "EC₅₀ (its interval)", "mean of wells"} <= set(texts(figure))
    draw(figure, tmp_path)


def test_dose_curves_of_odd_doses(tmp_path):
    figure = dose_curves(["a", "b", "c"], [[0, 0], [5], [2, 5]], [[1, 1], [np.nan], [0, 1]], [0, 0, 0], controls=[1, 2])
    assert {"0", "2", "5", "b\nno wells with a value"} <= set(texts(figure))
    draw(figure, tmp_path)
    draw(dose_curves(["a"], [[0]], [[1]], [1]), tmp_path)
    with pytest.raises(DataError, match=r"negative[\s\S]*where: a[\s\S]*found: -1"):
        dose_curves(["a"], [[1, -1]], [[1, 1]], [1])


# -- heatmap -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 40])
def test_heatmap_is_in_the_order_of_its_clustering(count):
    profiles = np.random.default_rng(count).normal(size=(count, 5))
    similarity = np.corrcoef(profiles)
    merges = linkage(profiles, "average")
    order = leaves_list(merges)
    names = compounds(count)
    figure = similarity_heatmap(similarity, names, linkage=merges, activation=profiles[:, 0])
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown, similarity[np.ix_(order, order)])
    drawn = figure.axes[0].child_axes[-1].collections[0].get_segments()
    assert len(drawn) == count - 1
    for bracket in drawn:  # each joins what stands at its feet, at the height of their merge
        (low, first), (top, _), (height, _), (_, second) = bracket
        assert top == height >= low
        assert np.isclose(merges[:, 2], height).any()
        assert 0 <= first < second <= count - 1
    assert "cosine similarity of signatures\n(blue: opposite, red: alike)" in texts(figure)
    found = boxes(figure, style.shorten(names, 30))
    assert (len(found), touching(found)) == (count, 0)
    assert max(box.x1 for box in found) < figure.bbox.x1


def test_heatmap_of_many_names_some_apart(tmp_path):
    count = 364
    names = compounds(count)
    figure = similarity_heatmap(np.eye(count), names, named=[*range(20), 3])
    found = boxes(figure, style.shorten(names[:20], 30))
    assert (len(found), touching(found)) == (20, 0)
    assert "364 compounds, 20 of them named" in texts(figure)
    draw(figure, tmp_path)


def test_heatmap_of_one_compound_and_of_missing_values(tmp_path):
    draw(similarity_heatmap([[1]], NAMES[:1], linkage=np.empty((0, 4)), activation=[0]), tmp_path)
    draw(similarity_heatmap([[1, np.nan], [np.nan, 1]], NAMES[:2]), tmp_path)


def test_heatmap_refuses_a_foreign_linkage():
    with pytest.raises(DataError, match=r"where: linkage[\s\S]*found: 1 × 4[\s\S]*expected: 2 × 4"):
        similarity_heatmap(np.eye(3), NAMES[:3], linkage=[[0, 1, 1, 2]])


# -- reliability -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "size"), [(0, 1), (1, 1), (3, 10), (500, 1000)])
def test_wilson_agrees_with_scipy(hits, size):
    low, high = wilson(np.array([hits / size]), np.array([size]))
    oracle = binomtest(hits, size).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_reliability(tmp_path):
    probability = np.array([0.0, 0.05, 0.55, 0.55, 1.0, np.nan, 0.5])
    outcome = [0, 1, 1, 0, 1, 1, np.nan]
    figure = reliability(
        {"as trained": probability, "temperature scaled": probability},
        outcome,
        calibration_error={"as trained": 0.0812},
        label="activated",
    )
    axes, below = figure.axes
    curve = axes.containers[0].lines[0]
    np.testing.assert_allclose(curve.get_xydata(), [[0.025, 0.5], [0.55, 0.5], [1, 1]])
    assert axes.get_ylabel() == "observed share of activated = 1"
    assert below.get_xlabel() == "predicted probability of activated = 1"
    words = {"as trained: calibration error 0.081", "temperature scaled", "5 of 7 wells; bars: 95% intervals"}
    assert words <= set(texts(figure))
    draw(figure, tmp_path)


def test_reliability_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    p = rng.random(400) ** 2
    outcome = (rng.random(400) < p).astype(float)
    dots = reliability({"model": p}, outcome).axes[0].containers[0].lines[0]
    share, mean = calibration_curve(outcome, p, n_bins=10)
    np.testing.assert_allclose(dots.get_xydata(), np.column_stack([mean, share]))


def test_reliability_refuses_what_is_no_probability():
    with pytest.raises(DataError, match=r"outside \[0, 1\][\s\S]*where: a"):
        reliability({"a": [1.5]}, [1])
    with pytest.raises(DataError, match="neither 0 nor 1"):
        reliability({"a": [0.5]}, [2])
    with pytest.raises(DataError, match="wells with a probability and a known label"):
        reliability({"a": [np.nan]}, [1])


# -- scoreboard --------------------------------------------------------------------------------------------------------


def test_scoreboard(tmp_path):
    methods = ["dpf", "ridge on expression", "mean"]
    r2 = Metric("R², Tscore", [0.5, 0.6, 0.0], [0.4, 0.5, -0.1], [0.6, 0.7, 0.1])
    brier = Metric("Brier, activated", [0.1, 0.2, np.nan], higher_is_better=False, chance=0.25)
    figure = scoreboard(methods, [r2, brier] * 3, ours=["dpf"])
    first, second = figure.axes[:2]
    assert [label.get_text() for label in first.get_yticklabels()] == methods
    assert (first.get_xlabel(), second.get_xlabel()) == ("higher is better →", "← lower is better")
    dots = [line for line in first.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == [0.5, 0.6, 0.0]
    assert dots[0].get_color() != dots[1].get_color()
    assert {"does not apply", "bars: 95% bootstrap interval over compounds"} <= set(texts(figure))
    draw(figure, tmp_path)


def test_scoreboard_refuses_half_an_interval():
    with pytest.raises(DataError, match=r"ends of the interval of R²"):
        scoreboard(["dpf"], [Metric("R²", [1.0], low=[0.5])])


def test_names_that_look_alike_when_cut_are_numbered():
    names = ["a" * 20 + "\u836f" + "b" * 20, "a" * 20 + "\u7269" + "b" * 20]
    assert len(set(style.shorten(names, 20))) == 2
    assert style.shorten([*names, names[0]], 20)[::2] == ["a" * 10 + "…" + "b" * 9 + " #1"] * 2
    assert style.shorten(["\u836f", "\u7269"]) == ["{836f}", "{7269}"]
