"""Settings: typed, each declared once.

Every setting is a field of one of the dataclasses below, and its documentation, bounds and default stand there and
nowhere else: the commented template that `dpf init` writes, the loader's checks (`dpf.config.toml`) and the command
line's help are all made from these fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any, get_type_hints

from dpf.errors import DpfError

FORMAT = 2


def refuse_later(about: Mapping[str, Any], what: str, where: object, error: type[DpfError]) -> None:
    """Raise `error` where a file that says `about` itself is of a later format than this dpf reads."""
    if about["format"] > FORMAT:
        raise error(
            f"the {what} has a later format than this dpf reads",
            where=where,
            found=f"format {about['format']}, written by dpf {about.get('dpf', 'of an unknown version')}",
            expected=f"format {FORMAT} or earlier",
            hint="update dpf: pipx upgrade drugseq-perturbformer",
        )


def setting(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a setting: its default, one line of documentation, its bounds or its choices."""
    metadata = {"doc": doc, "minimum": minimum, "above": above, "maximum": maximum, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TargetSettings:
    """What the model learns: columns of `inputs/wells.parquet`. A missing value is masked, never a dropped well."""

    scores: tuple[str, ...] = setting((), "continuous scores, any number")
    label: str = setting("", "binary label (0/1), or empty for none")
    activation: str = setting(
        "auto",
        "activation score: a column; empty for none; auto = with exactly three scores, their sum scaled on the"
        " training wells",
    )


@dataclass(frozen=True)
class ModelSettings:
    """The network: a token a gene, post-norm Transformer encoder, mean over genes, MLP to the latent, linear heads."""

    width: int = setting(128, "token width D", minimum=1)
    heads: int = setting(4, "attention heads; width must be a multiple of it", minimum=1)
    layers: int = setting(2, "encoder layers", minimum=1)
    attention: str = setting(
        "exact",
        "exact: every gene looks at every gene; induced: through induced_points learned points, in time linear in genes"
        " (another model)",
        choices=("exact", "induced"),
    )
    induced_points: int = setting(16, "with attention = induced: points a layer", minimum=1)
    feed_forward: int = setting(512, "width of the feed-forward's hidden layer", minimum=1)
    dropout: float = setting(
        0.1, "dropout of both sublayers' outputs, the feed-forward and the latent MLP", minimum=0.0, maximum=0.95
    )
    latent: int = setting(32, "width L of the latent vector z", minimum=1)
    start: str = setting(
        "none",
        "what the Transformer's part of z is added to, fixed before training: none; ridge = a ridge regression of each"
        " target; stacked = ridge, PLS and kernel ridge regressions, mixed by cross-validation over compounds",
        choices=("none", "ridge", "stacked"),
    )


@dataclass(frozen=True)
class TrainSettings:
    """The training run."""

    epochs: int = setting(50, "passes over the training wells", minimum=1)
    batch_size: int = setting(32, "wells an optimiser step", minimum=1)
    learning_rate: float = setting(1e-3, "AdamW's learning rate", above=0.0)
    schedule: str = setting(
        "constant", "of the learning rate: constant, cosine or one-cycle", choices=("constant", "cosine", "one-cycle")
    )
    warmup: float = setting(
        0.0, "share of the steps over which constant and cosine climb from 0", minimum=0.0, maximum=0.9
    )
    clip: float = setting(0.0, "clip the gradient's norm to this; 0 = never", minimum=0.0)
    patience: int = setting(0, "stop a member after so many epochs without a better validation; 0 = never", minimum=0)
    max_minutes: float = setting(
        0.0,
        "stop the whole training after so many minutes, with what is best so far (pretraining and search are not cut"
        " short); 0 = never",
        minimum=0.0,
    )
    weight_decay: float = setting(0.01, "AdamW's decoupled weight decay", minimum=0.0)
    activation_weight: float = setting(0.2, "lambda, the weight of the activation loss", minimum=0.0)
    zscore: bool = setting(
        True, "put every gene on mean 0, variance 1 of the training wells; without it, raw log values barely train"
    )
    gene_center: str = setting(
        "wells",
        "with zscore, what becomes 0: the mean of the training wells, or of the controls among them",
        choices=("wells", "controls"),
    )
    gene_embedding: str = setting(
        "random",
        "what gene embeddings begin as: random, or the genes' loadings on the training wells' principal components",
        choices=("random", "loadings"),
    )
    pretrain: int = setting(
        0, "epochs of masked-gene pretraining on a member's training wells, with or without targets", minimum=0
    )
    tune: int = setting(
        0,
        "settings (rate, schedule, weight decay, dropout, batch size) that each member tries by successive halving on"
        " its validation wells; 0 = none",
        minimum=0,
    )
    standardise_targets: bool = setting(
        True, "put every score on mean 0, variance 1 of the training wells inside the model, and back in its outputs"
    )
    split: str = setting(
        "compound",
        "compound: replicates stay together; well: they do not (leaks); plate: whole plates; file: your split_file",
        choices=("compound", "well", "plate", "file"),
    )
    split_file: str = setting(
        "", "with split = file: a table of well_id, member, part (train, validation, held_out), relative to the project"
    )
    folds: int = setting(
        1, "1: one model, no well held out; K: K members, every well held out exactly once (once a repeat)", minimum=1
    )
    repeats: int = setting(
        1,
        "deal the folds so many times anew: every well is held out by as many members, whose predictions are averaged",
        minimum=1,
    )
    validation: float = setting(0.2, "share of wells that choose the epoch (folds = 1)", above=0.0, maximum=0.9)
    inner_validation: float = setting(
        0.1, "share of a member's training compounds that choose its epoch (folds > 1)", above=0.0, maximum=0.9
    )
    seed: int = setting(614, "seed of splits, weights, order and dropout", minimum=0)


@dataclass(frozen=True)
class ComputeSettings:
    """Where and how the numbers are computed. None of this is part of what the model is."""

    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps; what is not there is an error, never a fallback")
    precision: str = setting(
        "auto",
        "of the encoder: auto = bf16 where the hardware is fast at it, else fp32; tf32 and fp16 (with gradient scaling)"
        " are for NVIDIA GPUs; losses and statistics are float32",
        choices=("auto", "fp32", "tf32", "bf16", "fp16"),
    )
    attention_kernel: str = setting(
        "auto",
        "the program that computes model.attention, exact or induced: native = a C++ kernel, compiled on first use, for"
        " Linux on CPUs with AVX-512; torch = PyTorch's; auto = native where it can run",
        choices=("auto", "torch", "native"),
    )
    deterministic: bool = setting(
        True, "the same seed gives the same bits; false may be faster on a GPU and changes results by rounding"
    )
    compile: bool = setting(
        False, "train through torch.compile, with PyTorch's attention: for GPUs; compiling takes a minute or more"
    )
    threads: int = setting(0, "CPU threads; 0 = OMP_NUM_THREADS, else all cores this process may use", minimum=0)
    tokens_at_once: int = setting(
        0,
        "wells x genes in one pass; larger batches are cut and their gradients added, which is exact; 0 = by device",
        minimum=0,
    )


@dataclass(frozen=True)
class LatentSettings:
    """How the latent space is read."""

    center: str = setting("all", "centre of the controls: over all plates, or plate by plate", choices=("all", "plate"))
    control_clusters: tuple[str, ...] = setting((), "use only controls of these clusters for the centre; empty = all")


@dataclass(frozen=True)
class QualitySettings:
    """Which wells take part."""

    keep_flagged: bool = setting(
        False, "use the wells that dpf init set aside (column set_aside of inputs/wells.parquet), if they hold cells"
    )


@dataclass(frozen=True)
class Settings:
    """All settings of a project, as in `dpf.toml`."""

    targets: TargetSettings = field(default_factory=TargetSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    latent: LatentSettings = field(default_factory=LatentSettings)
    quality: QualitySettings = field(default_factory=QualitySettings)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Plain dictionaries and lists, ready for JSON."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


#: Named sets of settings for `dpf train --preset`. `recommended` is what a new project's dpf.toml says; `classic`, the
#: model as published, is what a setting is where no file says anything.
PRESETS: dict[str, dict[str, Any]] = {
    "classic": {
        "model.start": "none", "train.schedule": "constant", "train.learning_rate": 1e-3, "train.zscore": True,
        "train.patience": 0,
    },
    "linear-start": {
        "model.start": "ridge", "train.schedule": "one-cycle", "train.learning_rate": 3e-4, "train.zscore": True,
        "train.patience": 0,
    },
    "recommended": {
        "model.start": "stacked", "train.schedule": "one-cycle", "train.learning_rate": 3e-4, "train.zscore": True,
        "train.patience": 15,
    },
}  # fmt: skip


def current_names(model: Mapping[str, Any]) -> dict[str, Any]:
    """The `[model]` settings of a file under the names that they have now."""
    renamed = dict(model)
    if isinstance(linear := renamed.get("linear_path"), bool):  # what `start` was called when it could be ridge only
        del renamed["linear_path"]
        renamed.setdefault("start", "ridge" if linear else "none")
    return renamed


#: Settings that are no more: the value that says what dpf does now, and what to do instead of any other.
GONE: dict[str, tuple[Any, str]] = {
    "compute.share": (
        "wells",
        "several processes (torchrun) share out wells; to train members side by side, start one process a member: "
        "dpf train PROJECT --member 0, --member 1, ... (docs/how-to/cluster.md)",
    ),
}


def sections() -> dict[str, type]:
    """The sections of `dpf.toml` and the dataclass each becomes."""
    return dict(get_type_hints(Settings))


def setting_names() -> list[str]:
    """Every setting as `section.name`."""
    return [f"{section}.{entry.name}" for section, cls in sections().items() for entry in fields(cls)]


def setting_field(name: str) -> Field[Any]:
    """The field that declares `section.name`."""
    section, _, key = name.partition(".")
    return next(entry for entry in fields(sections()[section]) if entry.name == key)


def documentation(name: str) -> str:
    """The one line of documentation of `section.name`, with its name."""
    return f"{setting_field(name).metadata['doc']} [dpf.toml: {name}]"
