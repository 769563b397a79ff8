"""`check_project` and the layout for the next screen: what is reported, what is kept, and when it no longer holds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dpf import __version__
from dpf.analysis.design.item import CheckItem
from dpf.analysis.layout.suggest import suggest_layout
from dpf.config.toml import with_overrides
from dpf.errors import DataError, ProjectError, UsageError
from dpf.project.directory import Project, open_project
from dpf.simulate.design import SimulationDesign
from dpf.simulate.screen import simulate
from dpf.tables.options import Roles
from dpf.tables.screen import Screen, Targets
from dpf.tables.storage import (
    read_about,
    read_expression,
    read_table,
    write_expression,
    write_table,
)
from dpf.workflows.check.check import FEWEST_PERMUTATIONS, LIBRARY_SIZE, CheckResult, check_project, quality_column
from dpf.workflows.check.integrity import read_back
from dpf.workflows.check.next_layout import read_compound_list, suggest
from dpf.workflows.check.stored import EXCHANGEABLE, design_lines, stored_check
from dpf.workflows.options import CheckOptions, LayoutWish
from dpf.workflows.progress import Progress
from dpf.workflows.project.initialise import create_demo, create_project
from dpf.workflows.project.provenance import current
from tests.support.listening import Listener
from tests.support.reading import read_screen
from tests.support.stored import spoil, write_anything

PERMUTATIONS = 199


def checked(
    project: Project, *, figures: bool = False, progress: Progress | None = None, **options: object
) -> CheckResult:
    """Check a project; most tests need no figures, which take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        if not figures:
            patch.setattr("dpf.workflows.check.check.draw_plates", lambda *_: ())
        return check_project(project, CheckOptions(**{"permutations": PERMUTATIONS, **options}), progress=progress)


def by_name(result: CheckResult) -> dict[str, CheckItem]:
    return {item.name: item for item in result.items}


