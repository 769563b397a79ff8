"""What a training step has to compute and to move, and how fast this machine does either."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dpf.config.settings import ModelSettings
from dpf.model.native.attention import NativeAttention
from dpf.training.compute.device import Compute

#: Operations that make another view of the same memory, or none, and so move nothing.
_VIEWS = ("view", "reshape", "transpose", "permute", "expand", "slice", "select", "unbind", "split", "unsqueeze",
          "squeeze", "alias", "detach", "as_strided", "t.default", "empty", "_unsafe_view", "lift_fresh")  # fmt: skip


def operations(genes: int, settings: ModelSettings) -> dict[str, float]:
    """Floating-point operations of one well's forward: attention (a layer: exact 4 G² D, induced 8 G m D), products.

    A training step takes three times as many; what a kernel computes twice to save memory is not counted.
    """
    width, points = settings.width, settings.induced_points
    tokens, attention = genes, 4.0 * genes**2 * width
    if settings.attention == "induced":
        tokens, attention = genes + points, 8.0 * genes * points * width
    products = settings.layers * 2.0 * tokens * (4 * width**2 + 2 * width * settings.feed_forward)
    attention *= settings.layers
    return {"attention": attention, "products": products, "forward": attention + products}


class Moved(TorchDispatchMode):
    """Bytes that the operations of a step read and write, every operand once, nothing kept in a cache in between."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0.0

    def add(self, tensors: Any) -> None:
        """Count these tensors, and those in lists."""
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor):
                self.bytes += tensor.numel() * tensor.element_size()
            elif isinstance(tensor, list | tuple):
                self.add(tensor)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not any(name in str(function) for name in _VIEWS):
            self.add(args)
            self.add(result if isinstance(result, list | tuple) else [result])
        return result


def bytes_of(step: Callable[[], object]) -> float:
    """Bytes read and written by one call, the native kernel's included."""
    run = NativeAttention._run
    with Moved() as moved:

        def counted(self: NativeAttention, function: Any, *tensors: torch.Tensor) -> None:
            moved.add(tensors)
            run(self, function, *tensors)

        NativeAttention._run = counted  # type: ignore[method-assign]
        try:
            step()
        finally:
            NativeAttention._run = run  # type: ignore[method-assign]
    return moved.bytes


def ceilings(compute: Compute, seconds: Callable[..., float]) -> dict[str, float]:
    """What the machine's own matrix product and copy reach: TFLOP/s in the encoder's dtype, GB/s read and written."""
    size = 8192 if compute.device.type == "cuda" else 2048
    a = torch.randn(size, size, device=compute.device).to(compute.dtype)
    product = seconds(lambda: a @ a, compute.device, 5, 2)
    # Far larger than any cache, or the copy would be one from cache to cache.
    b = torch.randn(1 << (30 if compute.device.type == "cuda" else 26), device=compute.device)
    c = torch.empty_like(b)
    copy = seconds(lambda: c.copy_(b), compute.device, 5, 2)
    return {"tflops": 2 * size**3 / product / 1e12, "gb_per_s": 2 * b.numel() * b.element_size() / copy / 1e9}


def roofline(measured: float, wells: int, forward: float, moved: float, limits: dict[str, float]) -> dict[str, float]:
    """Seconds a well that the products alone and the moving alone would take, and the share of `measured` they explain.

    `measured` is in seconds a well, `forward` in operations a well, `moved` in bytes a step of `wells` wells.
    """
    computing = 3 * forward / (limits["tflops"] * 1e12)
    moving = moved / wells / (limits["gb_per_s"] * 1e9)
    return {
        "operations_per_well": 3 * forward,
        "bytes_per_well": moved / wells,
        "computing_seconds": computing,
        "moving_seconds": moving,
        "train_tflops": 3 * forward / measured / 1e12,
        "share_of_matrix_product": computing / measured,
        "share_of_copy": moving / measured,
    }
