"""Genes are kept for what the filter says, and listed genes are found under any of their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dpf.errors import DataError, UsageError
from dpf.tables.genes import filters as gene_filters
from dpf.tables.genes.filters import (
    detected_in,
    find_genes,
    listed_genes,
    most_perturbed,
    most_variable,
    read_gene_list,
)

_GENES = pl.DataFrame(
    {
        "gene": ["TP53", "Y_RNA|ENSG2", "Y_RNA|ENSG3", "ENSG4"],
        "gene_id": ["ENSG1", "ENSG2", "ENSG3", "ENSG4"],
        "symbol": ["TP53", "Y_RNA", "Y_RNA", None],
        "source_name": ["ENSG1.1", "ENSG2.1", "ENSG3.1", "200814_at"],
    }
)


def test_detected_in() -> None:
    counts = np.array([[0, 1, 5, 0.5], [0, 1, 0, 3], [0, 0, 9, 2]])
    assert detected_in(counts, 2).tolist() == [False, True, True, True]
    assert detected_in(counts, 2, min_count=2).tolist() == [False, False, True, True]
    assert detected_in(counts, 0).all()


def test_most_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(30, 50)) * np.linspace(1, 9, 50) + 100
    kept = most_variable(values.astype(np.float32), 7)
    assert set(np.flatnonzero(kept)) == set(np.argsort(values.var(axis=0))[-7:])
    monkeypatch.setattr(gene_filters, "_BLOCK_GENES", 3)
    np.testing.assert_array_equal(most_variable(values.astype(np.float32), 7), kept)
    assert most_variable(values, 500).all()
    assert most_variable(np.ones((3, 4)), 2).tolist() == [True, True, False, False]
    with pytest.raises(UsageError, match="positive"):
        most_variable(values, 0)


def _perturbed(plate_shift: float) -> tuple[np.ndarray, list[str], np.ndarray, list[str]]:
    rng = np.random.default_rng(1)
    plates = ["p1"] * 40 + ["p2"] * 40
    is_control = np.arange(80) % 4 == 0
    compounds = ["DMSO" if control else f"c{i // 2 % 10}" for i, control in enumerate(is_control)]
    values = rng.normal(size=(80, 60)) * rng.uniform(0.5, 3, size=60)
    values[40:] += plate_shift * rng.normal(size=60)
    for gene in range(5):
        values[np.array(compounds) == f"c{gene}", gene] += 12
    return values, compounds, is_control, plates


@pytest.mark.parametrize("plate_shift", [0, 50])
def test_most_perturbed_finds_what_compounds_move_and_not_what_plates_do(plate_shift: float) -> None:
    kept = most_perturbed(*_perturbed(plate_shift), 5)
    assert np.flatnonzero(kept).tolist() == [0, 1, 2, 3, 4]


def test_most_perturbed_is_its_definition() -> None:
    values, compounds, is_control, _ = _perturbed(0)
    control = values[is_control]
    spread = control.std(axis=0, ddof=1)
    z_squared = []
    for name in sorted(set(compounds) - {"DMSO"}):
        wells = (np.array(compounds) == name) & ~is_control
        difference = values[wells].mean(axis=0) - control.mean(axis=0)
        error = (spread + np.median(spread)) * np.sqrt(1 / wells.sum() + 1 / len(control))
        z_squared.append((difference / error) ** 2)
    best = np.argsort(-np.mean(z_squared, axis=0))[:20]
    kept = most_perturbed(values, compounds, is_control, None, 20)
    assert set(np.flatnonzero(kept)) == set(best)


def test_most_perturbed_needs_controls_on_every_plate() -> None:
    values, compounds, is_control, plates = _perturbed(0)
    with pytest.raises(DataError, match="no controls on plate p2"):
        most_perturbed(values, compounds, is_control & (np.array(plates) == "p1"), plates, 5)
    with pytest.raises(DataError, match="1 control wells"):
        most_perturbed(values, compounds, np.arange(80) == 0, None, 5)
    with pytest.raises(DataError, match="no compound wells"):
        most_perturbed(values, compounds, np.ones(80, dtype=bool), plates, 5)


def test_genes_are_found_under_any_name() -> None:
    found, unknown = find_genes(_GENES, ["TP53", "Y_RNA", "MYC", "MYC", " ENSG4.12 "])
    assert found.tolist() == [True, True, True, True]
    assert unknown == ["MYC"]
    assert find_genes(_GENES, ["Y_RNA|ENSG3", "200814_at"])[0].tolist() == [False, False, True, True]
    assert find_genes(_GENES, ["ENSG1.1", "ENSG2"])[0].tolist() == [True, True, False, False]
    assert find_genes(_GENES.select("gene"), ["Y_RNA"])[1] == ["Y_RNA"]


def test_listed_genes_name_the_unknown() -> None:
    found, notes = listed_genes(_GENES, ["TP53", "MYC"], "genes.txt")
    assert found.tolist() == [True, False, False, False]
    assert notes[0].text == "genes.txt: 1 listed genes are not measured: MYC"
    assert listed_genes(_GENES, ["TP53"], "genes.txt")[1] == ()
    with pytest.raises(DataError, match="upper and lower case only"):
        listed_genes(_GENES, ["Tp53"], "genes.txt")


def _noisy_where_low(seed: int = 0, genes: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Log values whose noise falls with the level; every tenth gene varies twice as much as its neighbours."""
    rng = np.random.default_rng(seed)
    level = rng.uniform(0, 10, size=genes)
    spread = 2 * np.exp(-level / 4) * np.where(np.arange(genes) % 10 == 0, 2.0, 1.0)
    return level + spread * rng.normal(size=(120, genes)), np.arange(genes) % 10 == 0


