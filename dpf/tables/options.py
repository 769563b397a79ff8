"""What a user can say about the files of a screen, and ask to be done with it. Nothing scientific is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dpf.config.options import Options, option

#: Which side of a table holds the wells.
Orientation = Literal["wells-by-genes", "genes-by-wells"]
#: What is done with genes of one name.
DuplicateGenes = Literal["rename", "refuse", "sum"]
#: How counts become expression.
Method = Literal["none", "log-cpm", "vst"]

_IMPORT, _ROLES = "Your own screen", "What the columns mean"
_PREPARE = "From counts to expression, scores and genes"


def source_format_option() -> Any:
    """Of the tables that a command reads."""
    return option(None, "Format of the expression table, if not recognised.")


def layer_option() -> Any:
    """Of the h5ad files that a command reads."""
    return option(None, "Layer of an h5ad file. (Default: X.)")


def orientation_option(panel: str | None = None) -> Any:
    """Of the tables that a command reads."""
    return option(None, "Of the expression table, if unclear.", panel=panel)


@dataclass(frozen=True)
class Roles(Options):
    """What a user says about their tables; what is None or empty is found by name, and noted.

    The columns named are headings of the wells table. With `targets_follow` the targets are made after the import
    (gene-set scores), so none need be named here. How `well_pattern` is read: `dpf.tables.roles.well_names`.
    """

    orientation: Orientation | None = orientation_option(_IMPORT)
    layer: str | None = layer_option()
    duplicate_genes: DuplicateGenes = option(
        "rename", "Genes of one name: kept apart, refused, or summed.", panel=_IMPORT
    )
    well_column: str | None = option(None, "Well ids.", panel=_ROLES)
    compound_column: str | None = option(None, "Compounds.", panel=_ROLES)
    controls: tuple[str, ...] = option(
        (), "Name of the control compound, repeatable. (Default: DMSO.)", "--control", panel=_ROLES
    )
    merge_names: bool = option(
        False, "Compound names that differ in case, spaces or hyphens only are one compound.", panel=_ROLES
    )
    aliases: Path | None = option(
        None, "CSV with columns name and is: wells of the compound name hold the compound is.", panel=_ROLES
    )
    plate_column: str | None = option(None, "Plates.", panel=_ROLES)
    batch_column: str | None = option(None, "Batches, runs or experiments.", panel=_ROLES)
    donor_column: str | None = option(None, "Donors, patients or cell lines.", panel=_ROLES)
    concentration_column: str | None = option(None, "Concentrations.", panel=_ROLES)
    scores: tuple[str, ...] = option((), "Continuous scores to learn: repeat it, or separate by commas.", panel=_ROLES)
    label: str | None = option(None, "Binary label to learn.", panel=_ROLES)
    positive: str | None = option(None, "The label's value that is 1.", panel=_ROLES)
    activation: str | None = option(
        None,
        "Activation score, which gives the latent space its direction. (Default, with three scores: their sum.)",
        panel=_ROLES,
    )
    well_pattern: str | None = option(
        None, "Regular expression with groups plate, row, column to read positions from well ids.", panel=_ROLES
    )
    targets_follow: bool = False


@dataclass(frozen=True)
class PrepareOptions(Options):
    """What a user asks to be done with a screen before it is trained on; the defaults leave it as it is."""

    normalize: Method = option(
        "none",
        "none: the values are normalised already. log-cpm: log2(counts per million + 1), corrected for composition. "
        "vst: variance-stabilised by PyDESeq2, fitted on the controls (extra counts).",
        panel=_PREPARE,
    )
    min_counts: int | None = option(
        None,
        "Set wells with fewer counts aside. (Default: a quarter of the plate's median, if that is far below it.)",
        minimum=0,
        panel=_PREPARE,
    )
    min_genes: int | None = option(
        None,
        "Set wells with fewer detected genes aside. (Default: half of the plate's median, if that is far below it.)",
        minimum=0,
        panel=_PREPARE,
    )
    keep_flagged: bool = option(
        False,
        "Use the wells that are set aside, but for those without cells (quality.keep_flagged in dpf.toml).",
        panel=_PREPARE,
    )
    signature: tuple[Path, ...] = option(
        (),
        "Gene sets in GMT: the score of each (mean z of its genes; NAME_UP less NAME_DN) is learnt like any other, and "
        "the model does not read its genes. Repeatable.",
        panel=_PREPARE,
    )
    keep_signature_genes: bool = option(False, "The model reads the genes of --signature, too.", panel=_PREPARE)
    min_wells: int | None = option(
        None, "The model reads genes with a count in at least so many wells.", minimum=1, panel=_PREPARE
    )
    genes_file: Path | None = option(
        None, "The model reads the genes of this list: a symbol or id a line.", panel=_PREPARE
    )
    top_variable: int | None = option(
        None, "The model reads so many genes that vary most for their level.", minimum=1, panel=_PREPARE
    )
    top_perturbed: int | None = option(
        None,
        "The model then reads so many genes that compounds move most against the controls; rank then has no p-values "
        "of the model.",
        minimum=1,
        panel=_PREPARE,
    )