@pytest.fixture(scope="module")
def scattered(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A screen without any effect of position, controls and replicates scattered."""
    design = SimulationDesign(wells=96, genes=40, controls=16, plate_effect=0.0)
    return create_demo(tmp_path_factory.mktemp("check") / "scattered", simulate(design)).project


@pytest.fixture(scope="module")
def columned(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same with a column effect, controls in two columns, replicates in one position."""
    design = SimulationDesign(wells=192, genes=40, controls=24, column_effect=1.9, layout="columns")
    return create_demo(tmp_path_factory.mktemp("check") / "columned", simulate(design)).project


@pytest.fixture
def project(tmp_path: Path, scattered: Project) -> Project:
    """A copy to spoil, not checked yet."""
    return open_project(Path(shutil.copytree(scattered.path, tmp_path / "copy", ignore=lambda *_: {"check"})))


def rewrite_wells(project: Project, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    write_table(project.wells, change(read_table(project.wells, "wells")), "wells", {"sources": [], "notes": []})


def rewrite_expression(project: Project, change: Callable[[np.ndarray], None]) -> None:
    found = read_expression(project.expression)
    change(found.values)
    write_expression(project.expression, found.well_ids, found.genes, found.values)


def test_a_screen_without_position_effects_passes(scattered):
    result = checked(scattered, figures=True)
    assert result.summary.counts["fail"] == 0
    assert by_name(result)[EXCHANGEABLE].verdict == "good"
    assert result.read_as == ("library size: n_counts",)
    assert [path.name for path in result.figures] == ["plates.png", "plates.svg"]
    assert all(path.stat().st_size > 1000 for path in result.figures)


def test_a_screen_with_a_column_effect_fails(columned):
    result = checked(columned)
    items = by_name(result)
    assert result.summary.verdict == "fail"
    for name in (EXCHANGEABLE, "position effect: Tscore", "position alone: activated", "replicates: shared positions"):
        assert items[name].verdict == "fail", name
    lines = design_lines(result.summary, Path("my screen"))
    assert lines[0].startswith(f"design: {result.summary.counts['fail']} fail, ")
    assert lines[0].endswith("dpf check my screen")
    assert any("Controls and compounds do not stand in the same places" in line for line in lines)
    assert f"and {result.summary.counts['fail'] - 5} more" in lines[1]


def test_what_is_written_is_what_was_found(project):
    result = checked(project, fdr=0.1, seed=3)
    table = read_table(project.check.table("check"), "check")
    assert table.columns == ["name", "group", "verdict", "value", "text", "advice", "rule", "table"]
    assert table.get_column("name").to_list() == [item.name for item in result.items]
    for row, item in zip(table.iter_rows(named=True), result.items, strict=True):
        assert (row["verdict"], row["value"], row["text"]) == (item.verdict, item.value, item.text)
        assert list(json.loads(row["table"])) == list(item.table)
        assert bool(item.advice) == (item.verdict in ("warn", "fail")), item.name
    about = read_about(result.path, "check")
    assert about["dpf"] == __version__
    assert about["inputs_sha256"] == current(project).inputs_sha256
    assert (about["fdr"], about["permutations"], about["seed"]) == (0.1, PERMUTATIONS, 3)


def test_the_same_seed_gives_the_same_bytes(project):
    first = checked(project).path.read_bytes()
    assert checked(project).path.read_bytes() == first
    assert checked(project, seed=1).path.read_bytes() != first


def test_a_stored_check_knows_when_it_no_longer_holds(project):
    assert stored_check(current(project)) is None
    assert design_lines(None, Path("p")) == ["design not checked: dpf check p"]
    result = checked(project)
    assert stored_check(current(project)) == result.summary
    assert result.summary.stale is None
    assert sum(result.summary.counts.values()) == len(result.items)
    other = replace(project, settings=with_overrides(project.settings, ["targets.activation=''"]))
    later = stored_check(current(other))
    assert later is not None
    assert later.stale == 'made with targets.activation = "activation" (now "")'
    assert later.stale in design_lines(later, Path("p"))[0]
    rewrite_wells(project, lambda wells: wells.with_columns(pl.col("Tscore") + 1))
    later = stored_check(current(project))
    assert later is not None
    assert later.stale == "the inputs have changed since"


def test_a_model_may_be_called_check(project):
    assert project.check.path != project.results("check").path
    assert not project.check.path.is_relative_to(project.path / "results")


def test_a_damaged_stored_check_is_an_error_and_can_be_made_again(project):
    checked(project)
    path = project.check.table("check")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="make it again"):
        stored_check(current(project))
    checked(project)
    assert stored_check(current(project)) is not None


def test_a_stored_verdict_that_does_not_exist_is_named(project):
    checked(project)
    path = project.check.table("check")
    about = read_about(path, "check")
    write_table(path, read_table(path, "check").with_columns(verdict=pl.lit("splendid")), "check", about)
    with pytest.raises(DataError, match=r"'splendid'(.|\n)*not applicable, good, warn, fail"):
        stored_check(current(project))


def test_settings_that_name_no_column_fail_and_the_rest_is_checked(project):
    other = replace(project, settings=with_overrides(project.settings, ['targets.scores=["Tscor", "CytoTRACE"]']))
    items = by_name(checked(other))
    item = items["settings fit the wells"]
    assert item.verdict == "fail"
    assert "Tscor (nearest: Tscore)" in item.text
    assert items["position effect: CytoTRACE"].verdict == "good"
    assert "position effect: Tscor" not in items


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (["train.split=file", "train.split_file=no.csv"], "no.csv"),
        (["latent.control_clusters=['C9']"], "C9"),
        (["targets.scores=[]", "targets.label=''", "targets.activation=''"], "no target"),
    ],
)
def test_other_settings_that_cannot_be_used_fail(project, setting, said):
    items = {i.name: i for i in read_back(replace(project, settings=with_overrides(project.settings, setting))).items}
    item = items["settings fit the wells"]
    assert item.verdict == "fail"
    assert said in item.text


def test_missing_values_are_counted_by_target_and_plate(project):
    first = pl.col("plate") == "plate1"
    rewrite_wells(project, lambda wells: wells.with_columns(pl.when(~first).then("Tscore").alias("Tscore")))
    item = {item.name: item for item in read_back(project).items}["missing values"]
    assert item.verdict == "warn"
    assert item.value == pytest.approx(0.5)
    assert "Tscore on plate plate1" in item.text
    assert item.table["missing"] == [48, 0, 0, 0, 0]


