"""`dpf init` from counts, and `dpf predict --input` on new counts, as a user types them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest

from dpf.tables.preparing.normalise import read_normalisation, write_normalisation
from dpf.tables.storage import read_about, read_expression, read_table, write_table
from tests.support.commands import Ran, dpf, ok

GENES = [*(f"G{i}" for i in range(40)), "MT-CO1", "ERCC-00130"]
TINY = [
    *("--epochs", 1, "--set", "model.width=8", "--set", "model.heads=2", "--set", "model.feed_forward=8"),
    *("--set", "model.layers=1", "--set", "model.latent=5", "--threads", 1, "--precision", "fp32", "--device", "cpu"),
]
GMT = "up\tx\tG0\tG1\tG2\nfar_UP\tx\tG3\nfar_DN\tx\tG4\tG99\n"

VIABILITY = [0.25 + 0.125 * (7 * well % 24) for well in range(24)]


def counts(seed: int, wells: int = 24) -> np.ndarray:
    rng = np.random.default_rng(seed)
    means = np.exp(rng.normal(3.5, 1, size=len(GENES))) * rng.uniform(0.5, 2, size=(wells, 1))
    return rng.negative_binomial(5, 5 / (5 + means))


def write_plate(folder: Path, name: str, values: np.ndarray, **columns: Any) -> list[str]:
    """A plate as two files, genes × wells and what is in its wells; the words that name them."""
    ids = [f"{'ABCD'[i // 6]}{i % 6 + 1:02d}" for i in range(len(values))]
    table = pl.DataFrame({"gene": GENES} | {well: values[i] for i, well in enumerate(ids)})
    table.write_csv(folder / f"{name}-counts.csv")
    drugs = ["DMSO" if i % 3 == 0 else f"drug{i % 5}" for i in range(len(values))]
    frame = pl.DataFrame({"Well": ids, "Drug": drugs} | columns)
    frame.write_csv(folder / f"{name}-meta.csv")
    return ["--from", str(folder / f"{name}-counts.csv"), "--wells", str(folder / f"{name}-meta.csv")]


class Made(NamedTuple):
    path: Path
    files: Path
    out: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two plates of counts, one with a shallow well, made into a project and trained."""
    folder = tmp_path_factory.mktemp("counts")
    shallow = counts(1)
    shallow[5] = 1
    (folder / "sets.gmt").write_text(GMT)
    words = [*write_plate(folder, "P1", shallow), *write_plate(folder, "P2", counts(2))]
    words += [
        "--normalize",
        "log-cpm",
        "--min-counts",
        100,
        "--min-genes",
        0,
        "--signature",
        folder / "sets.gmt",
        "--top-variable",
        30,
    ]
    out = ok("init", folder / "project", *words).out
    ok("train", folder / "project", *TINY)
    return Made(folder / "project", folder, out)


