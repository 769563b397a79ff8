"""The model that a command uses: one of the project's, or a file from anywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpf.errors import ModelError
from dpf.files import sha256_file
from dpf.project.directory import ModelFolder, Project
from dpf.project.model_header import read_model_header, require_complete

#: The name of a model that nobody names.
DEFAULT = "default"


@dataclass(frozen=True)
class ModelFile:
    """A model to use: its file, its name for results, its header and its digest."""

    path: Path
    name: str
    header: dict[str, Any]
    sha256: str

    @property
    def folder(self) -> ModelFolder:
        """The folder that it lies in, where its calibration lies too."""
        return ModelFolder(self.path.parent)


def find_model(project: Project, model: str) -> ModelFile:
    """A model by its name in the project, or by the path of a `model.safetensors` from anywhere.

    Raises
    ------
    UsageError, ProjectError, ModelError
        There is no such model, or the file is not one.
    """
    is_path = "/" in model or model.endswith(".safetensors")
    path = Path(model) if is_path else project.trained_model(model).best
    header = read_model_header(path)
    if header.get("kind") != "model":
        raise ModelError("the file is not a trained model", where=path, found=header.get("kind"), expected="model")
    require_complete(header, path)
    sha256 = sha256_file(path)
    return ModelFile(path, elsewhere(sha256) if is_path else model, header, sha256)


def model_if_any(project: Project, model: str) -> ModelFile | None:
    """The model of that name; None where nobody named one and the project has none (errors as for `find_model`)."""
    if model == DEFAULT and not project.model_names():
        return None
    return find_model(project, model)


def elsewhere(sha256: str) -> str:
    """The name, for results, of a model that is not one of the project's: made from its digest."""
    return f"from-{sha256[:12]}"
