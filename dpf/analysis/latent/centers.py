"""The centre of the control wells in the latent space, and the deviations from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.errors import DataError, listed

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class ControlCenters:
    """The mean latent of the chosen control wells, one for the screen or one for each plate.

    Attributes
    ----------
    centers
        (P, L): the mean latents μ; P = 1 where no plates were given.
    counts
        (P,): how many control wells each mean is made of.
    of_well
        (N,): the row of `centers` that each well is compared with.
    """

    centers: Floats
    counts: Codes
    of_well: Codes


def control_centers(
    latent: ArrayLike,
    center_mask: ArrayLike,
    plate: ArrayLike | None = None,
    plate_names: Sequence[str] | None = None,
) -> ControlCenters:
    """Mean latent of the chosen control wells, over the screen or plate by plate.

    Parameters
    ----------
    latent
        (N, L) latents of one member. Never mix members: their bases differ.
    center_mask
        (N,) bool: the wells the centre is made of (all controls, or those of chosen clusters).
    plate
        (N,) plate codes 0, 1, ...; None takes one centre for all wells.
    plate_names
        The names behind the codes, for error messages.

    Raises
    ------
    DataError
        No control wells, one only, a plate with fewer than two (named); latents that are not finite.
    """
    z, mask = checked_latent(latent), np.asarray(center_mask, dtype=bool)
    if mask.shape != (len(z),):
        raise ValueError(f"center_mask has shape {mask.shape}, expected ({len(z)},)")
    if not mask.any():
        raise DataError(
            "there is no control well to measure distances from",
            where="the control centre",
            found=f"0 of {len(z):,} wells chosen",
            expected="at least 2 control wells",
            hint="check how the controls are named, and the clusters that the centre is restricted to",
        )
    if plate is None:
        if mask.sum() < 2:
            raise DataError(
                "one control well is too few: its own distance needs the centre of the others",
                where="the control centre",
                found="1 control well",
                expected="at least 2 (8 or more for a spread that can be trusted)",
                hint="check how the controls are named, and the clusters that the centre is restricted to",
            )
        of_well = np.zeros(len(z), dtype=np.int64)
        return ControlCenters(z[mask].mean(axis=0)[None, :], np.array([mask.sum()], dtype=np.int64), of_well)
    of_well = np.asarray(plate, dtype=np.int64)
    counts = np.bincount(of_well[mask], minlength=int(of_well.max()) + 1)
    _require_pairs_on_plates(of_well, counts, plate_names)
    sums = np.zeros((len(counts), z.shape[1]))
    np.add.at(sums, of_well[mask], z[mask])
    return ControlCenters(sums / np.maximum(counts, 1)[:, None], counts.astype(np.int64), of_well)


def centered(latent: ArrayLike, center_mask: ArrayLike, centers: ControlCenters) -> Floats:
    """Deviations z − μ of shape (N, L), each control well from the centre of the *other* controls.

    A control that is part of its own centre looks closer than it is, by the factor (n−1)/n. With
    μ₋ᵢ = (nμ − zᵢ)/(n−1) the deviation is zᵢ − μ₋ᵢ = n/(n−1)·(zᵢ − μ), which needs no second pass.
    """
    z, mask = checked_latent(latent), np.asarray(center_mask, dtype=bool)
    deviation = z - centers.centers[centers.of_well]
    n = centers.counts[centers.of_well[mask]].astype(np.float64)
    deviation[mask] *= (n / (n - 1))[:, None]
    return deviation


def checked_latent(latent: ArrayLike) -> Floats:
    z = np.asarray(latent, dtype=np.float64)
    if z.ndim != 2:
        raise ValueError(f"latent has shape {z.shape}, expected (N, L)")
    require_finite_latents(z, wells=0)
    return z


def require_finite_latents(values: Floats, *, wells: int) -> None:
    """Refuse latents, or what was made of them, that are no numbers; `wells` is the axis of the wells (of two)."""
    finite = np.asarray(np.isfinite(values).all(axis=1 - wells))
    bad = np.flatnonzero(~finite)
    if len(bad):
        raise DataError(
            "latents must be finite numbers",
            where=f"latent, rows {listed(bad.tolist())}",
            found=f"NaN or infinite values in {len(bad):,} of {len(finite):,} wells",
            expected="finite values",
            hint="the model diverged or its inputs hold such values: look at `dpf check`, then train again",
        )


def _require_pairs_on_plates(of_well: Codes, counts: NDArray[np.intp], plate_names: Sequence[str] | None) -> None:
    present = np.unique(of_well)
    short = present[counts[present] < 2]
    if len(short):
        names = [str(code) if plate_names is None else plate_names[code] for code in short]
        raise DataError(
            "a centre per plate needs control wells on every plate",
            where=f"plate {listed(names)}",
            found=", ".join(f"{counts[code]}" for code in short[:10]) + " control wells",
            expected="at least 2",
            hint="take one centre for the screen (not per plate), or leave these plates out",
        )
