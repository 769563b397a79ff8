"""Settings: typed, declared once, read strictly from `dpf.toml`.

Every setting is a field of one of the dataclasses below, and its documentation, bounds and default stand there and
nowhere else: the commented template that `dpf init` writes, the loader's checks and the command line's help are all
made from these fields.
"""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from dpf.errors import ProjectError

FORMAT = 1


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
    feed_forward: int = setting(512, "width of the feed-forward's hidden layer", minimum=1)
    dropout: float = setting(
        0.1, "dropout of both sublayers' outputs, the feed-forward and the latent MLP", minimum=0.0, maximum=0.95
    )
    latent: int = setting(32, "width L of the latent vector z", minimum=1)


@dataclass(frozen=True)
class TrainSettings:
    """The training run."""

    epochs: int = setting(50, "passes over the training wells", minimum=1)
    batch_size: int = setting(32, "wells an optimiser step", minimum=1)
    learning_rate: float = setting(1e-3, "AdamW's learning rate", above=0.0)
    weight_decay: float = setting(0.01, "AdamW's decoupled weight decay", minimum=0.0)
    activation_weight: float = setting(0.2, "lambda, the weight of the activation loss", minimum=0.0)
    zscore: bool = setting(
        True, "put every gene on mean 0, variance 1 of the training wells; without it, raw log values barely train"
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
    folds: int = setting(1, "1: one model, no well held out; K: K members, every well held out exactly once", minimum=1)
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
        "of the encoder: auto = bf16 where the hardware is fast at it, else fp32; losses and statistics are float32",
        choices=("auto", "fp32", "tf32", "bf16"),
    )
    threads: int = setting(0, "CPU threads; 0 = all cores this process may use", minimum=0)
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
class Settings:
    """All settings of a project, as in `dpf.toml`."""

    targets: TargetSettings = field(default_factory=TargetSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    latent: LatentSettings = field(default_factory=LatentSettings)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Plain dictionaries and lists, ready for JSON."""
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]


def _sections() -> dict[str, type]:
    return dict(get_type_hints(Settings))


def setting_names() -> list[str]:
    """Every setting as `section.name`."""
    return [f"{section}.{entry.name}" for section, cls in _sections().items() for entry in fields(cls)]


def documentation(name: str) -> str:
    """The one line of documentation of `section.name`, with its default."""
    section, _, key = name.partition(".")
    entry = next(entry for entry in fields(_sections()[section]) if entry.name == key)
    return f"{entry.metadata['doc']} [dpf.toml: {name}]"


def parse_settings(document: Mapping[str, Any], where: object, overrides: Sequence[str] = ()) -> Settings:
    """Settings from a parsed TOML document and `section.name=value` overrides; every problem is reported at once.

    Raises
    ------
    ProjectError
        Unknown names (with the nearest known one), wrong types, values out of bounds: all of them, line by line.
    """
    problems: list[str] = []
    content = {key: value for key, value in document.items() if key != "format"}
    content = {key: dict(value) if isinstance(value, Mapping) else value for key, value in content.items()}
    for text in overrides:
        problems += _override(content, text)
    sections = _sections()
    parsed: dict[str, Any] = {}
    for name, value in content.items():
        if name not in sections:
            problems.append(f"[{name}] is not a section{_nearest(name, sections)}")
        elif not isinstance(value, dict):
            problems.append(f"{name} = {_shown(value)} should be a section: [{name}]")
        else:
            parsed[name], found = _parse_section(name, sections[name], value)
            problems += found
    if not problems:
        settings = Settings(**parsed)
        problems += _contradictions(settings)
        if not problems:
            return settings
    raise ProjectError(
        f"{len(problems)} setting{'s are' if len(problems) > 1 else ' is'} wrong",
        where=where,
        found="".join(f"\n    {problem}" for problem in problems),
        hint="correct the lines above; `dpf info PROJECT --settings` shows every setting with its meaning",
    )


def _override(content: dict[str, Any], text: str) -> list[str]:
    name, equals, raw = text.partition("=")
    section, dot, key = name.strip().partition(".")
    if not equals or not dot:
        return [f"--set {text}: expected section.name=value, such as train.epochs=10"]
    try:
        value = tomllib.loads(f"value = {raw.strip()}")["value"]
    except tomllib.TOMLDecodeError:
        value = raw.strip()  # a bare word, such as --set compute.device=cpu
    target = content.setdefault(section, {})
    if isinstance(target, dict):
        target[key] = value
    return []


def _parse_section(section: str, cls: type, values: Mapping[str, Any]) -> tuple[Any, list[str]]:
    known = {entry.name: entry for entry in fields(cls)}
    types = get_type_hints(cls)
    parsed: dict[str, Any] = {}
    problems: list[str] = []
    for key, value in values.items():
        if key not in known:
            problems.append(f"{section}.{key} is not a setting{_nearest(key, known, section)}")
            continue
        converted, problem = _convert(value, types[key], known[key])
        if problem:
            problems.append(f"{section}.{key} = {_shown(value)}: {problem}")
        else:
            parsed[key] = converted
    return (cls(**parsed) if not problems else None), problems


def _convert(value: Any, kind: Any, entry: Field[Any]) -> tuple[Any, str]:
    """The value as the field's type, and what is wrong with it (empty when nothing is)."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind == tuple[str, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            return None, 'expected a list of texts, such as ["a", "b"]'
        return tuple(value), ""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return None, f"expected {_TYPE_NAMES[kind]}"
    return value, _out_of_bounds(value, entry.metadata)


_TYPE_NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: 'a text in "quotes"',
}


