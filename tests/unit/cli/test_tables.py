"""Tables on screen: the chosen columns, numbers a person reads, nothing cut that decides, whatever the width."""

from __future__ import annotations

import polars as pl
import pytest
from rich.cells import cell_len

from dpf.analysis.design.item import CheckItem
from dpf.cli.display.columns import print_columns
from dpf.cli.display.tables import print_table
from dpf.cli.display.verdicts import print_items
from dpf.tables.schemas.registry import SCHEMAS

COMPOUNDS = ["metformin", "2-hydroxy-3-methylbutanedioic acid monohydrate", "二十二碳六烯酸"]
RANKING = pl.DataFrame(
    {
        "compound": COMPOUNDS,
        "rank": [1.0, 2.0, 3.0],
        "verdict": ["activating hit", "not distinguishable", None],
        "n": [2, 12, 2],
        "t": [12.345, -1.16e-17, 3.0],
        "t_low": [10.0, -0.5, 2.0],
        "t_high": [14.0, 0.5, 4.0],
        "p": [0.0001, 0.5, None],
        "q": [0.00123456, 0.98765, None],
        "activation": [4.0, -1e-16, 0.5],
        "replicates_agree": [True, False, None],
        "t_p": [1.234e-5, 0.123456, None],
        **{f"viability_{kind}_shift": [1.0, 2.0, 3.0] for kind in ("predicted", "measured")},
    }
)


@pytest.fixture
def printed(capsys, monkeypatch):
    """The lines of a table on a terminal so many columns wide."""

    def run(frame: pl.DataFrame, kind: str, width: int, **options) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        print_table(frame, kind, **options)
        return [line.rstrip() for line in capsys.readouterr().out.splitlines()]

    return run


@pytest.mark.parametrize("width", [10, 20, 30, 40, 60, 80, 100, 200])
def test_q_is_never_cut_off(printed, width):
    lines = printed(RANKING, "ranking", width)
    headings = lines[0].split()
    assert headings[0] == "compound"
    rows = lines[2 if "SD" in lines[1].split() else 1 :][:3]
    for line, q in zip(rows, ("0.0012", "0.99", "-"), strict=True):
        # Seen from the right, as names may be of several words and the verdict may be missing.
        assert line.split()[headings.index("q") - len(headings)] == q
    assert width < 20 or max(map(cell_len, lines)) <= width


def test_eighty_columns_hold_the_answer(printed):
    lines = printed(RANKING, "ranking", 80)
    assert lines[0].split() == ["compound", "verdict", "n", "t", "t_low", "t_high", "q"]
    assert lines[1].split() == ["SD"] * 3
    assert lines[2].split() == ["metformin", "activating", "hit", "2", "12.3", "10.0", "14.0", "0.0012"]
    assert lines[3].startswith("2-hydroxy-3-methylbutaned…  not distinguishable  12   0.0   -0.5     0.5    0.99")
    assert lines[-1] == "7 more columns: in the Parquet file; see dpf info PROJECT --columns ranking"


def test_there_is_room_for_names_where_there_is_room(printed):
    lines = printed(RANKING, "ranking", 200)
    assert lines[0].split()[7:] == ["activation", "replicates_agree", "rank", "p"]
    assert COMPOUNDS[1] in lines[3]
    assert lines[2].split()[-3:] == ["yes", "1", "0.0001"]
    assert lines[4].split()[-3:] == ["-", "3", "-"]


def test_the_column_that_a_table_is_sorted_by_is_shown(printed):
    lines = printed(RANKING, "ranking", 80, sorted_by="t_p")
    assert lines[0].split()[-1] == "t_p"
    assert [line.split()[-1] for line in lines[2:5]] == ["1.2e-05", "0.12", "-"]