def test_a_project_from_counts(made: Made) -> None:
    inputs = made.path / "inputs"
    wells, genes = read_table(inputs / "wells.parquet", "wells"), read_table(inputs / "genes.parquet", "genes")
    expression = read_expression(inputs / "expression.parquet")
    assert expression.well_ids == wells["well_id"].to_list()
    assert expression.well_ids[-1] == "P1_A06"
    assert wells["set_aside"].to_list() == [None] * 47 + ["too few counts (41 of at least 100)"]
    assert "1 well set aside, out of everything that follows: too few counts 1: P1_A06" in made.out
    assert "wells    47 x 42 genes, of which the model reads 30" in made.out
    assert "aside    1 well takes no part: too few counts 1" in made.out
    assert genes["gene"].to_list() == expression.genes
    assert genes.columns[:4] == ["gene", "gene_id", "symbol", "kind"]
    assert set(genes.filter("in_score")["gene"]) == {f"G{i}" for i in range(5)}
    assert not set(genes.filter("in_score")["gene"]) & set(genes.filter("in_model")["gene"])
    assert (genes.height, genes["in_model"].sum()) == (len(GENES), 30)
    raw = np.concatenate([np.delete(_with_shallow(), 5, axis=0), counts(2), _with_shallow()[5:6]])
    factors = wells["composition_factor"].to_numpy()
    assert np.log(factors[:-1]).mean() == pytest.approx(0, abs=1e-9)
    cpm = 1e6 * raw / (raw[:, :-1].sum(axis=1) * factors)[:, None]
    columns = [GENES.index(name) for name in expression.genes]
    np.testing.assert_allclose(expression.values, np.log2(cpm[:, columns] + 1), rtol=1e-6)
    stored = pl.read_parquet(inputs / "counts.parquet")
    assert stored["well_id"].to_list() == expression.well_ids
    assert set(stored.drop("well_id").dtypes) == {pl.Int32}
    np.testing.assert_array_equal(
        stored.drop("well_id").to_numpy(), raw[:, [GENES.index(g) for g in stored.columns[1:]]]
    )
    assert wells["library_size"].to_list() == raw[:, :-1].sum(axis=1).tolist()
    assert {"up", "far"} < set(wells.columns)
    assert 'scores = ["up", "far"]' in (made.path / "dpf.toml").read_text()
    sources = read_about(inputs / "expression.parquet", "expression")["sources"]
    assert [Path(source["path"]).name for source in sources][-1] == "sets.gmt"
    assert set(read_normalisation(inputs / "normalisation.parquet").depth_genes) == set(GENES) - {"ERCC-00130"}


def _with_shallow() -> np.ndarray:
    values = counts(1)
    values[5] = 1
    return values


@pytest.mark.parametrize("harm", ["gone", "edited", "of another project", "truncated"])
def test_a_normalisation_that_is_not_the_project_s_is_found(made: Made, tmp_path: Path, harm: str) -> None:
    project = shutil.copytree(made.path, tmp_path / "project")
    path = project / "inputs" / "normalisation.parquet"
    whole, fitted = path.read_bytes(), read_normalisation(path)
    if harm == "gone":
        path.unlink()
    elif harm == "truncated":
        path.write_bytes(whole[:-100])
    else:
        shares = fitted.depth_share[::-1] if harm == "edited" else fitted.depth_share
        genes = fitted.depth_genes if harm == "edited" else tuple(f"x{i}" for i in range(len(fitted.depth_genes)))
        write_normalisation(path, replace(fitted, depth_genes=genes, depth_share=shares))
    text = "truncated or is not a Parquet file" if harm == "truncated" else "not the one that the expression was made"
    ran = dpf("train", project)
    assert (ran.code, ran.out) == (4, "")
    assert text in ran.err
    assert "dpf init again" in ran.err or harm == "truncated"
    items = json.loads(dpf("check", project, "--format", "json").out)["data"]["rows"]
    tables = next(item for item in items if item["name"] == "input tables")
    assert (tables["verdict"], text in tables["text"]) == ("fail", True)
    # A model trained before carries its own, and needs no other.
    ok("predict", project, "--input", made.files / "P2-counts.csv", "--output", tmp_path / "new.parquet")
    path.write_bytes(whole)
    ok("train", project, *TINY, "--epochs", 1, "--overwrite")


def test_an_older_project_s_normalisation_must_know_its_genes(made: Made, tmp_path: Path) -> None:
    project = shutil.copytree(made.path, tmp_path / "project")
    path, wells = project / "inputs" / "normalisation.parquet", project / "inputs" / "wells.parquet"
    about = read_about(wells, "wells")
    del about["normalisation_sha256"]  # as dpf wrote it before it was kept
    write_table(wells, read_table(wells, "wells"), "wells", about)
    ok("train", project, *TINY, "--epochs", 1, "--overwrite")
    fitted = read_normalisation(path)
    write_normalisation(path, replace(fitted, depth_genes=tuple(f"x{i}" for i in range(len(fitted.depth_genes)))))
    ran = dpf("train", project)
    assert ran.code == 4
    assert "not that of this screen" in ran.err
    assert "it has 0 of the screen's 42 genes" in ran.err


