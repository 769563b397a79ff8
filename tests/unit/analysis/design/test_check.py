"""The whole check: on simulated screens with and without effects of position, and on real ones."""

from __future__ import annotations

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from dpf.analysis.design.check import check_design
from dpf.analysis.design.item import CheckItem, Verdict, columns_of, graded, worst
from dpf.analysis.design.wells import DesignInput
from dpf.simulate.design import SimulationDesign
from dpf.simulate.screen import simulate


def checked(design: DesignInput, seed: int = 0, permutations: int = 999) -> dict[str, CheckItem]:
    items = check_design(design, np.random.default_rng(seed), permutations=permutations)
    assert len({item.name for item in items}) == len(items)
    for item in items:
        assert item.text
        assert len({len(column) for column in item.table.values()}) <= 1
        assert bool(item.advice) == (item.verdict in ("warn", "fail"))
        assert bool(item.rule) == (item.verdict != "not applicable")
    return {item.name: item for item in items}


def simulated(**options: object) -> DesignInput:
    simulation = simulate(SimulationDesign(**options))  # type: ignore[arg-type]
    wells, targets = simulation.screen.wells, simulation.screen.targets
    return DesignInput(
        compound=wells["compound"].to_list(),
        is_control=wells["is_control"].to_numpy(),
        plate=wells["plate"].to_list(),
        row=wells["row"].to_list(),
        column=wells["column"].to_numpy(),
        targets={name: wells[name].to_numpy().astype(np.float64) for name in targets.columns},
        label=targets.label,
        expression=simulation.screen.expression,
        library_size=simulation.counts.sum(axis=1).astype(np.float64),
        detected=(simulation.counts > 0).sum(axis=1).astype(np.float64),
        well_id=wells["well_id"].to_list(),
    )


def test_a_screen_without_effects_of_position_passes() -> None:
    for seed in (614, 1, 2):
        found = checked(simulated(seed=seed), permutations=199)
        assert worst(item.verdict for item in found.values()) != "fail"
        assert all(
            item.verdict in ("good", "not applicable")
            for item in found.values()
            if item.group in ("controls", "replicates")
        )


def test_a_confounded_screen_fails_where_it_is_confounded() -> None:
    found = checked(simulated(column_effect=1.4, layout="columns"))
    failed = {name for name, item in found.items() if item.verdict == "fail"}
    assert {"position effect: Tscore", "position alone: Tscore", "position alone: activated"} <= failed
    assert {"controls: exchangeable with compounds", "replicates: shared positions"} <= failed
    assert "randomise" in found["position effect: Tscore"].advice


def test_a_weak_layout_is_a_warning_where_position_does_nothing() -> None:
    found = checked(simulated(layout="columns"))
    assert found["controls: exchangeable with compounds"].verdict == "warn"
    assert found["replicates: shared positions"].verdict == "warn"
    assert "No effect of position was seen." in found["replicates: shared positions"].text


def test_a_weak_layout_fails_where_nothing_could_be_seen() -> None:
    screen = simulated(layout="columns")
    bare = DesignInput(screen.compound, screen.is_control, screen.plate, screen.row, screen.column)
    found = checked(bare)
    assert found["controls: exchangeable with compounds"].verdict == "fail"
    assert "could not be seen" in found["controls: exchangeable with compounds"].text
    assert found["library size"].verdict == "not applicable"
    assert found["label balance"].verdict == "not applicable"


def test_plates_that_differ_are_a_warning_while_each_has_controls() -> None:
    screen = simulated()
    plate = np.array([name == screen.plate[0] for name in screen.plate])  # type: ignore[index]
    shifted = {"score": screen.targets["Tscore"] + 4.0 * plate}
    parts = (screen.plate, screen.row, screen.column, shifted)
    found = checked(DesignInput(screen.compound, screen.is_control, *parts))
    assert found["position effect: score"].verdict == "warn"
    alone = found["position alone: score"]
    assert alone.verdict == "warn"
    assert "; the plate alone at 0." in alone.text
    assert "within plates, row and column at " in alone.text
    assert alone.table["within_plates"][0] < 0.14 < 0.5 < alone.table["plate_alone"][0]
    assert alone.advice == "compare every well with the controls of its own plate"
    one_sided = screen.is_control & plate
    found = checked(DesignInput(screen.compound, one_sided, *parts))
    assert found["position effect: score"].verdict == found["position alone: score"].verdict == "fail"
    assert found["controls: number"].verdict == "warn"


