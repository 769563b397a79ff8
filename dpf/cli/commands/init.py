"""`dpf init`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dpf.cli.commands.init_options import (
    ActivationOption,
    ColumnEffectOption,
    CompoundColumnOption,
    CompoundsOption,
    ConcentrationColumnOption,
    ControlOption,
    ControlsOption,
    DemoOption,
    Duplicates,
    DuplicatesOption,
    FromOption,
    FullOption,
    GenesFileOption,
    GenesOption,
    KeepSignatureGenesOption,
    LabelOption,
    MinCountsOption,
    MinWellsOption,
    Normalize,
    NormalizeOption,
    OrientationOption,
    PlateColumnOption,
    PlateEffectOption,
    PlateLayoutOption,
    PositiveOption,
    ScoresOption,
    SeedOption,
    SignatureOption,
    TopPerturbedOption,
    TopVariableOption,
    WellColumnOption,
    WellPatternOption,
    WellsOption,
)
from dpf.cli.display.summaries import summary_lines
from dpf.cli.options import (
    LayerOption,
    ProjectArgument,
    SetOption,
    SourceFormatOption,
    TextFormat,
    TextFormatOption,
)
from dpf.cli.session import OutputFormat, session
from dpf.errors import UsageError

if TYPE_CHECKING:
    from dpf.workflows.project.initialise import InitResult


def command(
    project: ProjectArgument,
    demo: DemoOption = False,
    full: FullOption = False,
    genes: GenesOption = None,
    compounds: CompoundsOption = None,
    controls: ControlsOption = None,
    seed: SeedOption = 614,
    plate_effect: PlateEffectOption = None,
    column_effect: ColumnEffectOption = None,
    plate_layout: PlateLayoutOption = None,
    sources: FromOption = None,
    wells: WellsOption = None,
    source_format: SourceFormatOption = None,
    orientation: OrientationOption = None,
    layer: LayerOption = None,
    duplicate_genes: DuplicatesOption = Duplicates.rename,
    well_column: WellColumnOption = None,
    compound_column: CompoundColumnOption = None,
    control: ControlOption = None,
    plate_column: PlateColumnOption = None,
    concentration_column: ConcentrationColumnOption = None,
    scores: ScoresOption = None,
    label: LabelOption = None,
    positive: PositiveOption = None,
    activation: ActivationOption = None,
    well_pattern: WellPatternOption = None,
    normalize: NormalizeOption = Normalize.none,
    min_counts: MinCountsOption = None,
    signature: SignatureOption = None,
    keep_signature_genes: KeepSignatureGenesOption = False,
    min_wells: MinWellsOption = None,
    genes_file: GenesFileOption = None,
    top_variable: TopVariableOption = None,
    top_perturbed: TopPerturbedOption = None,
    set_: SetOption = None,
    output: TextFormatOption = TextFormat.table,
) -> None:
    """Make a project from your screen's files, or a simulated one to try."""
    with session("init", OutputFormat(output.value)) as run:
        if demo == bool(sources):
            raise UsageError("init needs a screen", expected="either --demo or --from FILES", found="both or neither")
        preparation: dict[str, Any] = {
            "normalize": normalize.value, "min_counts": min_counts, "min_wells": min_wells,
            "top_variable": top_variable, "top_perturbed": top_perturbed, "keep_signature_genes": keep_signature_genes,
        }  # fmt: skip
        roles: dict[str, Any] = {
            "compound_column": compound_column, "controls": tuple(control or ()), "well_column": well_column,
            "plate_column": plate_column, "concentration_column": concentration_column, "scores": _split(scores),
            "label": label, "positive": positive, "activation": activation,
            "orientation": orientation.value if orientation else None, "well_pattern": well_pattern,
            "duplicate_genes": duplicate_genes.value, "layer": layer,
        }  # fmt: skip
        design: dict[str, int | float | str | None] = {
            "genes": genes, "compounds": compounds, "controls": controls, "plate_effect": plate_effect,
            "column_effect": column_effect, "layout": plate_layout.value if plate_layout else None,
        }  # fmt: skip
        changed = tuple(set_ or ())
        if demo:
            _refuse({**roles, **preparation, "signature": signature, "genes_file": genes_file,
                     "source_format": source_format}, "--demo")  # fmt: skip
            given = {name: value for name, value in design.items() if value is not None}
            result = _demo(project, full, wells or [], seed, given, changed)
        else:
            _refuse({**design, "full": full}, "--from")
            files = (sources or [], [Path(table) for table in wells or []], signature or [], genes_file)
            result = _import(project, files, roles, preparation, source_format, changed)
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


def _refuse(options: dict[str, Any], beside: str) -> None:
    """Refuse options that say nothing about what is asked for, instead of passing over them."""
    flags = {"controls": "control"} if beside == "--demo" else {"layout": "plate-layout"}
    names = [name for name, value in options.items() if value not in ((), [], "none", "rename")]
    given = [flags.get(name, name) for name in names if options[name] is not None and options[name] is not False]
    if given:
        raise UsageError(
            f"these options are not for {'a simulated screen' if beside == '--demo' else 'a screen from files'}",
            found=", ".join(f"--{name.replace('_', '-')}" for name in given),
            expected=f"{beside} without them",
        )


def _demo(
    project: Path,
    full: bool,
    wells: list[str],
    seed: int,
    given: dict[str, int | float | str],
    changed: tuple[str, ...],
) -> InitResult:
    from dataclasses import replace

    from dpf.project.directory import require_new
    from dpf.simulate.screen import SimulationDesign, simulate
    from dpf.workflows.project.initialise import create_demo

    require_new(project)
    if wells and (len(wells) > 1 or not wells[0].isdigit()):
        raise UsageError("with --demo, --wells is a number", found=", ".join(wells))
    sizes = {"wells": int(wells[0])} if wells else {}
    if full and (sizes or {"genes", "compounds", "controls"} & given.keys()):
        raise UsageError("--full fixes the size", found="--full with a size", expected="one of the two")
    if full:
        base = SimulationDesign.full(seed)
    elif sizes or {"compounds", "controls"} & given.keys():
        base = SimulationDesign(seed=seed)
    else:
        # Two full 96-well plates, three replicates, a quarter of controls: enough for p-values that survive the FDR.
        base = SimulationDesign(wells=192, compounds=48, replicates=3, controls=48, seed=seed)
    design = replace(base, **sizes, **given)  # type: ignore[arg-type]
    return create_demo(project, simulate(design), changed)


def _import(
    project: Path,
    files: tuple[list[Path], list[Path], list[Path], Path | None],
    roles: dict[str, Any],
    preparation: dict[str, Any],
    source_format: str | None,
    changed: tuple[str, ...],
) -> InitResult:
    from dpf.project.directory import require_new
    from dpf.tables.preparing.options import read_preparation
    from dpf.tables.roles.assign import Roles
    from dpf.workflows.project.initialise import import_project

    require_new(project)
    sources, wells, signature, genes_file = files
    options = read_preparation(signature, genes_file, **preparation)
    return import_project(project, sources, wells, Roles(**roles), options, source_format, changed)
