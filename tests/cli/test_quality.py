"""Wells without RNA through all commands: set aside, counted, never ranked, and used again when asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

GENES = [f"G{i}" for i in range(80)]
DEAD = {"A03": "lost", "B03": "lost", "C05": "c2", "D01": "DMSO"}
TINY = ["--epochs", 2, "--folds", 3, "--set", "model.width=16", "--set", "model.heads=2"]


@pytest.fixture(scope="module")
def made(ok, tmp_path_factory) -> Path:
    """A plate of counts: 16 controls, 16 compounds of four wells; the compound `lost` has nothing but dead wells."""
    folder = tmp_path_factory.mktemp("quality")
    rng = np.random.default_rng(0)
    ids = [f"{row}{column:02d}" for row in "ABCDEFGH" for column in range(1, 11)]
    compounds = dict(zip(ids, (["DMSO"] * 16 + [f"c{i % 16}" for i in range(64)]), strict=True))
    compounds |= DEAD
    shares = rng.dirichlet(np.full(len(GENES), 1.0))
    depth = 4000 * np.exp(rng.normal(0, 0.2, size=(len(ids), 1)))
    counts = rng.negative_binomial(20, 20 / (20 + shares * depth))
    counts[[ids.index(well) for well in DEAD]] = rng.binomial(3, 0.3, size=(len(DEAD), len(GENES)))
    pl.DataFrame({"gene": GENES} | {well: counts[i] for i, well in enumerate(ids)}).write_csv(folder / "counts.csv")
    table = pl.DataFrame({"well": ids, "drug": list(compounds.values()), "score": rng.normal(size=len(ids))})
    table.write_csv(folder / "wells.csv")
    words = ["--from", folder / "counts.csv", "--wells", folder / "wells.csv", "--scores", "score"]
    out = ok("init", folder / "p", *words, "--normalize", "log-cpm").out
    assert "aside    4 wells take no part: too few counts 4" in out
    assert "1 compound without a usable well, not measured: lost" in out
    return folder / "p"


def ranked(ran) -> pl.DataFrame:
    return pl.read_csv(ran.out.encode())


def test_a_compound_without_rna_is_not_measured_and_has_no_p(made, ok) -> None:
    table = ranked(ok("rank", made))
    last = table.row(-1, named=True)
    assert (last["compound"], last["verdict"], last["n"], last["wells_set_aside"]) == ("lost", "not measured", 0, 2)
    assert last["p"] is last["rank"] is last["depth_median"] is None
    others = table.filter(pl.col("compound") != "lost")
    assert others["p"].null_count() == 0
    assert others.filter(pl.col("compound") == "c2")["wells_set_aside"].item() == 1
    assert others["depth_median"].min() > 2000
    stored = pl.read_parquet(made / "ranking" / "ranking.parquet")
    assert stored["verdict"].to_list() == table["verdict"].to_list()


def test_check_and_info_name_them(made, ok, dpf) -> None:
    items = json.loads(dpf("check", made, "--permutations", 159, "--format", "json").out)["data"]["rows"]
    found = next(item for item in items if item["name"] == "failed wells")
    assert found["verdict"] == "warn"
    assert "4 of 80 wells are set aside: too few counts 4: " in found["text"]
    assert "aside    4 wells take no part: too few counts 4" in ok("info", made).out


def test_no_model_sees_them_and_every_table_does_without(made, ok, copy) -> None:
    project = copy(made)
    ok("train", project, *TINY)
    splits = pl.read_parquet(project / "models/default/splits.parquet")
    assert not set(splits["well_id"]) & set(DEAD)
    assert not set(ranked(ok("predict", project))["well_id"]) & set(DEAD)
    table = ranked(ok("rank", project))
    assert table.row(-1, named=True)["verdict"] == "not measured"
    assert table.row(-1, named=True)["t"] is None
    ok("explain", project)
    ok("evaluate", project)
    ok("export", project, "--output", project / "out")
    wells = pl.read_csv(project / "out" / "wells.csv")
    assert wells.height == 80
    assert set(wells.filter(pl.col("set_aside").is_not_null())["well_id"]) == set(DEAD)
    assert pl.read_csv(project / "out" / "expression.csv").height == 80


def test_they_are_used_when_asked_and_the_model_is_then_stale(made, ok, copy, dpf) -> None:
    table = ranked(ok("rank", made, "--set", "quality.keep_flagged=true"))
    assert table.filter(pl.col("compound") == "lost")["n"].item() == 2
    assert "not measured" not in set(table["verdict"])
    project = copy(made)
    ok("train", project, *TINY)
    settings = project / "dpf.toml"
    settings.write_text(settings.read_text().replace("keep_flagged = false", "keep_flagged = true"))
    assert "the inputs have changed since" in ok("info", project).out or "stale" in ok("info", project).out.lower()
    ran = dpf("rank", project)
    assert ran.code == 0
    assert ranked(ran).filter(pl.col("compound") == "lost")["n"].item() == 2


def test_wells_of_no_cells_are_never_used(made, ok, tmp_path) -> None:
    folder = made.parent
    table = pl.read_csv(folder / "wells.csv").with_columns(
        drug=pl.when(pl.col("well") == "H10").then(pl.lit("empty")).otherwise("drug")
    )
    table.write_csv(tmp_path / "wells.csv")
    words = ["--from", folder / "counts.csv", "--wells", tmp_path / "wells.csv", "--normalize", "log-cpm"]
    ok("init", tmp_path / "p", *words, "--keep-flagged")
    table = ranked(ok("rank", tmp_path / "p"))
    assert "empty" not in set(table["compound"])
    assert table.filter(pl.col("compound") == "lost")["n"].item() == 2