def spoil_number(values):
    values[3, 5] = np.nan


def test_an_expression_that_cannot_be_used_fails_and_the_design_is_checked_without(project):
    rewrite_expression(project, spoil_number)
    items = by_name(checked(project))
    assert items["input tables"].verdict == "fail"
    assert "not finite" in items["input tables"].text
    assert items["constant genes"].verdict == "not applicable"
    assert "position effect: expression" not in items
    assert items["position effect: Tscore"].verdict == "good"


def test_tables_that_do_not_belong_together_fail(project):
    rewrite_wells(project, lambda wells: wells.reverse())
    genes = read_table(project.genes, "genes")
    write_table(project.genes, genes.head(7), "genes")
    item = read_back(project).items[0]
    assert item.verdict == "fail"
    assert "same order" in item.text
    assert item.advice
    rewrite_wells(project, lambda wells: wells.reverse())
    assert "40 and 7" in read_back(project).items[0].text


def test_a_damaged_normalisation_fails(project):
    write_anything(project.normalisation, pl.DataFrame({"gene": ["a"]}), "normalisation", {"normalisation": {}})
    item = read_back(project).items[0]
    assert item.verdict == "fail"
    assert "normalisation" in item.text


def test_without_compounds_there_is_nothing_to_check(project):
    spoil(project.wells, lambda wells: wells.drop("compound"))
    with pytest.raises(DataError, match="compound"):
        checked(project)


def test_constant_genes_empty_and_copied_wells(project):
    def spoil(values):
        values[:, [0, 5]] = 3.0
        values[7] = 0.0
        values[20] = values[10]

    rewrite_expression(project, spoil)
    items = by_name(checked(project))
    # The empty well makes the two constant genes vary.
    assert items["constant genes"].verdict == "good"
    wells = read_table(project.wells, "wells").get_column("well_id")
    assert items["empty wells"].verdict == "warn"
    assert wells[7] in items["empty wells"].text
    assert items["copied wells"].verdict == "fail"
    assert f"{wells[10]} = {wells[20]}" in items["copied wells"].text
    rewrite_wells(project, lambda table: table.with_columns(compound=pl.lit("x"), is_control=False))
    assert by_name(checked(project))["copied wells"].verdict == "warn"


def test_genes_that_never_vary_warn(project):
    def spoil(values):
        values[:, 4] = 3.0

    rewrite_expression(project, spoil)
    item = by_name(checked(project))["constant genes"]
    assert item.verdict == "warn"
    assert item.value == pytest.approx(1 / 40)


def test_source_files_that_changed_since(tmp_path, project):
    kept, changed = tmp_path / "kept.csv", tmp_path / "changed.csv"
    kept.write_text("a")
    changed.write_text("b")
    sha256 = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"  # of "a"
    sources = [{"path": str(path), "sha256": sha256} for path in (kept, changed, tmp_path / "gone.csv")]
    wells = read_table(project.wells, "wells")
    for chosen, verdict in ((sources, "warn"), (sources[:1], "good"), (sources[2:], "not applicable")):
        write_table(project.wells, wells, "wells", {"sources": chosen, "notes": []})
        item = {item.name: item for item in read_back(project).items}["source files"]
        assert item.verdict == verdict
    write_table(project.wells, wells, "wells", {"sources": sources, "notes": []})
    item = {item.name: item for item in read_back(project).items}["source files"]
    assert item.table["state"] == ["unchanged", "changed", "not found"]
    assert "changed.csv" in item.text


def test_a_model_file_that_cannot_be_read_fails(project):
    folder = project.model("mine")
    folder.path.mkdir(parents=True)
    folder.best.write_bytes(b"no weights")
    item = {item.name: item for item in read_back(project).items}["models"]
    assert item.verdict == "fail"
    assert "mine" in item.text


