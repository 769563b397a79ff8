"""The forward pass over many wells, in passes that fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpf.model.network import PerturbFormer, Prediction
from dpf.tables.storage import let_go
from dpf.training.compute.device import Compute, memory_errors


@dataclass(frozen=True)
class Pass:
    """Some wells of a batch that go through the network together: a part of the batch, or a process's rows of it.

    Attributes
    ----------
    part
        The number of the part of the batch.
    wells
        The wells' places in the batch.
    first, whole
        These wells are those from number `first` on of the part's `whole`.
    """

    part: int
    wells: slice
    first: int
    whole: int


def passes(wells: int, size: int, share: range) -> Iterator[Pass]:
    """Cut a batch of so many wells into parts of `size`, and give what of each part is in a process's share.

    The parts do not depend on the processes: they are what dropout masks are drawn for.
    """
    for part in range(math.ceil(wells / size)):
        begin, end = part * size, min((part + 1) * size, wells)
        start, stop = max(begin, share.start), min(end, share.stop)
        if start < stop:
            yield Pass(part, slice(start, stop), start - begin, end - begin)


#: Without a Transformer a pass is small: kernels of these wells with the landmarks.
_WELLS_OF_REGRESSION = 1024


def predict_wells(
    network: PerturbFormer,
    expression: NDArray[np.float32],
    compute: Compute,
    progress: Callable[[int], None] | None = None,
) -> Prediction:
    """Predictions of N wells, on the CPU, targets on the scale of the user's tables.

    `expression` is a float32 array of shape (N, G) in the model's gene order. How the wells are cut into passes changes
    nothing beyond float rounding: wells do not see each other.
    """
    network = network.to(compute.device).eval()
    genes = expression.shape[1]
    size = compute.wells_at_once(genes)
    with torch.inference_mode(), memory_errors(compute, genes):
        whole = empty_prediction(network, len(expression), compute.device)
        for start in range(0, len(expression), size):
            rows = _on_device(torch.from_numpy(expression[start : start + size]), compute.device)
            _fill_in(whole, start, network.predict(rows, compute.dtype, compute.attention))
            let_go(expression)
            if progress:
                progress(len(rows))
        # At the end: fetching each pass would have a GPU wait for us, and us for it, once a pass.
        return whole.cpu()


def _fill_in(whole: Prediction, start: int, wells: Prediction) -> None:
    """Put some wells' predictions in their place: kept one by one, they would leave holes in the memory around them."""
    for there, here in zip(whole, wells, strict=True):
        if there is not None and here is not None:
            there[start : start + len(here)] = here


def _on_device(rows: Tensor, device: torch.device) -> Tensor:
    """The rows on the device; out of pinned memory a GPU fetches them while it computes."""
    return rows.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else rows.to(device)


def empty_prediction(network: PerturbFormer, wells: int, device: torch.device) -> Prediction:
    """A prediction of so many wells, all 0, to be filled in."""
    layout = network.layout
    return Prediction(
        torch.zeros(wells, network.settings.latent, device=device),
        torch.zeros(wells, len(layout.scores), device=device),
        torch.zeros(wells, device=device) if layout.label else None,
        torch.zeros(wells, device=device) if layout.activation else None,
    )


def predict_initial_regression(
    network: PerturbFormer, expression: NDArray[np.float32], compute: Compute
) -> Prediction | None:
    """As `predict_wells`, but without the Transformer; None where the network has no initial regression."""
    if network.start is None:
        return None
    network = network.to(compute.device).eval()
    with torch.inference_mode(), memory_errors(compute, expression.shape[1]):
        whole = empty_prediction(network, len(expression), torch.device("cpu"))
        for start in range(0, len(expression), _WELLS_OF_REGRESSION):
            rows = torch.from_numpy(expression[start : start + _WELLS_OF_REGRESSION]).to(compute.device)
            _fill_in(whole, start, network.predict_start(rows).cpu())
            let_go(expression)
        return whole
