"""Where and in which precision the encoder runs. What was asked for is there, or it is an error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from dpf.config import ComputeSettings
from dpf.errors import DeviceError

# Wells x genes in one pass. On a CPU a pass should stay near the caches, and memory small; a GPU wants to be filled.
_TOKENS_CPU = 4_096
_TOKENS_GPU = 524_288


@dataclass(frozen=True)
class Compute:
    """A resolved device and precision.

    Attributes
    ----------
    device
        The torch device.
    precision
        fp32, tf32 or bf16: what was chosen, never "auto".
    dtype
        The type of the encoder's activations; weights, losses and statistics are float32 always.
    tokens_at_once
        Most wells x genes in one pass.
    """

    device: torch.device
    precision: str
    dtype: torch.dtype
    tokens_at_once: int

    def wells_at_once(self, genes: int) -> int:
        """Most wells in one pass, at least 1."""
        return max(1, self.tokens_at_once // max(1, genes))

    def describe(self) -> str:
        """One phrase for the line before a long task."""
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {self.precision}"
        threads = torch.get_num_threads()
        return f"{self.device.type}, {threads} thread{'s' if threads > 1 else ''}, {self.precision}"


def resolve_compute(settings: ComputeSettings) -> Compute:
    """Turn settings into a device and a precision, and set the thread count and the matrix-product precision.

    Raises
    ------
    DeviceError
        The device is not there, its name is not one, or it cannot compute in the precision asked for.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    elif hasattr(os, "sched_getaffinity"):
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = _device(settings.device)
    precision = _precision(settings.precision, device)
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    default = _TOKENS_CPU if device.type == "cpu" else _TOKENS_GPU
    return Compute(device, precision, dtype, settings.tokens_at_once or default)


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
            hint="choose one of those with --device, or install a PyTorch build for your GPU: https://pytorch.org",
        )
    return torch.device(full)


def _precision(name: str, device: torch.device) -> str:
    if name == "auto":
        return "bf16" if _fast_bf16(device) else "fp32"
    if name == "tf32" and (device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        raise DeviceError(
            "tf32 exists on NVIDIA GPUs from Ampere on only", found=str(device), hint="use --precision fp32 or auto"
        )
    if name == "bf16" and device.type == "mps":
        raise DeviceError("bf16 is not offered on mps", hint="use --precision fp32 or auto")
    return name


def _fast_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:  # not Linux: PyTorch's CPU kernels have no fast bf16 path there that we have measured
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


@contextmanager
def memory_errors(compute: Compute, genes: int) -> Iterator[None]:
    """Turn running out of memory into an error that says what would fit.

    Raises
    ------
    DeviceError
        The device's memory did not suffice.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _out_of_memory(compute, genes) from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):  # what PyTorch's CPU allocator says
            raise
        raise _out_of_memory(compute, genes) from error


def _out_of_memory(compute: Compute, genes: int) -> DeviceError:
    wells = compute.wells_at_once(genes)
    fewer = max(1, wells // 4) * genes
    return DeviceError(
        f"{compute.device} ran out of memory",
        found=f"{wells} well{'s' if wells > 1 else ''} x {genes:,} genes in one pass",
        hint=f"the same result in less memory: --set compute.tokens_at_once={fewer}"
        if wells > 1
        else "one well is the least there is: use fewer genes, a smaller model.width or a device with more memory",
    )