def test_wells_that_share_a_place_are_reported_and_not_drawn(project):
    rewrite_wells(project, lambda wells: wells.with_columns(row=pl.lit("A"), column=pl.lit(1, pl.Int64)))
    listener = Listener()
    result = checked(project, figures=True, progress=listener)
    assert by_name(result)["repeated positions"].verdict == "fail"
    assert result.figures == ()
    assert "96 wells" in " ".join(listener.warnings)


def test_without_positions_there_is_no_figure(project):
    rewrite_wells(project, lambda wells: wells.drop("row", "column", "plate"))
    result = checked(project, figures=True)
    assert result.figures == ()
    assert by_name(result)[EXCHANGEABLE].verdict == "not applicable"


def test_wells_that_were_set_aside_are_no_missing_wells(project):
    before = by_name(checked(project))["missing wells"]
    reason = pl.when(pl.int_range(pl.len()) % 8 == 0).then(pl.lit("too few counts"))
    rewrite_wells(project, lambda wells: wells.with_columns(set_aside=reason))
    items = by_name(checked(project))
    assert items["failed wells"].text.startswith("12 of 96 wells are set aside")
    assert items["missing wells"].text == before.text
    rewrite_wells(project, lambda wells: wells.with_columns(row=pl.when(reason.is_null()).then("row")))
    assert by_name(checked(project))["missing wells"].value > before.value


def test_many_plates_make_a_figure_a_quantity(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    ids = [f"plate{plate:02d}_A{column:02d}" for plate in range(26) for column in range(1, 4)]
    wells = pl.DataFrame(
        {
            "well_id": ids,
            "compound": ["DMSO" if name.endswith("1") else f"c{n % 9}" for n, name in enumerate(ids)],
            "is_control": [name.endswith("1") for name in ids],
            "plate": [name[:7] for name in ids],
            "row": ["A"] * len(ids),
            "column": [int(name[-2:]) for name in ids],
            "my score/%": rng.normal(size=len(ids)),
            "other": rng.normal(size=len(ids)),
        }
    )
    genes = pl.DataFrame({"gene": [f"g{n}" for n in range(5)]})
    expression = rng.normal(size=(len(ids), 5)).astype(np.float32)
    screen = Screen(wells, genes, expression, Targets(("my score/%", "other")))
    made = create_project(tmp_path / "many", screen)
    monkeypatch.setattr("dpf.figures.drawing.style.save", lambda _, path: (path,))
    assert [path.name for path in checked(made.project, figures=True).figures] == ["plates_my_score", "plates_other"]
    monkeypatch.setattr("dpf.workflows.check.plate_figures.MOST_ROWS", 5)
    names = [path.name for path in checked(made.project, figures=True).figures]
    assert names == ["plates_my_score_1", "plates_my_score_2", "plates_other_1", "plates_other_2"]


@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        ({"nCount RNA": [5, 9]}, "nCount RNA"),
        ({"n_counts": [5, 9], "library_size": [4.0, None]}, "library_size"),
        ({"library_size": ["5", "9"], "Reads": [5, 9]}, "Reads"),
        ({"n_counts": [-1, 9]}, None),
        ({"n_counts": [float("nan"), None]}, None),
        ({"counts of cells": [5, 9]}, None),
    ],
)
def test_library_size_is_found_by_name(scattered, columns, chosen):
    wells = pl.DataFrame(columns)
    inputs = replace(read_back(scattered), wells=wells)
    assert quality_column(inputs.wells, inputs.targets, LIBRARY_SIZE) == chosen


def test_a_target_is_not_taken_for_the_library_size(scattered):
    inputs = read_back(scattered)
    taken = replace(inputs, targets={"n_counts": np.zeros(96)})
    assert quality_column(inputs.wells, inputs.targets, ("n_counts",)) == "n_counts"
    assert quality_column(taken.wells, taken.targets, ("n_counts",)) is None


@pytest.mark.parametrize("fdr", [0.0, 1.0, -1, float("nan")])
def test_a_false_discovery_rate_is_one(fdr):
    with pytest.raises(UsageError, match="wrong value for --fdr"):
        CheckOptions(fdr=fdr)


def test_too_few_permutations_to_ever_flag_are_refused(scattered):
    assert FEWEST_PERMUTATIONS == 159
    with pytest.raises(UsageError, match="159 or more"):
        check_project(scattered, CheckOptions(permutations=158))


