"""`dpf init`: what a user's files may be, and what is said of those that cannot be a screen. Nothing is left behind."""

from __future__ import annotations

import errno
import gzip
import shutil
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dpf.tables.storage import read_expression

SCORES = ["--scores", "viability,size"]


def cell(frame: pl.DataFrame, row: int, column: str, value: object) -> pl.DataFrame:
    """The frame as text with one cell replaced."""
    cells = frame.get_column(column).cast(pl.String).to_list()
    cells[row] = value
    return frame.with_columns(pl.Series(column, cells, dtype=pl.String))


def test_two_files_become_a_project(screen, ok, tmp_path):
    project = tmp_path / "p"
    ran = ok("init", project, *screen().words, *SCORES, "--label", "active")
    for line in ("28 x 20 genes", "10 compounds, 2 wells each", "DMSO 8", "P1 14, P2 14"):
        assert line in ran.out
    assert "active (label): 10 of 28 wells are 1" in ran.out
    settings = tomllib.loads((project / "dpf.toml").read_text(encoding="utf-8"))
    assert settings["format"] == 2
    assert settings["targets"] == {"scores": ["viability", "size"], "label": "active", "activation": "auto"}
    assert sorted(path.name for path in (project / "inputs").iterdir()) == [
        "expression.parquet", "genes.parquet", "wells.parquet",
    ]  # fmt: skip
    wells = pl.read_parquet(project / "inputs/wells.parquet")
    assert wells.columns[:6] == ["well_id", "compound", "is_control", "plate", "row", "column"]
    assert wells["is_control"].sum() == 8


def test_either_orientation_and_any_packing_give_the_same_numbers(screen_tables, ok, tmp_path):
    expression, wells = screen_tables()
    wells.write_csv(tmp_path / "wells.tsv", separator="\t")
    flipped = expression.drop("well_id").transpose(
        include_header=True, header_name="gene", column_names=expression["well_id"].to_list()
    )
    expression.write_parquet(tmp_path / "a.parquet")
    with gzip.open(tmp_path / "b.csv.gz", "wb") as stream:
        flipped.write_csv(stream)
    found = []
    for name in ("a.parquet", "b.csv.gz"):
        ok("init", tmp_path / name[0], "--from", tmp_path / name, "--wells", tmp_path / "wells.tsv", *SCORES)
        found.append(read_expression(tmp_path / name[0] / "inputs/expression.parquet"))
    assert found[0].well_ids == found[1].well_ids
    assert found[0].genes == found[1].genes
    np.testing.assert_array_equal(found[0].values, found[1].values)


@pytest.fixture
def classic(tmp_path: Path, screen_tables) -> Path:
    """A folder of the classic layout, scores in an odd order, with R's habits."""
    expression, wells = screen_tables()
    folder = tmp_path / "classic"
    folder.mkdir()
    expression.drop("well_id").write_csv(folder / "expr_mat.csv", quote_style="non_numeric")
    z = wells.select(Pseudotime=pl.col("size"), CytoTRACE=-pl.col("size"), Tscore=pl.col("viability") / 100)
    z.write_csv(folder / "scores_3_z.csv", quote_style="non_numeric")
    for name, column in (("labels_cls", "active"), ("meta_id", "compound"), ("well_id", "well_id")):
        wells.select(pl.col(column).alias("x")).write_csv(folder / f"{name}.csv", quote_style="non_numeric")
    return folder


def test_the_classic_layout_takes_scores_by_name(classic, ok, tmp_path):
    ran = ok("init", tmp_path / "p", "--from", classic)
    settings = tomllib.loads((tmp_path / "p/dpf.toml").read_text(encoding="utf-8"))
    assert settings["targets"]["scores"] == ["Pseudotime", "CytoTRACE", "Tscore"]
    wells = pl.read_parquet(tmp_path / "p/inputs/wells.parquet")
    assert wells["Tscore"].max() > 0.9
    assert "28 x 20 genes" in ran.out


def test_classic_files_of_different_length_are_refused(classic, refused):
    lines = (classic / "meta_id.csv").read_text(encoding="utf-8").splitlines()
    (classic / "meta_id.csv").write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    text = refused("--from", classic)
    assert "meta_id.csv" in text
    assert "27 rows" in text
    assert "28, as in" in text