def test_without_positions_everything_else_is_still_checked() -> None:
    screen = simulated()
    found = checked(DesignInput(screen.compound, screen.is_control, targets=screen.targets, label=screen.label))
    for name in ("position effect: Tscore", "position alone: Tscore", "missing wells", "replicates: shared positions"):
        assert found[name].verdict == "not applicable"
    assert found["label balance"].verdict == "good"
    assert "smallest p-value" in found


def test_without_controls() -> None:
    screen = simulated()
    nobody = np.zeros(screen.n_wells, dtype=bool)
    found = checked(DesignInput(screen.compound, nobody, screen.plate, screen.row, screen.column))
    assert found["controls: number"].verdict == "fail"
    assert found["smallest p-value"].verdict == "not applicable"


def test_failed_wells_and_rare_labels_are_named() -> None:
    screen = simulated()
    size = np.asarray(screen.library_size).copy()
    size[17] /= 1000
    label = np.zeros(screen.n_wells)
    label[:5] = 1
    found = checked(
        DesignInput(
            screen.compound, screen.is_control, screen.plate, targets={"y": label}, label="y", library_size=size
        )
    )
    assert "well 18" in found["outlier wells"].text
    assert found["label balance"].verdict == "fail"


def test_composition_that_is_extreme_or_follows_the_compounds_is_named() -> None:
    design = simulated(seed=3)
    assert checked(design, permutations=199)["composition"].verdict == "not applicable"
    rng = np.random.default_rng(0)
    even = np.exp2(rng.normal(0, 0.05, design.n_wells))
    item = checked(dataclasses.replace(design, composition=even), permutations=199)["composition"]
    assert item.verdict == "good"
    assert item.value == pytest.approx(np.exp2(np.abs(np.log2(even)).max()))
    far = even.copy()
    far[7] = 0.4
    item = checked(dataclasses.replace(design, composition=far), permutations=199)["composition"]
    assert item.verdict == "warn"
    assert f"Beyond 2-fold: {design.well_name(7)}." in item.text
    names = np.array(design.compound, dtype=object)
    several = [name for name in dict.fromkeys(names[~design.is_control]) if (names == name).sum() > 1][:3]
    moved = np.where(np.isin(names, several), 1.6, 1.0) * even
    item = checked(dataclasses.replace(design, composition=moved), permutations=199)["composition"]
    assert item.verdict == "warn"
    assert "They follow the compound" in item.text
    assert all(f"{name} 1." in item.text for name in several)


def test_the_check_is_the_same_for_the_same_seed() -> None:
    screen = simulated(wells=96, compounds=40, controls=16)
    assert checked(screen, 3, 99) == checked(screen, 3, 99)


def test_verdicts() -> None:
    assert worst([]) == "not applicable"
    assert worst([Verdict.GOOD, Verdict.FAIL, Verdict.WARN]) == "fail"
    assert [graded(value, 1, 2) for value in (0.9, 1, 2)] == ["good", "warn", "fail"]
    assert columns_of([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]) == {"a": [1, 2], "b": ["x", "y"]}


def _column(file: Path) -> list[str]:
    with file.open(encoding="utf-8", newline="") as lines:
        return [row[0] for row in csv.reader(lines)][1:]


@pytest.fixture(scope="module")
def classic(real_data: Path) -> DesignInput:
    folder = real_data / "classic-metadata"
    wells = [re.fullmatch(r"(.+)_([A-H])(\d+)", name) for name in _column(folder / "well_id.csv")]
    plate, row, column = zip(*(well.groups() for well in wells if well is not None), strict=True)
    compound = _column(folder / "meta_id.csv")
    scores = np.loadtxt(folder / "scores_3_z.csv", delimiter=",", skiprows=1)
    return DesignInput(
        compound=compound,
        is_control=np.array([name == "DMSO" for name in compound]),
        plate=plate,
        row=row,
        column=np.array(column, dtype=int),
        targets={
            "pseudotime": scores[:, 0],
            "cytoscore": scores[:, 1],
            "Tscore": scores[:, 2],
            "activation": np.array(_column(folder / "e.activation_score_old.csv"), dtype=float),
            "label": np.array(_column(folder / "labels_cls.csv"), dtype=float),
        },
        label="label",
        cluster=_column(folder / "cluster_id.csv"),
    )