def test_the_classic_layout_reproduces_its_quoted_figures(tmp_path, real_data):
    source = tmp_path / "classic"
    shutil.copytree(real_data / "classic-metadata", source)
    ids = pl.read_csv(source / "well_id.csv").to_series().to_list()
    noise = np.random.default_rng(0).normal(8, 1, (len(ids), 12)).round(3)
    pl.DataFrame({"": ids} | {f"G{n}": noise[:, n] for n in range(12)}).write_csv(source / "expr_mat.csv")
    made = create_project(tmp_path / "project", read_screen([source], [], Roles()))
    result = checked(made.project)
    items = by_name(result)
    assert items["position effect: Tscore_z"].value == pytest.approx(0.63, abs=0.01)
    assert items["position alone: label"].value == pytest.approx(0.985, abs=0.01)
    assert "40 controls are in 2 of 12 columns" in items[EXCHANGEABLE].text
    for name in (EXCHANGEABLE, "replicates: shared positions", "position alone: label", "position effect: label"):
        assert items[name].verdict == "fail", name
    assert "activation_score = pseudotime_z + cytoscore_z + Tscore_z" in items["redundant targets"].text


def test_a_layout_from_a_project_has_what_its_screen_had_and_passes(tmp_path, columned):
    layout = suggest(tmp_path / "next.csv", columned, None, LayoutWish(seed=5))
    table = pl.read_csv(layout.path)
    assert table.columns == ["well_id", "plate", "row", "column", "compound", "is_control"]
    wells = read_table(columned.wells, "wells")
    assert sorted(table.get_column("compound")) == sorted(wells.get_column("compound"))
    assert table.get_column("plate").n_unique() == 2
    assert {item.verdict for item in layout.items} <= {"good", "warn"}
    verdicts = {item.name: item.verdict for item in layout.items}
    assert verdicts[EXCHANGEABLE] == verdicts["replicates: shared positions"] == "good"
    assert "seed 5" in layout.text
    assert not layout.notes


def test_a_layout_becomes_a_screen_again(tmp_path, columned):
    layout = suggest(tmp_path / "next.csv", columned, None, LayoutWish())
    rng = np.random.default_rng(0)
    ids = layout.table.get_column("well_id").to_list()
    pl.DataFrame({"well": ids} | {f"G{n}": rng.normal(size=len(ids)) for n in range(4)}).write_csv(tmp_path / "e.csv")
    pl.read_csv(layout.path).with_columns(score=rng.normal(size=len(ids))).write_csv(tmp_path / "w.csv")
    screen = read_screen([tmp_path / "e.csv"], [tmp_path / "w.csv"], Roles(scores=("score",)))
    same = ["well_id", "plate", "row", "column", "compound", "is_control"]
    assert screen.wells.select(same).sort("well_id").equals(layout.table.select(same).sort("well_id"))


def test_concentrations_are_laid_out_one_by_one_and_checked_by_compound(tmp_path):
    design = SimulationDesign(wells=216, genes=40, compounds=25, controls=16, dose=True)
    project = create_demo(tmp_path / "doses", simulate(design)).project
    layout = suggest(tmp_path / "next.csv", project, None, LayoutWish(replicates=3))
    assert layout.text.startswith("100 treatments x 3")
    each = layout.table.filter(~pl.col("is_control")).group_by("compound", "concentration").len()
    assert each.height == 100
    assert set(each.get_column("len")) == {3}
    assert layout.table.filter("is_control").get_column("concentration").null_count() == 16
    power = next(item for item in layout.items if item.name == "smallest p-value, all controls")
    assert "of 25 compounds" in power.text


def test_what_the_user_says_wins_and_defaults_follow(tmp_path):
    names = tmp_path / "compounds.txt"
    names.write_text("\n".join(f"c{n}" for n in range(200)))
    layout = suggest(tmp_path / "a.csv", None, names, LayoutWish())
    assert layout.text == "200 compounds x 2 + 16 DMSO a plate, on 2 plates of 384 wells, 336 left empty; seed 614"
    layout = suggest(
        tmp_path / "b.csv", None, names, LayoutWish(replicates=1, controls=8, plate_format=96, edge_free=True)
    )
    assert "on 4 plates of 96 wells" in layout.text
    edge = (pl.col("row").is_in(["A", "H"])) | (pl.col("column").is_in([1, 12]))
    assert layout.table.filter(edge).is_empty()


