"""Where and in which precision the encoder runs. What was asked for is there, or it is an error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch

from dpf.config.settings import ComputeSettings
from dpf.errors import DeviceError
from dpf.model.encoder import Attention, torch_attention
from dpf.model.native.attention import NativeAttention
from dpf.model.native.build import CannotBuildError, cpu_flags
from dpf.training.compute.determinism import not_deterministic, set_determinism
from dpf.training.parallel.ranks import ALONE, Ranks


def gradient_scaler(compute: Compute) -> torch.amp.GradScaler:
    """A dynamic loss scale (Micikevicius et al., ICLR 2018) where the encoder runs in float16, else one that is off.

    It begins at 2^16. A step in which any gradient is not finite is skipped and halves it; 2,000 good steps in a row
    double it. Powers of two: scaling rounds nothing.
    """
    scaler = torch.amp.GradScaler(
        compute.device.type, init_scale=2.0**16, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000,
        enabled=compute.dtype == torch.float16,
    )  # fmt: skip
    # Its tensor is made when it first scales something, which a process without a well in the first batch does not.
    scaler.scale(torch.zeros((), device=compute.device))
    return scaler


# Wells x genes in one pass. On a CPU a few wells already keep every core at work, in little memory (eight wells of
# 2,541 genes take a quarter of a GiB); a GPU wants to be filled.
_TOKENS_CPU = 20_480
_TOKENS_GPU = 524_288


@dataclass(frozen=True)
class Compute:
    """A resolved device and precision.

    Attributes
    ----------
    device
        The torch device.
    precision
        fp32, tf32, bf16 or fp16: what was chosen, never "auto".
    dtype
        The type of the encoder's activations; weights, losses and statistics are float32 always.
    tokens_at_once
        Most wells x genes in one pass.
    attention
        Computes the encoder's attention.
    attention_note
        Why it is not the native kernel, where that was left to us.
    compiled
        Whether the encoder is compiled for training.
    """

    device: torch.device
    precision: str
    dtype: torch.dtype
    tokens_at_once: int
    attention: Attention = torch_attention
    attention_note: str = ""
    compiled: bool = False

    @property
    def attention_kernel(self) -> str:
        """Which that is: torch or native."""
        return "torch" if self.attention is torch_attention else "native"

    def wells_at_once(self, genes: int) -> int:
        """Most wells in one pass, at least 1."""
        return max(1, self.tokens_at_once // max(1, genes))

    def describe(self) -> str:
        """One phrase for the line before a long task."""
        if self.device.type == "cuda":
            name = f"{torch.cuda.get_device_name(self.device)}, {self.precision}"
            return f"{name}, compiled" if self.compiled else name
        threads = torch.get_num_threads()
        words = [self.device.type, f"{threads} thread{'s' if threads > 1 else ''}", self.precision]
        note = f" ({self.attention_note})" if self.attention_note else ""
        words += [f"{self.attention_kernel} attention{note}", *(["compiled"] if self.compiled else [])]
        return ", ".join(words)


def resolve_compute(
    settings: ComputeSettings, ranks: Ranks = ALONE, log: Callable[[str], None] = lambda _: None
) -> Compute:
    """Turn settings into a device and a precision; set threads, matrix-product precision and determinism.

    Of several processes on one machine each takes a GPU of its own, or its share of the CPU's cores. `log` gets a line
    where a kernel has to be compiled first.

    Raises
    ------
    DeviceError
        The device is not there, its name is not one, or it cannot compute in the precision asked for.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    elif "OMP_NUM_THREADS" not in os.environ and hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks.local_world))
    device = _device(settings.device) if ranks.alone else _own_device(settings.device, ranks)
    precision = _precision(settings.precision, device)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    set_determinism(settings.deterministic, device)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    attention, note = _attention(settings, device, dtype, log)
    default = _TOKENS_GPU if device.type != "cpu" else _TOKENS_CPU
    return Compute(
        device, precision, dtype, settings.tokens_at_once or default, attention, note, compiled=settings.compile
    )


