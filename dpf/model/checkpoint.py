"""The model file: every member's weights, and all that is needed to use them in a JSON header. No pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from dpf import __version__
from dpf.config.settings import FORMAT, ModelSettings, current_names
from dpf.errors import DataError, ModelError, first_line, translated
from dpf.files import canonical_json, sha256_text, write_bytes
from dpf.model.initial_regression import InitialRegression, RegressionShape
from dpf.model.network import PerturbFormer, TargetLayout, empty_network
from dpf.project.model_header import KEY, read_model_header
from dpf.tables.preparing.normalise import Normalisation


@dataclass(frozen=True)
class ControlWells:
    """The control wells that the model was trained with: the centre for distances of new wells.

    Attributes
    ----------
    well_ids, plates, clusters
        n names each; a plate or cluster is null where unknown.
    parts
        M lists of n parts: train, validation or held_out.
    latents
        M float32 tensors of shape (n, L), from the best weights. (Kept among the tensors of the file.)
    """

    well_ids: list[str]
    plates: list[str | None]
    clusters: list[str | None]
    parts: list[list[str]]
    latents: list[Tensor] = field(repr=False)


@dataclass(frozen=True)
class TrainedModel:
    """A trained ensemble of M members.

    Attributes
    ----------
    members
        M networks, on the CPU.
    genes
        The G gene names, in the networks' order.
    layout
        The heads.
    controls
        The control wells' latents.
    about
        Everything else that is known of the training: settings, seeds, best epochs, fingerprints, versions.
    normalisation
        How the project's counts became expression, so that new counts can be put on the same scale.
    """

    members: list[PerturbFormer]
    genes: list[str]
    layout: TargetLayout
    controls: ControlWells
    about: Mapping[str, Any]
    normalisation: Normalisation = field(default_factory=lambda: Normalisation("none"))


def save_model(path: Path, model: TrainedModel) -> None:
    """Write a model file, atomically; the same model gives the same bytes."""
    tensors: dict[str, Tensor] = {}
    for number, network in enumerate(model.members):
        for name, value in network.state_dict().items():
            tensors[f"members.{number}.{name}"] = value.detach().cpu().contiguous()
        tensors[f"members.{number}.control_latent"] = model.controls.latents[number].contiguous()
    controls = {key: value for key, value in asdict(model.controls).items() if key != "latents"}
    normalisation, arrays = model.normalisation.to_parts()
    tensors |= {f"normalisation.{name}": torch.from_numpy(array) for name, array in arrays.items()}
    header = {
        **model.about,
        "format": FORMAT,
        "kind": "model",
        "dpf": __version__,
        "torch": torch.__version__,
        "members": len(model.members),
        "genes": model.genes,
        "genes_sha256": gene_fingerprint(model.genes),
        "targets": asdict(model.layout),
        "controls": controls,
        "normalisation": normalisation,
    }
    header["sha256"] = content_digest(header, tensors)
    # Not save_file: on a full disk its error is no OSError and does not name the cause.
    write_bytes(path, save(tensors, metadata={KEY: canonical_json(header)}))


def content_digest(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of everything that a model file says: a safetensors file has no checksum of its own."""
    total = hashlib.sha256(canonical_json(header).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():  # PyTorch gives no bytes of what has none
            total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def gene_fingerprint(genes: Sequence[str]) -> str:
    """The SHA-256 of the gene names in order, one a line."""
    return sha256_text("\n".join(genes))


def load_model(path: Path) -> TrainedModel:
    """Read a model file, from a project or from anywhere.

    Raises
    ------
    ModelError
        The file is missing, truncated, foreign, of a later format, is not as it was saved, or its weights do not fit
        its own description.
    """
    about = read_model_header(path)
    if about.get("kind") != "model":
        raise ModelError("the file is not a trained model", where=path, found=about.get("kind"), expected="model")
    with translated(lambda error: _damaged(path, first_line(error))):
        tensors = load_file(path)
        _require_intact(path, about, tensors)
    try:
        with translated(lambda error: _misfit(path, f"{type(error).__name__}: {error}")):
            return _assemble(about, tensors)
    except DataError as error:
        raise _misfit(path, str(error)) from error


def _misfit(path: Path, found: str) -> ModelError:
    hint = "restore the file from a copy, or train again"
    return ModelError("the weights do not fit the model's own description", where=path, found=found, hint=hint)


def _damaged(path: Path, found: str) -> ModelError:
    hint = "restore the file from a copy, or train again"
    return ModelError("the model file is damaged", where=path, found=found, hint=hint)


def _require_intact(path: Path, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    wrong = None
    if "sha256" in about:  # the first models had no digest of their content, and one of the gene names only
        content = {name: value for name, value in about.items() if name != "sha256"}
        if content_digest(content, tensors) != about["sha256"]:
            wrong = "its content is not what was saved"
    if not wrong and gene_fingerprint(about.get("genes", [])) != about.get("genes_sha256"):
        wrong = "its gene names, or their order, are not those it was trained with"
    if wrong:
        raise _damaged(path, wrong)


def _assemble(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> TrainedModel:
    targets = about["targets"]
    layout = TargetLayout(tuple(targets["scores"]), targets["label"], targets["activation"])
    settings = ModelSettings(**current_names(about["settings"]["model"]))
    zscore = about["settings"]["train"]["zscore"]
    members, latents = [], []
    for number in range(about["members"]):
        prefix = f"members.{number}."
        own = _with_initial_regression(
            {n.removeprefix(prefix): value for n, value in tensors.items() if n.startswith(prefix)}
        )
        latents.append(own.pop("control_latent"))
        network = empty_network(len(about["genes"]), layout, settings, zscore, RegressionShape.of(own))
        network.load_state_dict(own)
        members.append(network.eval())
    controls = ControlWells(**about["controls"], latents=latents)
    return TrainedModel(members, about["genes"], layout, controls, about, _normalisation(about, tensors))


def _with_initial_regression(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the first models' ridge regression, a matrix without a bias, as an initial regression."""
    if "linear.weight" not in weights:
        return weights
    matrix = weights.pop("linear.weight")
    regression = InitialRegression(RegressionShape(*matrix.shape)).state_dict(prefix="start.") | {
        "start.weight": matrix
    }
    return weights | regression


def _normalisation(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Normalisation:
    if "normalisation" not in about:  # the first models lack it: they were trained on values taken as they were
        return Normalisation("none")
    prefix = "normalisation."
    arrays = {name.removeprefix(prefix): value.numpy() for name, value in tensors.items() if name.startswith(prefix)}
    return Normalisation.from_parts(about["normalisation"], arrays)
