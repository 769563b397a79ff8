"""What a ranking finds of planted compounds: a trained model's latent beside distances that need no training.

    python -m tests.bench.power --screens 20             distances on expression and its principal components
    python -m tests.bench.power --screens 3 --trained    the same, and `dpf train --preset linear-start --folds 5`

Prints a Markdown table. Every method ranks the same simulated screens (`dpf.simulate.screen`) with the ranking's own
exchange null. The model learns three scores that follow the activation axis: what a compound does across that axis is
planted too, and no score tells of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from dpf.analysis.latent.distances import latent_distances
from dpf.analysis.ranking.energy import energy_test
from dpf.analysis.ranking.p_values import benjamini_hochberg, compound_p_values
from dpf.config.settings import PRESETS
from dpf.simulate.screen import Simulation, SimulationDesign, simulate
from dpf.workflows.predict.outputs import project_outputs
from dpf.workflows.project.initialise import create_demo
from dpf.workflows.project.inputs import read_inputs
from dpf.workflows.project.model_file import find_model
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.evidence.significance import run_tests
from dpf.workflows.rank.rows import compound_rows
from dpf.workflows.rank.wells import rank_wells
from dpf.workflows.train.train import train_project
from tests.bench.calibration import FDR, show

COMPONENTS = 20
EDGES = (0.0, 1.0, 2.0, 3.0, np.inf)
MODEL = ("train.folds=5", "train.epochs=8", "model.width=32", "model.feed_forward=64", "compute.device='cpu'")
Floats = np.ndarray


def components_of(expression: Floats, plate: Floats) -> Floats:
    """Principal components of plate-centred expression, (N, 20)."""
    centred = expression - np.stack([expression[plate == code].mean(axis=0) for code in range(plate.max() + 1)])[plate]
    left, singular, _ = np.linalg.svd(centred, full_matrices=False)
    return left[:, :COMPONENTS] * singular[:COMPONENTS]


def method_table(screens: int, genes: int, trained: bool) -> None:
    """364 × 2 wells, 40 controls, 30% acting: power by strength along the activation axis, across it, achieved FDR."""
    called: dict[str, list[Floats]] = {}
    strengths, kinds = [], []
    for seed in range(screens):
        design = SimulationDesign.full(seed)
        simulation = simulate(replace(design, genes=genes, activating=0.1, suppressing=0.1, off_axis=0.1))
        wells = simulation.screen.wells
        control = wells.get_column("is_control").to_numpy()
        compounds = wells.get_column("compound").to_numpy().astype(str)
        group = np.full(len(control), -1)
        names, group[~control] = np.unique(compounds[~control], return_inverse=True)
        plate = np.unique(wells.get_column("plate").to_numpy().astype(str), return_inverse=True)[1]
        first = np.array([np.flatnonzero(group == code)[0] for code in range(len(names))])
        strengths.append(simulation.truth.get_column("strength").to_numpy()[first])
        kinds.append(simulation.truth.get_column("kind").to_numpy().astype(str)[first])
        found = _p_values(simulation.screen.expression.astype(float), group, control, plate, seed)
        if trained:
            by_name = _trained(simulation, seed)
            found["`dpf rank`, linear-start"] = np.array([by_name[name] for name in names])
        for name, p in found.items():
            called.setdefault(name, []).append(benjamini_hochberg(p) <= FDR)
    show(*_summary(called, np.concatenate(strengths), kinds))


def _summary(
    called: dict[str, list[Floats]], strength: Floats, kinds: list[Floats]
) -> tuple[list[str], list[list[str]]]:
    kind = np.concatenate(kinds)
    along = np.isin(kind, ["activating", "suppressing"])
    bins = [along & (strength > low) & (strength <= high) for low, high in pairwise(EDGES)]
    bins.append(~along & (kind != "inert"))
    rows = []
    for name, screens in called.items():
        hit = np.concatenate(screens)
        false = [one[own == "inert"].sum() / max(one.sum(), 1) for one, own in zip(screens, kinds, strict=True)]
        error = np.std(false) / np.sqrt(len(false))
        rows.append([name, *(f"{hit[chosen].mean():.2f}" for chosen in bins), f"{np.mean(false):.3f} ± {error:.3f}"])
    heads = [*(f"strength {low:g} to {high:g}" for low, high in pairwise(EDGES)), "across the axis"]
    heads = [f"{text} ({chosen.sum()})" for text, chosen in zip(heads, bins, strict=True)]
    return ["method", *heads, "achieved FDR (mean ± its error)"], rows


def _p_values(expression: Floats, group: Floats, control: Floats, plate: Floats, seed: int) -> dict[str, Floats]:
    count = int(group.max()) + 1
    pcs = components_of(expression, plate)
    distances = latent_distances(pcs, None, control)

    def ranked(values: Floats) -> Floats:
        return compound_p_values(values, group, count, control, rng=np.random.default_rng(seed)).p

    def energy(values: Floats) -> Floats:
        return energy_test(values, group, count, control, None, np.random.default_rng(seed)).p

    methods: dict[str, Callable[[], Floats]] = {
        "PCA distance": lambda: ranked(distances.d_euc),
        "Mahalanobis on PCs": lambda: ranked(distances.d_maha),
        "E-distance on PCs": lambda: energy(pcs),
        "E-distance on expression": lambda: energy(expression),
    }
    return {name: method() for name, method in methods.items()}


def _trained(simulation: Simulation, seed: int) -> dict[str, float]:
    """P of every compound by name, as `dpf rank` has it after a real training."""
    preset = [f"{name}={json.dumps(value)}" for name, value in PRESETS["linear-start"].items()]
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        project = create_demo(Path(folder) / "p", simulation, (*preset, *MODEL)).project
        train_project(project)
        inputs = read_inputs(project)
        outputs = project_outputs(project, inputs, find_model(project, "default"))
        rows = compound_rows(inputs, by_dose=False)
        wells = rank_wells(outputs, inputs, rows.codes, project.settings.latent, "none")
        tests = run_tests(wells, inputs, rows, RankChoices(match="screen"), np.random.default_rng(seed))
    print(f"screen {seed}: trained and ranked in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return dict(zip(rows.names, tests.p.tolist(), strict=True))


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