def _attention(
    settings: ComputeSettings, device: torch.device, dtype: torch.dtype, log: Callable[[str], None]
) -> tuple[Attention, str]:
    """The attention asked for, and why not the native one where that was left to us."""
    name = settings.attention_kernel
    if settings.compile:
        if name == "native":
            raise DeviceError(
                "the native attention kernel cannot be part of a compiled encoder",
                found="compute.compile = true, compute.attention_kernel = native",
                hint="choose one: on CPUs that can run it the native kernel is the faster",
            )
        return torch_attention, ""
    if name == "torch" or (name == "auto" and device.type != "cpu"):
        return torch_attention, ""
    try:
        if device.type != "cpu":
            raise CannotBuildError(f"it is for CPUs, not {device.type}")
        return NativeAttention(dtype, log), ""
    except CannotBuildError as error:
        if name == "auto":
            return torch_attention, f"no native kernel: {error}"
        raise DeviceError(
            "the native attention kernel cannot run here",
            found=str(error),
            expected="Linux on x86-64, AVX-512 (for bf16: AVX512-BF16) and a C++ compiler: CXX, c++, g++ or clang++",
            hint="use --set compute.attention_kernel=auto",
        ) from error


def _available() -> list[str]:
    names = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    return [*names, "mps"] if torch.backends.mps.is_available() else names


def _device(name: str) -> torch.device:
    available = _available()
    if name == "auto":
        return torch.device("cuda:0" if "cuda:0" in available else available[-1] if "mps" in available else "cpu")
    full = "cuda:0" if name == "cuda" else name
    if full not in available:
        known = name.split(":")[0] in ("cpu", "cuda", "mps")
        raise DeviceError(
            f"there is no device {name!r} here" if known else f"{name!r} is not a device",
            found=f"available: {', '.join(available)}",
            expected="auto, cpu, cuda, cuda:N or mps",
            hint=_how_to_get(full.split(":")[0]),
        )
    return torch.device(full)


def _own_device(name: str, ranks: Ranks) -> torch.device:
    """The device of one of several processes: for auto and cuda, the GPU of its number on its machine."""
    gpus = torch.cuda.device_count()
    if name == "cuda" or (name == "auto" and gpus):
        if ranks.local_rank >= gpus:
            raise DeviceError(
                "there are more processes on this machine than GPUs",
                found=f"{ranks.local_world} processes, {gpus} GPU{'' if gpus == 1 else 's'}",
                hint=f"torchrun --nproc-per-node {gpus}, or --device cpu" if gpus else "use --device cpu",
            )
        return torch.device(f"cuda:{ranks.local_rank}")
    device = torch.device("cpu") if name == "auto" else _device(name)
    if device.type == "mps" or (device.type == "cuda" and ranks.local_world > 1):
        raise DeviceError(
            f"{ranks.local_world} processes of this machine would share one GPU",
            found=f"--device {name}",
            expected="a GPU for each process",
            hint="use --device cuda, which gives each its own, or --device cpu",
        )
    return device


def _how_to_get(kind: str) -> str:
    """What is in the way of a device of that kind, and what to do."""
    choose = "choose one of those with --device"
    if kind == "cuda" and torch.cuda.device_count() == 0:
        if torch.version.cuda is None and torch.version.hip is None:
            built = f"this PyTorch ({torch.__version__}) is built without CUDA"
            return f"{built}: install one with it (https://pytorch.org/get-started/locally), or use --device cpu"
        limit = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if limit is None else f"; CUDA_VISIBLE_DEVICES is {limit!r}"
        return f"PyTorch sees no GPU: does nvidia-smi, and has the job been given one{hidden}? Or use --device cpu"
    if kind == "mps" and not torch.backends.mps.is_available():
        return "mps is there on Macs with Apple silicon only; use --device auto or cpu"
    return choose


def _capability(device: torch.device) -> tuple[int, int]:
    try:
        return torch.cuda.get_device_capability(device)
    except (RuntimeError, AssertionError) as error:  # CUDA starts here: the driver may be too old, the GPU taken
        raise DeviceError(
            f"{device} is there but cannot be used",
            found=str(error).splitlines()[0],
            hint="look at nvidia-smi; update the driver or install a PyTorch for it; or use --device cpu",
        ) from error


