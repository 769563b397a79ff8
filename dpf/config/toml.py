"""`dpf.toml`: read strictly, every problem reported at once; written with each setting's documentation as comments."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from dpf.config.settings import FORMAT, GONE, PRESETS, Settings, current_names, sections, setting_names
from dpf.config.values import converted, shown
from dpf.errors import ProjectError, repeated
from dpf.files import require_regular


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
    if isinstance(content.get("model"), dict):
        content["model"] = current_names(content["model"])
    known = sections()
    parsed: dict[str, Any] = {}
    for name, value in content.items():
        if name not in known:
            problems.append(f"[{name}] is not a section{_nearest(name, known)}")
        elif not isinstance(value, dict):
            problems.append(f"{name} = {shown(value)} should be a section: [{name}]")
        else:
            parsed[name], found = _parse_section(name, known[name], value)
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
    except (ValueError, RecursionError):
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
        if gone := GONE.get(f"{section}.{key}"):
            if value != gone[0]:
                problems.append(f"{section}.{key} = {shown(value)} is no longer a setting: {gone[1]}")
            continue
        if key not in known:
            problems.append(f"{section}.{key} is not a setting{_nearest(key, known, section)}")
            continue
        right, expected = converted(value, types[key], known[key].metadata)
        if expected:
            problems.append(f"{section}.{key} = {shown(value)}: expected {expected}")
        else:
            parsed[key] = right
    return (cls(**parsed) if not problems else None), problems


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
    learned = len(targets.scores) + bool(targets.label) + bool(targets.activation)
    if model.start != "none" and model.latent < learned:
        yield f"model.latent = {model.latent} is less than the {learned} targets, each of which model.start gives one"
    columns = [*targets.scores, *(name for name in (targets.label, targets.activation) if name not in ("", "auto"))]
    if twice := repeated(columns):
        yield f"targets: {', '.join(twice)} named more than once"


def read_settings(path: Path, overrides: Sequence[str] = ()) -> Settings:
    """Read `dpf.toml`.

    Raises
    ------
    ProjectError
        The file is missing or not TOML, its format is a later one, or settings are wrong.
    """
    try:
        require_regular(path)
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ProjectError("no dpf project here", where=path, hint="make one: dpf init PROJECT --demo") from None
    except OSError as error:
        raise ProjectError(
            "the settings file cannot be read", where=path, found=error.strerror or error,
            hint="put a file in its place that you may read",
        ) from error  # fmt: skip
    except (ValueError, RecursionError) as error:  # also a number of 5,000 digits, and lists nested as deep
        raise ProjectError(
            "the settings file is not valid TOML", where=path, found=error,
            hint="correct that line; `dpf info PROJECT --settings` of another project shows what a line looks like",
        ) from error  # fmt: skip
    found = document.get("format")
    if not isinstance(found, int) or isinstance(found, bool) or not 1 <= found <= FORMAT:
        later = isinstance(found, int) and found > FORMAT
        raise ProjectError(
            "the project has a later format than this dpf reads" if later else "the project's format is not known",
            where=f"{path}: format",
            found=shown(found),
            expected=f"format = {FORMAT}, or an earlier one",
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


def preset_overrides(name: str) -> list[str]:
    """A preset's settings as `section.name=value`."""
    return [f"{setting}={json.dumps(value)}" for setting, value in PRESETS[name].items()]


def with_overrides(settings: Settings, overrides: Sequence[str], where: object = "--set") -> Settings:
    """The same settings with some `section.name=value` replaced, checked as strictly as the file."""
    return parse_settings(settings.as_dict(), where, overrides) if overrides else settings
