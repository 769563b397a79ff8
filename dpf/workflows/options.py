"""The options of the commands; those of `rank` are in `dpf.workflows.rank.choices`, those about a screen's
files in `dpf.tables.options`. Nothing scientific is imported: `--help` and `import dpf` are made from these classes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dpf.config.options import Options, option, overrides, overriding
from dpf.config.toml import preset_overrides
from dpf.errors import UsageError, listed
from dpf.tables.options import layer_option, source_format_option

_DEMO, _IMPORT = "A simulated screen", "Your own screen"
LAYOUT_PANEL = "The next layout"


#: What the values of a new table are; ``auto`` lets them tell.
InputScale = Literal["auto", "normalised", "counts"]


def _own_model() -> Any:
    return option("default", "The model's name in the project.")


@dataclass(frozen=True)
class ModelOptions(Options):
    """Of the commands that use a model as it is."""

    model: str = option("default", "A model's name in the project, or the path of a model.safetensors.")


@dataclass(frozen=True)
class SettingOptions(Options):
    """Settings by name."""

    set: tuple[str, ...] = option((), "Override a setting for this run, e.g. train.epochs=10.", metavar="NAME=VALUE")


@dataclass(frozen=True)
class ComputeOptions(Options):
    """Where and how numbers are computed."""

    threads: int | None = overriding("compute.threads")
    device: str | None = overriding("compute.device")
    precision: str | None = overriding("compute.precision")


@dataclass(frozen=True)
class RunOptions(SettingOptions, ComputeOptions, ModelOptions):
    """What every command has that computes with a model as it is."""


def fdr_option(panel: str | None = None) -> Any:
    """Of the commands that say what can be called."""
    return option(0.05, "The false discovery rate that hits will be called at.", above=0, below=1, panel=panel)


def overwrite_option() -> Any:
    """Of the commands that write where the user asks for it."""
    return option(False, "Replace files in the way that this project's earlier runs did not write.")


def in_sample_option(panel: str | None = None) -> Any:
    """Of the commands that measure on held-out wells."""
    text = "Also measure the model on wells it was trained on, marked as proving nothing."
    return option(False, text, panel=panel)


@dataclass(frozen=True)
class DemoOptions(Options):
    """`dpf init --demo`; what is None is the demo's own."""

    demo: bool = option(False, "Simulate a screen with known truth.", panel=_DEMO)
    full: bool = option(False, "768 wells x 2,541 genes, 364 compounds x 2, 40 controls.", panel=_DEMO)
    genes: int | None = option(None, "Genes.", minimum=1, panel=_DEMO)
    compounds: int | None = option(None, "Compounds.", minimum=1, panel=_DEMO)
    controls: int | None = option(None, "Control wells.", minimum=1, panel=_DEMO)
    seed: int = option(614, "Seed of the simulation.", minimum=0, panel=_DEMO)
    plate_effect: float | None = option(None, "SD of a gene's log2 shift on a plate.", minimum=0, panel=_DEMO)
    column_effect: float | None = option(None, "Strength of a column gradient; 0: none.", minimum=0, panel=_DEMO)
    layout: Literal["scattered", "columns"] | None = option(
        None,
        "scattered: wells at random. columns: controls in the first and last column, the replicates of a compound in "
        "one position; with a column effect, a confounded screen.",
        "--plate-layout",
        panel=_DEMO,
    )


@dataclass(frozen=True)
class SourceOptions(Options):
    """The files of `dpf init`."""

    sources: tuple[Path, ...] = option(
        (),
        "A folder of the classic CSV layout or of 10x MTX, or a table of wells x genes (CSV, TSV, Parquet, Feather, "
        "xlsx, h5ad, GCT, GCTX; gz or not; either orientation). Repeat it for several plates.",
        "--from",
        panel=_IMPORT,
    )
    wells: tuple[str, ...] = option(
        (),
        "With --from: the table about the wells: one (for several plates with their names in a plate column), or one a "
        "--from, or several for one --from, joined on the well. With --demo: how many wells.",
        panel=_IMPORT,
    )
    source_format: str | None = source_format_option()