def test_numbers_have_the_digits_of_their_column(printed):
    frame = pl.DataFrame(
        {
            "rank": pl.Series([1, 2, 3, 4], dtype=pl.UInt32),
            "gene": list("abcd"),
            "importance": [0.25, 0.0312345, 0.0, -0.0001],
            "importance_sd": [-1.16e-17, 0.0, None, float("nan")],
            "gradient": [1234.5678, 0.5, -999.5, float("inf")],
            "control_importance": [1.5e-7, 3e-8, 0.0, 1.0e-7],
            "control_signed": [2.5e8, -1.0, 0.0, 1.0],
            "signed": [2.0, -1.0, 0.0, 7.0],
        }
    )
    lines = printed(frame, "importance", 120)
    cells = [line.split() for line in lines[1:]]
    columns = dict(zip(lines[0].split(), zip(*cells, strict=True), strict=True))
    assert columns["rank"] == ("1", "2", "3", "4")
    assert columns["importance"] == ("0.250", "0.031", "0.000", "0.000")
    assert columns["importance_sd"] == ("0", "0", "-", "-")
    assert columns["gradient"] == ("1235", "0", "-1000", "inf")
    assert columns["control_importance"] == ("1.5e-07", "3e-08", "0", "1e-07")
    assert columns["control_signed"] == ("2.5e+08", "-1", "0", "1")
    assert columns["signed"] == ("2", "-1", "0", "7")


def test_numbered_columns_are_one_name(printed):
    wells = pl.DataFrame({"well_id": ["A01"], "compound": ["x"], "part": ["held_out"], "latent_member": [0]})
    wells = wells.with_columns(pl.lit(0.5).alias(f"latent_{k}") for k in range(32))
    text = " ".join(printed(wells, "predictions", 80)[2:])
    assert text == (
        "33 more columns (latent_member, latent_0 ... latent_31): in the Parquet file; see dpf info PROJECT "
        "--columns predictions"
    )


def test_every_target_is_headed_by_its_name(printed):
    wells = pl.DataFrame({"well_id": ["A01"], "part": ["train"], "a_predicted": [0.5], "a b_predicted": [20000.0]})
    wells = wells.with_columns(hit_probability=pl.lit(0.12345), hit_class=pl.lit(0))
    lines = printed(wells, "predictions", 80)
    assert lines[0].split() == ["well_id", "part", "a", "a", "b", "P(hit)"]
    assert lines[1].split() == ["A01", "train", "0.500", "20000", "0.12"]


def test_a_table_without_chosen_columns_shows_what_fits(printed):
    frame = pl.DataFrame({name: ["x" * 20] for name in ("name", "group", "verdict", "text", "advice", "rule")})
    lines = printed(frame, "check", 50)
    assert lines[0].split() == ["name", "group"]
    assert "4 more columns (verdict, text, advice, rule)" in " ".join(lines)
    assert printed(frame.clear(), "check", 80)[0].split() == frame.columns


ITEMS = [
    CheckItem("position effect: Tscore", "positions", "fail", 0.635, "Column explains 63.5% of Tscore.", "Redo it."),
    CheckItem("plates: known", "positions", "good", 1.0, "Two plates."),
]


def test_a_check_is_readable_at_forty_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    print_items(ITEMS)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "positions",
        "fail  position effect: Tscore",
        "  Column explains 63.5% of Tscore.",
        "  next: Redo it.",
        "good  plates: known",
        "  Two plates.",
    ]


def test_a_check_has_its_numbers_where_there_is_room(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    print_items(ITEMS)
    assert "0.635  Column explains 63.5% of Tscore." in capsys.readouterr().out


@pytest.mark.parametrize("kind", SCHEMAS)
def test_the_columns_of_a_table_are_explained_on_screen(capsys, monkeypatch, kind):
    monkeypatch.setenv("COLUMNS", "80")
    print_columns(SCHEMAS[kind])
    out = capsys.readouterr().out
    for column in SCHEMAS[kind].columns:
        assert f"\n{column.name}  ({column.type}" in out
    assert max(map(cell_len, out.splitlines())) <= 80
