"""The options of `dpf init`, each declared once; those that `predict` has too stand in `dpf.cli.options`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

_DEMO, _IMPORT, _ROLES = "A simulated screen", "Your own screen", "What the columns mean"
_PREPARE = "From counts to expression, scores and genes"


class Orientation(StrEnum):
    """Which side of the expression table holds the wells."""

    wells_by_genes = "wells-by-genes"
    genes_by_wells = "genes-by-wells"


class Duplicates(StrEnum):
    """What is done with genes of one name."""

    rename = "rename"
    refuse = "refuse"
    sum = "sum"


class Normalize(StrEnum):
    """How counts become expression."""

    none = "none"
    log_cpm = "log-cpm"
    vst = "vst"


class PlateLayout(StrEnum):
    """Where controls and replicates of a simulated screen stand."""

    scattered = "scattered"
    columns = "columns"


def _demo(*flags: str, **more: Any) -> Any:
    return typer.Option(*flags, rich_help_panel=_DEMO, **more)


def _import(*flags: str, **more: Any) -> Any:
    return typer.Option(*flags, rich_help_panel=_IMPORT, **more)


def _role(*flags: str, **more: Any) -> Any:
    return typer.Option(*flags, rich_help_panel=_ROLES, **more)


def _prepare(*flags: str, **more: Any) -> Any:
    return typer.Option(*flags, rich_help_panel=_PREPARE, **more)


DemoOption = Annotated[bool, _demo("--demo", help="Simulate a screen with known truth.")]
FullOption = Annotated[bool, _demo("--full", help="768 wells x 2,541 genes, 364 compounds x 2, 40 controls.")]
GenesOption = Annotated[int | None, _demo("--genes", min=1, help="Genes.")]
CompoundsOption = Annotated[int | None, _demo("--compounds", min=1, help="Compounds.")]
ControlsOption = Annotated[int | None, _demo("--controls", min=1, help="Control wells.")]
SeedOption = Annotated[int, _demo("--seed", min=0, help="Seed of the simulation.")]
PlateEffectOption = Annotated[
    float | None, _demo("--plate-effect", min=0, help="SD of a gene's log2 shift on a plate.")
]
ColumnEffectOption = Annotated[
    float | None, _demo("--column-effect", min=0, help="Strength of a column gradient; 0: none.")
]
PlateLayoutOption = Annotated[
    PlateLayout | None,
    _demo(
        "--plate-layout",
        help="scattered: wells at random. columns: controls in the first and last column, the replicates of a compound "
        "in one position; with a column effect, a confounded screen.",
        show_default=False,
    ),
]

FromOption = Annotated[
    list[Path] | None,
    _import(
        "--from",
        help="A folder of the classic CSV layout or of 10x MTX, or a table of wells x genes (CSV, TSV, Parquet, "
        "Feather, xlsx, h5ad, GCT, GCTX; gz or not; either orientation). Repeat it for several plates.",
    ),
]
WellsOption = Annotated[
    list[str] | None,
    _import(
        "--wells",
        help="With --from: the table about the wells: one (for several plates with their names in a plate column), or "
        "one a --from, or several for one --from, joined on the well. With --demo: how many wells.",
    ),
]
OrientationOption = Annotated[Orientation | None, _import("--orientation", help="Of the expression table, if unclear.")]
DuplicatesOption = Annotated[
    Duplicates, _import("--duplicate-genes", help="Genes of one name: kept apart, refused, or summed.")
]

WellColumnOption = Annotated[str | None, _role("--well-column", help="Well ids.")]
CompoundColumnOption = Annotated[str | None, _role("--compound-column", help="Compounds.")]
ControlOption = Annotated[
    list[str] | None, _role("--control", help="Name of the control compound, repeatable. (Default: DMSO.)")
]
PlateColumnOption = Annotated[str | None, _role("--plate-column", help="Plates.")]
ConcentrationColumnOption = Annotated[str | None, _role("--concentration-column", help="Concentrations.")]
ScoresOption = Annotated[
    list[str] | None, _role("--scores", help="Continuous scores to learn: repeat it, or separate by commas.")
]
LabelOption = Annotated[str | None, _role("--label", help="Binary label to learn.")]
PositiveOption = Annotated[str | None, _role("--positive", help="The label's value that is 1.")]
ActivationOption = Annotated[
    str | None,
    _role(
        "--activation",
        help="Activation score, which gives the latent space its direction. (Default, with three scores: their sum.)",
    ),
]
WellPatternOption = Annotated[
    str | None,
    _role(
        "--well-pattern",
        help="Regular expression with groups plate, row, column to read positions from well ids.",
    ),
]

NormalizeOption = Annotated[
    Normalize,
    _prepare(
        "--normalize",
        help="none: the values are normalised already. log-cpm: log2(counts per million + 1). vst: variance-stabilised "
        "by PyDESeq2, fitted on the controls (extra counts).",
    ),
]
MinCountsOption = Annotated[
    int | None, _prepare("--min-counts", min=1, help="Leave out wells with fewer counts; they are named.")
]
SignatureOption = Annotated[
    list[Path] | None,
    _prepare(
        "--signature",
        help="Gene sets in GMT: the score of each (mean z of its genes; NAME_UP less NAME_DN) is learnt like any "
        "other, and its genes leave the expression. Repeatable.",
    ),
]
KeepSignatureGenesOption = Annotated[
    bool, _prepare("--keep-signature-genes", help="Keep the genes of --signature in the expression.")
]
MinWellsOption = Annotated[
    int | None, _prepare("--min-wells", min=1, help="Keep genes with a count in at least so many wells.")
]
GenesFileOption = Annotated[
    Path | None, _prepare("--genes-file", help="Keep the genes of this list: a symbol or id a line.")
]
TopVariableOption = Annotated[
    int | None, _prepare("--top-variable", min=1, help="Keep so many genes that vary most for their level.")
]
TopPerturbedOption = Annotated[
    int | None,
    _prepare("--top-perturbed", min=1, help="Then keep so many genes that compounds move most against the controls."),
]