def _precision(name: str, device: torch.device) -> str:
    ampere = device.type == "cuda" and _capability(device) >= (8, 0)
    if name == "auto":
        return "bf16" if ampere or _fast_bf16(device) else "fp32"
    if name == "tf32" and not ampere:
        raise DeviceError(
            "tf32 exists on NVIDIA GPUs from Ampere on only", found=str(device), hint="use --precision fp32 or auto"
        )
    if name == "fp16" and device.type != "cuda":
        # It runs on CPUs, and trains as well as float32, at an eighth of its speed where it is not in the hardware.
        raise DeviceError(
            "fp16 is offered on NVIDIA GPUs only", found=str(device),
            hint="a CPU with AVX512-BF16 or AMX is fast in bf16: use --precision auto, bf16 or fp32",
        )  # fmt: skip
    if name == "bf16" and device.type == "mps":
        raise DeviceError("bf16 is not offered on mps", hint="use --precision fp32 or auto")
    return name


def _fast_bf16(device: torch.device) -> bool:
    """Whether a CPU multiplies bf16 matrices faster than float32 ones."""
    if device.type != "cpu":
        return False
    # Empty where it is not Linux: PyTorch's CPU kernels have no fast bf16 path there that we have measured.
    return not cpu_flags().isdisjoint({"avx512_bf16", "amx_bf16"})


class PassMemory(NamedTuple):
    """Memory of a GPU that training takes, in bytes: whatever the pass, and for each well in it."""

    always: float
    per_well: float

    def wells_in(self, available: float) -> int:
        """How many wells fit into so many bytes, a tenth of them left for what the allocator cannot use; maybe 0."""
        return max(0, int((0.9 * available - self.always) // self.per_well))


@contextmanager
def memory_errors(
    compute: Compute, genes: int, wells: int | None = None, measured: PassMemory | None = None
) -> Iterator[None]:
    """Turn running out of memory into an error that says what would fit.

    Parameters
    ----------
    wells
        Most wells in one pass; as many as `compute` allows if None.
    measured
        What a pass takes, if it has been measured; else the error proposes a quarter of the wells.

    Raises
    ------
    DeviceError
        The device's memory did not suffice, or an operation has no deterministic form.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(compute, genes, wells, measured) from error
    except RuntimeError as error:
        if reason := not_deterministic(error, compute.device):
            raise reason from error
        if "allocate memory" not in str(error):  # what PyTorch's CPU allocator says
            raise
        raise _out_of_memory(compute, genes, wells, measured) from error


def _out_of_memory(compute: Compute, genes: int, wells: int | None, measured: PassMemory | None) -> DeviceError:
    wells = compute.wells_at_once(genes) if wells is None else wells
    found = f"{wells} well{'s' if wells > 1 else ''} x {genes:,} genes in one pass"
    fewer = max(1, wells // 4)
    if measured is not None and compute.device.type == "cuda":
        # What this process holds is free for it: the passes' tensors go, and are asked for again.
        available = torch.cuda.mem_get_info(compute.device)[0] + torch.cuda.memory_reserved(compute.device)
        fit = measured.wells_in(available)
        found += f" at {measured.per_well / 2**20:,.0f} MiB a well; {available / 2**30:.1f} GiB are there for dpf, "
        found += f"enough for {fit} well{'' if fit == 1 else 's'}"
        # Should it have fitted, memory is in pieces, or another program's at times.
        fewer = max(1, min(fit, wells // 2))
    return DeviceError(
        f"{compute.device} ran out of memory",
        found=found,
        hint=f"the same result in less memory, {fewer} well{'s' if fewer > 1 else ''} in a pass: "
        f"--set compute.tokens_at_once={fewer * genes}"
        if wells > 1
        else "one well is the least there is: use fewer genes, a smaller model.width or a device with more memory",
    )
