from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from dpf.errors import DataError
from dpf.tables.roles.validate import check_screen, constant_genes
from dpf.tables.screen import Replicates, Screen, SourceFile, Targets, summarise


@pytest.fixture
def screen():
    wells = pl.DataFrame(
        {
            "well_id": [f"w{i}" for i in range(6)],
            "compound": ["DMSO", "x", "x", "y", "y", "y"],
            "is_control": [True, False, False, False, False, False],
            "plate": ["p", "p", "p", "q", "q", None],
            "score": [0.5, None, 1.0, 2.0, 3.0, 4.0],
            "state": [0, 1, None, 1, 1, 0],
        }
    )
    expression = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    genes = pl.DataFrame({"gene": list("ABCD")})
    return Screen(wells, genes, expression, Targets(("score",), "state"), (), (SourceFile("table.csv", ""),))


def wrong(screen, **changes):
    with pytest.raises(DataError) as error:
        check_screen(replace(screen, **changes))
    return str(error.value)


def test_a_good_screen_passes_unchanged(screen):
    checked = check_screen(screen)
    assert checked.notes == ()
    assert checked.expression is screen.expression


def test_constant_genes_and_empty_wells_are_kept_and_told(screen):
    expression = screen.expression.copy()
    expression[:, 1] = 3
    expression[:, 2] = 0
    expression[4] = 0
    expression[4, 1] = 3
    checked = check_screen(replace(screen, expression=expression))
    assert [note.text for note in checked.notes] == ["2 genes of 4 with one value in every well, kept: B, C"]
    empty = screen.expression.copy()
    empty[4] = 0
    assert "1 well with 0 in every gene: w4" in check_screen(replace(screen, expression=empty)).notes[0].text


@pytest.mark.parametrize("wells", [1, 255, 256, 257, 600])
def test_constant_genes_against_numpy(wells):
    values = np.random.default_rng(wells).integers(0, 2, size=(wells, 9)).astype(np.float32)
    values[:, 3] = 1
    np.testing.assert_array_equal(constant_genes(values), np.ptp(values, axis=0) == 0)


def test_cells_that_are_missing_or_infinite_are_named(screen):
    expression = screen.expression.copy()
    expression[1, 2], expression[3, 0], expression[5, 3] = np.nan, np.inf, -np.inf
    text = wrong(screen, expression=expression)
    assert "well w1, gene C: missing; well w3, gene A: infinite; well w5, gene D: minus infinite" in text
    assert "table.csv" in text
    expression[:] = np.nan
    assert "and 14 more" in wrong(screen, expression=expression)


def test_lengths_and_names(screen):
    assert "differ in length" in wrong(screen, expression=screen.expression[:, :3])
    assert "no wells or no genes" in wrong(screen, expression=screen.expression[:, :0], genes=screen.genes[:0])
    wells = screen.wells.with_columns(well_id=pl.Series(["w0", "w0", "w2", "w3", "w4", "w5"]))
    text = wrong(screen, wells=wells, genes=pl.DataFrame({"gene": ["A", "B", "B", "B"]}))
    assert "2 things are wrong" in text
    assert "w0 ×2" in text
    assert "B ×3" in text


def test_columns_controls_and_targets(screen):
    wells = screen.wells
    assert "no column compound" in wrong(screen, wells=wells.drop("compound"))
    assert "column plate has the wrong type" in wrong(screen, wells=wells.with_columns(plate=pl.lit(1)))
    assert "no well is a control" in wrong(screen, wells=wells.with_columns(is_control=pl.lit(value=False)))
    assert "every well is a control" in wrong(screen, wells=wells.with_columns(is_control=pl.lit(value=True)))
    assert "a label needs two classes" in wrong(screen, wells=wells.with_columns(state=pl.lit(1)))
    assert "no usable numbers" in wrong(screen, wells=wells.with_columns(score=pl.lit(None, dtype=pl.Float64)))
    assert "no usable numbers" in wrong(screen, wells=wells.with_columns(score=pl.lit(float("inf"))))
    assert "there is no target other" in wrong(screen, targets=Targets(("other",)))


def test_summary(screen):
    summary = summarise(screen)
    assert (summary.wells, summary.genes, summary.compounds) == (6, 4, 2)
    assert summary.replicates == Replicates(2, 2.5, 3)
    assert summary.controls == {"DMSO": 1}
    assert summary.plates == {"?": 1, "p": 3, "q": 2}
    score, state = summary.targets
    assert (score.role, score.present, score.missing, score.minimum, score.maximum) == ("score", 5, 1, 0.5, 4.0)
    assert score.mean == pytest.approx(2.1)
    assert score.ones is None
    assert (state.role, state.present, state.missing, state.ones) == ("label", 5, 1, 3)
    assert summary.columns == ("plate",)
