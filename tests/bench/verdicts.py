"""Does the verdict say what a compound does: verdicts and `pattern_cosine` against the truth of simulated screens.

    python -m tests.bench.verdicts --screens 5

576 wells (268 compounds × 2, 40 controls, a fifth each activating, suppressing and off the axis) × 150 genes, 5 folds,
networks 64 wide; 3 epochs, `classic` 20. Each screen twice: with the demo's own scores, which follow activation only,
and with two scores more that follow the off-axis programs. Prints Markdown tables: how many hits at an FDR of 5% have
the verdict of their kind, by the rule before (|activation| ≥ T/2) and by that of dpf (`pattern_cosine`), and medians
over the compounds of p ≤ 0.05.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from dpf.config.settings import PRESETS
from dpf.simulate.screen import Simulation, SimulationDesign, simulate
from dpf.tables.screen import Targets
from dpf.workflows.project.initialise import create_demo
from dpf.workflows.rank.rank import rank_project
from dpf.workflows.rank.verdicts import Verdict
from dpf.workflows.train.train import train_project
from tests.bench.calibration import FDR, show

MODEL = ("train.folds=5", "model.width=64", "model.feed_forward=128", "compute.device='cpu'")
#: Scores of the off-axis programs: what they follow, to four fifths of their variance.
FOLLOWING = {"Immune": ("interferon", "stress"), "Metabolic": ("hypoxia", "sterol")}
VERDICTS = {"activating": Verdict.ACTIVATING, "suppressing": Verdict.SUPPRESSING, "off_axis": Verdict.OFF_AXIS}


def screen_of(seed: int, followed: bool) -> Simulation:
    """A screen, with scores that follow its off-axis programs or without."""
    kinds = {"activating": 0.2, "suppressing": 0.2, "off_axis": 0.2}
    found = simulate(SimulationDesign(wells=576, genes=150, compounds=268, controls=40, seed=seed, **kinds))
    if not followed:
        return found
    rng = np.random.default_rng(seed)
    scores = {}
    for name, programs in FOLLOWING.items():
        state = sum(found.truth.get_column(f"{program}_state").to_numpy() for program in programs)
        scores[name] = state / np.std(state) * np.sqrt(0.8) + rng.standard_normal(len(found.truth)) * np.sqrt(0.2)
    targets = Targets((*found.screen.targets.scores, *scores), label="activated", activation="activation")
    return replace(
        found, screen=replace(found.screen, wells=found.screen.wells.with_columns(**scores), targets=targets)
    )


def ranked(simulation: Simulation, preset: str) -> pl.DataFrame:
    """The ranking after a training, with the `kind` of every compound."""
    epochs = 20 if preset == "classic" else 3
    settings = [f"{name}={json.dumps(value)}" for name, value in PRESETS[preset].items()]
    with tempfile.TemporaryDirectory() as folder:
        project = create_demo(Path(folder) / "p", simulation, (*settings, *MODEL, f"train.epochs={epochs}")).project
        train_project(project)
        table = rank_project(project).table
    return table.join(simulation.truth.select("compound", "kind").unique(), on="compound")


def before(table: pl.DataFrame) -> pl.DataFrame:
    """The verdicts by the rule that asked whether activation was at least half of T."""
    along = (pl.col("activation_p") <= 0.1) & (pl.col("activation").abs() >= pl.col("t") / 2)
    side = pl.when(pl.col("activation") > 0).then(pl.lit(Verdict.ACTIVATING)).otherwise(pl.lit(Verdict.SUPPRESSING))
    verdict = pl.when(pl.col("q") > FDR).then(pl.lit(Verdict.NOT_DISTINGUISHABLE))
    return table.with_columns(verdict=verdict.when(along).then(side).otherwise(pl.lit(Verdict.OFF_AXIS)))


def row(preset: str, found: pl.DataFrame) -> list[str]:
    """What is to be said of a preset's rankings."""
    acting = pl.col("kind").is_in(["activating", "suppressing"])
    cells = [preset]
    for kinds in (acting, pl.col("kind") == "off_axis"):
        for table in (before(found), found):
            hits = table.filter((pl.col("q") <= FDR) & kinds)
            right = hits.filter(pl.col("verdict") == pl.col("kind").replace_strict(VERDICTS, default=None))
            cells.append(f"{right.height} of {hits.height}")
    for kinds in (acting, pl.col("kind") == "off_axis", pl.col("kind") == "inert"):
        moved = found.filter((pl.col("p") <= 0.05) & kinds)
        medians = [moved.get_column(name).abs().median() for name in ("on_axis", "pattern_cosine")]
        cells.append(" / ".join(f"{value:.2f}" for value in medians) + f" ({moved.height})")
    return cells


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", type=int, default=5)
    parser.add_argument("--presets", nargs="+", default=["classic", "linear-start", "recommended"])
    options = parser.parse_args()
    head = ["preset", "acting, T/2", "acting, pattern", "off the axis, T/2", "off the axis, pattern"]
    head += [f"on_axis / |pattern_cosine|, {kind}" for kind in ("acting", "off the axis", "inert")]
    for followed in (False, True):
        rows = []
        for preset in options.presets:
            tables = []
            for seed in range(options.screens):
                tables.append(ranked(screen_of(seed, followed), preset))
                print(f"{preset}, screen {seed}, followed: {followed}", file=sys.stderr, flush=True)
            rows.append(row(preset, pl.concat(tables, how="diagonal")))
        print("Off-axis programs have scores:\n" if followed else "Scores follow activation alone:\n")
        show(head, rows)


if __name__ == "__main__":
    main()
