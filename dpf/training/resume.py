"""What an interrupted run needs to end where the uninterrupted one would have.

Weights, best weights, the optimiser's moments, the loss scale, history.

There is no generator state to keep: order and noise are functions of (seed, member, epoch, step).
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from dpf import __version__
from dpf.config.settings import FORMAT
from dpf.errors import ModelError, listed
from dpf.files import atomic_path, canonical_json
from dpf.project.directory import previous_state
from dpf.project.model_header import KEY, DamagedModelError, read_model_header
from dpf.training.member import MemberTraining
from dpf.training.parallel.differences import differences

Weights = dict[str, Tensor]


@dataclass
class RunState:
    """A run so far.

    Attributes
    ----------
    best, last
        Best and last weights of every finished member.
    best_epochs
        Of every finished member.
    history
        One dictionary a finished epoch and member, in order.
    tuned
        What every finished member has chosen for itself, None where it has not.
    """

    best: list[Weights]
    last: list[Weights]
    best_epochs: list[int]
    history: list[dict[str, Any]]
    tuned: list[dict[str, Any] | None] = field(default_factory=list)

    @classmethod
    def fresh(cls) -> RunState:
        """A run that has not begun."""
        return cls([], [], [], [])

    def finish_member(self, training: MemberTraining) -> None:
        """Move a finished member's weights into the state."""
        self.best.append(training.best)
        self.last.append({name: value.detach().cpu().clone() for name, value in training.network.state_dict().items()})
        self.best_epochs.append(training.best_epoch)
        self.tuned.append(training.tuned)

    def extend(self, other: RunState) -> None:
        """Add the finished members of another run, and its history."""
        for entry in fields(self):
            getattr(self, entry.name).extend(getattr(other, entry.name))


def save_run(path: Path, state: RunState, current: MemberTraining | None, identity: dict[str, Any]) -> None:
    """Write the run, with its current member after a finished epoch, atomically; the state before it is kept too.

    `identity` is what must be the same for the run to go on: settings, inputs, splits, device, precision. `current` is
    None where no member is left to train.
    """
    tensors: Weights = {}
    for kind, members in (("best", state.best), ("last", state.last)):
        for number, weights in enumerate(members):
            tensors |= {f"{kind}.{number}.{name}": value for name, value in weights.items()}
    header = {
        "format": FORMAT,
        "kind": "resume",
        "dpf": __version__,
        "identity": identity,
        "best_epochs": state.best_epochs,
        "history": [_without_nan(row) for row in state.history],
        "tuned": state.tuned,
    }
    if current is not None:
        header |= {
            "current_tuned": current.tuned,
            "epoch": current.epoch,
            "current_best_epoch": current.best_epoch,
            "current_best_total": None if math.isinf(current.best_total) else current.best_total,
            "scaler": current.scaler.state_dict(),
        }
        tensors |= _current(current)
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    header["sha256"] = _digest(header, tensors)
    with atomic_path(path) as part:
        part.write_bytes(save(tensors, {KEY: canonical_json(header)}))
        _keep_as_previous(path)


def _current(member: MemberTraining) -> Weights:
    tensors = {f"current.{name}": value for name, value in member.network.state_dict().items()}
    tensors |= {f"current_best.{name}": value for name, value in member.best.items()}
    if member.data.initial is not None:
        tensors["start"] = member.data.initial
    for index, moments in member.optimizer.state_dict()["state"].items():
        tensors |= {f"moments.{index}.{name}": value for name, value in moments.items()}
    return tensors


def _keep_as_previous(path: Path) -> None:
    if not path.exists():
        return
    previous = previous_state(path)
    previous.unlink(missing_ok=True)
    try:
        os.link(path, previous)  # a second name: at no moment is there no good state
    except OSError:  # a file system without links: for a moment the good state has its second name only
        path.replace(previous)


def discard_run(path: Path) -> bool:
    """Remove what `save_run` wrote; whether there was anything."""
    there = [file for file in (path, previous_state(path)) if file.exists()]
    for file in there:
        file.unlink()
    return bool(there)


