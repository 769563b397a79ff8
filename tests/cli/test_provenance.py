"""Every result says what it was made of; `info` and `export` agree on what is stale; what is fresh comes out alike."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from dpf.tables.storage import read_about, read_table, write_table

pytestmark = pytest.mark.usefixtures("sketches")

EXPORTED = {"predictions", "latent", "latent_correlations", "ranking", "importance"}
RETRAINED = "the model has been trained again since"
CALIBRATED = "the model's calibration has changed since"
CENTER = 'made with latent.center = "all" (now "plate")'
SEED = "made with train.seed = 614 (now 7)"
SCORES = 'made with targets.scores = ["Tscore","CytoTRACE","Pseudotime"] (now ["Tscore","CytoTRACE"])'


def stale(project: Path, dpf, *words: object) -> dict[str, str]:
    """What `info` lists as stale, and why, by its path in `results/default` or in the project."""
    listed = dpf("info", project, "--format", "json", *words).envelope["data"]["results"]
    short = {row["path"].removeprefix("results/default/").removesuffix(".parquet"): row["stale"] for row in listed}
    return {path: why for path, why in short.items() if why}


def rewrite(path: Path, kind: str, change) -> None:
    """Change the footer of a table, in place."""
    about = read_about(path, kind)
    change(about)
    write_table(path, read_table(path, kind), kind, about)


def set_in_toml(project: Path, name: str, value: str) -> None:
    path = project / "dpf.toml"
    text, changed = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", path.read_text(encoding="utf-8"))
    assert changed == 1
    path.write_text(text, encoding="utf-8")


def make_everything(project: Path, ok) -> None:
    sets = project / "sets.gmt"
    ok("evaluate", project, "--classes", "pathway")
    ok("evaluate", project, "--baselines-only")
    ok("predict", project)
    ok("latent", project)
    ok("rank", project, "--by-dose")
    ok("rank", project, "--signatures", "--group-column", "pathway", "--gene-sets", sets, "--query", sets)
    ok("explain", project, "--target", "Tscore")
    ok("explain", project)


@pytest.fixture(scope="module")
def bare(folded, tmp_path_factory) -> Path:
    """The project in three folds without the results that other tests have left there."""
    return Path(shutil.copytree(folded, tmp_path_factory.mktemp("bare") / "demo", ignore=lambda *_: ["results"]))


@pytest.fixture(scope="module")
def everything(bare, tmp_path_factory, ok) -> Path:
    """The same with every result there is."""
    project = Path(shutil.copytree(bare, tmp_path_factory.mktemp("everything") / "demo"))
    genes = read_table(project / "inputs/genes.parquet", "genes")["gene"].to_list()
    lists = {"FIRST_UP": genes[:8], "FIRST_DN": genes[8:16], "LAST": genes[12:]}
    text = "".join("\t".join([name, "made up", *members]) + "\n" for name, members in lists.items())
    (project / "sets.gmt").write_text(text, encoding="utf-8")
    ok("check", project, "--permutations", 199)
    make_everything(project, ok)
    return project


def tables(project: Path) -> dict[str, pl.DataFrame]:
    paths = [*project.glob("results/default/*.parquet"), *project.glob("baselines/*.parquet")]
    return {str(path.relative_to(project)): pl.read_parquet(path) for path in paths}


def test_every_result_is_fresh_where_nothing_has_changed(everything, dpf):
    listed = dpf("info", everything, "--format", "json").envelope["data"]["results"]
    assert len(listed) == 21
    assert {row["stale"] for row in listed} == {None}


CHANGES = {
    "latent.center": ("center", '"plate"'),
    "train.seed": ("seed", "7"),
    "targets.scores": ("scores", '["Tscore", "CytoTRACE"]'),
    "train.folds": ("folds", "4"),
}


@pytest.mark.long
@pytest.mark.parametrize("setting", CHANGES)
def test_what_is_called_fresh_comes_out_the_same_under_other_settings(everything, copy, ok, dpf, setting):
    """The other way round too: of what is called stale, something changes."""
    project = copy(everything)
    before = tables(project)
    set_in_toml(project, *CHANGES[setting])
    found = dpf("info", project, "--format", "json").envelope["data"]["results"]
    called = {row["path"] for row in found if row["stale"]}
    assert {setting in row["stale"] for row in found if row["stale"]} == {True}
    make_everything(project, ok)
    after = tables(project)
    assert set(after) == set(before)
    changed = {path for path, table in after.items() if not table.equals(before[path])}
    assert changed
    assert changed <= called
    assert stale(project, dpf) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda project, ok: set_in_toml(project, *CHANGES["latent.center"]),
            dict.fromkeys(EXPORTED - {"importance"}, CENTER),
        ),
        (lambda project, ok: set_in_toml(project, *CHANGES["train.seed"]), {"ranking": SEED}),
        (
            lambda project, ok: set_in_toml(project, *CHANGES["targets.scores"]),
            dict.fromkeys(["predictions", "latent_correlations", "ranking"], SCORES),
        ),
        (lambda project, ok: ok("evaluate", project, "--level", 0.5), {"predictions": CALIBRATED}),
        (lambda project, ok: (project / "models/default/calibration.json").unlink(), {"predictions": CALIBRATED}),
        (lambda project, ok: ok("train", project, "--seed", 2, "--overwrite"), dict.fromkeys(EXPORTED, RETRAINED)),
    ],
)
def test_export_makes_again_what_info_calls_stale_and_nothing_else(everything, copy, ok, dpf, change, expected):
    project = copy(everything)
    change(project, ok)
    assert {name: why for name, why in stale(project, dpf).items() if name in EXPORTED} == expected
    files = {name: project / f"results/default/{name}.parquet" for name in EXPORTED}
    before = {name: path.stat().st_ino for name, path in files.items()}
    err = ok("export", project).err
    of_latent = {"latent", "latent_correlations"}  # one command makes both
    assert {name for name, path in files.items() if path.stat().st_ino != before[name]} == set(expected) | (
        of_latent if of_latent & set(expected) else set()
    )
    told = set(expected) - ({"latent_correlations"} if "latent" in expected else set())
    assert {line for line in err.splitlines() if "made again" in line} == {
        f"{name}.parquet is made again, with default options: {expected[name]}" for name in told
    }
    assert not EXPORTED & set(stale(project, dpf))


def test_a_level_of_the_intervals_reaches_what_is_exported(everything, copy, ok, dpf):
    project = copy(everything)
    ok("evaluate", project, "--level", 0.5)
    ok("export", project)
    exported = pl.read_csv(project / "export/predictions.csv")
    np.testing.assert_array_equal(exported["Tscore_lower"], ok("predict", project).rows["Tscore_lower"])
    narrow = (exported["Tscore_upper"] - exported["Tscore_lower"])[0]
    wide = read_table(everything / "results/default/predictions.parquet", "predictions")
    assert narrow < (wide["Tscore_upper"] - wide["Tscore_lower"])[0]


def test_the_options_of_a_command_make_nothing_stale(bare, copy, ok, dpf):
    project = copy(bare)
    asked = ok("rank", project, "--fdr", 0.3, "--adjust", "plate", "--sort", "compound").rows
    ok("latent", project, "--member", 1)
    ok("evaluate", project, "--level", 0.6, "--in-sample")
    ok("predict", project)
    assert stale(project, dpf) == {}
    assert "ranking.parquet is made again" not in ok("export", project).err
    exported = pl.read_csv(project / "export/ranking.csv")
    assert exported["t"].to_list() == pytest.approx(asked["t"].to_list())
    assert read_about(project / "results/default/ranking.parquet", "ranking")["choices"]["fdr"] == 0.3


def test_a_setting_given_for_one_run_is_what_its_result_is_made_with(bare, copy, ok, dpf):
    project = copy(bare)
    ok("predict", project)
    ok("latent", project, "--center", "plate")
    why = 'made with latent.center = "plate" (now "all")'
    assert stale(project, dpf) == {"latent": why, "latent_correlations": why}
    assert stale(project, dpf, "--set", "latent.center=plate").keys() == {"predictions"}
    set_in_toml(project, "center", '"plate"')
    assert stale(project, dpf).keys() == {"predictions"}


def test_a_umap_depends_on_the_seed_and_a_pca_does_not(bare, copy, ok, dpf, monkeypatch):
    def fit(**settings: int) -> SimpleNamespace:
        rng = np.random.default_rng(settings["random_state"])
        return SimpleNamespace(fit_transform=lambda latent: rng.standard_normal((len(latent), 2)))

    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=fit))
    project = copy(bare)
    ok("latent", project)
    set_in_toml(project, *CHANGES["train.seed"])
    assert stale(project, dpf) == {}
    ok("latent", project, "--umap")
    assert stale(project, dpf) == {}
    ok("export", project)
    assert "umap_1" in pl.read_csv(project / "export/latent.csv").columns
    set_in_toml(project, "seed", "614")
    assert stale(project, dpf) == dict.fromkeys(("latent", "ranking"), "made with train.seed = 7 (now 614)")


def test_files_from_elsewhere_are_part_of_what_is_made_of_them(everything, copy, dpf):
    project = copy(everything)
    sets, genes = project / "sets.gmt", project / "inputs/genes.parquet"
    sets.write_text(sets.read_text(encoding="utf-8").replace("LAST", "OTHER"), encoding="utf-8")
    why = "sets.gmt has changed since"
    assert stale(project, dpf) == {"enrichment": why, "connectivity": why}
    sets.unlink()  # what it held is not known; it was so when the tables were made
    assert stale(project, dpf) == {}
    write_table(genes, read_table(genes, "genes").with_columns(symbol=pl.col("gene").str.reverse()), "genes")
    assert stale(project, dpf).keys() == {"enrichment", "connectivity"}


def test_a_result_without_its_model_is_not_fresh(everything, copy, ok, dpf):
    project = copy(everything)
    shutil.rmtree(project / "models/default")
    of_no_model = {"signatures", "enrichment", "connectivity"}
    found = stale(project, dpf)
    assert set(found.values()) == {"its model is gone, or cannot be read"}
    names = {path.stem for path in project.glob("results/default/*.parquet")}
    assert set(found) == names - of_no_model
    assert "ranking.parquet  STALE: its model is gone" in ok("info", project).out


def test_predictions_of_new_wells_are_of_the_model_and_its_calibration(bare, copy, ok, dpf):
    project = copy(bare)
    shutil.copy(project / "inputs/expression.parquet", project / "plate_3.parquet")
    ok("predict", project, "--input", project / "plate_3.parquet")
    set_in_toml(project, *CHANGES["latent.center"])
    assert "predictions_plate_3" not in stale(project, dpf)  # their distances are to the model's own controls
    ok("evaluate", project)
    assert stale(project, dpf)["predictions_plate_3"] == CALIBRATED
    ok("train", project, "--seed", 2, "--overwrite")
    assert stale(project, dpf)["predictions_plate_3"] == RETRAINED


def test_a_card_is_judged_by_what_the_scoreboard_says_and_not_by_its_words(everything, copy, ok, dpf):
    project = copy(everything)
    card, name = project / "models/default/card.md", "models/default/card.md"
    card.write_bytes(b"\xff my own words")
    assert stale(project, dpf) == {}
    ok("check", project, "--permutations", 199, "--seed", 3)
    assert stale(project, dpf) == {name: "the check of the design has changed since"}
    ok("evaluate", project)
    assert name not in stale(project, dpf)
    rewrite(project / "results/default/scoreboard.parquet", "scoreboard", lambda about: about.pop("card"))
    assert stale(project, dpf)[name] == "what it was made of is not known; dpf evaluate writes a new one"
    (project / "results/default/scoreboard.parquet").unlink()
    assert stale(project, dpf)[name] == "what it was made of is not known; dpf evaluate writes a new one"


def test_baselines_are_of_the_split_that_the_settings_ask_for(demo, copy, ok, dpf):
    project = copy(demo)
    ok("evaluate", project, "--baselines-only")  # in 5 folds
    assert stale(project, dpf) == {}
    set_in_toml(project, "folds", "5")
    assert stale(project, dpf) == {}
    wells = read_table(project / "inputs/wells.parquet", "wells")
    part = pl.when(pl.int_range(pl.len()) % 3 == 0).then(pl.lit("validation")).otherwise(pl.lit("train"))
    wells.select("well_id", member=0, part=part).write_csv(project / "mine.csv")
    words = ["--baselines-only", "--split", "file", "--set", "train.split_file=mine.csv"]
    ok("evaluate", project, *words)
    why = 'made with train.split = "file" (now "compound"), train.split_file = "mine.csv" (now "")'
    assert stale(project, dpf) == dict.fromkeys(("baselines/scoreboard", "baselines/comparisons"), why)
    set_in_toml(project, "split", '"file"')
    set_in_toml(project, "split_file", '"mine.csv"')
    assert stale(project, dpf) == {}
    (project / "mine.csv").write_text((project / "mine.csv").read_text().replace("validation", "held_out"))
    assert set(stale(project, dpf).values()) == {"mine.csv has changed since"}


def test_outputs_with_an_old_axis_are_called_stale_too(demo, copy, ok, dpf):
    project = copy(demo)
    ok("train", project, "--set", "model.start=ridge", "--epochs", 1)
    ok("predict", project)
    assert stale(project, dpf) == {}
    rewrite(project / "results/default/outputs.parquet", "outputs", lambda about: about.pop("axis_in"))
    assert stale(project, dpf) == {"outputs": "its activation axis is that of an earlier dpf"}
    ok("rank", project)
    assert stale(project, dpf) == {}


def test_what_an_older_footer_does_not_say_is_not_held_against_it(everything, copy, ok, dpf):
    project = copy(everything)
    results = project / "results/default"
    rewrite(results / "ranking.parquet", "ranking", lambda about: about["settings"].pop("train"))
    rewrite(results / "importance.parquet", "importance", lambda about: about.pop("inputs_sha256"))
    rewrite(results / "latent.parquet", "latent", lambda about: about["settings"].update(gone={"name": 1}))
    rewrite(results / "predictions.parquet", "predictions", lambda about: about.pop("settings"))
    rewrite(results / "scoreboard.parquet", "scoreboard", lambda about: about["card"].pop("check_sha256"))
    assert stale(project, dpf) == {}
    # A check of an earlier dpf had its targets at another place.
    rewrite(project / "check/check.parquet", "check", lambda about: about.update(about.pop("settings")))
    assert dpf("info", project, "--format", "json").envelope["data"]["design"]["stale"] is None
    set_in_toml(project, *CHANGES["targets.scores"])
    assert dpf("info", project, "--format", "json").envelope["data"]["design"]["stale"] == SCORES
