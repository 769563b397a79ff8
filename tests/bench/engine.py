"""Seconds a well for a training step, a forward and a Gradient x Input, ours over the plain implementation's."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpf.analysis.attribution import gradient_times_input
from dpf.config import ComputeSettings, ModelSettings, TrainSettings
from dpf.model.losses import TargetBatch
from dpf.model.network import TargetLayout, build_network
from dpf.training.device import Compute, resolve_compute
from dpf.training.inference import predict_wells
from dpf.training.member import MemberData, MemberTraining
from tests.bench.plain import PlainFormer, plain_step

LAYOUT = TargetLayout(("Tscore", "CytoTRACE", "Pseudotime"), "activated", "activation")
SETTINGS = ModelSettings()


def machine() -> dict[str, Any]:
    """What these numbers were measured on."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": cpu, "cores": cores, "gpu": gpu, "torch": torch.__version__, "python": platform.python_version()}


def seconds(run: Callable[[], object], device: torch.device, repeats: int = 5, warmup: int = 1) -> float:
    """The median time of a call."""
    times = []
    for number in range(repeats + warmup):
        _wait(device)
        started = time.perf_counter()
        run()
        _wait(device)
        if number >= warmup:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Case:
    """Random wells of one size, the same for both implementations."""

    def __init__(self, genes: int, wells: int, compute: Compute) -> None:
        generator = torch.Generator().manual_seed(614)
        self.genes, self.wells, self.compute = genes, wells, compute
        self.x = torch.randn(wells, genes, generator=generator)
        self.scores = torch.randn(wells, 3, generator=generator)
        self.label = (torch.rand(wells, generator=generator) > 0.5).float()
        self.activation = torch.randn(wells, generator=generator)

    def training(self, batch_size: int) -> MemberTraining:
        """Our training over all wells."""
        generator = torch.Generator().manual_seed(614)
        network = build_network(self.genes, LAYOUT, SETTINGS, False, generator)
        device = self.compute.device
        targets = TargetBatch(*(part.to(device) for part in (self.scores, self.label, self.activation)))
        rows = torch.arange(self.wells, device=device)
        data = MemberData(self.x.to(device), targets, rows, rows[:1])
        return MemberTraining(network, data, TrainSettings(batch_size=batch_size), self.compute, (614, 0))

    def plain(self) -> PlainFormer:
        """The plain model on the device."""
        torch.manual_seed(614)
        return PlainFormer(self.genes, LAYOUT, SETTINGS).to(self.compute.device)


