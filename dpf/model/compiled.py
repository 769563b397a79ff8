"""The encoder through `torch.compile`: fewer, larger kernels for a GPU, at the price of compiling them first.

Dropout masks are drawn before the compiled part runs, since their generators cannot be compiled; so a compiled network
gets the same noise as a plain one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dpf.errors import DeviceError
from dpf.model.dropout import Noise
from dpf.model.encoder import Attention, torch_attention
from dpf.model.network import PerturbFormer


class _Drawn(Noise):
    """Masks that have been drawn already, handed out in order."""

    def __init__(self, masks: list[Tensor], p: float) -> None:
        self.p, self._masks, self._next = p, masks, 0

    def mask(self, like: Tensor) -> Tensor:  # noqa: ARG002
        self._next += 1
        return self._masks[self._next - 1]


class _Recorder(Noise):
    """Records the shapes of the masks of a pass, and drops nothing."""

    def __init__(self, p: float) -> None:
        self.p = p
        self.asked: list[tuple[torch.Size, torch.dtype]] = []

    def mask(self, like: Tensor) -> Tensor:
        self.asked.append((like.shape[1:], like.dtype))
        return torch.ones_like(like)


class CompiledEncoder:
    """Calls a network's encoder, compiled; with PyTorch's attention, which is all that can be.

    One program for training and one for prediction are compiled on first use, for any number of wells above one; a
    single well, where a batch's last pass is one, costs another.

    Parameters
    ----------
    backend
        Of `torch.compile`.
    """

    def __init__(self, network: PerturbFormer, backend: str | Callable[..., object] = "inductor") -> None:
        encoder = network.encoder

        def run(x: Tensor, dtype: torch.dtype, masks: list[Tensor], p: float) -> Tensor:
            out: Tensor = encoder(x, dtype, _Drawn(masks, p) if masks else None)
            return out

        self._encoder = encoder
        self._run = torch.compile(run, backend=backend)
        self._asked: dict[torch.dtype, list[tuple[torch.Size, torch.dtype]]] = {}

    def __call__(
        self, x: Tensor, dtype: torch.dtype, noise: Noise | None = None, attention: Attention = torch_attention
    ) -> Tensor:
        """The encoder's output, but for rounding.

        Raises
        ------
        DeviceError
            It cannot be compiled here.
        """
        from torch._dynamo import maybe_mark_dynamic
        from torch._dynamo.exc import TorchDynamoException

        assert attention is torch_attention
        masks = self._draw(x, dtype, noise) if noise is not None and noise.p > 0 else []
        for tensor in (x, *masks):
            maybe_mark_dynamic(tensor, 0)  # so that a short batch needs no program of its own
        try:
            out: Tensor = self._run(x, dtype, masks, noise.p if noise is not None else 0.0)
        except TorchDynamoException as error:
            raise DeviceError(
                f"the encoder cannot be compiled for {x.device}",
                found=_first_line(error),
                expected="what torch.compile needs: a C++ compiler for CPUs, Triton for GPUs",
                hint="--set compute.compile=false",
            ) from error
        return out

    def _draw(self, x: Tensor, dtype: torch.dtype, noise: Noise) -> list[Tensor]:
        """The masks of a pass, in the order in which the encoder asks for them."""
        if dtype not in self._asked:
            recorder = _Recorder(noise.p)
            with torch.no_grad():
                self._encoder(x[:1], dtype, recorder)
            self._asked[dtype] = recorder.asked
        like = [x.new_empty(1, dtype=kind).expand(len(x), *shape) for shape, kind in self._asked[dtype]]
        return [noise.mask(one) for one in like]


def _first_line(error: Exception) -> str:
    inner = getattr(error, "inner_exception", None) or error
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return f"{type(inner).__name__}: {lines[0] if lines else ''}"
