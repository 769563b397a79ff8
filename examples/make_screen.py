"""Write `examples/screen/`, the files that the tutorial begins with: the screen of `dpf init --demo`, as counts.

`python examples/make_screen.py` makes them anew.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl

from dpf.simulate.screen import SimulationDesign, simulate

FOLDER = Path(__file__).parent / "screen"


def main() -> None:
    """Counts as genes x wells, a plate map, the measured scores, and what was planted."""
    made = simulate(SimulationDesign(wells=192, compounds=48, replicates=3, controls=48))
    wells, truth = made.screen.wells, made.truth
    names = wells.get_column("well_id").to_list()
    counts = pl.DataFrame({"gene": made.screen.gene_names}).hstack(pl.DataFrame(made.counts.T, schema=names))
    FOLDER.mkdir(exist_ok=True)
    # No time and no name in the header: the same screen gives the same bytes.
    with (FOLDER / "counts.csv.gz").open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(counts.write_csv().encode())
    wells.select("well_id", "compound", "concentration", "pathway").write_csv(FOLDER / "plate_map.csv")
    scores = wells.select("well_id", pl.col("Tscore", "CytoTRACE", "Pseudotime").round(4), "activated")
    scores.write_csv(FOLDER / "scores.csv")
    planted = truth.filter(pl.col("kind") != "control").select("compound", "kind", pl.col("strength").round(3))
    planted.unique(maintain_order=True).sort("compound").write_csv(FOLDER / "truth.csv")


if __name__ == "__main__":
    main()