def test_controls_and_replicates_that_vary_are_said(tmp_path, project):
    def spoil(wells: pl.DataFrame) -> pl.DataFrame:
        row = pl.int_range(pl.len())
        first = wells.filter(~pl.col("is_control")).get_column("compound")[0]
        other = pl.when(pl.col("is_control") & (row % 5 == 0)).then(pl.lit("medium")).otherwise("compound")
        return (
            wells.with_columns(compound=other)
            .with_columns(is_control=pl.col("is_control") | (pl.col("compound") == "medium"))
            .filter((pl.col("compound") != first) | (row > row.filter(pl.col("compound") == first).min()))
        )

    rewrite_wells(project, spoil)
    notes = suggest(tmp_path / "next.csv", project, None, LayoutWish()).notes
    assert any("the median of 1 to 2" in note for note in notes)
    assert any("every control well is DMSO; the screen also has medium" in note for note in notes)


def test_a_layout_is_not_written_over_another_file(tmp_path, scattered):
    target = tmp_path / "next.csv"
    first = suggest(target, scattered, None, LayoutWish())
    assert suggest(target, scattered, None, LayoutWish()).table.equals(first.table)
    with pytest.raises(UsageError, match="another file of that name"):
        suggest(target, scattered, None, LayoutWish(seed=1))
    assert pl.read_csv(target).height == first.table.height


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.txt", "4,5-Dihydroxy\r\nα-Tocotrienol\n\n x \n", ["4,5-Dihydroxy", "α-Tocotrienol", "x"]),
        ("a.csv", "\ufeffn,Drug\n1,A\n2,B\n", ["A", "B"]),
        ("a.csv", "Aspirin\nIbuprofen\n", ["Aspirin", "Ibuprofen"]),
        ("a.tsv", "compound\tn\nA, or B\t1\nC\t2\n", ["A, or B", "C"]),
    ],
)
def test_lists_of_compounds(tmp_path, name, text, expected):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    assert read_compound_list(path) == expected


def test_lists_that_name_no_compounds(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("n,m\n1,2\n")
    with pytest.raises(DataError, match="no column of compounds"):
        read_compound_list(path)
    path = tmp_path / "a.txt"
    path.write_text("\n\n")
    with pytest.raises(DataError, match="holds no compound"):
        read_compound_list(path)
    with pytest.raises(DataError, match="not there"):
        read_compound_list(tmp_path / "no.csv")
    with pytest.raises(UsageError, match="needs compounds"):
        suggest(tmp_path / "x.csv", None, None, LayoutWish())


def test_a_layout_that_does_not_fit_says_what_would(tmp_path, scattered):
    with pytest.raises(DataError, match="plates would do"):
        suggest(tmp_path / "x.csv", scattered, None, LayoutWish(plates=1, replicates=9, plate_format=96))
    assert not (tmp_path / "x.csv").exists()


def test_a_project_of_controls_alone_has_nothing_to_lay_out(tmp_path, project):
    rewrite_wells(project, lambda wells: wells.with_columns(is_control=True))
    with pytest.raises(ProjectError, match="no compounds"):
        suggest(tmp_path / "x.csv", project, None, LayoutWish())


def test_the_layout_is_the_one_the_library_suggests(tmp_path, scattered):
    wells = read_table(scattered.wells, "wells")
    compounds = list(dict.fromkeys(wells.filter(~pl.col("is_control")).get_column("compound")))
    layout = suggest_layout(compounds, 2, 8, 2, 96, 614, control_name="DMSO")
    written = suggest(tmp_path / "x.csv", scattered, None, LayoutWish())
    assert written.table.get_column("well_id").to_list() == list(layout.well_id)
    assert written.table.get_column("compound").to_list() == list(layout.compound)