BAD_WELLS = {
    "a well id twice": (
        lambda e, w: (e, cell(w, 3, "well_id", w["well_id"][0])),
        ["wells.csv", "P1_A01"],
    ),
    "no control": (
        lambda e, w: (e, w.with_columns(compound=pl.col("compound").replace("DMSO", "water"))),
        ["wells.csv, column compound", "no well holds the control DMSO", "water (8)", "--control water"],
    ),
    "a compound missing": (
        lambda e, w: (e, cell(w, 5, "compound", None)),
        ["wells.csv, column compound", "line 7", "expected"],
    ),
    "a score that is a word": (
        lambda e, w: (e, cell(w, 4, "viability", "high")),
        ["wells.csv, column viability", "line 6: 'high'", "numbers such as"],
    ),
    "an infinite score": (
        lambda e, w: (e, cell(w, 4, "viability", "Inf")),
        ["wells.csv, column viability", "line 6: 'Inf'"],
    ),
    "a score with no values": (
        lambda e, w: (e, w.with_columns(viability=pl.lit("NA"))),
        ["wells.csv, column viability", "28 missing values"],
    ),
    "a score that is not there": (
        lambda e, w: (e, w.drop("viability")),
        ["wells.csv", "viability"],
    ),
    "a label of one class": (
        lambda e, w: (e, w.with_columns(active=pl.lit(1))),
        ["wells.csv, column active", "two classes", "1 in 28 wells"],
    ),
    "a label of three classes": (
        lambda e, w: (e, cell(w, 0, "active", "2")),
        ["wells.csv, column active", "two classes"],
    ),
    "wells of another screen": (
        lambda e, w: (e, w.with_columns(well_id=pl.concat_str(pl.lit("X"), pl.col("well_id")))),
        ["expression.csv", "XP1_A01"],
    ),
    "no rows": (lambda e, w: (e, w.head(0)), ["wells.csv", "headings only"]),
}

BAD_EXPRESSION = {
    "a word": (lambda e, w: (cell(e, 2, "GENE3", "low"), w), ["expression.csv", "line 4", "GENE3", "'low'"]),
    "a missing value": (lambda e, w: (cell(e, 2, "GENE3", None), w), ["expression.csv", "P1_C01", "GENE3", "missing"]),
    "NA": (lambda e, w: (cell(e, 2, "GENE3", "NA"), w), ["expression.csv", "P1_C01", "GENE3", "missing"]),
    "infinity": (lambda e, w: (cell(e, 2, "GENE3", "Inf"), w), ["expression.csv", "P1_C01", "GENE3", "infinite"]),
    "a well twice": (lambda e, w: (cell(e, 3, "well_id", e["well_id"][0]), w), ["expression.csv", "P1_A01"]),
    "no rows": (lambda e, w: (e.head(0), w), ["expression.csv"]),
    "a score among the genes": (
        lambda e, w: (e.with_columns(viability=w["viability"]), w),
        ["expression.csv", "viability", "no genes"],
    ),
    "a score among the genes under another name": (
        lambda e, w: (e.with_columns(CTG=w["viability"]), cell(w, 3, "viability", "")),
        ["expression.csv", "CTG is viability", "with the same numbers"],
    ),
}


@pytest.mark.parametrize("name", BAD_WELLS)
def test_bad_wells_are_refused(screen, refused, name):
    change, texts = BAD_WELLS[name]
    error = refused(*screen(change).words, *SCORES, "--label", "active")
    for text in texts:
        assert text in error, error


@pytest.mark.parametrize("name", BAD_EXPRESSION)
def test_bad_expression_is_refused(screen, refused, name):
    change, texts = BAD_EXPRESSION[name]
    error = refused(*screen(change).words, *SCORES)
    for text in texts:
        assert text in error, error


def double_gene(files) -> None:
    text = files.expression.read_text(encoding="utf-8")
    files.expression.write_text(text.replace("GENE2,", "GENE1,", 1), encoding="utf-8")


def test_genes_of_one_name_are_kept_apart_or_refused(screen, ok, refused, tmp_path):
    files = screen()
    double_gene(files)
    error = refused(*files.words, *SCORES, "--duplicate-genes", "refuse")
    assert "GENE1" in error
    ran = ok("init", tmp_path / "p", *files.words, *SCORES)
    assert "warning:" in ran.out
    assert "kept apart: GENE1|1, GENE1|2" in ran.out
    genes = read_expression(tmp_path / "p/inputs/expression.parquet").genes
    assert genes[:3] == ["GENE1|1", "GENE1|2", "GENE3"]


def test_a_constant_gene_is_kept_and_named(screen, ok, tmp_path):
    files = screen(lambda e, w: (e.with_columns(GENE4=pl.lit(5.0)), w))
    ran = ok("init", tmp_path / "p", *files.words, *SCORES)
    assert "one value in every well, kept: GENE4" in ran.out


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"PAR1" + b"\0" * 60, "expression"),
        (b"", "empty"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "HDF5"),
        (b"PK\x03\x04" + b"\0" * 100, "zip"),
        (b"RDX3\nX\n", "R data"),
        (b"\x1f\x8b\x08\x00broken", "expression"),
    ],
)
def test_foreign_and_damaged_files_are_refused(screen, refused, content, text):
    files = screen()
    files.expression.write_bytes(content)
    error = refused(*files.words, *SCORES)
    assert str(files.expression) in error
    assert text in error


def test_a_truncated_parquet_is_refused(screen, refused, screen_tables):
    files = screen()
    path = files.expression.with_suffix(".parquet")
    screen_tables()[0].write_parquet(path)
    path.write_bytes(path.read_bytes()[:-200])
    assert str(path) in refused("--from", path, "--wells", files.wells, *SCORES)


def test_files_that_are_not_there(screen, refused, tmp_path):
    assert "gone.csv" in refused("--from", tmp_path / "gone.csv", "--wells", screen().wells, *SCORES)


