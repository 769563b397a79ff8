"""`python -m tests.bench.precision`: do the fast paths learn what float32 learns?

The same screens are trained with float32 and PyTorch's attention, bf16 and PyTorch's, bf16 and the native kernel, each
with several seeds (of the split, the weights, the order and the dropout), and the validation metrics at the best epoch
are compared: the difference to float32 of the same seed beside the spread that seeds alone make. Induced attention, a
different model, stands beside them with several numbers of points. Screens: the simulator's, and where there are real
ones (DPF_REAL_DATA, or ../shared/data) the 400 most variable genes of the DRIAD screen.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from dpf.project.directory import open_project
from dpf.workflows.train.train import train_project
from tests.bench.engine import machine
from tests.bench.program import dpf

RESULTS = Path(__file__).parent / "results"
REAL = Path(os.environ.get("DPF_REAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
#: A network that learns from nothing, so that what its arithmetic loses can be seen; small batches and one cycle: a few
#: short epochs are to be enough to learn something.
TRAINING = [
    *("train.batch_size=8", "train.schedule=one-cycle", "train.learning_rate=0.001", "train.patience=0"),
    "model.start=none",
]
REFERENCE = "fp32, torch"
PATHS = {
    REFERENCE: ["compute.precision=fp32", "compute.attention_kernel=torch"],
    "bf16, torch": ["compute.precision=bf16", "compute.attention_kernel=torch"],
    "bf16, native": ["compute.precision=bf16", "compute.attention_kernel=native"],
}


def screens(folder: Path) -> dict[str, Path]:
    """The projects to train in."""
    made = {"simulated, 384 x 200": folder / "simulated"}
    dpf("init", str(folder / "simulated"), "--demo", "--wells", "384", "--genes", "200")
    driad = REAL / "driad-dge" / "prepared"
    if driad.is_dir():
        made["DRIAD, 400 genes"] = folder / "driad"
        source = [*("--from", str(driad / "expression.parquet")), *("--wells", str(driad / "wells.csv"))]
        roles = [*("--scores", "interferon,proliferation,stress"), *("--label", "stressed"), *("--top-variable", "400")]
        dpf("init", str(folder / "driad"), *source, *roles)
    return made


def train(project: Path, epochs: int, seed: int, settings: list[str]) -> dict[str, float]:
    """Validation R² and AUROC at the best epoch, and the seconds it took."""
    overrides = [*TRAINING, f"train.epochs={epochs}", f"train.seed={seed}", *settings]
    started = time.perf_counter()
    (metrics,) = train_project(open_project(project, overrides), "bench", overwrite=True).metrics["members"]
    found = {name.removeprefix("validation_"): float(value) for name, value in metrics.items()
             if name.startswith(("validation_r2", "validation_auroc"))}  # fmt: skip
    return found | {"seconds": time.perf_counter() - started}


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Mean and standard deviation over seeds, and the largest difference to the reference with the same seed."""
    result: dict[str, Any] = {}
    for name, seeds in runs.items():
        result[name] = {}
        for metric in seeds[0]:
            values = [seed[metric] for seed in seeds]
            reference = [seed[metric] for seed in runs[REFERENCE]]
            differences = [one - other for one, other in zip(values, reference, strict=True)]
            result[name][metric] = {
                "mean": statistics.mean(values),
                "sd_over_seeds": statistics.stdev(values) if len(values) > 1 else 0.0,
                "mean_difference": statistics.mean(differences),
                "largest_difference": max(differences, key=abs),
            }
    return result


def table(screen: str, found: dict[str, Any]) -> str:
    """For people: mean ± spread over seeds, and the mean difference to float32 of the same seed."""
    metrics = [name for name in found[REFERENCE] if name != "seconds"]
    lines = [f"| {screen} | {' | '.join(metrics)} | seconds |", f"| --- |{' --- |' * (len(metrics) + 1)}"]
    for name, row in found.items():
        cells = [
            f"{row[m]['mean']:.2f} ± {row[m]['sd_over_seeds']:.2f} ({row[m]['mean_difference']:+.2f})" for m in metrics
        ]
        lines.append(f"| {name} | {' | '.join(cells)} | {row['seconds']['mean']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Train, print the tables, keep the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[614, 615, 616])
    parser.add_argument("--points", type=int, nargs="*", default=[16], help="induced attention with so many points")
    parser.add_argument("--screens", choices=["all", "simulated"], default="all")
    asked = parser.parse_args()
    variants = dict(PATHS)
    for points in asked.points:
        variants[f"induced, {points} points"] = ["model.attention=induced", f"model.induced_points={points}"]
    kept: dict[str, Any] = {"machine": machine(), "epochs": asked.epochs, "seeds": asked.seeds, "screens": {}}
    with tempfile.TemporaryDirectory() as folder:
        for screen, project in screens(Path(folder)).items():
            if asked.screens == "simulated" and not screen.startswith("simulated"):
                continue
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
            for seed in asked.seeds:  # in turn, so that a machine that slows down slows all of them
                for name, settings in variants.items():
                    runs[name].append(train(project, asked.epochs, seed, settings))
                    print(screen, seed, name, json.dumps(runs[name][-1]), file=sys.stderr, flush=True)
            kept["screens"][screen] = {"runs": runs, "summary": summary(runs)}
            print(table(screen, kept["screens"][screen]["summary"]), end="\n\n", flush=True)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "precision.json"
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    print(f"kept in {path}")


if __name__ == "__main__":
    main()