def test_most_variable_is_most_variable_for_its_level(monkeypatch: pytest.MonkeyPatch) -> None:
    values, planted = _noisy_where_low()
    kept = most_variable(values, int(planted.sum()))
    assert (kept & planted).sum() > 0.97 * planted.sum()
    by_variance = np.zeros_like(kept)
    by_variance[np.argsort(-values.var(axis=0))[: planted.sum()]] = True
    assert (by_variance & planted).sum() < 0.4 * planted.sum()
    order = np.random.default_rng(1).permutation(900)
    np.testing.assert_array_equal(most_variable(values[:, order], 90), most_variable(values, 90)[order])
    with_constant = np.hstack([np.zeros((120, 400)), values])
    np.testing.assert_array_equal(most_variable(with_constant, 90)[400:], kept)
    assert most_variable(with_constant, 1300).all()


def test_a_running_median_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gene_filters, "_TREND_GENES", 3)
    deviations = np.array([1.0, 2.0, 1.0, 4.0, 3.0, 1.0])
    values = np.arange(6) * 10.0 + np.outer([1.0, -1.0], np.sqrt(deviations))
    ratios = deviations / np.array([1.0, 1.0, 2.0, 3.0, 3.0, 1.0])  # medians of threes, the ends repeated
    for n in range(1, 7):
        assert set(np.flatnonzero(most_variable(values, n))) == set(np.argsort(-ratios, kind="stable")[:n])


def test_a_list_of_genes_is_read_from_any_table(tmp_path: Path) -> None:
    for text in (
        "TP53\nMYC\n",
        "gene,why\nTP53,a\nMYC,b\n",
        "# mine\r\n\r\nTP53\tx\r\nMYC\r\n",
        '"x"\n"TP53"\n"MYC"\n',
    ):
        (tmp_path / "genes.txt").write_bytes(text.encode())
        assert read_gene_list(tmp_path / "genes.txt") == (("TP53", "MYC"), ())
    (tmp_path / "genes.txt").write_text("# nothing\n")
    with pytest.raises(DataError, match="a list of genes is empty"):
        read_gene_list(tmp_path / "genes.txt")