def ours(case: Case, batch_size: int, repeats: int) -> dict[str, float]:
    """Our seconds a well."""
    training = case.training(batch_size)
    device = case.compute.device
    wells = torch.arange(case.wells, device=device)
    numpy_x = case.x.numpy()
    at_once = case.compute.wells_at_once(case.genes)
    mask = np.arange(case.wells) < max(1, case.wells // 4)

    def train() -> None:
        for step, batch in enumerate(wells.split(batch_size)):
            training._step(batch, step)

    training.network.train()
    result = {"train": seconds(train, device, repeats) / case.wells}
    result["forward"] = seconds(lambda: predict_wells(training.network, numpy_x, case.compute), device, repeats)
    result["forward"] /= case.wells

    def explain() -> None:
        gradient_times_input(
            training.network, numpy_x, mask, lambda p: p.activation, device=device, wells_at_once=at_once,
            attention=case.compute.attention,
        )  # fmt: skip

    result["gradient_x_input"] = seconds(explain, device, repeats) / case.wells
    return result


def plain(case: Case, batch_size: int, repeats: int) -> dict[str, float]:
    """The plain implementation's seconds a well, at a batch that fits."""
    model, device = case.plain(), case.compute.device
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    wells = min(case.wells, batch_size)
    batch = [part[:wells].to(device) for part in (case.x, case.scores, case.label, case.activation)]
    model.train()
    result = {"train": seconds(lambda: plain_step(model, optimizer, *batch), device, repeats) / wells}
    model.eval()

    def forward() -> None:
        with torch.no_grad():
            model(batch[0])

    result["forward"] = seconds(forward, device, repeats) / wells

    def explain() -> None:
        x = batch[0].clone().requires_grad_()
        torch.autograd.grad(model(x)[3].sum(), x)

    result["gradient_x_input"] = seconds(explain, device, repeats) / wells
    return result


def peak_gib(genes: int, batch_size: int, device: str, precision: str, implementation: str) -> float:
    """Peak memory of one training step in a fresh process (the device's on a GPU)."""
    code = (
        "import sys; from tests.bench.engine import memory_of_a_step; "
        f"print(memory_of_a_step({genes}, {batch_size}, {device!r}, {precision!r}, {implementation!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else float("nan")


def memory_of_a_step(genes: int, batch_size: int, device: str, precision: str, implementation: str) -> float:
    """Run one training step and return the peak, in GiB."""
    compute = resolve_compute(ComputeSettings(device=device, precision=precision))
    case = Case(genes, batch_size, compute)
    if implementation == "ours":
        training = case.training(batch_size)
        training.network.train()
        training._step(torch.arange(batch_size, device=compute.device), 0)
    else:
        model = case.plain()
        batch = [part.to(compute.device) for part in (case.x, case.scores, case.label, case.activation)]
        plain_step(model, torch.optim.AdamW(model.parameters()), *batch)
    if compute.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    # Not getrusage: a new process inherits its parent's peak there.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 2**20


def operations(genes: int, settings: ModelSettings = SETTINGS) -> dict[str, float]:
    """Floating-point operations of one well's forward: attention (4 G² D a layer) and matrix products."""
    width = settings.width
    attention = settings.layers * 4.0 * genes**2 * width
    products = settings.layers * 2.0 * genes * (4 * width**2 + 2 * width * settings.feed_forward)
    return {"attention": attention, "products": products, "forward": attention + products}


def ceilings(compute: Compute) -> dict[str, float]:
    """What the machine's own matrix product and copy reach: TFLOP/s in the encoder's dtype, GB/s read and written."""
    size = 8192 if compute.device.type == "cuda" else 2048
    a = torch.randn(size, size, device=compute.device).to(compute.dtype)
    product = seconds(lambda: a @ a, compute.device, 5, 2)
    b = torch.empty_like(a)
    copy = seconds(lambda: b.copy_(a), compute.device, 5, 2)
    return {"tflops": 2 * size**3 / product / 1e12, "gb_per_s": 2 * a.numel() * a.element_size() / copy / 1e9}


def measure(device: str, genes: list[int], wells: int, repeats: int, plain_batch: int) -> dict[str, Any]:
    """Both implementations over several sizes."""
    compute = resolve_compute(ComputeSettings(device=device))
    exact = resolve_compute(ComputeSettings(device=device, precision="fp32"))
    result: dict[str, Any] = {"machine": machine(), "precision": compute.precision, "sizes": {}}
    result["ceilings"] = ceilings(compute)
    for count in genes:
        entry: dict[str, Any] = {"operations": operations(count)}
        entry["ours"] = ours(Case(count, wells, compute), min(32, wells), repeats)
        entry["ours_fp32"] = ours(Case(count, wells, exact), min(32, wells), repeats)
        gc.collect()
        try:
            entry["plain"] = plain(Case(count, wells, exact), plain_batch, max(2, repeats // 2))
            entry["ratio"] = {name: entry["plain"][name] / entry["ours"][name] for name in entry["ours"]}
        except (torch.OutOfMemoryError, RuntimeError) as error:
            entry["plain"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        reached = 3 * entry["operations"]["forward"] / entry["ours"]["train"] / 1e12
        entry["train_tflops"] = reached
        entry["train_share_of_ceiling"] = reached / result["ceilings"]["tflops"]
        result["sizes"][count] = entry
        print(json.dumps({count: entry}), file=sys.stderr, flush=True)
    return result


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--genes", type=int, nargs="+", default=[500, 1000, 2541])
    parser.add_argument("--wells", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plain-batch", type=int, default=4)
    parser.add_argument("--memory", action="store_true")
    asked = parser.parse_args()
    result = measure(asked.device, asked.genes, asked.wells, asked.repeats, asked.plain_batch)
    if asked.memory:
        result["peak_gib_batch_32"] = {"ours": peak_gib(2541, 32, asked.device, "auto", "ours")}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