def _out_of_bounds(value: Any, bounds: Mapping[str, Any]) -> str:
    if bounds["choices"] and value not in bounds["choices"]:
        close = difflib.get_close_matches(str(value), bounds["choices"], n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"expected one of {', '.join(bounds['choices'])}{hint}"
    if isinstance(value, float) and not math.isfinite(value):
        return "expected a finite number"
    if bounds["minimum"] is not None and value < bounds["minimum"]:
        return f"expected at least {bounds['minimum']}"
    if bounds["above"] is not None and value <= bounds["above"]:
        return f"expected more than {bounds['above']}"
    if bounds["maximum"] is not None and value > bounds["maximum"]:
        return f"expected at most {bounds['maximum']}"
    return ""


def _nearest(name: str, known: Mapping[str, Any], section: str = "") -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    # The right name in the wrong section is as common as a typing error.
    elsewhere = [full for full in setting_names() if full.endswith(f".{name}") and not full.startswith(f"{section}.")]
    return f"; did you mean {elsewhere[0]}?" if elsewhere else f"; known: {', '.join(known)}"


def _contradictions(settings: Settings) -> Iterator[str]:
    model, train, targets = settings.model, settings.train, settings.targets
    if model.width % model.heads:
        yield f"model.width = {model.width} is not a multiple of model.heads = {model.heads}"
    if (train.split == "file") != bool(train.split_file):
        yield "train.split = file and train.split_file go together: set both or neither"
    columns = [*targets.scores, *(name for name in (targets.label, targets.activation) if name not in ("", "auto"))]
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        yield f"targets: {', '.join(twice)} named more than once"


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def read_settings(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read `dpf.toml`.

    Raises
    ------
    ProjectError
        The file is missing or not TOML, its format is a later one, or settings are wrong.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ProjectError("no dpf project here", where=path, hint="make one: dpf init PROJECT --demo") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProjectError("the settings file is not valid TOML", where=path, found=error) from error
    found = document.get("format")
    if found != FORMAT:
        later = isinstance(found, int) and found > FORMAT
        raise ProjectError(
            "the project has a later format than this dpf reads" if later else "the project's format is not known",
            where=f"{path}: format",
            found=_shown(found),
            expected=f"format = {FORMAT}",
            hint="update dpf: pipx upgrade drugseq-perturbformer" if later else f"write `format = {FORMAT}` on top",
        )
    return parse_settings(document, path, overrides)


def template(settings: Settings) -> str:
    """The text of a `dpf.toml` with these settings, each with its documentation as a comment."""
    lines = ["# Settings of this dpf project. Any of them can be changed for one run:", "#     dpf train PROJECT --set"]
    lines[-1] += " train.epochs=10"
    lines += [f"format = {FORMAT}", ""]
    for entry in fields(settings):
        section = getattr(settings, entry.name)
        lines += [f"# {' '.join((type(section).__doc__ or '').split())}", f"[{entry.name}]"]
        for item in fields(section):
            lines += [f"# {item.metadata['doc']}", f"{item.name} = {_toml(getattr(section, item.name))}"]
        lines.append("")
    return "\n".join(lines)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") if isinstance(value, str) else repr(value)


def with_overrides(settings: Settings, overrides: Sequence[str], where: object = "--set") -> Settings:
    """The same settings with some `section.name=value` replaced, checked as strictly as the file."""
    return parse_settings(settings.as_dict(), where, overrides) if overrides else settings


def with_targets(settings: Settings, scores: Sequence[str], label: str | None, activation: str | None) -> Settings:
    """The same settings with these target columns."""
    kept = settings.targets.activation if activation is None else activation
    return replace(settings, targets=TargetSettings(tuple(scores), label or "", kept))
