"""`dpf init`: make a project directory from a screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dpf.config.settings import Settings, TargetSettings
from dpf.config.toml import preset_overrides, with_overrides
from dpf.errors import UsageError
from dpf.files import sha256_file
from dpf.project.directory import Project, settings_path, write_settings
from dpf.project.new_project import making, require_new
from dpf.simulate.screen import Simulation, SimulationDesign, simulate
from dpf.tables.importing import read_screen
from dpf.tables.matrix import take_columns
from dpf.tables.options import PrepareOptions, Roles
from dpf.tables.preparing.normalise import Normalisation, write_normalisation
from dpf.tables.preparing.options import Preparation, read_preparation
from dpf.tables.preparing.prepare import prepare
from dpf.tables.screen import Screen, Summary, summarise, takes_part
from dpf.tables.storage import write_expression, write_table
from dpf.workflows.options import DemoOptions, SourceOptions
from dpf.workflows.project.inputs import NORMALISED_BY, has_targets, read_measured


@dataclass(frozen=True)
class InitResult:
    """A new project and the summary of its screen."""

    project: Project
    summary: Summary
    truth: Path | None = None


def init_project(
    path: Path,
    source: SourceOptions,
    demo: DemoOptions,
    roles: Roles,
    prepare: PrepareOptions,
    overrides: Sequence[str] = (),
) -> InitResult:
    """Make a project from a screen's files or, with `demo.demo`, from a simulated screen.

    Parameters
    ----------
    source, demo, roles, prepare
        What the user says; the first of those that are not for the screen asked for is an error.
    overrides
        ``section.name=value`` settings for the new `dpf.toml`.

    Raises
    ------
    DpfError
        As `import_project` and `create_demo`; options that do not go together.
    """
    if demo.demo == bool(source.sources):
        raise UsageError("init needs a screen", expected="either --demo or --from FILES", found="both or neither")
    if demo.demo:
        _refuse([*roles.given(), *prepare.given(), *replace(source, wells=()).given()], "a simulated screen", "--demo")
        require_new(path)
        return create_demo(path, simulate(_demo_design(demo, source.wells)), tuple(overrides))
    _refuse(replace(demo, seed=DemoOptions.seed).given(), "a screen from files", "--from")
    wells = [Path(table) for table in source.wells]
    require_new(path)
    return import_project(
        path, source.sources, wells, roles, read_preparation(prepare), source.source_format, tuple(overrides)
    )


def _refuse(flags: Sequence[str], screen: str, instead: str) -> None:
    """Refuse options that say nothing about what is asked for, instead of passing over them."""
    if flags:
        raise UsageError(
            f"these options are not for {screen}", found=", ".join(flags), expected=f"{instead} without them"
        )


def _demo_design(demo: DemoOptions, wells: Sequence[str]) -> SimulationDesign:
    if wells and (len(wells) > 1 or not wells[0].isdigit()):
        raise UsageError("with --demo, --wells is a number", found=", ".join(wells))
    sizes: dict[str, Any] = {"wells": int(wells[0])} if wells else {}
    given = {name: value for name, value in vars(demo).items() if name not in ("demo", "full") and value is not None}
    if demo.full and (sizes or {"genes", "compounds", "controls"} & given.keys()):
        raise UsageError("--full fixes the size", found="--full with a size", expected="one of the two")
    if demo.full:
        base = SimulationDesign.full()
    elif sizes or {"compounds", "controls"} & given.keys():
        base = SimulationDesign()
    else:
        # Two full 96-well plates, three replicates, a quarter of controls: enough for p-values that survive the FDR.
        base = SimulationDesign(wells=192, compounds=48, replicates=3, controls=48)
    return replace(base, **sizes, **given)


def import_project(
    path: Path,
    sources: Sequence[Path],
    wells: Sequence[Path],
    roles: Roles,
    preparation: Preparation,
    source_format: str | None = None,
    overrides: tuple[str, ...] = (),
) -> InitResult:
    """Read a screen from its files, prepare it and write it as a new project.

    Parameters
    ----------
    sources, wells, source_format
        Expression tables, tables about their wells, and the format of the former (`dpf.tables.importing`).
    roles
        What the columns mean.
    preparation
        What to do with counts, genes and gene sets (`dpf.tables.preparing.prepare`).
    overrides
        ``section.name=value`` settings for the new `dpf.toml`.

    Raises
    ------
    UsageError, DataError
        The files are not a usable screen, or a step of the preparation fails.
    ProjectError
        As `create_project`.
    """
    require_new(path)
    roles = replace(roles, targets_follow=roles.targets_follow or bool(preparation.signatures))
    # Nothing else uses the screen as read, so it may be overwritten: a large one then takes its memory once.
    screen = read_screen(sources, wells, roles, source_format)
    if preparation.keep_flagged:
        overrides = ("quality.keep_flagged=true", *overrides)
    with making(path) as folder:
        counts = Project(folder, Settings()).counts
        screen, normalisation = prepare(screen, preparation, in_place=True, keep_counts=partial(_keep_counts, counts))
        return _write(folder, path, screen, overrides, normalisation)


def _keep_counts(path: Path, screen: Screen) -> None:
    """Keep the counts that came in, of the genes that any well has a count of."""
    some = np.asarray(screen.expression.any(axis=0))
    wells, names = screen.wells.get_column("well_id").to_list(), screen.genes.filter(some).get_column("gene").to_list()
    write_expression(path, wells, names, take_columns(screen.expression, np.flatnonzero(some)), kind="counts")


def create_project(
    path: Path,
    screen: Screen,
    overrides: tuple[str, ...] = (),
    normalisation: Normalisation | None = None,
    truth: Mapping[str, pl.DataFrame] | None = None,
) -> InitResult:
    """Write a new project directory from a screen: whole, or not at all (`dpf.project.new_project`).

    Parameters
    ----------
    normalisation
        How the screen's counts became its expression; None where they were taken as they are.
    truth
        Of a simulated screen: further tables, by their kinds, which stand apart from the inputs.

    Raises
    ------
    ProjectError
        The folder is not empty or cannot be written, an override is wrong, or the settings name a target that the
        wells table does not have.
    DataError
        A target that an override names cannot be learnt.
    """
    with making(path) as folder:
        result = _write(folder, path, screen, overrides, normalisation)
        for kind, table in (truth or {}).items():
            write_table(folder / f"{kind}.parquet", table, kind)
        return result


def _write(
    folder: Path, path: Path, screen: Screen, overrides: tuple[str, ...], normalisation: Normalisation | None
) -> InitResult:
    """Write the project, whose place will be `path`, into a folder."""
    targets = screen.targets
    chosen = TargetSettings(targets.scores, targets.label or "", targets.activation or "auto")
    settings = with_overrides(Settings(targets=chosen), (*preset_overrides("recommended"), *overrides))
    if has_targets(settings.targets):
        used = screen.wells.filter(takes_part(screen.wells, settings.quality.keep_flagged))
        read_measured(used, settings.targets, f"{settings_path(path)}: [targets]")
    project = Project(folder, settings)
    about = {"sources": [asdict(source) for source in screen.sources], "notes": [asdict(n) for n in screen.notes]}
    wells = screen.wells
    write_expression(
        project.expression, wells.get_column("well_id").to_list(), screen.gene_names, screen.expression, about
    )
    made = None
    if normalisation is not None and normalisation.method != "none":
        write_normalisation(project.normalisation, normalisation)
        made = sha256_file(project.normalisation)
    write_table(project.wells, wells, "wells", {**about, NORMALISED_BY: made})
    write_table(project.genes, screen.genes, "genes", about)
    write_settings(folder, settings)
    return InitResult(Project(path, settings), summarise(screen, keep_flagged=settings.quality.keep_flagged))


def create_demo(path: Path, simulation: Simulation, overrides: tuple[str, ...] = ()) -> InitResult:
    """Write a project from a simulated screen; its truth is kept apart from the inputs.

    `truth.parquet` has one row a well, `truth_genes.parquet` one a gene. Nothing in dpf reads them.
    """
    truth = {"truth": simulation.truth, "truth_genes": simulation.gene_truth}
    result = create_project(path, simulation.screen, overrides, truth=truth)
    return replace(result, truth=path / "truth.parquet")
