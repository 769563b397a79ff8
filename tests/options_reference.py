"""The README's reference of commands and options, made from the command line itself.

`python -m tests.options_reference README.md` rewrites the part between the two marks; a test asserts that it is there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import typer.main

from dpf.cli.app import app

BEGIN, END = "<!-- options: begin -->", "<!-- options: end -->"


def reference() -> str:
    """Markdown: one table a command, one row an option."""
    group = typer.main.get_command(app)
    parts = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        rows = [
            f"**`dpf {name} PROJECT`**: {(command.help or '').strip()}",
            "",
            "| option | meaning |",
            "| --- | --- |",
        ]
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                flags = ", ".join(f"`{flag}`" for flag in [*parameter.opts, *parameter.secondary_opts])
                meaning = (parameter.help or "").replace("|", r"\|")
                rows.append(f"| {flags} | {meaning} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def replaced(text: str) -> str:
    """A README with the reference between its two marks made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{reference()}\n{END}{after}"


if __name__ == "__main__":
    readme = Path(sys.argv[1])
    readme.write_text(replaced(readme.read_text(encoding="utf-8")), encoding="utf-8")
