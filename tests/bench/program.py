"""What a user waits for outside the training: start-up, ranking from kept outputs, reading a wide project, memory."""

from __future__ import annotations

import gzip
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

from dpf.regression.stacking import stack
from dpf.tables.genes.set_scores import read_gmt
from dpf.tables.storage import read_expression, write_expression
from tests.bench import ranking

BARE_TYPER = (
    "import typer; app = typer.Typer()\n@app.command()\ndef f(): 'Do nothing.'\n@app.command()\ndef g(): 'Nor.'\n"
)
TINY = ["--set", "model.width=16", "--set", "model.heads=2", "--set", "model.feed_forward=32"]


class Cost(NamedTuple):
    """Of a process: seconds, peak MiB, and seconds of all its processors' time."""

    seconds: float
    mib: float
    processor: float


def run(*command: str) -> Cost:
    """What a command costs in a fresh process."""
    code = (
        "import resource, subprocess, sys, time; t = time.perf_counter(); "
        "r = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode; "
        "u = resource.getrusage(resource.RUSAGE_CHILDREN); "
        "print(time.perf_counter() - t, u.ru_maxrss / 1024, u.ru_utime + u.ru_stime, r)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    *cost, status = done.stdout.split()
    if status != "0":
        raise RuntimeError(f"{' '.join(command)} ended with {status}")
    return Cost(*map(float, cost))


def dpf(*arguments: str) -> Cost:
    """A dpf command."""
    return run(sys.executable, "-m", "dpf", *arguments)


def start_up(repeats: int = 9) -> dict[str, float]:
    """`dpf --help` over the help of a bare Typer program with two commands, in turn."""
    bare_help = (sys.executable, "-c", f"{BARE_TYPER}app()", "--help")
    pairs = [(dpf("--help").seconds, run(*bare_help).seconds) for _ in range(repeats)]
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
    """The 768 x 2,541 demo: design check, peak memory of training, ranking from kept outputs, baselines in 5 folds."""
    with tempfile.TemporaryDirectory() as folder:
        project = str(Path(folder) / "full")
        dpf("init", project, "--demo", "--full")
        check = dpf("check", project)
        train = dpf("train", project, "--model", "memory", "--epochs", "1")
        dpf("train", project, "--folds", "5", "--epochs", "1", *TINY)
        dpf("predict", project)
        rank = dpf("rank", project)
        baselines = dpf("evaluate", project, "--baselines-only", "--set", "train.folds=5")
        return {
            "check_seconds": check.seconds,
            "train_epoch_seconds": train.seconds,
            "train_peak_gib": train.mib / 1024,
            "rank_seconds": rank.seconds,
            "rank_peak_mib": rank.mib,
            "baselines_5_folds_seconds": baselines.seconds,
        }


def gene_sets(compounds: int = 500, genes: int = 10_000, sets: int = 10_000, many: int = 100_000) -> dict[str, float]:
    """`dpf rank --signatures --gene-sets` of a screen of two wells a compound; reading very many sets."""
    rng = np.random.default_rng(614)
    names = [f"GENE{g}" for g in range(genes)]
    compound = np.r_[np.repeat(np.arange(compounds), 2), np.full(compounds // 10, -1)]
    moved = np.where(compound[:, None] < 0, 0.0, rng.normal(0, 0.5, (compounds, genes))[compound])
    values = (8 + moved + rng.normal(0, 1, (compound.size, genes))).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder, project = Path(name), str(Path(name) / "project")
        wells = [f"w{n}" for n in range(compound.size)]
        named = [f"C{one}" if one >= 0 else "DMSO" for one in compound.tolist()]
        table = pl.DataFrame(values, schema=names, orient="row").insert_column(0, pl.Series("well", wells))
        table.write_parquet(folder / "expression.parquet")
        pl.DataFrame({"well": wells, "compound": named}).write_csv(folder / "wells.csv")
        for count in (sets, many):
            drawn = rng.integers(genes, size=(count, 50))
            lines = (
                f"SET{n}\t\t" + "\t".join(f"GENE{g}" for g in sorted(set(row))) for n, row in enumerate(drawn.tolist())
            )
            (folder / f"{count}.gmt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        dpf("init", project, "--from", str(folder / "expression.parquet"), "--wells", str(folder / "wells.csv"))
        rank = dpf("rank", project, "--signatures", "--gene-sets", str(folder / f"{sets}.gmt"))
        started = time.process_time()
        read_gmt(folder / f"{many}.gmt")
        reading = time.process_time() - started
    return {
        "rank_seconds": rank.seconds,
        "rank_processor_seconds": rank.processor,
        "rank_peak_mib": rank.mib,
        f"{many}_sets_processor_seconds": reading,
    }


def starting(genes: int = 978, targets: int = 4) -> dict[str, float]:
    """Seconds to fit one member's start (`dpf.regression.stacking`) to so many wells, four of a compound."""
    found = {}
    for wells in (1_000, 4_000, 16_000):
        rng = np.random.default_rng(614)
        groups = np.arange(wells) // 4
        programs = rng.standard_normal((wells // 4, 6))[groups] + 0.5 * rng.standard_normal((wells, 6))
        x = programs @ rng.standard_normal((6, genes)) + 2 * rng.standard_normal((wells, genes))
        scores = programs[:, :targets] + 0.5 * rng.standard_normal((wells, targets))
        started = time.perf_counter()
        stack((x - x.mean(0)) / x.std(0), scores, groups, 614, threads=torch.get_num_threads())
        found[f"{wells}_wells_seconds"] = time.perf_counter() - started
    return found


def counts(wells: int = 384, genes: int = 37_000) -> dict[str, float]:
    """`dpf init` from a gzipped MTX folder of counts, 30% of them above 0, to log-CPM."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "mtx"
        folder.mkdir()
        rng = np.random.default_rng(614)
        values = rng.negative_binomial(1, 0.2, (genes, wells)) * (rng.random((genes, wells)) < 0.375)
        row, column = np.nonzero(values)
        entries = np.column_stack([row + 1, column + 1, values[row, column]])
        body = "\n".join(" ".join(map(str, entry)) for entry in entries.tolist())
        head = f"%%MatrixMarket matrix coordinate integer general\n{genes} {wells} {len(entries)}\n"
        ids = [f"{letter}{number:02}" for letter in "ABCDEFGHIJKLMNOP" for number in range(1, 25)]
        _gzip(folder / "matrix.mtx.gz", head + body + "\n")
        _gzip(folder / "barcodes.tsv.gz", "\n".join(ids) + "\n")
        names = "".join(f"ENSG{g:011}\tGENE{g}\tGene Expression\n" for g in range(genes))
        _gzip(folder / "features.tsv.gz", names)
        rows = [f"{well},{'DMSO' if i % 12 == 0 else f'C{i // 2}'},{i / 100}" for i, well in enumerate(ids)]
        table = Path(name) / "wells.csv"
        table.write_text("well,compound,viability\n" + "\n".join(rows) + "\n", encoding="utf-8")
        project = str(Path(name) / "project")
        asked = ["--from", str(folder), "--wells", str(table), "--scores", "viability", "--normalize", "log-cpm"]
        init = dpf("init", project, *asked)
        return {"init_seconds": init.seconds, "peak_mib": init.mib, "entries": len(entries)}


def _gzip(path: Path, text: str) -> None:
    with gzip.open(path, "wt", compresslevel=4, encoding="utf-8") as stream:
        stream.write(text)


def measure() -> dict[str, Any]:
    """All of it."""
    parts = {
        "start_up": start_up,
        "read_768_x_20000": reading,
        "mtx_384_x_37000": counts,
        "full_size": full_size,
        "ranking": ranking.sizes,
        "gene_sets_500_x_2_10000_sets": gene_sets,
        "start_of_a_member": starting,
    }
    return {name: part() for name, part in parts.items()}
