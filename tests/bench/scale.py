"""Seconds and peak memory of each command from 2,000 to 200,000 wells: `python -m tests.bench scale`.

The network is as small as one can be made, so that the figures are those of reading, writing and statistics. Peak
memory is the most that was resident (getrusage), pages of temporary files included.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.program import dpf

GENES = 1000
PROGRAMS = 6
#: Wells of a plate, of which the first are controls, and wells of a compound.
PLATE, CONTROLS, REPLICATES = 384, 24, 4
WELLS_AT_A_TIME = 4096
TINY = [
    *("--preset", "classic", "--attention", "induced", "--epochs", "1", "--batch-size", "256"),
    *("--set", "model.width=8", "--set", "model.heads=1", "--set", "model.layers=1", "--set", "model.feed_forward=8"),
    *("--set", "model.induced_points=1", "--set", "model.latent=8"),
]


def write_screen(folder: Path, wells: int) -> tuple[Path, Path]:
    """An expression table (Parquet, wells x genes) and its wells, written a few thousand wells at a time."""
    expression, about = folder / "expression.parquet", folder / "wells.csv"
    shared = np.random.default_rng(614)
    loadings = 0.3 * shared.standard_normal((PROGRAMS, GENES))
    moved = (
        2
        * shared.standard_normal((wells // REPLICATES + 1, PROGRAMS))
        * (shared.random((wells // REPLICATES + 1, 1)) < 0.2)
    )
    level = shared.uniform(2, 12, GENES)
    schema = pa.schema([("well", pa.string()), *((f"GENE{g}", pa.float32()) for g in range(GENES))])
    with pq.ParquetWriter(expression, schema, compression="lz4") as writer, about.open("w", encoding="utf-8") as table:
        table.write("well,plate,row,column,compound,activity,growth\n")
        for names, lines, x in _wells(wells, loadings, moved, level):
            writer.write_table(pa.Table.from_arrays([pa.array(names), *map(pa.array, x.T.copy())], schema=schema))
            table.write("".join(lines))
    return expression, about


def _wells(
    wells: int, loadings: np.ndarray, moved: np.ndarray, level: np.ndarray
) -> Iterator[tuple[list[str], list[str], np.ndarray]]:
    for start in range(0, wells, WELLS_AT_A_TIME):
        number = np.arange(start, min(start + WELLS_AT_A_TIME, wells))
        rng = np.random.default_rng([614, start])
        control = number % PLATE < CONTROLS
        compound = number % (wells // REPLICATES)  # replicates on different plates
        states = 0.5 * rng.standard_normal((len(number), PROGRAMS)) + np.where(control[:, None], 0.0, moved[compound])
        x = (level + states @ loadings + 0.5 * rng.standard_normal((len(number), GENES))).astype(np.float32)
        scores = states[:, :2] + 0.3 * rng.standard_normal((len(number), 2))
        names = [f"p{n // PLATE}w{n % PLATE}" for n in number.tolist()]
        lines = [
            f"{name},p{n // PLATE},{'ABCDEFGHIJKLMNOP'[n % PLATE // 24]},{n % 24 + 1},"
            f"{'DMSO' if is_control else f'C{one}'},{a:.4f},{b:.4f}\n"
            for name, n, is_control, one, (a, b) in zip(names, number.tolist(), control, compound, scores, strict=True)
        ]
        yield names, lines, x


def commands(folder: Path, wells: int) -> dict[str, list[float]]:
    """Of each command on a screen of so many wells: seconds, peak GiB, and seconds of processor time."""
    expression, about = write_screen(folder, wells)
    project = str(folder / "project")
    given = ["--from", str(expression), "--wells", str(about), "--scores", "activity,growth"]
    asked = {
        "init": ["init", project, *given],
        "check": ["check", project],
        "train, 2 members x 1 epoch": ["train", project, *TINY, "--folds", "2"],
        "predict": ["predict", project],
        "predict --input": ["predict", project, "--input", str(expression), "--output", str(folder / "new.parquet")],
        "latent": ["latent", project],
        "rank": ["rank", project],
        "export": ["export", project, "--output", str(folder / "export"), "--format", "parquet"],
    }
    found = {}
    for name, words in asked.items():
        cost = dpf(*words)
        found[name] = [round(cost.seconds, 1), round(cost.mib / 1024, 2), round(cost.processor, 1)]
        print(f"{wells:>8,}  {name:<26} {found[name]}", flush=True)
    return found


def measure(sizes: list[int]) -> dict[str, Any]:
    """The sizes one after another; each with the machine's load before and after (processes that want to run)."""
    found: dict[str, Any] = {}
    for wells in sizes:
        folder, load = Path(tempfile.mkdtemp(prefix="dpf-scale-")), os.getloadavg()[0]
        try:
            found[str(wells)] = commands(folder, wells)
        finally:
            shutil.rmtree(folder)
        found[str(wells)]["load"] = [round(load, 1), round(os.getloadavg()[0], 1)]
    return found


def table(found: dict[str, Any]) -> str:
    """As the page on speed shows it: seconds and GiB."""
    sizes = sorted(found, key=int)
    lines = ["| command | " + " | ".join(f"{int(size):,} wells" for size in sizes) + " |"]
    lines.append("| --- " * (len(sizes) + 1) + "|")
    for name in (name for name in found[sizes[0]] if name != "load"):
        cells = [f"{found[size][name][0]:,.0f} s, {found[size][name][1]:.1f} GiB" for size in sizes]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
