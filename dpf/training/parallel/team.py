"""Several processes that train one model together: who does which wells, and what happens when one of them is lost.

Every process holds the whole data set and the same weights. A step's batch is shared out by wells; the gradients and
the sums of the losses are added up over the processes in one buffer, so every process takes the same step. Dividing by
what the *whole* batch observed, and dropout masks that belong to the batch and not to the process, make it the step
that one process would have taken, but for the order in which float32 numbers are added. What that costs: where
several processes share a part of a batch (always on GPUs, where a batch is one part), each draws the whole part's
masks, so drawing does not get faster with more processes.

The loss of a process is noticed in two ways: a collective breaks, or `torchrun` stops the survivors with a signal. To
report who was lost (or that nobody was, and the user has stopped the run), every process counts heartbeats in the store
that all share, and signs off there before it ends by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from dpf.errors import DeviceError, ProjectError, listed
from dpf.training.parallel.differences import differences
from dpf.training.parallel.ranks import ALONE, Ranks, ranks_from_environment

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

#: The longest that one process waits for another: the ranks' shares are equal, so this is much more than they differ.
_PATIENCE = timedelta(minutes=10)
_HEARTBEAT_SECONDS = 0.3
#: torchrun starts its processes together, and each has read its own copy of PyTorch by then.
_SECONDS_TO_MEET = 10.0
#: A process without heartbeat for so long that has not signed off is lost.
_LOST_SECONDS = 3.0
#: Where the store counts the processes that would report why the run ends.
_REPORTED = "reported"


class _LostError(Exception):
    """A collective broke: another process is no longer there."""


@dataclass(frozen=True)
class Team:
    """The processes of one training, seen from one of them; by default it is alone.

    Attributes
    ----------
    ranks
        This process's place.
    store
        The key-value store that all share; None for a process alone.
    """

    ranks: Ranks = ALONE
    store: Store | None = None

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.ranks.alone

    @property
    def is_rank_0(self) -> bool:
        """Whether this is the one process that writes files and reports."""
        return self.ranks.is_rank_0

    def share(self, count: int) -> range:
        """The share of `count` wells that falls to this process: a run of them, perhaps empty; shares differ by one."""
        rank, world = self.ranks.rank, self.ranks.world
        return range(rank * count // world, (rank + 1) * count // world)

    def connect(self, device: torch.device) -> None:
        """Make collectives possible: through gloo on CPUs, NCCL on GPUs.

        Raises
        ------
        DeviceError
            The processes cannot reach each other, or this PyTorch has no NCCL.
        """
        if self.alone:
            return
        if device.type == "cuda":
            if not dist.is_nccl_available():
                raise DeviceError(
                    "this PyTorch has no NCCL, which several GPUs need",
                    hint="install a Linux CUDA build of PyTorch, or train with one process",
                )
            torch.cuda.set_device(device)
        try:
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=self.store, rank=self.ranks.rank, world_size=self.ranks.world, timeout=_PATIENCE,
            )  # fmt: skip
        except RuntimeError as error:
            raise _unreachable(error) from error

    def disconnect(self) -> None:
        """Give up what `connect` made, before rank 0 goes on alone; every process must call it."""
        if not self.alone:
            dist.destroy_process_group()

    def add(self, values: Tensor) -> None:
        """Replace `values` by their sum over all processes; everywhere the same bits."""
        if self.alone:
            return
        try:
            dist.all_reduce(values)
        except RuntimeError as error:
            raise _LostError from error

    def from_rank_0(self, value: bool) -> bool:
        """What rank 0 has for `value`, whatever the others have; every process must ask."""
        if self.alone:
            return value
        sent = torch.tensor([float(value and self.is_rank_0)])
        self.add(sent)
        return bool(sent.item())

    def agree(self, what: str, mine: Mapping[str, Any]) -> None:
        """Make sure that all processes have the same values of `what`; every process must ask.

        Raises
        ------
        ProjectError
            One has others: the message names them.
        """
        if self.alone:
            return
        assert self.store is not None
        text = json.dumps(mine, sort_keys=True)
        digests = torch.zeros(self.ranks.world, dtype=torch.int64)
        digests[self.ranks.rank] = int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)
        self.store.set(f"{what}/{self.ranks.rank}", text)
        self.add(digests)
        odd = [rank for rank, digest in enumerate(digests.tolist()) if digest != digests[0]]
        if not odd:
            return
        first, other = (json.loads(self.store.get(f"{what}/{rank}")) for rank in (0, odd[0]))
        found = [f"{name}: {a} in rank 0, {b} in rank {odd[0]}" for name, a, b in differences(first, other)]
        raise ProjectError(
            "the ranks of this run differ",
            where=what,
            found=listed(found),
            expected="the same project, settings, PyTorch and kind of device everywhere",
            hint="let every machine see the same project folder and the same installation",
        )

    def may_report(self) -> bool:
        """Whether this process may report why the run ends: the first that asks may, so that it is reported once."""
        if self.store is None:
            return self.is_rank_0
        try:
            return int(self.store.add(_REPORTED, 1)) == 1
        except RuntimeError:  # the store went with the process that had it
            return self.ranks.rank <= 1

    @contextmanager
    def together(self) -> Iterator[None]:
        """The part of a run in which processes depend on each other.

        Raises
        ------
        DeviceError
            Another process was lost: killed, or crashed.
        KeyboardInterrupt
            All were stopped by a signal.
        """
        if self.alone:
            yield
            return
        try:
            with self._heartbeat():
                yield
        except KeyboardInterrupt:
            if silent := self._silent():
                raise self._lost(silent, "no answer, and a signal to stop") from None
            raise
        except _LostError as error:
            raise self._lost(self._silent(), _first_sentence(error.__cause__)) from error
        except dist.DistError as error:  # NCCL raises it where the result is first looked at
            raise self._lost(self._silent(), _first_sentence(error)) from error
        finally:
            self._sign_off()

    @contextmanager
    def _heartbeat(self) -> Iterator[None]:
        store, stop = self.store, threading.Event()
        assert store is not None

        def beat() -> None:
            with suppress(RuntimeError):  # the store went with the process that had it
                while not stop.wait(_HEARTBEAT_SECONDS):
                    store.add(f"heartbeat/{self.ranks.rank}", 1)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_LOST_SECONDS)

    def _sign_off(self) -> None:
        assert self.store is not None
        with suppress(RuntimeError):  # the store went with the process that had it
            self.store.set(f"ended/{self.ranks.rank}", "")

    def _silent(self) -> list[int]:
        """The processes that have no heartbeat and have not signed off; none where the end is reported already."""
        assert self.store is not None
        end = time.monotonic() + _LOST_SECONDS
        last: dict[int, int] = {}
        silent = set(range(self.ranks.world)) - {self.ranks.rank}
        while silent and time.monotonic() < end:
            try:
                self._sign_off()
                if int(self.store.add(_REPORTED, 0)):
                    return []
                for rank in tuple(silent):
                    beats = int(self.store.add(f"heartbeat/{rank}", 0))
                    if self.store.check([f"ended/{rank}"]) or last.setdefault(rank, beats) != beats:
                        silent.remove(rank)
                time.sleep(0.05)
            except RuntimeError:
                return [0]  # the store was rank 0's
            except KeyboardInterrupt:
                continue  # torchrun's signal to the survivors: the question is still who was lost
        return sorted(silent)

    def _lost(self, silent: list[int], found: str) -> DeviceError:
        """The error that names the processes that were lost; where that is not known, that one was."""
        names = f"rank{'s' if len(silent) > 1 else ''} {listed(silent)}" if silent else "a rank"
        return DeviceError(
            f"{names} of {self.ranks.world} {'were' if len(silent) > 1 else 'was'} lost: killed, or crashed",
            found=found,
            hint="torchrun's report has its exit code (-9: killed, often for memory); go on with the same command "
            "and --resume",
        )


def _meeting_place(waiting: Callable[[], None]) -> Store:
    """The store that all processes share, found in a thread of its own: PyTorch would not let a signal through."""
    from torch.distributed.rendezvous import rendezvous

    found: list[Store | RuntimeError | ValueError] = []

    def find() -> None:
        try:
            found.append(next(rendezvous("env://", timeout=_PATIENCE))[0])
        except (RuntimeError, ValueError) as error:
            found.append(error)

    thread = threading.Thread(target=find, daemon=True)
    thread.start()
    thread.join(_SECONDS_TO_MEET)
    if thread.is_alive():
        waiting()
    while thread.is_alive():
        thread.join(0.2)
    store: Store | Exception = found[0]
    if isinstance(store, Exception):
        raise _unreachable(store) from store
    return store


def _unreachable(error: Exception) -> DeviceError:
    return DeviceError(
        "the processes of this run do not find each other",
        found=_first_sentence(error),
        hint="check torchrun's --rdzv-endpoint, that the machines reach each other's ports, and, with several "
        "networks, which one GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME name",
    )


def _first_sentence(error: BaseException | None) -> str:
    """What a collective says of its end, without the place in its source and without its advice."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[\S+\] ", "", line).partition(". ")[0]


@contextmanager
def joined(
    environment: Mapping[str, str] | None = None, waiting: Callable[[str], None] = lambda _text: None
) -> Iterator[Team]:
    """The team this process belongs to by the environment that `torchrun` made, while a run lasts.

    Parameters
    ----------
    environment
        None: this process's own.
    waiting
        Called with a line to show where the other processes do not come within seconds: the environment may be left
        over from another run.

    Raises
    ------
    UsageError
        The environment is not whole.
    DeviceError
        The other processes cannot be reached, or one was lost on the way.
    """
    environment = os.environ if environment is None else environment
    ranks = ranks_from_environment(environment)
    if ranks.alone:
        yield Team()
        return
    if not dist.is_available():
        raise DeviceError("this PyTorch cannot train in several processes", hint="start dpf without torchrun")
    address = f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
    text = (
        f"waiting at {address} for the other {ranks.world - 1} processes that torchrun started (none? unset WORLD_SIZE)"
    )
    team = Team(ranks, _meeting_place(lambda: waiting(text)))
    with team.together():
        yield team
