"""Positions, compounds and principal components, computed once for all parts of the design check."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dpf.analysis.design.item import Verdict
from dpf.analysis.design.plates import COMPONENTS
from dpf.analysis.design.wells import MISSING, Codes, DesignInput, Positions, compound_units, locate
from dpf.analysis.latent.pca import principal_components


@dataclass(frozen=True)
class Context:
    """A design with its positions, compounds and principal components as numbers.

    Attributes
    ----------
    set_aside
        Where the wells are that take no part; None without any.
    units
        The compound of each well, shape (N,); controls are each one of their own.
    components, components_share
        Principal components of the expression, shape (N, k), and their share of its variance; None without
        expression that varies.
    permutations
        Rearrangements for each p-value.
    """

    design: DesignInput
    positions: Positions
    set_aside: Positions | None
    units: Codes
    components: NDArray[np.float64] | None
    components_share: float
    permutations: int

    @property
    def is_control(self) -> NDArray[np.bool_]:
        """Shape (N,)."""
        return self.design.is_control

    @property
    def plate(self) -> Codes:
        """The plate of each well, shape (N,)."""
        return self.positions.codes["plate"]

    def without_controls(self, factor: str) -> list[str]:
        """Levels of a factor (plates, batches) with compounds and no control."""
        names, codes = self.positions.levels[factor], self.positions.codes[factor]
        compounds, controls = (set(codes[part].tolist()) for part in (~self.is_control, self.is_control))
        return [names[code] for code in sorted(compounds - controls - {MISSING})]


def context(design: DesignInput, rng: np.random.Generator, permutations: int) -> Context:
    """Compute what the parts share; `rng` starts the principal components' iteration."""
    components, share = None, 0.0
    if design.expression is not None:
        found = principal_components(design.expression, COMPONENTS, rng=rng)
        if found.explained.size:  # else no gene varies: no position can explain anything of it
            components, share = found.places, float(found.explained.sum())
    positions, aside = locate(design), None
    if design.set_aside is not None:
        aside = locate(replace(design.set_aside, plate_format=positions.plate_format))
    return Context(design, positions, aside, compound_units(design), components, share, permutations)


@dataclass(frozen=True)
class LayoutEffects:
    """Whether position within the plate was seen to matter: what turns a weak layout into a wrong result.

    Attributes
    ----------
    looked_at
        Targets and expression for which an effect could have been seen.
    affected
        Those with one.
    """

    looked_at: tuple[str, ...]
    affected: tuple[str, ...]

    def judge(self, verdict: Verdict) -> Verdict:
        """The verdict on a layout that could bias results: a failure is only a warning where position does nothing."""
        return Verdict.WARN if verdict == Verdict.FAIL and self.looked_at and not self.affected else verdict

    @property
    def text(self) -> str:
        """A sentence on it."""
        if not self.looked_at:
            return "Whether position within the plates has an effect could not be seen."
        if not self.affected:
            return "No effect of position within the plates was seen."
        return f"Position within the plates has an effect on {', '.join(self.affected)}."