@dataclass(frozen=True)
class CheckOptions(Options):
    """`dpf check`."""

    fdr: float = fdr_option()
    permutations: int = option(999, "Rearrangements for each p-value.")
    seed: int = option(614, "Seed of permutations, folds and the layout.", minimum=0)


@dataclass(frozen=True)
class LayoutWish(Options):
    """What a user says about the next layout; what is None follows from the project, or from the rest.

    Replicates are wells of each compound (of each of its concentrations, where the project has several). The same seed
    gives the same layout.
    """

    replicates: int | None = option(
        None, "Wells of each compound. (Default: the project's, else 2.)", minimum=1, panel=LAYOUT_PANEL
    )
    controls: int | None = option(
        None,
        "Control wells on each plate. (Default: the project's, else as many as a plate has rows.)",
        "--controls-per-plate",
        minimum=1,
        panel=LAYOUT_PANEL,
    )
    plates: int | None = option(
        None, "Plates. (Default: the project's, and as many as needed.)", minimum=1, panel=LAYOUT_PANEL
    )
    plate_format: Literal[96, 384, 1536] | None = option(
        None, "Wells of a plate. (Default: the project's, else 384.)", panel=LAYOUT_PANEL
    )
    edge_free: bool = option(False, "Leave the outermost wells empty.", panel=LAYOUT_PANEL)
    seed: int = 614


@dataclass(frozen=True)
class TrainOptions(Options):
    """`dpf train`."""

    model: str = _own_model()
    preset: Literal["classic", "linear-start", "recommended"] | None = option(
        None,
        "classic: the model as published; linear-start: its latent begins as a ridge regression of each target; "
        "recommended: as ridge, PLS and kernel ridge regressions, mixed. Other options win over it. "
        "[what dpf.toml says]",
    )
    attention: str | None = overriding("model.attention")
    epochs: int | None = overriding("train.epochs")
    batch_size: int | None = overriding("train.batch_size")
    learning_rate: float | None = overriding("train.learning_rate")
    pretrain: int | None = overriding("train.pretrain")
    tune: int | None = overriding("train.tune")
    zscore: bool | None = overriding("train.zscore", "--zscore/--no-zscore")
    folds: int | None = overriding("train.folds")
    repeats: int | None = overriding("train.repeats")
    split: str | None = overriding("train.split")
    seed: int | None = overriding("train.seed")
    deterministic: bool | None = overriding("compute.deterministic", "--deterministic/--no-deterministic")
    member: int | None = option(
        None,
        "Train this member alone, numbered from 0: several processes, on any machines, can each train one. The last to "
        "finish assembles the model.",
    )
    assemble: bool = option(False, "Train nothing: assemble the model of members that --member has trained.")
    resume: bool = option(
        False,
        "Go on with an interrupted run, given the command it was started with. With --member: wherever the member "
        "stands, also at its beginning or its end.",
    )
    overwrite: bool = option(False, "Replace a finished model of that name, once the training has finished.")
    tensorboard: bool = option(False, "Write TensorBoard events to models/NAME/tensorboard (extra: tensorboard).")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.assemble and (self.member is not None or self.resume or self.tensorboard):
            raise UsageError(
                "--assemble trains nothing",
                found="--member, --resume or --tensorboard with it",
                hint="leave that out, and repeat the settings that the members were trained with",
            )

    def overrides(self, *others: Options) -> list[str]:
        """`section.name=value` of the preset, of --set, and of the flags, each of which wins over those before."""
        return [*(preset_overrides(self.preset) if self.preset else []), *overrides(self, *others)]


