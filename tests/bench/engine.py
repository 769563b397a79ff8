"""Seconds a well for a training step, a forward and a Gradient x Input: ours, exact and induced, and the plain ones."""

from __future__ import annotations

import gc
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpf.analysis.attribution import gradient_times_input
from dpf.config.settings import ComputeSettings, ModelSettings, TrainSettings
from dpf.model.losses import TargetBatch
from dpf.model.network import TargetLayout, build_network
from dpf.training.compute.device import Compute, resolve_compute
from dpf.training.data import MemberData
from dpf.training.inference import predict_wells
from dpf.training.member import MemberTraining
from dpf.training.probe import process_peak_gib
from tests.bench.plain import PlainFormer, plain_step
from tests.bench.roofline import bytes_of, ceilings, operations, roofline
from tests.bench.timing import Run, Runs, Times, alternated, lowest, medians, ratios, seconds, wait

LAYOUT = TargetLayout(("Tscore", "CytoTRACE", "Pseudotime"), "activated", "activation")
EXACT = ModelSettings()
INDUCED = ModelSettings(attention="induced")
#: The plain implementation keeps several genes x genes matrices a head and layer: at most so many wells x genes².
PLAIN_AT_MOST = 4 * 2541**2
DEFAULT_WELLS, DEFAULT_GENES = 768, 2541


