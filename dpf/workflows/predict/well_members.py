"""Outputs become one row a well: the members that it is predicted by, and where it lies in their latent space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.latent.activation_pattern import activation_pattern
from dpf.analysis.latent.distances import LatentDistances, latent_distances
from dpf.config.settings import LatentSettings
from dpf.errors import DataError, listed
from dpf.splits.parts import PART_NAMES, Parts
from dpf.workflows.predict.outputs import Outputs
from dpf.workflows.project.inputs import Inputs

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WellMembers:
    """The members that each well is predicted by: those that held it out; where there are none, those whose epoch it
    chose; where there are none, those that were trained on it.

    Attributes
    ----------
    used
        bool array of shape (M, N).
    part
        N names: what the well was to those members.
    """

    used: NDArray[np.bool_]
    part: list[str]

    @classmethod
    def of(cls, parts: Parts) -> WellMembers:
        """The members of each well, by the splits (M, N) of a model."""
        best = parts.max(0)
        return cls(parts == best, [PART_NAMES[code] for code in best])

    def average(self, values: Floats) -> Floats:
        """The mean over each well's members of values on a common scale; (M, N) or (M, N, S) to (N,) or (N, S)."""
        weights = self.used / self.used.sum(0)
        averaged: Floats = np.einsum("mn,mn...->n...", weights, values)
        return averaged

    def names(self) -> list[str]:
        """Each well's members, such as `0` or `0,2`."""
        return [",".join(map(str, np.flatnonzero(column))) for column in self.used.T]

    def first(self) -> NDArray[np.intp]:
        """The first member of each well: latents of different members cannot be averaged, so one is taken."""
        first: NDArray[np.intp] = self.used.argmax(0)
        return first


def center_wells(inputs: Inputs, settings: LatentSettings) -> NDArray[np.bool_]:
    """The control wells the centre is made of: all, or those of the clusters that the settings name.

    Raises
    ------
    DataError
        Clusters are asked for that no control well is of, or there is no cluster column.
    """
    if not settings.control_clusters:
        return inputs.is_control
    clusters = inputs.texts("cluster")
    controls = (
        [] if clusters is None else [c for c, control in zip(clusters, inputs.is_control, strict=True) if control]
    )
    unknown = [name for name in settings.control_clusters if name not in controls]
    if unknown or clusters is None:
        raise DataError(
            "there are no control wells of those clusters",
            where="--control-cluster",
            found=listed(unknown),
            expected=f"clusters of controls: {listed(sorted({str(c) for c in controls}))}"
            if clusters
            else "a `cluster` column in the wells table",
        )
    chosen: NDArray[np.bool_] = inputs.is_control & np.array([name in settings.control_clusters for name in clusters])
    return chosen


def plate_codes(plates: Sequence[str | None] | None) -> tuple[NDArray[np.intp], list[str]] | None:
    """Plates as whole numbers, and their names; None where the plates are not all known."""
    if plates is None or any(plate is None for plate in plates):
        return None
    names, codes = np.unique([str(plate) for plate in plates], return_inverse=True)
    return codes, names.tolist()


def well_distances(
    outputs: Outputs, inputs: Inputs, settings: LatentSettings, members: WellMembers
) -> dict[str, Floats]:
    """Latent-space columns of every well, each in the first of its members.

    `latent_norm`, `distance_euclidean`, `distance_cosine`, `distance_mahalanobis`, and with an activation axis
    `activation_axis` and `on_axis_share` (definitions in `dpf.analysis.latent.distances`).
    """
    mask = center_wells(inputs, settings)
    plates = plate_codes(inputs.texts("plate")) if settings.center == "plate" else None
    if settings.center == "plate" and plates is None:
        raise DataError("a centre per plate needs the plate of every well", where="latent.center = plate")
    codes, names = plates if plates else (None, None)
    per_member = [
        latent_distances(latent, None if outputs.axis is None else outputs.axis[member], mask, codes, names)
        for member, latent in enumerate(outputs.latent)
    ]
    columns = [distance_columns(distances) for distances in per_member]
    chosen, wells = members.first(), np.arange(len(outputs.well_ids))
    return {name: np.stack([member[name] for member in columns])[chosen, wells] for name in columns[0]}


def activation_patterns(outputs: Outputs) -> Floats | None:
    """The direction that wells move in with activation, (M, L), by member; None without an activation axis.

    Raises
    ------
    NoPatternError
        A member predicts the same activation for every well.
    """
    if outputs.axis is None:
        return None
    return np.stack([activation_pattern(z, axis) for z, axis in zip(outputs.latent, outputs.axis, strict=True)])


def distance_columns(distances: LatentDistances) -> dict[str, Floats]:
    """The distances as named columns."""
    columns = {
        "latent_norm": distances.norm,
        "distance_euclidean": distances.d_euc,
        "distance_cosine": distances.d_cos,
        "distance_mahalanobis": distances.d_maha,
    }
    if distances.activation is not None and distances.on_axis is not None:
        columns |= {"activation_axis": distances.activation, "on_axis_share": distances.on_axis}
    return columns
