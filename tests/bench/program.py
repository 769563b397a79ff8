"""What a user waits for outside the training: start-up, ranking from kept outputs, reading a wide project, memory."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from dpf.tables.storage import read_expression, write_expression

BARE_TYPER = (
    "import typer; app = typer.Typer()\n@app.command()\ndef f(): 'Do nothing.'\n@app.command()\ndef g(): 'Nor.'\n"
)
TINY = ["--set", "model.width=16", "--set", "model.heads=2", "--set", "model.feed_forward=32"]


def run(*command: str) -> tuple[float, float]:
    """Seconds and peak MiB of a command in a fresh process."""
    code = (
        "import resource, subprocess, sys, time; t = time.perf_counter(); "
        "r = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode; "
        "print(time.perf_counter() - t, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, r)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    seconds, mib, status = done.stdout.split()
    if status != "0":
        raise RuntimeError(f"{' '.join(command)} ended with {status}")
    return float(seconds), float(mib)


def dpf(*arguments: str) -> tuple[float, float]:
    """A dpf command."""
    return run(sys.executable, "-m", "dpf", *arguments)


def start_up(repeats: int = 9) -> dict[str, float]:
    """`dpf --help` over the help of a bare Typer program with two commands, in turn."""
    pairs = [(dpf("--help")[0], run(sys.executable, "-c", f"{BARE_TYPER}app()", "--help")[0]) for _ in range(repeats)]
    ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    return {"help_seconds": ours, "bare_typer_seconds": bare, "ratio": ours / bare}


def reading(wells: int = 768, genes: int = 20_000) -> dict[str, float]:
    """Seconds to read the expression of a wide project."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "expression.parquet"
        values = np.random.default_rng(614).normal(8, 1, (wells, genes)).astype(np.float32)
        write_expression(path, [f"w{i}" for i in range(wells)], [f"g{i}" for i in range(genes)], values)
        times = []
        for _ in range(5):
            started = time.perf_counter()
            read_expression(path)
            times.append(time.perf_counter() - started)
        return {"seconds": statistics.median(times), "mib_on_disk": path.stat().st_size / 2**20}


def full_size() -> dict[str, float]:
    """The 768 x 2,541 demo: the design check, peak memory of training at batch 32, ranking from kept outputs."""
    with tempfile.TemporaryDirectory() as folder:
        project = str(Path(folder) / "full")
        dpf("init", project, "--demo", "--full")
        check = dpf("check", project)
        # One epoch with a small split file would not fill memory otherwise: a whole epoch at full width, batch 32.
        limit = ["--epochs", "1", "--set", "train.max_minutes=10"]
        train = dpf("train", project, "--model", "memory", *limit)
        dpf("train", project, "--folds", "5", "--epochs", "1", *TINY)
        dpf("predict", project)
        rank = dpf("rank", project)
        return {
            "check_seconds": check[0],
            "train_epoch_seconds": train[0],
            "train_peak_gib": train[1] / 1024,
            "rank_seconds": rank[0],
            "rank_peak_mib": rank[1],
        }


def measure() -> dict[str, Any]:
    """All of it."""
    return {"start_up": start_up(), "read_768_x_20000": reading(), "full_size": full_size()}
