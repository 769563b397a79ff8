"""`dpf init`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpf.cli.options import FormatOption, ProjectArgument, SetOption
from dpf.cli.session import OutputFormat, session
from dpf.cli.summaries import summary_lines
from dpf.errors import UsageError

if TYPE_CHECKING:
    from dpf.tables.roles import Roles
    from dpf.workflows.initialise import InitResult


class _Orientation(StrEnum):
    wells_by_genes = "wells-by-genes"
    genes_by_wells = "genes-by-wells"


class _Duplicates(StrEnum):
    rename = "rename"
    refuse = "refuse"
    sum = "sum"


_DEMO, _IMPORT, _ROLES = "A simulated screen", "Your own screen", "What the columns mean"


def command(
    project: ProjectArgument,
    demo: Annotated[
        bool, typer.Option("--demo", help="Simulate a screen with known truth.", rich_help_panel=_DEMO)
    ] = False,
    full: Annotated[
        bool,
        typer.Option("--full", help="768 wells x 2,541 genes, 364 compounds x 2, 40 controls.", rich_help_panel=_DEMO),
    ] = False,
    genes: Annotated[int | None, typer.Option("--genes", min=1, help="Genes.", rich_help_panel=_DEMO)] = None,
    compounds: Annotated[
        int | None, typer.Option("--compounds", min=1, help="Compounds.", rich_help_panel=_DEMO)
    ] = None,
    controls: Annotated[
        int | None, typer.Option("--controls", min=1, help="Control wells.", rich_help_panel=_DEMO)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the simulation.", rich_help_panel=_DEMO)] = 614,
    plate_effect: Annotated[
        float | None,
        typer.Option("--plate-effect", min=0, help="SD of a gene's log2 shift on a plate.", rich_help_panel=_DEMO),
    ] = None,
    column_effect: Annotated[
        float | None,
        typer.Option("--column-effect", min=0, help="Strength of a column gradient; 0: none.", rich_help_panel=_DEMO),
    ] = None,
    sources: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            help="A folder of the classic CSV layout or of 10x MTX, or a table of wells x genes (CSV, TSV, Parquet, "
            "Feather, xlsx, h5ad, GCT, GCTX; gz or not; either orientation). Repeat it for several plates.",
            rich_help_panel=_IMPORT,
        ),
    ] = None,
    wells: Annotated[
        list[str] | None,
        typer.Option(
            "--wells",
            help="With --from: the table about the wells (one, or one a --from). With --demo: how many wells.",
            rich_help_panel=_IMPORT,
        ),
    ] = None,
    source_format: Annotated[
        str | None,
        typer.Option("--source-format", help="Format of --from, if not recognised.", rich_help_panel=_IMPORT),
    ] = None,
    orientation: Annotated[
        _Orientation | None,
        typer.Option("--orientation", help="Of the expression table, if unclear.", rich_help_panel=_IMPORT),
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="Layer of an h5ad file. [X]", rich_help_panel=_IMPORT)
    ] = None,
    duplicate_genes: Annotated[
        _Duplicates,
        typer.Option(
            "--duplicate-genes", help="Genes of one name: kept apart, refused, or summed.", rich_help_panel=_IMPORT
        ),
    ] = _Duplicates.rename,
    well_column: Annotated[str | None, typer.Option("--well-column", help="Well ids.", rich_help_panel=_ROLES)] = None,
    compound_column: Annotated[
        str | None, typer.Option("--compound-column", help="Compounds.", rich_help_panel=_ROLES)
    ] = None,
    control: Annotated[
        list[str] | None,
        typer.Option("--control", help="Name of the control compound, repeatable. [DMSO]", rich_help_panel=_ROLES),
    ] = None,
    plate_column: Annotated[str | None, typer.Option("--plate-column", help="Plates.", rich_help_panel=_ROLES)] = None,
    concentration_column: Annotated[
        str | None, typer.Option("--concentration-column", help="Concentrations.", rich_help_panel=_ROLES)
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(
            "--scores", help="Continuous scores to learn: repeat it, or separate by commas.", rich_help_panel=_ROLES
        ),
    ] = None,
    label: Annotated[str | None, typer.Option("--label", help="Binary label to learn.", rich_help_panel=_ROLES)] = None,
    positive: Annotated[
        str | None, typer.Option("--positive", help="The label's value that is 1.", rich_help_panel=_ROLES)
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            "--activation",
            help="Activation score, which gives the latent space its direction. [with three scores: their sum]",
            rich_help_panel=_ROLES,
        ),
    ] = None,
    well_pattern: Annotated[
        str | None,
        typer.Option(
            "--well-pattern",
            help="Regular expression with groups plate, row, column to read positions from well ids.",
            rich_help_panel=_ROLES,
        ),
    ] = None,
    set_: SetOption = None,
    output: FormatOption = None,
) -> None:
    """Make a project from your screen's files, or a simulated one to try."""
    with session("init", output or OutputFormat.table) as run:
        if demo == bool(sources):
            raise UsageError("init needs a screen", expected="either --demo or --from FILES", found="both or neither")
        if demo:
            asked: dict[str, int | float | None] = {"genes": genes, "compounds": compounds, "controls": controls}
            asked |= {"plate_effect": plate_effect, "column_effect": column_effect}
            given = {name: value for name, value in asked.items() if value is not None}
            result = _demo(project, full, wells or [], seed, given, tuple(set_ or ()))
        else:
            from dpf.tables.roles import Roles

            roles = Roles(
                compound_column=compound_column, controls=tuple(control or ()), well_column=well_column,
                plate_column=plate_column, concentration_column=concentration_column, scores=_split(scores),
                label=label, positive=positive, activation=activation,
                orientation=orientation.value if orientation else None,
                well_pattern=well_pattern, duplicate_genes=duplicate_genes.value, layer=layer,
            )  # fmt: skip
            result = _import(project, sources or [], wells or [], roles, source_format, tuple(set_ or ()))
        if run.format is OutputFormat.json:
            from dataclasses import asdict

            run.envelope({"project": str(project), "summary": asdict(result.summary)})
        else:
            typer.echo("\n".join([f"project  {project}", *summary_lines(result.summary)]))
        if result.truth:
            run.say(f"truth    {result.truth} (what was planted; nothing in dpf reads it)")
        run.say(f"next     dpf train {project}")