def rows(ran: Ran) -> pl.DataFrame:
    return pl.read_csv(ran.out.encode())


def test_new_counts_go_through_the_training_s_normalisation(made: Made, tmp_path: Path) -> None:
    own = rows(ok("predict", made.path, "--format", "csv"))
    ran = ok("predict", made.path, "--input", made.files / "P2-counts.csv", "--format", "csv")
    assert "P2-counts.csv: counts, normalised as the model's training data were (log-cpm)" in ran.err
    new = rows(ran).with_columns(well_id="P2_" + pl.col("well_id"))
    both = own.join(new, on="well_id", suffix="_new")
    assert both.height == 24  # those of the second plate: all of them take part
    for column in ("up_predicted", "far_predicted", "latent_0"):
        np.testing.assert_allclose(both[f"{column}_new"], both[column], rtol=1e-5, atol=1e-6)


def test_a_model_from_elsewhere_brings_its_normalisation(made: Made, tmp_path: Path) -> None:
    model = shutil.copy(made.path / "models" / "default" / "model.safetensors", tmp_path / "model.safetensors")
    ok("init", tmp_path / "other", "--demo", "--wells", 24, "--genes", 24)
    words = ["--input", made.files / "P2-counts.csv", "--output", tmp_path / "new.parquet", "--format", "csv"]
    here = rows(ok("predict", made.path, *words))
    there = rows(ok("predict", tmp_path / "other", "--model", model, *words))
    assert there.equals(here)


def test_values_normalised_already_are_taken_as_they_are(made: Made, tmp_path: Path) -> None:
    shutil.copy(made.path / "inputs" / "expression.parquet", tmp_path / "same.parquet")
    own = rows(ok("predict", made.path, "--format", "csv"))
    ran = ok("predict", made.path, "--input", tmp_path / "same.parquet", "--format", "csv")
    assert "same.parquet: values have fractions and go up to" in ran.err
    new = rows(ran).head(47)  # the last one is set aside
    np.testing.assert_allclose(new["up_predicted"], own["up_predicted"], rtol=1e-5, atol=1e-6)


def test_values_that_do_not_tell_what_they_are(made: Made, tmp_path: Path) -> None:
    write_plate(tmp_path, "low", np.minimum(counts(3), 20))
    words = ["predict", made.path, "--input", tmp_path / "low-counts.csv", "--output", tmp_path / "new.parquet"]
    ran = dpf(*words)
    assert ran.code == 2
    assert "could be counts or normalised" in ran.err
    assert "all values are whole numbers from 0 to 20" in ran.err
    assert "--input-scale counts or --input-scale normalised" in ran.err
    assert not (tmp_path / "new.parquet").exists()
    assert "taken as counts (--input-scale), though all values are whole" in ok(*words, "--input-scale", "counts").err
    assert "do not look like the training data" in ok(*words, "--input-scale", "normalised").err
    full = [*words[:2], "--input", made.files / "P2-counts.csv", *words[4:], "--overwrite"]
    taken = ok(*full, "--input-scale", "normalised").err
    assert "taken as normalised (--input-scale), though all values are whole" in taken


