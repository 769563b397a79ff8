"""A command's options: fields of a frozen dataclass, each declared once, with its help, default and bounds.

The command line (`dpf.cli.options`) and the Python face (`dpf.api`) are made from these fields, and the workflow that
does the work gets the object. Whatever exists of a class of options is within bounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from keyword import iskeyword
from typing import Any, get_origin, get_type_hints

from dpf.config.settings import documentation, setting_field
from dpf.config.values import converted, shown
from dpf.errors import UsageError


def option(
    default: Any,
    doc: str,
    *flags: str,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
    metavar: str | None = None,
    panel: str | None = None,
) -> Any:
    """Declare an option.

    Parameters
    ----------
    default, doc
        Its default and its help.
    flags
        Its names on the command line; none: `--` and the field's name.
    minimum, above, maximum, below
        Bounds of a number.
    metavar
        What help shows in the place of the value.
    panel
        The heading it stands under in the help.
    """
    bounds = {"minimum": minimum, "above": above, "maximum": maximum, "below": below}
    return field(default=default, metadata={"doc": doc, "flags": flags, "metavar": metavar, "panel": panel, **bounds})


def overriding(setting: str, *flags: str) -> Any:
    """Declare an option that overrides `section.name` for one run; None leaves it as `dpf.toml` has it."""
    choices = setting_field(setting).metadata["choices"]
    metavar = f"<{'|'.join(choices)}>" if choices else None
    about = {"doc": documentation(setting), "flags": flags, "metavar": metavar, "panel": None, "setting": setting}
    return field(default=None, metadata=about)


@dataclass(frozen=True)
class Options:
    """Base of the classes of options.

    Raises
    ------
    UsageError
        A value is not of its field's type, out of its bounds, or none of its choices.
    """

    def __post_init__(self) -> None:
        for entry, kind in options_of(type(self)):
            value = getattr(self, entry.name)
            right, expected = converted(_listed(value) if get_origin(kind) is tuple else value, kind, entry.metadata)
            if expected:
                raise UsageError(f"wrong value for {flag(entry)}", found=shown(value), expected=expected)
            object.__setattr__(self, entry.name, right)

    def given(self) -> list[str]:
        """The flags of the options that are not as they are by default."""
        return [flag(entry) for entry, _ in options_of(type(self)) if getattr(self, entry.name) != entry.default]


def _listed(value: Any) -> Any:
    """What stands for several values from Python: one alone, none, or names and values as `--set` has them."""
    if isinstance(value, Mapping):
        return [f"{name}={shown(item)}" for name, item in value.items()]
    if value is None or isinstance(value, list | tuple):
        return value or []
    return [str(value) if isinstance(value, int) else value]


def options_of(options: type[Options]) -> Iterator[tuple[Field[Any], Any]]:
    """The fields of a class that are options, with their types; others (what a program adds) are not for users."""
    kinds = get_type_hints(options)
    return ((entry, kinds[entry.name]) for entry in fields(options) if "doc" in entry.metadata)


def flag(entry: Field[Any]) -> str:
    """An option's first name on the command line."""
    flags = entry.metadata["flags"]
    return flags[0].partition("/")[0] if flags else f"--{entry.name.replace('_', '-')}"


def keyword(entry: Field[Any]) -> str:
    """An option's name from Python: its flag without the dashes (`from_` for --from, which Python has taken)."""
    name = flag(entry).lstrip("-").replace("-", "_")
    return f"{name}_" if iskeyword(name) else name


def overrides(*groups: Options) -> list[str]:
    """`section.name=value` of every option that overrides a setting and was given; those of `--set` first."""
    texts = [text for options in groups for text in getattr(options, "set", ())]
    for options in groups:
        for entry, _ in options_of(type(options)):
            value = getattr(options, entry.name)
            if "setting" in entry.metadata and value not in (None, ()):
                texts.append(f"{entry.metadata['setting']}={shown(value)}")
    return texts
