"""What to say when the loss of a member is no longer a finite number: in which epoch, and in which wells."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from dpf.errors import DataError, listed
from dpf.model.losses import loss_sums
from dpf.model.network import PerturbFormer, Prediction
from dpf.training.compute.device import Compute
from dpf.training.data import MemberData


class DivergedError(DataError):
    """The loss of a member is not finite. The member's network has the weights of the last finished epoch again."""


def diverged(
    network: PerturbFormer,
    data: MemberData,
    compute: Compute,
    learning_rate: float,
    epoch: int,
    before: Mapping[str, Tensor],
    totals: list[float],
) -> DivergedError:
    """The error for a member whose epoch ended with these training and validation losses.

    `before` are the weights that the epoch began with. Wells whose loss or prediction is not finite are looked for in
    one pass over all wells of the member, with the weights as they are now, or, where the weights themselves are not
    finite any more, so that no well is, with those of `before`.
    """
    spoilt = not all(bool(value.isfinite().all()) for value in network.state_dict().values())
    if spoilt:
        network.load_state_dict(before)
    wells = torch.cat([data.train, data.validation]).sort().values
    bad = _not_finite(network, data, compute, wells)
    network.load_state_dict(before)
    names = [data.names[row] if data.names else str(row) for row in bad]
    found = f"training {totals[0]}, validation {totals[1]}; "
    slower = f"lower --learning-rate (it is {learning_rate:g}), or clip the gradients: --set train.clip=1"
    if compute.dtype == torch.float16:
        slower += "; or use --precision bf16 or fp32, which hold larger numbers"
    if len(bad) == len(wells):
        found += "not finite in any well"
        hint = slower
    elif bad:
        found += f"not finite in well{'s' if len(bad) > 1 else ''} {listed(names)}"
        hint = (
            f"look for extreme values in the expression and the targets of these wells, and leave them out; or {slower}"
        )
    else:
        found += "no well alone is the reason: before this epoch all were finite"
        hint = slower
    which = "training" if not math.isfinite(totals[0]) else "validation"
    return DivergedError(
        f"the {which} loss is no longer a finite number", where=f"epoch {epoch}", found=found, hint=hint
    )


def _not_finite(network: PerturbFormer, data: MemberData, compute: Compute, wells: Tensor) -> list[int]:
    """The wells, by their row, whose prediction or loss is not finite, without dropout."""
    network.eval()
    found = []
    with torch.inference_mode():
        for rows in wells.split(compute.wells_at_once(data.expression.shape[1])):
            x, initial = data.expression[rows], data.initial_of(rows)
            prediction = network(x, compute.dtype, attention=compute.attention, start=initial)
            for place, row in enumerate(rows.tolist()):
                one = _row(prediction, place)
                sums = loss_sums(one, data.targets.rows(slice(row, row + 1))).sums
                if not all(bool(part.isfinite().all()) for part in (*one, sums) if part is not None):
                    found.append(row)
    return found


def _row(prediction: Prediction, place: int) -> Prediction:
    latent, scores, logit, activation = prediction
    row = slice(place, place + 1)
    return Prediction(
        latent[row], scores[row], None if logit is None else logit[row], None if activation is None else activation[row]
    )
