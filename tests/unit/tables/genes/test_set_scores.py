"""Gene sets are read and scored as defined, and what is unknown is counted."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import scipy.stats

from dpf.errors import DataError
from dpf.tables.genes.set_scores import GeneSet, Signature, gene_set_score, pair_signatures, read_gmt
from dpf.tables.genes.table import describe_genes

_NAMES = [f"G{i}" for i in range(20)]
_GENES, _ = describe_genes(_NAMES)
_VALUES = np.random.default_rng(0).normal(5, 2, size=(15, 20)).astype(np.float32)
_VALUES[:, 19] = 0.1


def test_score_is_its_definition() -> None:
    score = gene_set_score(_VALUES, _GENES, Signature("s", ("G0", "G3", "G4"), ("G7", "G8")))
    z = scipy.stats.zscore(_VALUES[:, :19].astype(np.float64), axis=0)
    np.testing.assert_allclose(score.values, z[:, [0, 3, 4]].mean(axis=1) - z[:, [7, 8]].mean(axis=1), atol=1e-12)
    assert np.flatnonzero(score.used).tolist() == [0, 3, 4, 7, 8]
    assert score.notes == ()


def test_score_does_not_depend_on_units_and_turns_with_its_sides() -> None:
    forward = gene_set_score(_VALUES, _GENES, Signature("s", ("G0", "G1"), ("G2",))).values
    scaled = gene_set_score(_VALUES * 3 + 7, _GENES, Signature("s", ("G0", "G1"), ("G2",))).values
    back = gene_set_score(_VALUES, _GENES, Signature("s", ("G2",), ("G0", "G1"))).values
    np.testing.assert_allclose(scaled, forward, atol=1e-5)
    np.testing.assert_allclose(back, -forward, atol=1e-12)


def test_unknown_and_constant_genes_are_counted() -> None:
    score = gene_set_score(_VALUES, _GENES, Signature("s", ("G0", "G19", "X1", "X2", "X3")))
    assert score.notes[0].severity == "warning"
    assert score.notes[0].text == (
        "signature s: of 5 up genes, 3 are not measured (X1, X2, X3) and 1 are constant; the rest were used"
    )
    assert np.flatnonzero(score.used).tolist() == [0]


@pytest.mark.parametrize(
    ("signature", "text"),
    [
        (Signature("s", ("X",)), "none of the up genes"),
        (Signature("s", ("G0",), ("G19",)), "none of the down genes"),
        (Signature("s", ("g0", "g1")), "2 of them differ in upper and lower case only"),
        (Signature("s", ("G0",), ("G0", "G1")), "both sides"),
    ],
)
def test_scores_that_cannot_be(signature: Signature, text: str) -> None:
    with pytest.raises(DataError, match=text):
        gene_set_score(_VALUES, _GENES, signature)


def test_gmt(tmp_path: Path) -> None:
    path = tmp_path / "sets.gmt"
    for data in (b"A_UP\tabout\tG1\tG2\tG1\t\r\n\r\nB\t\tG3\r\n", gzip.compress(b"A_UP\tabout\tG1\tG2\nB\t\tG3")):
        path.write_bytes(data)
        assert read_gmt(path)[0] == (GeneSet("A_UP", "about", ("G1", "G2")), GeneSet("B", "", ("G3",)))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("A\tabout\n", "no name or no genes"),
        ("A\tabout\tG1\n\tabout\tG1\n", "no name or no genes"),
        ("A,about,G1\n", "no name or no genes"),
        ("A\tx\tG1\nA\tx\tG2\n", "stands twice"),
        ("\n", "without gene sets"),
    ],
)
def test_wrong_gmt_is_refused(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "sets.gmt").write_text(text)
    with pytest.raises(DataError, match=what):
        read_gmt(tmp_path / "sets.gmt")


def test_sides_are_paired() -> None:
    names = ["A_UP", "B", "A_DN", "c-up", "D_DOWN", "c-down", "START_UP_NOW", "E.dn", "E"]
    signatures = pair_signatures([GeneSet(name, "", (f"gene of {name}",)) for name in names])
    assert {one.name: (one.up, one.down) for one in signatures} == {
        "A": (("gene of A_UP",), ("gene of A_DN",)),
        "B": (("gene of B",), ()),
        "c": (("gene of c-up",), ("gene of c-down",)),
        "D_DOWN": (("gene of D_DOWN",), ()),
        "START_UP_NOW": (("gene of START_UP_NOW",), ()),
        "E.dn": (("gene of E.dn",), ()),
        "E": (("gene of E",), ()),
    }


def test_driad_scores_come_back_from_the_counts(real_data: Path) -> None:
    folder = real_data / "driad-dge"
    wells = pl.read_csv(folder / "prepared" / "wells.csv").filter(plate="dge1")
    raw = pl.read_csv(folder / "as-found" / "DGE1-counts.csv.gz")
    counts = raw.select(wells["well_id"].str.split("_").list.get(1).to_list()).to_numpy().T.astype(np.float64)
    np.testing.assert_allclose(counts.sum(axis=1), wells["n_counts"], rtol=1e-3)  # theirs: genes of both plates
    expression = np.log2(1e6 * counts / counts.sum(axis=1, keepdims=True) + 1)
    genes, _ = describe_genes(raw["HUGO"].to_list())
    sets, _ = read_gmt(folder / "prepared" / "signatures.gmt")
    for signature in pair_signatures(sets):
        score = gene_set_score(expression, genes, signature)
        assert np.corrcoef(score.values, wells[signature.name].to_numpy())[0, 1] > 0.95


def test_weights_of_enrichr_are_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.gmt").write_text("S\t\tG0,1.0\tG3,0.5\tHLA-A,1\tX,Y\n")
    (one,), _ = read_gmt(tmp_path / "a.gmt")
    assert one.genes == ("G0", "G3", "HLA-A", "X,Y")