def _split(names: list[str] | None) -> tuple[str, ...]:
    return tuple(name.strip() for text in names or [] for name in text.split(",") if name.strip())


def _demo(
    project: Path, full: bool, wells: list[str], seed: int, given: dict[str, int | float], changed: tuple[str, ...]
) -> InitResult:
    from dataclasses import replace

    from dpf.project.directory import require_new
    from dpf.tables.simulate import SimulationDesign, simulate
    from dpf.workflows.initialise import create_demo

    require_new(project)
    if wells and (len(wells) > 1 or not wells[0].isdigit()):
        raise UsageError("with --demo, --wells is a number", found=", ".join(wells))
    base = SimulationDesign.full(seed) if full else SimulationDesign(controls=24, seed=seed)
    sizes = {"wells": int(wells[0])} if wells else {}
    if full and (sizes or {"genes", "compounds", "controls"} & given.keys()):
        raise UsageError("--full fixes the size", found="--full with a size", expected="one of the two")
    if sizes and "controls" not in given:
        base = replace(base, controls=None)
    design = replace(base, **sizes, **given)  # type: ignore[arg-type]
    return create_demo(project, simulate(design), changed)


def _import(
    project: Path,
    sources: list[Path],
    wells: list[str],
    roles: Roles,
    source_format: str | None,
    changed: tuple[str, ...],
) -> InitResult:
    from dpf.project.directory import require_new
    from dpf.tables.importing import read_screen
    from dpf.workflows.initialise import create_project

    require_new(project)
    screen = read_screen(sources, [Path(table) for table in wells], roles, source_format)
    return create_project(project, screen, changed)
