"""What a run will cost, measured on one pass before it starts."""

from __future__ import annotations

import sys
import time
from typing import NamedTuple

import torch

from dpf.model.dropout import Noise
from dpf.model.losses import loss_sums
from dpf.training.device import memory_errors
from dpf.training.member import MemberTraining


class Estimate(NamedTuple):
    """Seconds a well and training step, and the peak memory so far: the device's on a GPU, else the process's."""

    seconds_per_well: float
    gib: float


def probe(training: MemberTraining) -> Estimate:
    """Time a forward and a backward of one pass. Weights, optimiser and noise of the run are left as they were."""
    data, compute, network = training.data, training.compute, training.network
    genes = data.expression.shape[1]
    wells = data.train[: min(compute.wells_at_once(genes), training.settings.batch_size)]
    seconds = 0.0
    network.train()
    for _ in range(2):  # the first one pays for what is set up once
        started = time.perf_counter()
        with memory_errors(compute, genes):
            noise = Noise(network.settings.dropout, training.key, compute.device)
            prediction = network(data.expression[wells], compute.dtype, noise, compute.attention, data.start_of(wells))
            loss_sums(prediction, data.targets.rows(wells)).sums.sum().backward()
            network.zero_grad(set_to_none=True)
            if compute.device.type == "cuda":
                torch.cuda.synchronize(compute.device)
        seconds = time.perf_counter() - started
    return Estimate(seconds / len(wells), _peak_gib(compute.device))


def _peak_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":
        return float("nan")  # Windows does not tell
    import resource

    kibibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kibibytes / 2**30 if sys.platform == "darwin" else kibibytes / 2**20
