"""The scoreboard of every real screen, and of simulated ones, by preset: `python -m tests.bench.screens [NAMES]`.

Screens are read from the folder that DPF_REAL_DATA names; `results/screens.json` keeps what `dpf evaluate` found, and
`--show` writes `docs/benchmarks/scoreboards.md` from it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results" / "screens.json"
PAGE = Path(__file__).parents[2] / "docs" / "benchmarks" / "scoreboards.md"
BASELINES = ("ridge", "kernel ridge", "pls", "position")
METHODS = ("model", "initial regression alone", *BASELINES, "other replicate")


class Screen(NamedTuple):
    """How a screen becomes a project, and how long each member trains."""

    init: str
    train: str = "--folds 5 --epochs 12 --batch-size 16"


DRIAD = "driad-dge/as-found"
SCORES = "--signature {data}/driad-dge/prepared/signatures.gmt"
SCREENS = {
    "driad": Screen(
        f"--from {{data}}/{DRIAD}/DGE1-counts.csv.gz --from {{data}}/{DRIAD}/DGE2-counts.csv.gz "
        f"--wells {{data}}/{DRIAD}/DGE1-meta.csv --wells {{data}}/{DRIAD}/DGE2-meta.csv "
        f"--control Drug|control --control DMSO --min-counts 30000 --normalize log-cpm {SCORES} --top-variable 400"
    ),
    "driad-2541": Screen("--from {data}/driad-dge/classic", "--folds 3 --epochs 2 --batch-size 16"),
    "l1000": Screen(
        f"--from {{data}}/l1000-ljp005-ljp009/LJP005_QNORM_n377x978.gct.gz "
        f"--from {{data}}/l1000-ljp005-ljp009/LJP009_QNORM_n371x978.gct.gz {SCORES} "
        "--top-variable 400"
    ),
    "macpie": Screen(
        "--from {data}/macpie-macseq/mini_mac_1000 --wells {data}/macpie-macseq/PMMSq033_metadata.csv "
        "--wells {data}/macpie-macseq/PMMSq033_CTG_cellcount.csv --scores cell_viability --normalize log-cpm "
        "--min-wells 20"
    ),
    "simulated": Screen("--demo --wells 384 --genes 300"),
    "interacting": Screen(""),  # made by hand: the demo's command line has no interaction
}


def run(*words: object) -> str:
    """A dpf command's stdout."""
    return subprocess.run(
        [sys.executable, "-m", "dpf", *map(str, words)], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def initialise(project: Path, name: str, data: Path) -> None:
    """Make the project of a screen."""
    if name == "interacting":
        from dpf.simulate.screen import SimulationDesign, simulate
        from dpf.workflows.project.initialise import create_demo

        design = SimulationDesign(wells=768, genes=300, compounds=364, controls=40, interaction=1.5)
        create_demo(project, simulate(design))
        return
    words = [word.format(data=data).replace("|", " ") for word in SCREENS[name].init.split()]
    run("init", project, *words)


def measure(project: Path, name: str, presets: list[str], extra: list[str]) -> dict[str, Any]:
    """Train and evaluate each preset; per preset and target what each method reaches and whether ours is better."""
    found: dict[str, Any] = {}
    for preset in presets:
        model = "-".join([preset, *extra]).replace("=", "-").strip("-")
        options = [word for change in extra for word in ("--set", change)]
        train = json.loads(
            run("train", project, "--model", model, "--preset", preset, *SCREENS[name].train.split(), *options,
                "--format", "json")
        )  # fmt: skip
        rows = json.loads(run("evaluate", project, "--model", model, "--format", "json"))["data"]["rows"]
        kept = [row for row in rows if row["method"] in METHODS]
        found[" ".join([preset, *extra])] = {
            "best_epochs": [member["best_epoch"] for member in train["data"]["members"]],
            "scoreboard": [
                {key: row[key] for key in ("target", "method", "metric", "value", "lower", "upper", "verdict")}
                for row in kept
            ],
        }
    return found


def table(found: dict[str, Any]) -> str:
    """Markdown: a row a preset or baseline, a column a target; what is better than the preset is in brackets."""
    boards = {preset: one["scoreboard"] for preset, one in found.items()}
    targets = list(dict.fromkeys(row["target"] for row in next(iter(boards.values()))))
    lines = [f"| | {' | '.join(targets)} |", "| --- |" + " --- |" * len(targets)]
    for preset, board in boards.items():
        ours = {row["target"]: row for row in board if row["method"] == "model"}
        worse = {row["target"] for row in board if row["verdict"] == "worse" and row["method"] in BASELINES}
        cells = [f"{ours[target]['value']:.2f}{' (-)' if target in worse else ''}" for target in targets]
        lines.append(f"| `{preset}` | {' | '.join(cells)} |")
        started = {row["target"]: row for row in board if row["method"] == "initial regression alone"}
        if started:
            cells = [f"{started[target]['value']:.2f}" for target in targets]
            lines.append(f"| its initial regression alone | {' | '.join(cells)} |")
    for method in METHODS[2:]:
        values = {row["target"]: row["value"] for row in next(iter(boards.values())) if row["method"] == method}
        if values:
            cells = ["" if values.get(target) is None else f"{values[target]:.2f}" for target in targets]
            lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def document(kept: dict[str, Any]) -> str:
    """`docs/benchmarks/scoreboards.md`: every screen's commands and table."""
    parts = [INTRODUCTION]
    for name, found in kept.items():
        screen = SCREENS[name]
        init = screen.init.format(data="$DATA").replace("|", " ") if screen.init else "...  # SimulationDesign(...)"
        init = init.replace("--control Drug control", '--control "Drug control"')
        parts += [
            f"## {name}\n\n{ABOUT[name]}\n",
            f"```console\ndpf init p {init}\ndpf train p {screen.train}    # and --preset, as in the table\n"
            "dpf evaluate p\n```\n",
            table(found) + "\n",
            f"Members in which the Transformer added to its initial regression: {_added(found)}.\n",
        ]
    return "\n".join(parts)


def _added(found: dict[str, Any]) -> str:
    told = []
    for preset, one in found.items():
        if any(row["method"] == "initial regression alone" for row in one["scoreboard"]):
            epochs = one["best_epochs"]
            told.append(f"{sum(epoch > 0 for epoch in epochs)} of {len(epochs)} (`{preset}`)")
    return ", ".join(told)


INTRODUCTION = """# Scoreboards

<!-- Made by `python -m tests.bench.screens --show` from tests/bench/results/screens.json. -->

R² (AUROC of a label) on held-out compounds, as `dpf evaluate` measures it on public and simulated screens
(`DPF_REAL_DATA=... python -m tests.bench.screens`). (-): by the paired bootstrap over compounds a baseline is better
than that preset. Single runs of one seed, on a CPU in bf16. With `train.repeats=3` the folds are dealt three times, and
the predictions of three members are averaged for each well, as are those of the baselines that they are compared with;
the rows of baselines are those of the first preset.
"""

ABOUT = {
    "macpie": "MAC-seq, one plate, 1,000 sampled genes of which 259 pass; the score is a viability "
    "(PMCC-BioinformaticsCore/macpie).",
    "driad": "3' DGE, two plates, counts as found; gene-set scores and their sum (labsyspharm/DRIADrc).",
    "driad-2541": "The same screen in the classic layout, all 2,541 genes, few epochs.",
    "l1000": "L1000, two plates of level-3 data (LINCS, from cmap/l1ktools); gene-set scores and their sum.",
    "simulated": "dpf's own simulator: targets are linear in the programs, plus noise.",
    "interacting": "The simulator with a product of two programs in the phenotype (`SimulationDesign(wells=768, "
    "genes=300, compounds=364, controls=40, interaction=1.5)`): no linear method can see it.",
}


def main() -> None:
    """Measure the screens that were asked for (all by default)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(SCREENS))
    parser.add_argument("--presets", nargs="+", default=["recommended", "linear-start", "classic"])
    parser.add_argument("--set", nargs="*", default=[], dest="extra")
    parser.add_argument("--show", action="store_true", help="write docs/benchmarks/scoreboards.md from what is kept")
    asked = parser.parse_args()
    if asked.show:
        PAGE.write_text(document(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
        return
    data = Path(os.environ["DPF_REAL_DATA"])
    for name in asked.names:
        with tempfile.TemporaryDirectory() as scratch:
            project = Path(scratch) / name
            initialise(project, name, data)
            found = measure(project, name, asked.presets, asked.extra)
        kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        kept[name] = kept.get(name, {}) | found
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        print(f"### {name}\n\n{table(kept[name])}\n", flush=True)


if __name__ == "__main__":
    main()
