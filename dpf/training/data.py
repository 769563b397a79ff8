"""What one member is trained on, as tensors on the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dpf.model.losses import TargetBatch
from dpf.model.network import PerturbFormer
from dpf.tables.storage import is_in_file, let_go, wells_in_blocks


class ScaledWells:
    """Scaled expression (N, G) of a matrix that lies in a file: some wells at a time, read and scaled when asked for.

    The numbers are those of scaling the whole matrix, gene by gene and well by well.
    """

    def __init__(self, values: NDArray[np.float32], network: PerturbFormer) -> None:
        self._values, self._network = values, network
        self.shape, self.device = torch.Size(values.shape), torch.device("cpu")

    def __getitem__(self, wells: Tensor) -> Tensor:
        rows = torch.from_numpy(self._values[wells.numpy()])
        let_go(self._values)
        return self._network.scale(rows)


def scaled_expression(
    values: NDArray[np.float32], network: PerturbFormer, device: torch.device
) -> Tensor | ScaledWells:
    """What a network (on the CPU, its scaler fitted) sees of N wells (N, G): on the device, whose memory holds them
    all; on a CPU, of a matrix that lies in a file, some wells at a time.
    """
    if not is_in_file(values):
        return network.scale(torch.from_numpy(values)).to(device)
    if device.type == "cpu":
        return ScaledWells(values, network)
    scaled = torch.empty(values.shape, device=device)
    for wells in wells_in_blocks(values):
        scaled[wells] = network.scale(torch.from_numpy(values[wells])).to(device)
    return scaled


@dataclass(frozen=True)
class MemberData:
    """One member's wells on the device: scaled expression (N, G), scaled targets, and which wells do what.

    Where the network has an initial regression, `initial` is its part of every well's latent while the network trains
    (`dpf.training.initial_regression`), and `groups` are the N wells' compounds as whole numbers.
    """

    expression: Tensor | ScaledWells
    targets: TargetBatch
    train: Tensor  # indices of the training wells
    validation: Tensor  # indices of the validation wells
    initial: Tensor | None = None  # (N, L)
    groups: Tensor | None = None  # (N,)
    names: tuple[str, ...] = ()  # the N wells' ids, for messages

    def initial_of(self, wells: Tensor) -> Tensor | None:
        """The initial regression's part of some wells' latents."""
        return None if self.initial is None else self.initial[wells]
