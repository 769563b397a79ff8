from __future__ import annotations

import numpy as np
import pytest

from dpf.errors import DataError, UsageError
from dpf.tables.genes.names import name_genes
from dpf.tables.matrix import Matrix
from dpf.tables.screen import SourceFile


def wells(names, values=None):
    data = np.arange(2 * len(names), dtype=np.float32).reshape(2, -1) if values is None else np.float32(values)
    return Matrix(data, ["A01", "A02"], names, SourceFile("table.csv", ""))


def test_duplicates_are_kept_apart_and_noted():
    named = name_genes(wells(["TP53", "CD3", "TP53", ""]))
    genes = named.genes.get_column("gene").to_list()
    assert len(set(genes)) == 4
    assert genes[1] == "CD3"
    assert named.genes.get_column("symbol").to_list()[:3] == ["TP53", "CD3", "TP53"]
    assert named.values.shape == (2, 4)
    assert all(note.text.startswith("table.csv: ") for note in named.notes)
    assert {note.severity for note in named.notes} == {"warning"}


def test_duplicates_are_refused_where_asked():
    with pytest.raises(DataError, match="gene names appear more than once") as error:
        name_genes(wells(["TP53", "CD3", "TP53"]), "refuse")
    assert error.value.found == "TP53 ×2"
    assert name_genes(wells(["TP53", "CD3"]), "refuse").notes == ()


def test_counts_are_added_up_where_asked_and_logarithms_are_not():
    named = name_genes(wells(["TP53", "CD3", "TP53", "TP53"], [[1, 2, 3, 4], [0, 5, 0, 7]]), "sum")
    assert named.genes.get_column("gene").to_list() == ["TP53", "CD3"]
    np.testing.assert_array_equal(named.values, [[8, 2], [7, 5]])
    assert "added up: TP53 ×3" in named.notes[0].text
    with pytest.raises(UsageError, match="in counts only"):
        name_genes(wells(["TP53", "TP53"], [[1, 2.5], [1, 1]]), "sum")


def test_adding_up_leaves_the_source_alone_and_nameless_genes_apart():
    source = wells(["", "", "CD3", "CD3"], [[1, 2, 3, 4], [1, 1, 1, 1]])
    named = name_genes(source, "sum")
    np.testing.assert_array_equal(named.values, [[1, 2, 7], [1, 1, 2]])
    np.testing.assert_array_equal(source.values, [[1, 2, 3, 4], [1, 1, 1, 1]])


def test_no_gene_is_called_well_id():
    with pytest.raises(DataError, match="a name that no gene can have"):
        name_genes(wells(["well_id", "CD3"]))