@dataclass(frozen=True)
class EvaluateOptions(Options):
    """`dpf evaluate`."""

    baselines_only: bool = option(False, "Use no model: see what the data hold before training one.")
    in_sample: bool = in_sample_option()
    level: float = option(0.9, "Coverage that the scores' intervals aim at.", minimum=0.01, maximum=0.99)
    classes: str = option("", "Column with the class of each compound, for the latent's quality.")
    folds: int | None = overriding("train.folds")
    split: str | None = overriding("train.split")
    seed: int | None = overriding("train.seed")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.baselines_only and (self.folds is not None or self.split is not None):
            raise UsageError(
                "a trained model brings its own split",
                found="--folds or --split without --baselines-only",
                hint="dpf evaluate PROJECT --baselines-only --folds 5, or train with --folds 5",
            )
        if self.baselines_only and self.in_sample:
            raise UsageError("baselines are never measured on wells they were fitted on", found="--in-sample")


@dataclass(frozen=True)
class PredictOptions(Options):
    """`dpf predict`; all of it is about new wells."""

    input: Path | None = option(None, "New wells: a table of wells x genes, any format init reads.")
    input_scale: InputScale = option(
        "auto",
        "What --input holds: counts (normalised as the model's training data were), or values normalised already; "
        "auto: as the values say, an error where they do not.",
    )
    source_format: str | None = source_format_option()
    layer: str | None = layer_option()
    shard: str = option(
        "",
        "With --input: of N equal parts of its wells, predict part I, counted from 1: several processes, on any "
        "machines, can each predict one.",
        metavar="I/N",
    )
    output: Path | None = option(None, "With --input: where the table goes (Parquet).")
    overwrite: bool = overwrite_option()
    missing_genes: Literal["refuse", "impute"] = option(
        "refuse", "Genes that --input lacks: an error, or the mean they are centred on."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input is None and (alone := self.given()):
            raise UsageError(f"{listed(alone)} is for new wells", expected="--input TABLE beside it")
        if self.shard and (self.part is None or not 1 <= self.part[0] <= self.part[1]):
            raise UsageError("wrong value for --shard", found=self.shard, expected="I/N, part I of N: 1/8 to 8/8")
        if self.output is not None and self.output.suffix != ".parquet":
            raise UsageError(
                "new wells are written as Parquet",
                found=self.output,
                expected="--output NAME.parquet",
                hint="for CSV redirect the result: dpf predict ... --format csv > NAME.csv",
            )

    @property
    def part(self) -> tuple[int, int] | None:
        """I and N of `shard`; None for the whole table."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", self.shard)
        return (int(found[1]), int(found[2])) if found else None


@dataclass(frozen=True)
class LatentOptions(Options):
    """`dpf latent`. A map shows the latent space of one member: members have different bases."""

    colour: str | None = option(None, "Column of the wells table to colour the map by.", "--colour", "--color")
    member: int = option(0, "Whose latent space is drawn.", minimum=0)
    umap: bool = option(False, "Draw a UMAP instead of a PCA (extra: umap).")
    center: str | None = overriding("latent.center")
    control_cluster: tuple[str, ...] = overriding("latent.control_clusters", "--control-cluster")


@dataclass(frozen=True)
class ExplainOptions(Options):
    """`dpf explain`."""

    target: str = option(
        "",
        "What to explain: a score, the label or the activation by name, or latent_K. "
        "Default: the activation, else the label, else the first score.",
    )
    genes: int = option(25, "Genes in the figure.", minimum=1)


@dataclass(frozen=True)
class ExportOptions(Options):
    """`dpf export`."""

    model: str = _own_model()
    output: Path | None = option(None, "Folder to write to. [PROJECT/export]")
    overwrite: bool = overwrite_option()
    layout: Literal["tables", "classic"] = option(
        "tables", "tables: everything; classic: the eight files of the classic pipeline."
    )
    format: Literal["csv", "parquet", "h5ad"] = option("csv", "Of the tables.")
