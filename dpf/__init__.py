"""dpf (DRUGseq-PerturbFormer): from a perturbation screen to ranked compounds.

`dpf.init` makes a project, `dpf.open` opens one, and a project has a method for every command (`dpf.Project`). Nothing
scientific is imported before one of them runs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpf.api import Project, init, open  # noqa: A004
    from dpf.errors import DpfError

__version__ = "0.1.0"
__all__ = ["DpfError", "Project", "init", "open"]

_FROM = {"DpfError": "dpf.errors", "Project": "dpf.api", "init": "dpf.api", "open": "dpf.api"}


def __getattr__(name: str) -> Any:
    if name in _FROM:
        return getattr(import_module(_FROM[name]), name)
    raise AttributeError(f"module 'dpf' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
