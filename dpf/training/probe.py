"""What a run will cost, measured on one pass before it starts."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dpf.model.dropout import Noise
from dpf.model.losses import loss_sums
from dpf.training.compute.device import PassMemory, memory_errors
from dpf.training.member import MemberTraining


class Estimate(NamedTuple):
    """Seconds a well and training step, and the peak memory so far: the device's on a GPU, else the process's.

    Of several processes, the seconds are those of all together, the memory is this one's.
    """

    seconds_per_well: float
    gib: float


def probe(training: MemberTraining) -> Estimate:
    """Time a forward and a backward of a pass. Weights, optimiser and noise of the run are left as they were.

    On a GPU `training.memory` is measured as well, on a few wells, before a whole pass is tried.

    Raises
    ------
    DeviceError
        A pass does not fit into memory.
    """
    data, compute = training.data, training.compute
    genes = data.expression.shape[1]
    wells = data.train[: training.wells_in_a_pass]
    if compute.device.type == "cuda":
        with memory_errors(compute, genes, 1):
            _pass(training, wells[:1])  # pays for what is set up once
            one, three = (_peak_bytes(training, data.train[[0] * number]) for number in (1, 3))
        weights = sum(weight.numel() * weight.element_size() for weight in training.network.parameters())
        training.memory = pass_memory(one, three, weights)
    seconds = 0.0
    for _ in range(2):  # the first one pays for what is set up once
        started = time.perf_counter()
        with memory_errors(compute, genes, len(wells), training.memory):
            _pass(training, wells)
        seconds = time.perf_counter() - started
    return Estimate(seconds / len(wells) / training.team.ranks.world, _peak_gib(compute.device))


def pass_memory(one: int, three: int, weights: int) -> PassMemory:
    """What training takes, from the peaks of passes of one and of three wells and the size of the weights, in bytes."""
    per_well = max(1.0, (three - one) / 2)
    # The optimiser, which has not taken a step yet, will keep two numbers and the gradient beside every weight.
    return PassMemory(one - per_well + 3 * weights, per_well)


def _pass(training: MemberTraining, wells: Tensor) -> None:
    data, compute, network = training.data, training.compute, training.network
    network.train()
    noise = Noise(network.settings.dropout, training.key, compute.device)
    prediction = network(data.expression[wells], compute.dtype, noise, compute.attention, data.initial_of(wells))
    loss_sums(prediction, data.targets.rows(wells)).sums.sum().backward()
    network.zero_grad(set_to_none=True)
    if compute.device.type == "cuda":
        torch.cuda.synchronize(compute.device)


def _peak_bytes(training: MemberTraining, wells: Tensor) -> int:
    """Most memory of the GPU that a pass has in use, all that was there before included."""
    torch.cuda.reset_peak_memory_stats(training.compute.device)
    _pass(training, wells)
    return torch.cuda.max_memory_allocated(training.compute.device)


def _peak_gib(device: torch.device) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else process_peak_gib()


def process_peak_gib() -> float:
    """Most memory that this process has had resident, in GiB; NaN on Windows, which does not tell."""
    if sys.platform == "win32":
        return float("nan")
    import resource

    # On Linux not getrusage, if it can be helped: there a new process inherits the peak of the one that started it.
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20
