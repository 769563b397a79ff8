"""Every well's distance from the controls, its place on the activation axis, and what these rest on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.wells import codes_of
from dpf.analysis.latent.activation_pattern import NoPatternError
from dpf.analysis.latent.distances import LatentDistances, latent_distances
from dpf.analysis.latent.position_adjustment import adjust_latent, one_hot
from dpf.analysis.ranking.standardise import NoSpreadError, Standardised, standardise
from dpf.config.settings import LatentSettings
from dpf.errors import DataError
from dpf.splits.parts import Part
from dpf.workflows.predict.outputs import Outputs
from dpf.workflows.predict.well_members import WellMembers, activation_patterns, center_wells, plate_codes
from dpf.workflows.project.inputs import Inputs
from dpf.workflows.rank.choices import Adjustment

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class RankedWells:
    """N wells as the ranking sees them.

    Attributes
    ----------
    outputs
        The model's outputs; with an adjustment, its latents are the adjusted ones.
    members
        The members that each well is predicted by.
    deviation
        (M, N, L): z − μ, μ of each member's training controls.
    scale
        (M,): median ‖z − μ‖ of those controls, by which members can be compared.
    t
        Standardised Euclidean distances: `t.value` is the ranking's T.
    raw
        Distances by name, (N,) each, in latent units (averaged over the members that held the well out).
    standardised
        Cosine and Mahalanobis distances standardised as T is, (N,); without those that are not defined everywhere.
    norm
        ‖z‖, (N,).
    activation
        Position on the activation axis in robust standard deviations of the controls, (N,); None without an axis.
    on_axis
        a²/‖z − μ‖², (N,); None without an axis.
    pattern
        (M, L): the direction in which each member's wells move with activation; None where `activation` is.
    silent
        What of these was left out because the controls do not differ in it.
    """

    outputs: Outputs
    members: WellMembers
    deviation: Floats
    scale: Floats
    t: Standardised
    raw: dict[str, Floats]
    standardised: dict[str, Floats]
    norm: Floats
    activation: Floats | None
    on_axis: Floats | None
    pattern: Floats | None
    silent: tuple[str, ...] = ()

    def profiles(self) -> tuple[Floats, Codes]:
        """(N, L) deviations in the one member that stands for each well, in units of its scale; (N,) that member."""
        member = self.members.first()
        wells = np.arange(len(member))
        profiles: Floats = self.deviation[member, wells] / self.scale[member, None]
        return profiles, member.astype(np.int64)


def rank_wells(
    outputs: Outputs, inputs: Inputs, codes: Codes, settings: LatentSettings, adjust: Adjustment
) -> RankedWells:
    """Measure every well in every member, and standardise.

    The centre is that of each member's *training* controls (a training control is compared with the others); of a
    model that was trained on none of these controls, that of all controls, each compared with the others.

    Parameters
    ----------
    codes
        (N,) the compound of each well, −1 for controls.

    Raises
    ------
    DataError
        Too few controls, no spread among them, an adjustment for positions that are not known.
    """
    if adjust != "none":
        outputs = replace(outputs, latent=_adjusted(outputs, inputs, codes, adjust))
    controls = center_wells(inputs, settings)
    plates = plate_codes(inputs.texts("plate")) if settings.center == "plate" else (None, None)
    if plates is None:
        raise DataError("a centre per plate needs the plate of every well", where="latent.center = plate")
    masks = [controls & (part == Part.TRAIN) for part in outputs.parts]
    masks = [mask if mask.any() else controls for mask in masks]
    found = [_distances(outputs, member, mask, *plates) for member, mask in enumerate(masks)]
    deviation = np.stack([one.deviation for one in found])
    members = WellMembers.of(outputs.parts)
    stacked = {name: np.stack([getattr(one, name) for one in found]) for name in ("d_euc", "d_cos", "d_maha", "norm")}
    named = {"distance_euclidean": "d_euc", "distance_cosine": "d_cos", "distance_mahalanobis": "d_maha"}

    def standard(values: Floats) -> Standardised:
        return standardise(values, outputs.parts, inputs.is_control)

    silent: list[str] = []

    def if_it_varies(name: str, values: Floats) -> Floats | None:
        try:
            return standard(values).value
        except NoSpreadError:  # such as the angle between latents that lie on one line
            silent.append(name)
            return None

    activation = on_axis = pattern = None
    if outputs.axis is not None:
        activation = if_it_varies("activation", np.stack([_known(one.activation) for one in found]))
    if activation is not None:
        try:
            pattern = activation_patterns(outputs)
            on_axis = members.average(np.stack([_known(one.on_axis) for one in found]))
        except NoPatternError:  # a member's controls differ in it by rounding errors only
            silent.append("activation")
            activation = None
    others = {f"{name}_z": stacked[kind] for name, kind in named.items() if kind != "d_euc"}
    standardised = {name: if_it_varies(name, values) for name, values in others.items() if np.isfinite(values).all()}
    return RankedWells(
        outputs=outputs,
        members=members,
        deviation=deviation,
        scale=np.array([np.median(one.d_euc[mask]) for one, mask in zip(found, masks, strict=True)]),
        t=standard(stacked["d_euc"]),
        raw={name: members.average(stacked[kind]) for name, kind in named.items()},
        standardised={name: values for name, values in standardised.items() if values is not None},
        norm=members.average(stacked["norm"]),
        activation=activation,
        on_axis=on_axis,
        pattern=pattern,
        silent=tuple(silent),
    )


def _distances(
    outputs: Outputs, member: int, mask: Mask, plates: NDArray[np.intp] | None, names: list[str] | None
) -> LatentDistances:
    axis = None if outputs.axis is None else outputs.axis[member]
    try:
        return latent_distances(outputs.latent[member], axis, mask, plates, names)
    except DataError as error:
        raise DataError(
            f"member {member}: {error.what}",
            where=f"{mask.sum():,} control wells of member {member}" + (f", {error.where}" if error.where else ""),
            found=error.found,
            expected=error.expected,
            hint=error.hint or "use fewer folds, a split that spreads the controls, or one centre for all plates",
        ) from error


def _known(values: Floats | None) -> Floats:
    assert values is not None  # every member has the axis, or none
    return values


def _adjusted(outputs: Outputs, inputs: Inputs, codes: Codes, adjust: Adjustment) -> Floats:
    design = position_levels(inputs, adjust)[0]
    adjusted = []
    for latent, part in zip(outputs.latent, outputs.parts, strict=True):
        fit = part == Part.TRAIN
        fit = fit if (fit & inputs.is_control).any() else np.ones_like(fit)
        adjusted.append(adjust_latent(latent, design, codes, inputs.is_control, fit))
    return np.stack(adjusted)


def position_levels(inputs: Inputs, adjust: Adjustment) -> tuple[Floats, list[str]]:
    """What is adjusted for: the levels of plate (and row, and column) as columns (N, levels), and their names.

    Raises
    ------
    DataError
        None of them is known, or none varies.
    """
    wanted = ("plate",) if adjust == "plate" else ("plate", "row", "column")
    texts = {name: inputs.texts(name) for name in wanted}
    factors = {name: codes_of(values)[0] for name, values in texts.items() if values is not None}
    varying = {name: factor for name, factor in factors.items() if len(np.unique(factor[factor >= 0])) > 1}
    if not varying:
        raise DataError(
            f"the {adjust} of the wells is not known, or all wells share it: there is nothing to adjust for",
            where=f"--adjust {adjust}",
            found=f"columns {', '.join(factors) or 'none'}",
            expected=f"columns {', '.join(wanted)} in the wells table, of more than one value",
        )
    return one_hot(list(varying.values())), list(varying)