def test_the_classic_screen_fails_with_the_published_figures(classic: DesignInput) -> None:
    found = checked(classic)
    effect = found["position effect: Tscore"].table
    assert effect["share"][effect["factor"].index("column")] == pytest.approx(0.635, abs=0.001)
    assert found["position alone: pseudotime"].value == pytest.approx(0.82, abs=0.01)
    assert found["position alone: Tscore"].value == pytest.approx(0.78, abs=0.01)
    assert found["position alone: label"].value == pytest.approx(0.986, abs=0.003)
    assert found["position alone: label"].table["logistic"] == [pytest.approx(0.993, abs=0.002)]
    controls = found["controls: exchangeable with compounds"]
    assert "the 40 controls are in 2 of 12 columns" in controls.text
    together = found["replicates: shared positions"]
    assert "364 of 364 replicated compounds have all their wells at one position" in together.text
    assert "activation = pseudotime + cytoscore + Tscore" in found["redundant targets"].text
    assert "each of the 8 clusters has one label" in found["label decided"].text
    for item in (effect and found["position effect: Tscore"], controls, together, found["position alone: label"]):
        assert item.verdict == "fail"
    pooled = found["smallest p-value, all controls"]
    assert pooled.value == pytest.approx(1 / 861)


def test_the_randomised_screen_passes(real_data: Path) -> None:
    folder = real_data / "driad-dge" / "prepared"
    wells = pl.read_csv(folder / "wells.csv")
    table = pl.read_parquet(folder / "expression.parquet")
    targets = ("interferon", "proliferation", "stress", "stressed")
    found = checked(
        DesignInput(
            compound=wells["compound"].to_list(),
            is_control=(wells["compound"] == "dmso").to_numpy(),
            plate=wells["plate"].to_list(),
            row=wells["row"].to_list(),
            column=wells["column"].to_numpy(),
            targets={name: wells[name].to_numpy().astype(np.float64) for name in targets},
            label="stressed",
            expression=table.select(pl.exclude("well_id")).to_numpy().astype(np.float32),
            library_size=wells["n_counts"].to_numpy().astype(np.float64),
        )
    )
    assert worst(item.verdict for item in found.values()) == "warn"
    assert found["controls: exchangeable with compounds"].verdict == "good"
    assert found["replicates: shared positions"].verdict == "good"
    for name in targets:
        alone = found[f"position alone: {name}"]
        assert alone.verdict == "good"
    assert "stressed is exactly stress >" in found["label decided"].text


def batched(seed: int, share: float, with_controls: bool = True) -> DesignInput:
    """Inert expression of 96 wells in four batches across two plates, which explain `share` of its variance."""
    rng = np.random.default_rng(seed)
    control = np.arange(96) % 4 == 0
    batch = rng.permutation(np.repeat(["a", "b", "c", "d"], 24))
    if not with_controls:
        batch = np.where(control & (batch == "d"), "a", batch)
    shift = {name: rng.normal(0, 1, 40) for name in "abcd"}
    noise = rng.normal(0, 1, (96, 40))
    values = np.stack([shift[name] for name in batch]) * np.sqrt(share / (1 - share)) * 1.15 + noise
    names = np.array([f"c{k // 3}" for k in range(96)], dtype=object)
    names[control] = "DMSO"
    return DesignInput(
        compound=names, is_control=control, plate=np.repeat(["P1", "P2"], 48).astype(object),
        batch=batch.astype(object), targets={"score": rng.normal(size=96)}, expression=values.astype(np.float32),
    )  # fmt: skip


def test_batches_that_explain_the_controls_are_never_good() -> None:
    item = checked(batched(0, 0.9), permutations=199)["position effect: expression"]
    assert item.verdict == "warn"
    assert "Of the controls' variance, batch explains 9" in item.text
    assert item.advice == "compare every well with the controls of its own batch"
    row = {name: cells[item.table["factor"].index("batch")] for name, cells in item.table.items()}
    assert row["share_controls"] > 0.85
    assert row["above_chance_controls"] < row["share_controls"]
    assert row["p_value_controls"] == 1 / 200
    without = checked(batched(0, 0.9, with_controls=False), permutations=199)["position effect: expression"]
    assert without.verdict == "fail"
    for seed in range(3):
        found = checked(batched(seed, 0.0), permutations=199)
        assert found["position effect: expression"].verdict == "good"


def test_what_is_seen_in_the_controls_alone_counts() -> None:
    """Compounds of every batch average out what the batch does to the controls: only these show it."""
    design = batched(1, 0.9)
    assert design.expression is not None
    flat = design.expression.copy()
    flat[~design.is_control] = np.random.default_rng(0).normal(0, 1, (72, 40))
    found = checked(dataclasses.replace(design, expression=flat), permutations=199)["position effect: expression"]
    assert found.verdict == "warn"
    assert "Of the controls' variance, batch explains" in found.text
