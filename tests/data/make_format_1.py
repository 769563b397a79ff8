"""Make the archived project of format 1, and what this version says of it.

    python tests/data/make_format_1.py FOLDER

It was run once, when format 1 was fixed. Later versions of dpf have to read `tests/data/format-1` as it stands and say
the same: it is not to be made again, and this script is kept to say what is in it. What stands there:

- `project/`: 24 wells x 12 genes with every canonical column, names with Greek letters and commas, missing targets;
  a model of two members (width 8, two epochs), and every result table, without the figures;
- `new_wells.csv`: four wells from elsewhere;
- `expected/`: predictions of the project's wells and of those, latents, ranking and importance, as CSV.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl

from dpf.project.directory import open_project
from dpf.tables.screen import Note, Screen, SourceFile, Targets
from dpf.workflows.explain import explain_project
from dpf.workflows.predict.latent import latent_project
from dpf.workflows.predict.new import predict_new
from dpf.workflows.predict.new_wells import read_new_wells
from dpf.workflows.predict.predict import predict_project
from dpf.workflows.progress import Silent
from dpf.workflows.project.initialise import create_project
from dpf.workflows.rank.rank import rank_project
from dpf.workflows.train.train import train_project

COMPOUNDS = ["β-Alanine", "D-Glucono-1,5-lactone", "Adenine", "Urea", "Taurine", "L-Serine", "Inosine", "Choline"]
GENES = ["CD69", "IL2", "IFNG", "TNF", "GZMB", "CCL3", "ACTB", "GAPDH", "LDHA", "MKI67", "SELL", "HLA-DRA|2"]
SETTINGS = (
    *(
        "model.width=8",
        "model.heads=2",
        "model.layers=1",
        "model.feed_forward=16",
        "model.latent=4",
        "model.start=none",
    ),
    *("train.epochs=2", "train.folds=2", "train.batch_size=8"),
    *("compute.device=cpu", "compute.precision=fp32", "compute.threads=1"),
)


def screen() -> tuple[Screen, pl.DataFrame]:
    """The archived screen, and the table of new wells."""
    rng = np.random.default_rng(614)
    names = [name for name in COMPOUNDS for _ in range(2)] + ["DMSO"] * 8
    strength = np.array([k / 7 for k in range(8) for _ in range(2)] + [0.0] * 8)
    values = (7 + np.outer(strength, rng.standard_normal(12)) * 2 + rng.standard_normal((24, 12)) * 0.4).round(3)
    tscore, size = (strength + rng.standard_normal(24) * 0.1).round(4), (1 - strength).round(4)
    wells = pl.DataFrame(
        {
            "well_id": [f"p{1 + n % 2}_{'ABCDEF'[n // 4]}{1 + n % 4:02d}" for n in range(24)],
            "compound": names,
            "is_control": [name == "DMSO" for name in names],
            "plate": [f"p{1 + n % 2}" for n in range(24)],
            "row": ["ABCDEF"[n // 4] for n in range(24)],
            "column": [1 + n % 4 for n in range(24)],
            "concentration": [10.0 if n < 16 else None for n in range(24)],
            "cluster": [str(n % 3) for n in range(24)],
            "batch": ["one"] * 24,
            "Tscore": tscore,
            "size": [None if n in (3, 20) else value for n, value in enumerate(size.tolist())],
            "active": [None if n == 5 else int(value > 0.4) for n, value in enumerate(strength)],
            "activation": tscore * 2,
            "comment": [None if n % 2 else "ok, λ" for n in range(24)],
        }
    )
    screen = Screen(
        wells,
        pl.DataFrame({"gene": GENES}),
        values.astype(np.float32),
        Targets(("Tscore", "size"), "active", "activation"),
        (Note("warning", "made up: the archive of format 1"),),
        (SourceFile("screen.csv", "0" * 64),),
    )
    fresh = (values[[2, 9, 14, 20]] + 0.25).round(3)
    return screen, pl.DataFrame({"well": [f"new{n}" for n in range(4)]} | dict(zip(GENES, fresh.T, strict=True)))


def main(folder: Path) -> None:
    """Write the archive into a folder that is not there yet."""
    made, new = screen()
    folder.mkdir(parents=True)
    path, expected = folder / "project", folder / "expected"
    expected.mkdir()
    create_project(path, made, SETTINGS)
    project = open_project(path)
    train_project(project)
    new.write_csv(folder / "new_wells.csv")
    wells = read_new_wells(project, "default", folder / "new_wells.csv", Silent())
    tables = {
        "predictions": predict_project(project).table,
        "latent": latent_project(project).table,
        "ranking": rank_project(project).table,
        "importance": explain_project(project).table,
        "new_wells": predict_new(project, wells).table,
    }
    for name, table in tables.items():
        table.write_csv(expected / f"{name}.csv")
    shutil.rmtree(path / "results/default/figures")
    (path / "models/default/.lock").unlink()
    for file in (path / "models/default").iterdir():
        assert file.suffix != ".part"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
