"""Training one member: the loop, readable in one sitting.

A member's run is a function of its data, its settings and its key (the seed, the member's number). The order of the
wells and the dropout noise are drawn from (key, epoch, step), so the state of a run is its weights, the optimiser's
moments and the number of finished epochs.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpf.config.settings import TrainSettings
from dpf.model.compiled import CompiledEncoder
from dpf.model.dropout import Noise, Rows
from dpf.model.losses import LossSums, TargetBatch, loss_sums, observed_counts, part_weights, well_losses
from dpf.model.network import PerturbFormer, Prediction
from dpf.training.compute.device import Compute, PassMemory, gradient_scaler, memory_errors
from dpf.training.data import MemberData
from dpf.training.divergence import diverged
from dpf.training.inference import empty_prediction, passes
from dpf.training.parallel.team import Team
from dpf.training.schedule import learning_rate


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
        A copy of the weights (on the CPU) of the epoch with the lowest validation total. A network with an initial
        regression begins as its own best, epoch 0, and an epoch is better only where its total is lower by more than
        one standard error of the difference over compounds: what the Transformer adds has to show in wells that it has
        not learnt from.
    memory
        What a pass takes on a GPU, where `dpf.training.probe` has measured it.
    tuned
        The settings that it has chosen for itself, where it has (`dpf.training.tuning`).
    scaler
        Scales the loss where gradients are computed in float16, and skips steps that overflow.
    team
        The processes that share out each batch's wells; all of them call the same methods.
    """

    def __init__(
        self,
        network: PerturbFormer,
        data: MemberData,
        settings: TrainSettings,
        compute: Compute,
        key: tuple[int, int],
        team: Team = Team(),
    ) -> None:
        self.network = network.to(compute.device)
        if compute.compiled and self.network.encode is None:  # compiled once, whatever trains it
            self.network.encode = CompiledEncoder(self.network)
        self.data, self.settings, self.compute, self.key, self.team = data, settings, compute, key, team
        self.optimizer = torch.optim.AdamW(
            [weight for weight in self.network.parameters() if weight.requires_grad],
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=compute.device.type in ("cpu", "cuda"),
        )
        self.memory: PassMemory | None = None
        self.scaler = gradient_scaler(compute)
        self.weights = part_weights(settings.activation_weight, compute.device)
        self.epoch = 0
        self.best_epoch = 0
        self.best_total = math.inf
        self.best: dict[str, Tensor] = {}
        self.tuned: dict[str, Any] | None = None
        self._initial_losses: Tensor | None = None  # of the validation wells

    def evaluate_initial_regression(self) -> EpochRecord:
        """Epoch 0: the initial regression without the Transformer, whose part of the latent begins at zero."""
        assert self.data.initial is not None
        began = time.perf_counter()
        losses, predictions = [], []
        with torch.inference_mode():
            for wells in (self.data.train, self.data.validation):
                predictions.append(self.network.read(self.data.initial[wells]))
                losses.append(loss_sums(predictions[-1], self.data.targets.rows(wells)).means())
        both = torch.stack(losses).cpu()
        totals = (both * self.weights.cpu()).sum(1).tolist()
        self._initial_losses = self._validation_losses(predictions[1].cpu())
        self.best_total, self.best = totals[1], self._weights()
        (mse, bce, reg), validation = both[0].tolist(), tuple(both[1].tolist())
        seconds = time.perf_counter() - began
        return EpochRecord(
            0, (mse, bce, reg), totals[0], validation, totals[1], seconds, 0.0, True, predictions[1].cpu()
        )

    @property
    def finished(self) -> bool:
        """Whether every epoch has been run, or patience has run out."""
        waited = self.epoch - self.best_epoch
        return self.epoch >= self.settings.epochs or (bool(self.settings.patience) and waited >= self.settings.patience)

    def run_epoch(self, progress: Callable[[int], None] | None = None) -> EpochRecord:
        """Train on every training well once, then look at the validation wells.

        Raises
        ------
        DivergedError
            The loss is not finite; the weights of the best epoch so far are in `best`.
        """
        started = time.perf_counter()
        before = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        with memory_errors(self.compute, self.data.expression.shape[1], self.wells_in_a_pass, self.memory):
            train = self._train(progress).means()
            validation, prediction = self._validate()
        losses = torch.stack([train, validation.means()]).cpu()  # the epoch's one wait for the device
        totals = (losses * self.weights.cpu()).sum(1).tolist()
        if not all(map(math.isfinite, totals)):
            raise diverged(
                self.network, self.data, self.compute, self.settings.learning_rate, self.epoch + 1, before, totals
            )
        self.epoch += 1
        self.check_agreement()
        is_best = totals[1] < self.best_total and self._beats_initial_regression(prediction)
        if is_best:
            self.best_epoch, self.best_total, self.best = self.epoch, totals[1], self._weights()
        mse, bce, reg = losses[0].tolist()
        seconds = time.perf_counter() - started
        return EpochRecord(
            self.epoch, (mse, bce, reg), totals[0], tuple(losses[1].tolist()), totals[1], seconds,
            self.optimizer.param_groups[0]["lr"], is_best, prediction,
        )  # fmt: skip

    @property
    def wells_in_a_pass(self) -> int:
        """Most wells that go forward and backward together: of a batch, this process's share, as many as fit."""
        batch = min(self.settings.batch_size, len(self.data.train))
        return min(self.compute.wells_at_once(self.data.expression.shape[1]), -(-batch // self.team.ranks.world))

    def check_agreement(self) -> None:
        """Make sure that all processes have the same weights, bit for bit.

        Raises
        ------
        ProjectError
            They do not.
        """
        if self.team.alone:
            return
        initial = [] if self.data.initial is None else [self.data.initial]
        weights = [*self.network.state_dict().values(), *initial]
        content = torch.cat([weight.detach().contiguous().view(-1).view(torch.uint8) for weight in weights])
        digest = hashlib.sha256(content.cpu().numpy().data)  # one copy from the device, not dozens
        self.team.agree(f"member {self.key[1]} after epoch {self.epoch}", {"weights": digest.hexdigest()})

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
        """One optimiser step; a batch larger than one pass is cut and the gradients of its parts are added.

        Of several processes each computes its share of the wells, and the gradients are added over all of them.
        """
        targets = self.data.targets.rows(batch)
        counts = observed_counts(targets)
        total = LossSums(torch.zeros_like(counts), torch.zeros_like(counts))
        self.optimizer.zero_grad(set_to_none=True)
        size = self.compute.wells_at_once(self.data.expression.shape[1])
        for one in passes(len(batch), size, self.team.share(len(batch))):
            wells = batch[one.wells]
            rows = None if len(wells) == one.whole else Rows(one.first, one.whole)
            key = (*self.key, self.epoch, step, one.part)
            noise = Noise(self.network.settings.dropout, key, self.compute.device, rows)
            prediction = self.network(
                self.data.expression[wells],
                self.compute.dtype,
                noise,
                self.compute.attention,
                self.data.initial_of(wells),
            )
            sums = loss_sums(prediction, self.data.targets.rows(wells))
            # Divided by what the whole batch observed: the parts' gradients add up to the batch's.
            self.scaler.scale(((sums.sums / counts) * self.weights).sum()).backward()
            total = LossSums(total.sums + sums.sums.detach(), total.counts + sums.counts)
        if not self.team.alone:
            total = self._add_up(total)
        self.scaler.unscale_(self.optimizer)
        if self.settings.clip:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self.scaler.step(self.optimizer)  # unless a gradient is not finite
        self.scaler.update()
        return total

    def _add_up(self, total: LossSums) -> LossSums:
        """Put the sum of all processes' gradients in place of each one's, and give the sum of their losses."""
        weights = [weight for weight in self.network.parameters() if weight.requires_grad]
        grads = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        buffer = torch.cat([part.flatten() for part in (*grads, *total)])  # one message instead of dozens
        self.team.add(buffer)
        *added, sums, counts = buffer.split([weight.numel() for weight in weights] + [len(part) for part in total])
        for weight, grad in zip(weights, added, strict=True):
            weight.grad = grad.view_as(weight)
        return LossSums(sums, counts)

    def _validate(self) -> tuple[LossSums, Prediction]:
        """Losses and predictions of the validation wells, each process computing its share of them."""
        self.network.eval()
        wells = self.data.validation
        size = self.compute.wells_at_once(self.data.expression.shape[1])
        total = LossSums(torch.zeros_like(self.weights), torch.zeros_like(self.weights))
        whole = empty_prediction(self.network, len(wells), self.compute.device)
        with torch.inference_mode():
            for one in passes(len(wells), size, self.team.share(len(wells))):
                rows = wells[one.wells]
                x, initial = self.data.expression[rows], self.data.initial_of(rows)
                prediction = self.network(x, self.compute.dtype, attention=self.compute.attention, start=initial)
                sums = loss_sums(prediction, self.data.targets.rows(rows))
                total = LossSums(total.sums + sums.sums, total.counts + sums.counts)
                for here, there in zip(prediction, whole, strict=True):
                    if here is not None and there is not None:
                        there[one.wells] = here
            for values in (*total, *whole):
                if values is not None:
                    self.team.add(values)  # what a process has not computed is 0 there
        return total, whole.cpu()

    def _weights(self) -> dict[str, Tensor]:
        # A copy: state_dict() hands out references, which would go on training.
        return {name: value.detach().cpu().clone() for name, value in self.network.state_dict().items()}

    def _validation_losses(self, prediction: Prediction) -> Tensor:
        targets = TargetBatch(*(part.cpu() for part in self.data.targets.rows(self.data.validation)))
        return well_losses(prediction, targets, self.weights.cpu()).double()

    def _beats_initial_regression(self, prediction: Prediction) -> bool:
        """Whether the validation total is below that of epoch 0 by more than one standard error over compounds."""
        if self._initial_losses is None:
            return True
        assert self.data.groups is not None
        gain = self._initial_losses - self._validation_losses(prediction)
        _, group = torch.unique(self.data.groups[self.data.validation].cpu(), return_inverse=True)
        by_group = torch.zeros(int(group.max()) + 1, dtype=torch.float64).index_add_(0, group, gain)
        groups = len(by_group)
        # The error of a sum of as many independent terms, from their spread.
        error = by_group.std() * math.sqrt(groups) if groups > 1 else math.inf
        return float(by_group.sum()) > float(error)