def _digest(header: dict[str, Any], tensors: Weights) -> str:
    """The SHA-256 of everything that the file says: a safetensors file has no checksum of its own."""
    total = hashlib.sha256(canonical_json(header).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """A metric that is not defined, such as the AUROC of wells of one class, is NaN, which JSON does not have."""
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def _with_nan(row: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in row.items()}


@dataclass(frozen=True)
class SavedRun:
    """A run read back: the state, and how to put the current member where it stood.

    `file` is where it was read, `note` says why it is not the last state that was written, empty where it is.
    """

    state: RunState
    header: dict[str, Any]
    tensors: Weights
    file: Path
    note: str

    def adopt(self, path: Path) -> None:
        """Put the state that was read in the place of a damaged later one."""
        if self.file != path:
            self.file.replace(path)

    def restore(self, training: MemberTraining) -> None:
        """Put a freshly built member where the saved one stood."""
        if training.data.initial is not None:
            # What was computed then, whatever this machine's linear algebra makes of it now.
            training.data = replace(training.data, initial=self.tensors["start"].to(training.compute.device))
            training.evaluate_initial_regression()  # what later epochs have to beat
        training.network.load_state_dict(self._part("current."))
        training.best = self._part("current_best.")
        training.epoch = self.header["epoch"]
        training.best_epoch = self.header["current_best_epoch"]
        best = self.header["current_best_total"]
        training.best_total = math.inf if best is None else best
        training.scaler.load_state_dict(self.header["scaler"])
        moments: dict[int, Weights] = {}
        for name, value in self._part("moments.").items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = value.clone()  # the optimiser works on it in place
        content = training.optimizer.state_dict()
        training.optimizer.load_state_dict({"state": moments, "param_groups": content["param_groups"]})

    def _part(self, prefix: str) -> Weights:
        return {name.removeprefix(prefix): value for name, value in self.tensors.items() if name.startswith(prefix)}


def load_run(path: Path, identity: dict[str, Any]) -> SavedRun:
    """Read a run that `save_run` wrote: its last state or, where that is damaged, the state before it.

    Raises
    ------
    ModelError
        There is none, both states are damaged, or it is a run of other settings, inputs, device or precision: the
        message says which differ.
    """
    files = [file for file in (path, previous_state(path)) if file.is_file()]
    if not files:
        raise ModelError(
            "there is no interrupted run to resume", where=path, hint="start one: the same command without --resume"
        )
    damages = []
    for file in files:
        try:
            header, tensors = _read(file)
        except DamagedModelError as error:
            damages.append(f"{file.name}: {error.found}")
            continue
        _require_same(file, header["identity"], identity)
        note = ""
        if file != path:
            why = damages[0] if damages else f"{path.name} is missing"
            note = f"the last state of the run cannot be read ({why}); going on from the one before, in {file.name}"
        return _saved_run(header, tensors, file, note)
    raise ModelError(
        "the interrupted run is damaged",
        where=path.parent,
        found="; ".join(damages),
        hint="it cannot be continued: start anew, with the same command without --resume",
    )


def _read(path: Path) -> tuple[dict[str, Any], Weights]:
    header = read_model_header(path)
    if header.get("kind") != "resume":
        raise ModelError("the file is not an interrupted run", where=path, found=header.get("kind"), expected="resume")
    try:
        # Copies: the file is mapped into memory, and this run will write it anew.
        tensors = {name: value.clone() for name, value in load_file(path).items()}
    except SafetensorError as error:
        raise DamagedModelError("the interrupted run is damaged", where=path, found=error) from error
    if header.pop("sha256", None) != _digest(header, tensors):
        raise DamagedModelError("the interrupted run is damaged", where=path, found="its content is not what was saved")
    return header, tensors


def _require_same(path: Path, saved: dict[str, Any], now: dict[str, Any]) -> None:
    if different := differences(saved, now):
        raise ModelError(
            "the interrupted run is not this one",
            where=path,
            found=listed([f"{name} was {saved}, is {now}" for name, saved, now in different]),
            expected="the settings, inputs, device and precision it was started with",
            hint="repeat the original command with --resume, or start anew without --resume",
        )


def _saved_run(header: dict[str, Any], tensors: Weights, file: Path, note: str) -> SavedRun:
    members = len(header["best_epochs"])

    def weights(kind: str, number: int) -> Weights:
        prefix = f"{kind}.{number}."
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    state = RunState(
        [weights("best", number) for number in range(members)],
        [weights("last", number) for number in range(members)],
        header["best_epochs"],
        [_with_nan(row) for row in header["history"]],
        header["tuned"],
    )
    return SavedRun(state, header, tensors, file, note)


def run_identity(
    settings: dict[str, Any], inputs: str, split: str, device: torch.device, **compute: Any
) -> dict[str, Any]:
    """What must be the same for a run to go on bit for bit."""
    kept = {name: settings[name] for name in ("targets", "model", "train")}
    return {
        **kept,
        "inputs": inputs,
        "split": split,
        "device": device.type,
        "dpf": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads() if device.type == "cpu" else None,
        **compute,
    }
