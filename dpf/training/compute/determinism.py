"""Deterministic mode: every operation gives the same bits each time, or it is an error that says which does not."""

from __future__ import annotations

import os

import torch

from dpf.errors import DeviceError

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def set_determinism(on: bool, device: torch.device) -> None:
    """Have PyTorch choose deterministic algorithms in this process, or leave it the fastest.

    On CUDA that concerns the gradient of attention (which else is summed in the order in which blocks finish) and the
    workspace of matrix products. What runs on a CPU here is deterministic either way.
    """
    # The same as use_deterministic_algorithms, which would import the whole of torch.compile (seconds) to tell it too.
    torch.set_deterministic_debug_mode("error" if on else "default")
    # Else every torch.empty is filled, to make reading what was never written repeatable; nothing here reads that.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = on
        torch.backends.cudnn.benchmark = False
        if on:
            os.environ.setdefault(_WORKSPACE, ":4096:8")  # cuBLAS asks for it; read when its first product is computed


def not_deterministic(error: RuntimeError, device: torch.device) -> DeviceError | None:
    """What to tell the user of an error that PyTorch raises for lack of a deterministic algorithm; else None."""
    text = str(error)
    if "use_deterministic_algorithms(True)" not in text:
        return None
    workspace = os.environ.get(_WORKSPACE)
    if _WORKSPACE in text:
        return DeviceError(
            f"matrix products on {device} are not deterministic with this {_WORKSPACE}",
            found=workspace,
            expected=":4096:8 or :16:8",
            hint=f"unset {_WORKSPACE}, or use --no-deterministic",
        )
    return DeviceError(
        f"the computation has no deterministic form on {device}",
        found=text.partition(",")[0],
        hint="--no-deterministic (the same seed then gives equal results but for rounding), or another --device",
    )
