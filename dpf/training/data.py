"""What one member is trained on, as tensors on the device."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dpf.model.losses import TargetBatch


@dataclass(frozen=True)
class MemberData:
    """One member's wells on the device: scaled expression (N, G), scaled targets, and which wells do what.

    Where the network has an initial regression, `initial` is its part of every well's latent while the network trains
    (`dpf.training.initial_regression`), and `groups` are the N wells' compounds as whole numbers.
    """

    expression: Tensor
    targets: TargetBatch
    train: Tensor  # indices of the training wells
    validation: Tensor  # indices of the validation wells
    initial: Tensor | None = None  # (N, L)
    groups: Tensor | None = None  # (N,)
    names: tuple[str, ...] = ()  # the N wells' ids, for messages

    def initial_of(self, wells: Tensor) -> Tensor | None:
        """The initial regression's part of some wells' latents."""
        return None if self.initial is None else self.initial[wells]
