"""Training one member: the loop, readable in one sitting.

A member's run is a function of its data, its settings and its key (the seed, the member's number). The order of the
wells and the dropout noise are drawn from (key, epoch, step), so the state of a run is its weights, the optimiser's
moments and the number of finished epochs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from dpf.config import TrainSettings
from dpf.errors import DataError
from dpf.model.compiled import CompiledEncoder
from dpf.model.dropout import Noise
from dpf.model.losses import LossSums, TargetBatch, loss_sums, observed_counts, part_weights
from dpf.model.network import PerturbFormer, Prediction
from dpf.training.device import Compute, memory_errors
from dpf.training.inference import concatenate
from dpf.training.schedule import learning_rate


@dataclass(frozen=True)
class MemberData:
    """One member's wells on the device: scaled expression (N, G), scaled targets, and which wells do what."""

    expression: Tensor
    targets: TargetBatch
    train: Tensor  # indices of the training wells
    validation: Tensor  # indices of the validation wells


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch. Losses are (mse, bce, reg) and their weighted total; validation is without dropout."""

    epoch: int
    train: tuple[float, float, float]
    train_total: float
    validation: tuple[float, float, float]
    validation_total: float
    seconds: float
    learning_rate: float
    is_best: bool
    prediction: Prediction = field(repr=False)  # of the validation wells, standardised, on the CPU


class MemberTraining:
    """The training of one member, an epoch at a time.

    Attributes
    ----------
    network
        The network as it stands after the last finished epoch.
    epoch
        Finished epochs.
    best
        A copy of the weights (on the CPU) of the epoch with the lowest validation total.
    """

    def __init__(
        self, network: PerturbFormer, data: MemberData, settings: TrainSettings, compute: Compute, key: tuple[int, int]
    ) -> None:
        self.network = network.to(compute.device)
        if compute.compiled:
            self.network.encode = CompiledEncoder(self.network)
        self.data, self.settings, self.compute, self.key = data, settings, compute, key
        self.optimizer = torch.optim.AdamW(
            [weight for weight in self.network.parameters() if weight.requires_grad],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=compute.device.type in ("cpu", "cuda"),
        )
        self.weights = part_weights(settings.activation_weight, compute.device)
        self.epoch = 0
        self.best_epoch = 0
        self.best_total = math.inf
        self.best: dict[str, Tensor] = {}

    @property
    def finished(self) -> bool:
        """Whether every epoch has been run, or patience has run out."""
        waited = self.epoch - self.best_epoch
        return self.epoch >= self.settings.epochs or (bool(self.settings.patience) and waited >= self.settings.patience)

    def run_epoch(self, progress: Callable[[int], None] | None = None) -> EpochRecord:
        """Train on every training well once, then look at the validation wells.

        Raises
        ------
        DataError
            The loss is not finite; the weights of the best epoch so far are in `best`.
        """
        started = time.perf_counter()
        with memory_errors(self.compute, self.data.expression.shape[1]):
            train = self._train(progress).means()
            validation, prediction = self._validate()
        losses = torch.stack([train, validation.means()]).cpu()  # the epoch's one wait for the device
        totals = (losses * self.weights.cpu()).sum(1).tolist()
        if not all(map(math.isfinite, totals)):
            raise self._not_finite(totals)
        self.epoch += 1
        is_best = totals[1] < self.best_total
        if is_best:
            self.best_epoch, self.best_total = self.epoch, totals[1]
            # A copy: state_dict() hands out references, which would go on training.
            self.best = {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}
        mse, bce, reg = losses[0].tolist()
        seconds = time.perf_counter() - started
        return EpochRecord(
            self.epoch, (mse, bce, reg), totals[0], tuple(losses[1].tolist()), totals[1], seconds,
            self.optimizer.param_groups[0]["lr"], is_best, prediction,
        )  # fmt: skip

    def _train(self, progress: Callable[[int], None] | None) -> LossSums:
        self.network.train()
        total = LossSums(torch.zeros(3, device=self.compute.device), torch.zeros(3, device=self.compute.device))
        order = np.random.default_rng([*self.key, self.epoch]).permutation(len(self.data.train))
        wells = self.data.train[torch.from_numpy(order).to(self.data.train.device)]
        batches = wells.split(self.settings.batch_size)
        for step, batch in enumerate(batches):
            self._set_learning_rate(self.epoch + step / len(batches))
            sums = self._step(batch, step)
            total = LossSums(total.sums + sums.sums, total.counts + sums.counts)
            if progress:
                progress(len(batch))
        return total

    def _set_learning_rate(self, epochs: float) -> None:
        settings = self.settings
        progress = epochs / settings.epochs
        rate = learning_rate(settings.learning_rate, settings.schedule, settings.warmup, progress)
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _step(self, batch: Tensor, step: int) -> LossSums:
        """One optimiser step; a batch larger than one pass is cut and the gradients of its parts are added."""
        targets = self.data.targets.rows(batch)
        counts = observed_counts(targets)
        total = LossSums(torch.zeros_like(counts), torch.zeros_like(counts))
        self.optimizer.zero_grad(set_to_none=True)
        size = self.compute.wells_at_once(self.data.expression.shape[1])
        for part, wells in enumerate(batch.split(size)):
            noise = Noise(self.network.settings.dropout, (*self.key, self.epoch, step, part), self.compute.device)
            prediction = self.network(self.data.expression[wells], self.compute.dtype, noise, self.compute.attention)
            sums = loss_sums(prediction, self.data.targets.rows(wells))
            # Divided by what the whole batch observed: the parts' gradients add up to the batch's.
            ((sums.sums / counts) * self.weights).sum().backward()
            total = LossSums(total.sums + sums.sums.detach(), total.counts + sums.counts)
        if self.settings.clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.optimizer.step()
        return total

    def _validate(self) -> tuple[LossSums, Prediction]:
        self.network.eval()
        size = self.compute.wells_at_once(self.data.expression.shape[1])
        total = LossSums(torch.zeros_like(self.weights), torch.zeros_like(self.weights))
        passes = []
        with torch.inference_mode():
            for wells in self.data.validation.split(size):
                prediction = self.network(
                    self.data.expression[wells], self.compute.dtype, attention=self.compute.attention
                )
                sums = loss_sums(prediction, self.data.targets.rows(wells))
                total = LossSums(total.sums + sums.sums, total.counts + sums.counts)
                passes.append(prediction)
        return total, concatenate(passes).cpu()

    def _not_finite(self, totals: list[float]) -> DataError:
        which = "training" if not math.isfinite(totals[0]) else "validation"
        return DataError(
            f"the {which} loss is no longer a finite number",
            where=f"epoch {self.epoch + 1}",
            found=f"training {totals[0]}, validation {totals[1]}",
            hint="lower --learning-rate; look for extreme values in the expression or the targets with dpf info",
        )