def test_negative_counts_and_missing_genes(made: Made, tmp_path: Path) -> None:
    values = counts(3)
    write_plate(tmp_path, "new", values - 1)
    output = ["--output", tmp_path / "new.parquet"]
    ran = dpf("predict", made.path, "--input", tmp_path / "new-counts.csv", "--input-scale", "counts", *output)
    assert ran.code == 4
    assert "counts are negative" in ran.err
    assert "values go down to -1" in ran.err
    write_plate(tmp_path, "new", np.log2(values + 1))
    ran = dpf("predict", made.path, "--input", tmp_path / "new-counts.csv", "--input-scale", "counts", *output)
    assert ran.code == 4
    assert "values given as counts are normalised already" in ran.err
    assert "--input-scale normalised" in ran.err
    used = read_expression(made.path / "inputs" / "expression.parquet").genes
    write_plate(tmp_path, "new", values)
    table = pl.read_csv(tmp_path / "new-counts.csv")
    rarest = min(used, key=lambda gene: float(np.sum(table.filter(pl.col("gene") == gene).drop("gene").row(0))))
    table.filter(pl.col("gene") != rarest).write_csv(tmp_path / "new-counts.csv")
    ran = dpf("predict", made.path, "--input", tmp_path / "new-counts.csv", *output)
    assert ran.code == 5
    assert f"missing: {rarest}" in ran.err
    ran = ok("predict", made.path, "--input", tmp_path / "new-counts.csv", *output, "--missing-genes", "impute")
    assert "1 of the 41 genes of the library size are missing" in ran.err
    table.head(20).write_csv(tmp_path / "new-counts.csv")
    ran = dpf("predict", made.path, "--input", tmp_path / "new-counts.csv", *output, "--missing-genes", "impute")
    assert ran.code == 4
    assert "the depth of their wells is not known" in ran.err


def test_a_model_of_values_taken_as_they_were_has_no_normalisation(made: Made, tmp_path: Path) -> None:
    ok("init", tmp_path / "demo", "--demo", "--wells", 24, "--genes", 24)
    assert not (tmp_path / "demo" / "inputs" / "normalisation.parquet").exists()
    ok("train", tmp_path / "demo", *TINY)
    shutil.copy(tmp_path / "demo" / "inputs" / "expression.parquet", tmp_path / "same.parquet")
    ran = dpf("predict", tmp_path / "demo", "--input", tmp_path / "same.parquet", "--input-scale", "counts")
    assert ran.code == 2
    assert "the model has no normalisation for counts" in ran.err
    ok("predict", tmp_path / "demo", "--input", tmp_path / "same.parquet")