def test_a_screen_without_a_score_is_checked_and_ranked_without_a_model(screen, ok, dpf, tmp_path):
    ran = ok("init", tmp_path / "p", *screen().words)
    assert "dpf train needs --scores, --label, --activation" in ran.out
    assert "columns of numbers: viability, size, active" in ran.out
    assert ran.err.startswith("next     dpf rank")
    ok("check", tmp_path / "p", "--permutations", 159)
    table = pl.read_csv(ok("rank", tmp_path / "p", "--format", "csv").out.encode())
    assert table.columns[:7] == ["compound", "rank", "verdict", "n", "p", "q", "expression_distance"]
    assert table["rank"].to_list() == list(range(1, 11))
    assert table["p"].is_sorted()
    assert "ranking/ranking.parquet" in ok("info", tmp_path / "p").out
    trained = dpf("train", tmp_path / "p")
    assert trained.code == 3
    assert "no target to learn" in trained.err


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ([], 2, "either --demo or --from"),
        (["--demo", "--from", "x.csv"], 2, "either --demo or --from"),
        (["--demo", "--wells", "many"], 2, "--wells is a number"),
        (["--demo", "--full", "--wells", "20"], 2, "--full fixes the size"),
        (["--demo", "--set", "train.epoch=3"], 3, "did you mean epochs?"),
        (["--demo", "--set", "train.folds=two"], 3, "train.folds = \"two\": expected a whole number"),
        (["--demo", "--set", "folds=2"], 3, "expected section.name=value"),
        (["--demo", "--set", "targets.scores=[\"nothing\"]"], 3, "nothing"),
    ],
)  # fmt: skip
def test_wrong_requests_make_no_project(refused, words, code, text):
    assert text in refused(*words, code=code)


def test_nothing_is_overwritten(demo, dpf, tmp_path):
    before = {path: path.read_bytes() for path in demo.rglob("*") if path.is_file()}
    ran = dpf("init", demo, "--demo")
    assert ran.code == 3
    assert "a project already is there" in ran.err
    assert {path: path.read_bytes() for path in demo.rglob("*") if path.is_file()} == before
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    ran = dpf("init", tmp_path, "--demo")
    assert ran.code == 3
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("at", ["expression.parquet", "wells.parquet", "dpf.toml"])
def test_a_disk_that_cannot_be_written_leaves_no_half_project(screen, dpf, tmp_path, monkeypatch, number, at):
    """Root may write anywhere: what the system would say is said for it."""
    files = screen()
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if Path(target).name == at:
            raise OSError(number, "planted")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    ran = dpf("init", tmp_path / "p", *files.words, *SCORES)
    assert ran.code == 3
    assert at in ran.err
    assert {errno.ENOSPC: "free some space", errno.EROFS: "read-only", errno.EACCES: "permission"}[number] in ran.err
    assert not (tmp_path / "p").exists()
    monkeypatch.undo()
    assert dpf("init", tmp_path / "p", *files.words, *SCORES).code == 0


def test_an_interrupted_init_is_no_project(screen, dpf, tmp_path, monkeypatch):
    files = screen()
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if Path(target).name == "genes.parquet":
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    assert dpf("init", tmp_path / "p", *files.words, *SCORES).code == 130
    monkeypatch.undo()
    assert not (tmp_path / "p").exists()
    assert dpf("init", tmp_path / "p", *files.words, *SCORES).code == 0


def test_settings_are_checked_all_at_once(demo, copy, dpf):
    project = copy(demo)
    text = (project / "dpf.toml").read_text(encoding="utf-8")
    text = text.replace("epochs = 3", "epochz = 3").replace("heads = 2", "heads = 3").replace("[latent]", "[laten]")
    (project / "dpf.toml").write_text(text, encoding="utf-8")
    ran = dpf("train", project)
    assert ran.code == 3
    for part in ("dpf.toml", "train.epochz is not a setting; did you mean epochs?", "did you mean latent?"):
        assert part in ran.err


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("format = 2", "format = 3", "later format than this dpf reads"),
        ("format = 2", 'format = "one"', "format is not known"),
        ("format = 2", "", "format is not known"),
        ("heads = 2", "heads = 3", "not a multiple"),
        ("[train]", "[train", "not valid TOML"),
        ('split = "compound"', 'split = "file"', "train.split_file go together"),
        ('activation = "activation"', 'activation = "Tscore"', "named more than once"),
    ],
)
def test_wrong_settings_files(demo, copy, dpf, old, new, text):
    project = copy(demo)
    content = (project / "dpf.toml").read_text(encoding="utf-8")
    assert old in content
    (project / "dpf.toml").write_text(content.replace(old, new, 1), encoding="utf-8")
    for command in ("train", "rank", "info"):
        ran = dpf(command, project)
        assert ran.code == 3
        assert text in ran.err


def test_a_project_without_its_inputs(demo, copy, dpf):
    project = copy(demo)
    (project / "inputs/genes.parquet").unlink()
    ran = dpf("train", project)
    assert ran.code == 3
    assert "missing: inputs/genes.parquet" in ran.err
    shutil.rmtree(project)
    assert dpf("train", project).code == 3
