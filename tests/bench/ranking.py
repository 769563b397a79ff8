"""How long the statistics of a ranking take, and how their memory grows: T, p-values, replicates, bootstrap, table.

python -m tests.bench.ranking COMPOUNDS WELLS CONTROLS PLATES
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np

from dpf.config.settings import LatentSettings
from dpf.training.probe import process_peak_gib
from dpf.workflows.progress import Silent
from dpf.workflows.project.inputs import Measured
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.evidence.replicates import compare_replicates
from dpf.workflows.rank.evidence.significance import run_tests
from dpf.workflows.rank.rows import compound_rows
from dpf.workflows.rank.signatures.compute import compute_signatures
from dpf.workflows.rank.table import ranking_table
from dpf.workflows.rank.wells import rank_wells
from tests.support.ranked_screens import Planted, make_screen

GENES = 2541


def measure(compounds: int, wells: int, controls: int, plates: int) -> dict[str, float]:
    """Seconds of each part, and MiB that the process grew by, on latents of 32 of 5 members."""
    inputs, outputs = make_screen(Planted(0, compounds, wells, controls, plates, members=5, width=32))
    choices, seconds = RankChoices(), {}
    before = process_peak_gib()

    def timed(name: str, started: float) -> None:
        seconds[f"{name}_seconds"] = time.perf_counter() - started

    begun, used = time.perf_counter(), time.process_time()
    rows = compound_rows(inputs, by_dose=False)
    placed = rank_wells(outputs, inputs, rows.codes, LatentSettings(), "none")
    timed("distances", begun)
    rng, at = np.random.default_rng(0), time.perf_counter()
    tests = run_tests(placed, inputs, rows, choices, rng)
    timed("p_values", at)
    at = time.perf_counter()
    replicates = compare_replicates(placed, inputs, rows, tests.matched, choices, rng)
    timed("replicates", at)
    at = time.perf_counter()
    missing = np.full(len(rows.codes), np.nan)
    nothing = Measured((), missing[:, None][:, :0], None, missing, None, missing, None)
    ranking_table(placed, inputs, nothing, rows, tests, replicates, 0.05, rng)
    timed("table", at)
    timed("all", begun)
    seconds["all_cpu_seconds"] = time.process_time() - used
    grown = 1024 * (process_peak_gib() - before)
    expression = np.random.default_rng(0).normal(8, 1, (len(rows.codes), GENES)).astype(np.float32)
    inputs = replace(inputs, read=lambda: expression, genes=[f"g{i}" for i in range(GENES)])
    at = time.perf_counter()
    compute_signatures(inputs, rows, True, "none", Silent())
    timed("signatures", at)
    at = time.perf_counter()
    compute_signatures(inputs, rows, True, "position", Silent())
    timed("adjusted_signatures", at)
    return {"wells": len(rows.codes), **seconds, "mib": grown}


def sizes() -> dict[str, dict[str, float]]:
    """A screen of two plates; a library on eight; half of that library, to see how memory grows."""
    return {
        "364_x_2_40_controls": apart(364, 2, 40, 2),
        "2500_x_4_200_controls": apart(2500, 4, 200, 8),
        "5000_x_4_400_controls": apart(5000, 4, 400, 8),
    }


def apart(*sizes: int) -> dict[str, float]:
    """The same in a process of its own, whose memory nothing else has grown."""
    command = [sys.executable, "-m", "tests.bench.ranking", *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:5])), indent=1))