def test_every_option_reaches_its_step(tmp_path: Path) -> None:
    (tmp_path / "genes.txt").write_text("".join(f"G{i}\n" for i in range(20)))
    (tmp_path / "sets.gmt").write_text(GMT)
    words = [*write_plate(tmp_path, "P", counts(4), viability=VIABILITY), "--scores", "viability", "--normalize", "vst"]
    words += ["--genes-file", tmp_path / "genes.txt", "--min-wells", 20, "--top-perturbed", 6, "--format", "json"]
    words += ["--signature", tmp_path / "sets.gmt", "--keep-signature-genes"]
    envelope = json.loads(ok("init", tmp_path / "project", *words).out)
    summary = envelope["data"]["summary"]
    assert (summary["genes"], summary["model_genes"]) == (42, 6)
    assert [target["name"] for target in summary["targets"]] == ["viability", "up", "far"]
    said = " | ".join(note["text"] for note in summary["notes"])
    for text in (
        "counts became variance-stabilised values, fitted on 8 control wells",
        "20 genes kept of",
        "6 genes most perturbed against the controls kept of 20",
        "with a count in fewer than 20 wells: not in the model",
        "signature far: of 2 down genes, 1 are not measured (G99)",
        "it can read these scores off their own genes",
    ):
        assert text in said
    assert read_normalisation(tmp_path / "project" / "inputs" / "normalisation.parquet").method == "vst"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--normalize", "log-cpm", "--layer", "x"], "--layer, --normalize"),
        (["--signature", "a.gmt", "--genes-file", "b"], "--signature, --genes-file"),
        (["--control", "x", "--min-counts", "3"], "--control, --min-counts"),
    ],
)
def test_a_simulated_screen_is_not_prepared(tmp_path: Path, words: list[str], text: str) -> None:
    ran = dpf("init", tmp_path / "x", "--demo", *words)
    assert ran.code == 2
    assert f"found: {text}" in ran.err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--signature", "absent.gmt"], 4, "absent.gmt"),
        (["--signature", "empty.gmt"], 4, "a GMT file without gene sets"),
        (["--scores", "viability", "--genes-file", "absent.txt"], 4, "absent.txt"),
        (["--scores", "viability", "--normalize", "tpm"], 2, "tpm"),
        (["--scores", "viability", "--top-variable", "0"], 2, "--top-variable"),
        (
            ["--scores", "viability", "--normalize", "log-cpm", "--min-counts", "999999"],
            4,
            "every control well is set aside",
        ),
        (["--scores", "viability", "--full"], 2, "--full"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.gmt").write_text("\n")
    ran = dpf("init", "project", *write_plate(tmp_path, "P", counts(4), viability=VIABILITY), *words)
    assert ran.code == code
    assert text in ran.err
    assert not Path("project").exists()


def test_driad_from_counts_gives_the_published_scores(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "driad-dge"
    words: list[object] = []
    for plate in ("DGE1", "DGE2"):
        words += ["--from", folder / "as-found" / f"{plate}-counts.csv.gz"]
        words += ["--wells", folder / "as-found" / f"{plate}-meta.csv"]
    words += [
        "--control",
        "Drug control",
        "--control",
        "DMSO",
        "--min-counts",
        30000,
        "--min-genes",
        0,
        "--normalize",
        "log-cpm",
    ]
    words += ["--signature", folder / "prepared" / "signatures.gmt", "--min-wells", 341, "--top-variable", 2541]
    ok("init", tmp_path / "driad", *words)
    wells = read_table(tmp_path / "driad" / "inputs" / "wells.parquet", "wells")
    published = pl.read_csv(folder / "prepared" / "wells.csv").with_columns(
        well_id=pl.col("well_id").str.replace("dge", "DGE")
    )
    both = wells.join(published, on="well_id", suffix="_published")
    assert both.height == published.height == 681
    aside = wells.filter(pl.col("set_aside").is_not_null())
    assert aside.height == 765 - 681
    assert aside["library_size"].max() < 30000
    assert both["library_size"].to_list() == both["n_counts"].to_list()
    # The published scores are of plain log-CPM, without composition factors.
    for score, least in {"interferon": 0.995, "proliferation": 0.995, "stress": 0.99}.items():
        assert np.corrcoef(both[score], both[f"{score}_published"])[0, 1] > least
    kept = set(read_table(tmp_path / "driad" / "inputs" / "genes.parquet", "genes").filter("in_model")["gene"])
    prepared = set(pl.read_parquet_schema(folder / "prepared" / "expression.parquet"))
    assert len(kept & prepared) > 2000


def test_a_viability_beside_the_metadata_of_one_mtx_folder(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "macpie-macseq"
    words = ["--from", folder / "mini_mac_1000", "--wells", folder / "PMMSq033_metadata.csv"]
    words += ["--wells", folder / "PMMSq033_CTG_cellcount.csv", "--scores", "cell_viability", "--min-wells", 20]
    out = ok("init", tmp_path / "mac", *words, "--normalize", "log-cpm").out
    assert "wells    312 x 466 genes, of which the model reads 256" in out
    assert "aside    72 wells take no part: too few counts 70, too few genes 2" in out


def test_two_l1000_plates_that_know_their_own_wells(real_data: Path, tmp_path: Path) -> None:
    folder = real_data / "l1000-ljp005-ljp009"
    words = ["--from", folder / "LJP005_QNORM_n377x978.gct.gz", "--from", folder / "LJP009_QNORM_n371x978.gct.gz"]
    out = ok("init", tmp_path / "l", *words, "--signature", real_data / "driad-dge/prepared/signatures.gmt").out
    assert "wells    748 x 978 genes, of which the model reads 945" in out
    assert "score proliferation was computed from 18 genes" in out