def machine() -> dict[str, Any]:
    """What these numbers were measured on."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": cpu, "cores": cores, "gpu": gpu, "torch": torch.__version__, "python": platform.python_version()}


class Case:
    """Random wells of one size, the same for every implementation."""

    def __init__(self, genes: int, wells: int, compute: Compute, settings: ModelSettings = EXACT) -> None:
        generator = torch.Generator().manual_seed(614)
        self.genes, self.wells, self.compute, self.settings = genes, wells, compute, settings
        self.x = torch.randn(wells, genes, generator=generator)
        self.scores = torch.randn(wells, 3, generator=generator)
        self.label = (torch.rand(wells, generator=generator) > 0.5).float()
        self.activation = torch.randn(wells, generator=generator)

    def training(self, batch_size: int, validation: int = 1) -> MemberTraining:
        """Our training over all wells but the last ones, which validate (and are trained on too if it is one)."""
        generator = torch.Generator().manual_seed(614)
        network = build_network(self.genes, LAYOUT, self.settings, False, generator)
        device = self.compute.device
        targets = TargetBatch(*(part.to(device) for part in (self.scores, self.label, self.activation)))
        rows = torch.arange(self.wells, device=device)
        train = rows if validation == 1 else rows[:-validation]
        data = MemberData(self.x.to(device), targets, train, rows[-validation:])
        return MemberTraining(network, data, TrainSettings(batch_size=batch_size), self.compute, (614, 0))

    def plain(self) -> PlainFormer:
        """The plain model on the device."""
        torch.manual_seed(614)
        return PlainFormer(self.genes, LAYOUT, EXACT).to(self.compute.device)


def ours(case: Case, batch_size: int, explained: int) -> Runs:
    """Ours: a training step of every batch, a forward of all wells, Gradient x Input of the first ones."""
    training = case.training(batch_size)
    training.network.train()
    device = case.compute.device
    wells = torch.arange(case.wells, device=device)
    numpy_x = case.x.numpy()
    # As dpf explain computes, whatever the precision is.
    kernel = case.compute.attention_kernel if device.type == "cpu" else "auto"
    exact = resolve_compute(ComputeSettings(device=str(device), precision="fp32", attention_kernel=kernel))
    mask = np.arange(explained) < max(1, explained // 4)

    def train() -> None:
        training.network.train()
        for step, batch in enumerate(wells.split(batch_size)):
            training._step(batch, step)

    def explain() -> None:
        gradient_times_input(
            training.network, numpy_x[:explained], mask, lambda p: p.activation, device=device,
            wells_at_once=exact.wells_at_once(case.genes), attention=exact.attention,
        )  # fmt: skip

    return {
        "train": Run(train, case.wells),
        "forward": Run(lambda: predict_wells(training.network, numpy_x, case.compute), case.wells),
        "gradient_x_input": Run(explain, explained),
    }


def plain(case: Case, batch_size: int) -> Runs:
    """The plain implementation, at a batch that fits."""
    model, device = case.plain(), case.compute.device
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    wells = min(case.wells, batch_size)
    batch = [part[:wells].to(device) for part in (case.x, case.scores, case.label, case.activation)]

    def train() -> None:
        model.train()
        plain_step(model, optimizer, *batch)

    def forward() -> None:
        model.eval()
        with torch.no_grad():
            model(batch[0])

    def explain() -> None:
        model.eval()
        x = batch[0].clone().requires_grad_()
        torch.autograd.grad(model(x)[3].sum(), x)

    train()  # here it says that it does not fit
    return {"train": Run(train, wells), "forward": Run(forward, wells), "gradient_x_input": Run(explain, wells)}


def peak_gib(genes: int, batch_size: int, device: str, precision: str, implementation: str) -> float:
    """Peak memory of one training step in a fresh process (the device's on a GPU)."""
    code = (
        "import sys; from tests.bench.engine import memory_of_a_step; "
        f"print(memory_of_a_step({genes}, {batch_size}, {device!r}, {precision!r}, {implementation!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return float(done.stdout) if done.returncode == 0 else float("nan")


def memory_of_a_step(genes: int, batch_size: int, device: str, precision: str, implementation: str) -> float:
    """Run one training step of exact, induced or plain and return the peak, in GiB."""
    compute = resolve_compute(ComputeSettings(device=device, precision=precision))
    case = Case(genes, batch_size, compute, INDUCED if implementation == "induced" else EXACT)
    if implementation == "plain":
        model = case.plain()
        batch = [part.to(compute.device) for part in (case.x, case.scores, case.label, case.activation)]
        plain_step(model, torch.optim.AdamW(model.parameters()), *batch)
    else:
        training = case.training(batch_size)
        training.network.train()
        training._step(torch.arange(batch_size, device=compute.device), 0)
    if compute.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return process_peak_gib()


def bound(case: Case, measured: dict[str, float], limits: dict[str, float]) -> dict[str, float]:
    """Where a measured training step stands under the machine's roofline."""
    training = case.training(case.wells)
    training.network.train()
    wells = torch.arange(case.wells, device=case.compute.device)
    training._step(wells, 0)
    moved = bytes_of(lambda: training._step(wells, 1))
    forward = operations(case.genes, case.settings)["forward"]
    return roofline(measured["train"], case.wells, forward, moved, limits)


def default_run(compute: Compute, exact: dict[str, float]) -> dict[str, float]:
    """The default run, 50 epochs of 614 wells and validation on 154: measured on a GPU, else from what a step takes."""
    epochs, validation = TrainSettings().epochs, round(DEFAULT_WELLS * TrainSettings().validation)
    train = DEFAULT_WELLS - validation
    result = {"estimated_seconds": epochs * (train * exact["train"] + validation * exact["forward"])}
    if compute.device.type == "cuda":
        training = Case(DEFAULT_GENES, DEFAULT_WELLS, compute).training(TrainSettings().batch_size, validation)
        started = time.perf_counter()
        for _ in range(epochs):
            training.run_epoch()
        wait(compute.device)
        result["measured_seconds"] = time.perf_counter() - started
    return result


def measure(
    device: str, genes: list[int], induced: list[int], wells: int, repeats: int, plain_batch: int
) -> dict[str, Any]:
    """Exact attention and the plain implementation over several sizes, then induced attention."""
    compute = resolve_compute(ComputeSettings(device=device))
    others = {
        "ours_fp32": resolve_compute(ComputeSettings(device=device, precision="fp32")),
        "ours_torch_kernel": resolve_compute(ComputeSettings(device=device, attention_kernel="torch")),
    }
    result: dict[str, Any] = {"machine": machine(), "precision": compute.precision, "kernel": compute.attention_kernel}
    result |= {"ceilings": ceilings(compute, seconds), "sizes": {}, "induced": {}}
    for count in sorted({*genes, *induced}):
        few, rounds = _affordable(count, wells, repeats, compute)
        together: dict[str, Runs] = {}
        if count in genes:
            together["ours"] = ours(Case(count, few, compute), min(32, few), min(8, few))
            for name, other in others.items():
                fewer = few if compute.device.type != "cpu" else min(8, few)  # slow ones
                together[name] = ours(Case(count, fewer, other), min(32, fewer), min(8, fewer))
        if count in induced:
            together["induced"] = ours(Case(count, few, compute, INDUCED), min(32, few), min(8, few))
        gc.collect()
        problem = ""
        if count in genes:
            try:
                size = max(1, min(plain_batch, PLAIN_AT_MOST * plain_batch // 4 // count**2))
                together["plain"] = plain(Case(count, few, others["ours_fp32"]), size)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                problem = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        times = alternated(together, compute.device, rounds)
        del together
        if count in genes:
            entry = _exact(count, few, compute, result["ceilings"], times, problem)
            result["sizes"][str(count)] = entry
            print(json.dumps({count: entry}), file=sys.stderr, flush=True)
        if count in induced:
            entry = _induced(count, few, compute, result["ceilings"], times)
            result["induced"][str(count)] = entry
            print(json.dumps({f"induced {count}": entry}), file=sys.stderr, flush=True)
    if str(DEFAULT_GENES) in result["sizes"]:
        result["default_run"] = default_run(compute, result["sizes"][str(DEFAULT_GENES)]["ours"])
    return result


def _affordable(genes: int, wells: int, repeats: int, compute: Compute) -> tuple[int, int]:
    """Fewer wells and repeats of what takes a CPU long."""
    return (wells, repeats) if genes <= 2541 or compute.device.type != "cpu" else (min(wells, 4), min(repeats, 3))


def _exact(
    genes: int, wells: int, compute: Compute, limits: dict[str, float], times: dict[str, Times], problem: str
) -> dict[str, Any]:
    entry: dict[str, Any] = {"operations": operations(genes, EXACT), "wells": wells}
    entry |= {name: medians(times[name]) for name in ("ours", "ours_fp32", "ours_torch_kernel")}
    entry["roofline"] = bound(Case(genes, wells, compute), entry["ours"], limits)
    if problem:
        return entry | {"plain": problem}
    entry["plain"] = medians(times["plain"])
    entry["ratio"] = ratios(times["plain"], times["ours"])
    entry["lowest_ratio"] = lowest(times["plain"], times["ours"])
    return entry


def _induced(
    genes: int, wells: int, compute: Compute, limits: dict[str, float], times: dict[str, Times]
) -> dict[str, Any]:
    entry: dict[str, Any] = {"points": INDUCED.induced_points, "operations": operations(genes, INDUCED), "wells": wells}
    entry["ours"] = medians(times["induced"])
    entry["roofline"] = bound(Case(genes, wells, compute, INDUCED), entry["ours"], limits)
    entry["train_ms_per_1000_genes"] = entry["ours"]["train"] / genes * 1e6
    entry["peak_gib_batch_1"] = peak_gib(genes, 1, str(compute.device), "auto", "induced")
    if "ours" in times:
        for name, kernel in (("over_exact", "ours"), ("over_exact_torch_kernel", "ours_torch_kernel")):
            entry[name] = ratios(times[kernel], times["induced"])
        entry["lowest_over_exact"] = lowest(times["ours"], times["induced"])
    return entry


def table(result: dict[str, Any]) -> str:
    """The measurements for people: ms a well."""
    lines = [f"{'genes':>7} {'attention':>10} {'train':>8} {'forward':>8} {'G x I':>8}  ratios of the training step"]

    def line(genes: str, name: str, times: dict[str, float], note: str = "") -> None:
        parts = " ".join(f"{1e3 * times[part]:8.1f}" for part in ("train", "forward", "gradient_x_input"))
        lines.append(f"{int(genes):7,} {name:>10} {parts}  {note}")

    for genes, entry in result["sizes"].items():
        ratio = f"{entry['ratio']['train']:.1f} x plain; " if "ratio" in entry else ""
        share = entry["roofline"]
        note = f"{share['share_of_matrix_product']:.0%} of the matrix product, {share['share_of_copy']:.0%} of the copy"
        line(genes, "exact", entry["ours"], ratio + note)
        line(genes, "fp32", entry["ours_fp32"])
        line(genes, "torch", entry["ours_torch_kernel"])
        if isinstance(entry["plain"], dict):
            line(genes, "plain", entry["plain"])
    for genes, entry in result["induced"].items():
        ratio = f"{entry['over_exact']['train']:.1f} x exact; " if "over_exact" in entry else ""
        note = f"{entry['train_ms_per_1000_genes']:.1f} ms / 1,000 genes, {entry['peak_gib_batch_1']:.2f} GiB"
        line(genes, "induced", entry["ours"], ratio + note)
    for name, value in result.get("default_run", {}).items():
        lines.append(f"the default run, 768 x 2,541, 50 epochs, {name.replace('_', ' ')}: {value:,.0f}")
    return "\n".join(lines)
