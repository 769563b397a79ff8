"""The reference pages of commands and settings, made from the program itself.

`python -m tests.options_reference` writes them anew; a test asserts that they are up to date.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer.main

from dpf.cli.app import app
from dpf.config.settings import PRESETS, sections

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"

_WORDS = {str: "TEXT", int: "INTEGER", float: "NUMBER", Path: "PATH"}
_MADE = "<!-- Made by `python -m tests.options_reference`: change the program, not this page. -->"
_COMMANDS = f"""{_MADE}

# Commands

Every command has the form `dpf COMMAND PROJECT [options]`; `dpf COMMAND --help` shows the same as this page. Options
whose meaning ends in *[dpf.toml: ...]* override a [setting](settings.md) for one run."""
_SETTINGS = f"""{_MADE}

# Settings

A project's settings are in its `dpf.toml`, each with a comment. `dpf info PROJECT --settings` shows them all.
`--set section.name=value` overrides one for one run; the common ones have an option of their own
([commands](commands.md)). Unknown settings and values out of their bounds are errors, all reported at once. The
defaults below hold where `dpf.toml` has no entry; `dpf init` writes the preset `recommended` into a new project."""


def commands_page() -> str:
    """Markdown: one table a command, one row an option."""
    group = typer.main.get_command(app)
    lines = [_COMMANDS]
    functions = {known.name: known.callback for known in app.registered_commands}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        hints = get_type_hints(functions[name])
        lines += ["", f"## dpf {name}", "", (command.help or "").strip(), ""]
        lines += ["| option | value | default | meaning |", "| --- | --- | --- | --- |"]
        for option in command.params:
            if option.param_type_name == "option" and not option.hidden:
                flags = ", ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])
                cells = [flags, _value(hints[option.name], option.metavar), _default(option.default)]
                lines.append(f"| {' | '.join([*cells, _cell(option.help or '')])} |")
    return "\n".join(lines) + "\n"


def _value(hint: Any, metavar: str | None) -> str:
    """What an option takes, by its annotation; nothing for a switch."""
    if get_origin(hint) is Annotated:
        return _value(get_args(hint)[0], metavar)
    if get_origin(hint) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    if get_origin(hint) is list:
        return f"{_value(get_args(hint)[0], metavar)}, repeatable"
    if get_args(hint):  # X | None
        return _value(next(kind for kind in get_args(hint) if kind is not NoneType), metavar)
    return "" if hint is bool else f"`{metavar or _WORDS[hint]}`"


def _default(value: Any) -> str:
    value = getattr(value, "value", value)
    return "" if value in (None, "", (), False) else f"`{'yes' if value is True else value}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def settings_page() -> str:
    """Markdown: one table a section of `dpf.toml`, one row a setting, then the presets."""
    lines = [_SETTINGS]
    for section, cls in sections().items():
        lines += ["", f"## [{section}]", "", (cls.__doc__ or "").splitlines()[0], ""]
        lines += ["| setting | default | values | meaning |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{section}.{entry.name}` | `{json.dumps(entry.default)}` | {_bounds(entry.metadata)} |"
            f" {_cell(entry.metadata['doc'])} |"
            for entry in fields(cls)
        ]
    names = list(dict.fromkeys(name for preset in PRESETS.values() for name in preset))
    lines += ["", "## Presets", "", "`dpf train --preset NAME` sets these; options and `--set` win over it.", ""]
    lines += [f"| setting | {' | '.join(PRESETS)} |", "| --- |" + " --- |" * len(PRESETS)]
    for name in names:
        cells = [f"`{json.dumps(preset[name])}`" if name in preset else "" for preset in PRESETS.values()]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _bounds(about: Any) -> str:
    if about["choices"]:
        return ", ".join(f"`{choice}`" for choice in about["choices"])
    named = {"minimum": "at least", "above": "above", "maximum": "at most"}
    return ", ".join(f"{word} {about[bound]:g}" for bound, word in named.items() if about[bound] is not None)


def pages() -> Iterator[tuple[Path, str]]:
    """Every generated page: its file, and what must stand in it."""
    yield FOLDER / "commands.md", commands_page()
    yield FOLDER / "settings.md", settings_page()


if __name__ == "__main__":
    for path, text in pages():
        path.write_text(text, encoding="utf-8")
