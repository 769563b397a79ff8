"""`dpf init`: a screen becomes a project directory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from dpf.config import Settings, TargetSettings, with_overrides
from dpf.project.directory import Project, require_new, write_settings
from dpf.tables.screen import Screen
from dpf.tables.simulate import Simulation
from dpf.tables.storage import write_expression, write_table
from dpf.tables.summary import Summary, summarise


@dataclass(frozen=True)
class InitResult:
    """A new project and what was understood of its screen."""

    project: Project
    summary: Summary
    truth: Path | None = None


def create_project(path: Path, screen: Screen, overrides: tuple[str, ...] = ()) -> InitResult:
    """Write a new project directory from a screen.

    `dpf.toml` is written last: a folder without it is not a project, so an interrupted `init` leaves none.

    Raises
    ------
    ProjectError
        The folder is not empty or cannot be written, or an override is wrong.
    """
    require_new(path)
    targets = screen.targets
    chosen = TargetSettings(targets.scores, targets.label or "", targets.activation or "auto")
    settings = with_overrides(Settings(targets=chosen), overrides)
    project = Project(path, settings)
    about = {"sources": [asdict(source) for source in screen.sources], "notes": [asdict(n) for n in screen.notes]}
    wells = screen.wells
    write_expression(
        project.expression, wells.get_column("well_id").to_list(), screen.gene_names, screen.expression, about
    )
    write_table(project.wells, wells, "wells", about)
    write_table(project.genes, screen.genes, "genes", about)
    write_settings(path, settings)
    return InitResult(project, summarise(screen))


def create_demo(path: Path, simulation: Simulation, overrides: tuple[str, ...] = ()) -> InitResult:
    """Write a project from a simulated screen; its truth goes beside the inputs, never into them.

    `truth.parquet` has one row a well, `truth_genes.parquet` one a gene. Nothing in dpf reads them.
    """
    result = create_project(path, simulation.screen, overrides)
    truth = path / "truth.parquet"
    write_table(truth, simulation.truth, "truth")
    write_table(path / "truth_genes.parquet", simulation.gene_truth, "truth_genes")
    return InitResult(result.project, result.summary, truth)
