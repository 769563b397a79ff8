"""What a ranking finds of planted compounds: each line of evidence, all of them together, and distances beside them.

    python -m tests.bench.power --screens 40             without a model
    python -m tests.bench.power --screens 3 --trained    the same, and `dpf train --preset linear-start --folds 5`

Prints a Markdown table. Every method ranks the same simulated screens (`dpf.simulate.screen`) with the ranking's own
exchanges, plate by plate. The three scores follow the activation axis: what a compound does across that axis is planted
too, and no score tells of it. The last columns are of inert compounds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from dpf.analysis.latent.distances import latent_distances
from dpf.analysis.ranking.p_values import benjamini_hochberg, compound_p_values
from dpf.config.settings import PRESETS
from dpf.simulate.screen import Simulation, SimulationDesign, simulate
from dpf.workflows.predict.outputs import project_outputs
from dpf.workflows.project.initialise import create_demo
from dpf.workflows.project.inputs import read_inputs, read_measured
from dpf.workflows.project.model_file import find_model
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.evidence.blocks import every_blocks
from dpf.workflows.rank.evidence.lines import components, weigh_evidence
from dpf.workflows.rank.evidence.significance import run_tests
from dpf.workflows.rank.rows import compound_rows
from dpf.workflows.rank.wells import rank_wells
from dpf.workflows.train.train import train_project
from tests.bench.calibration import FDR, show

#: Of p-values of inert compounds.
LEVELS = (0.05, 0.01)
EDGES = (0.0, 1.0, 2.0, 3.0, np.inf)
MODEL = ("train.folds=5", "train.epochs=8", "model.width=32", "model.feed_forward=64", "compute.device='cpu'")
Floats = np.ndarray


def method_table(screens: int, genes: int, trained: bool) -> None:
    """364 × 2 wells, 40 controls, 30% acting: power by strength along the activation axis, across it, achieved FDR."""
    found: dict[str, list[Floats]] = {}
    strengths, kinds = [], []
    for seed in range(screens):
        design = SimulationDesign.full(seed)
        simulation = simulate(replace(design, genes=genes, activating=0.1, suppressing=0.1, off_axis=0.1))
        truth = simulation.truth.filter(~simulation.screen.wells.get_column("is_control"))
        by_compound = truth.unique("compound", maintain_order=True)
        strengths.append(by_compound.get_column("strength").to_numpy())
        kinds.append(by_compound.get_column("kind").to_numpy().astype(str))
        for name, p in _p_values(simulation, seed, trained).items():
            found.setdefault(name, []).append(p)
    show(*_summary(found, np.concatenate(strengths), kinds))


def _summary(
    found: dict[str, list[Floats]], strength: Floats, kinds: list[Floats]
) -> tuple[list[str], list[list[str]]]:
    kind = np.concatenate(kinds)
    along = np.isin(kind, ["activating", "suppressing"])
    bins = [along & (strength > low) & (strength <= high) for low, high in pairwise(EDGES)]
    bins.append(~along & (kind != "inert"))
    rows = []
    for name, screens in found.items():
        called = [benjamini_hochberg(p) <= FDR for p in screens]
        hit, p = np.concatenate(called), np.concatenate(screens)[kind == "inert"]
        false = [one[own == "inert"].sum() / max(one.sum(), 1) for one, own in zip(called, kinds, strict=True)]
        error = np.std(false) / np.sqrt(len(false))
        power = [f"{hit[chosen].mean():.3f}" for chosen in (along, *bins)]
        rows.append(
            [name, *power, f"{np.mean(false):.3f} ± {error:.3f}", *(f"{np.mean(p <= at):.3f}" for at in LEVELS)]
        )
    heads = ["along the axis", *(f"strength {low:g} to {high:g}" for low, high in pairwise(EDGES)), "across the axis"]
    heads = [f"{text} ({chosen.sum()})" for text, chosen in zip(heads, (along, *bins), strict=True)]
    return ["method", *heads, "achieved FDR (mean ± its error)", *(f"inert P(p ≤ {at:g})" for at in LEVELS)], rows


def _p_values(simulation: Simulation, seed: int, trained: bool) -> dict[str, Floats]:
    """P of every compound, in the order of their first wells, by method."""
    preset = [f"{name}={json.dumps(value)}" for name, value in PRESETS["linear-start"].items()]
    choices = RankChoices(match="plate")

    def rng() -> np.random.Generator:
        return np.random.default_rng(seed)

    with tempfile.TemporaryDirectory() as folder:
        project = create_demo(Path(folder) / "p", simulation, (*preset, *MODEL)).project
        inputs = read_inputs(project)
        rows = compound_rows(inputs, by_dose=False)
        measured = read_measured(inputs.wells, project.settings.targets, project.wells)
        plates = every_blocks(inputs)[0].codes
        distances = latent_distances(components(inputs, plates, rng()), None, inputs.is_control)
        found = {
            name: compound_p_values(values, rows.codes, rows.count, inputs.is_control, plates, rng=rng()).p
            for name, values in {"PCA distance": distances.d_euc, "Mahalanobis on PCs": distances.d_maha}.items()
        }
        evidence = weigh_evidence(inputs, measured, None, rows, choices, rng())
        found["expression, no model"] = evidence.line_p["expression"]
        found["measured scores, no model"] = evidence.line_p["measured"]
        found["both, no model: `dpf rank` of an untrained project"] = evidence.p
        if trained:
            began = time.perf_counter()
            train_project(project)
            outputs = project_outputs(project, inputs, find_model(project, "default"))
            wells = rank_wells(outputs, inputs, rows.codes, project.settings.latent, "none")
            found["T"] = run_tests(wells, inputs, rows, choices, rng()).p
            evidence = weigh_evidence(inputs, measured, wells, rows, choices, rng())
            found["predicted scores"] = evidence.line_p["predicted"]
            found["all together: `dpf rank`"] = evidence.p
            print(f"screen {seed}: trained in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", type=int, default=20)
    parser.add_argument("--genes", type=int, default=200)
    parser.add_argument("--trained", action="store_true", help="train a model on every screen, too")
    options = parser.parse_args()
    method_table(options.screens, options.genes, options.trained)


if __name__ == "__main__":
    main()
