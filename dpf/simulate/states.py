"""What is planted in a simulated screen: the effect of every compound, and the state of every well."""

from __future__ import annotations

import math
import zlib
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dpf.simulate.design import DOSES_UM, SimulationDesign
from dpf.simulate.plates import Placement, Sizes
from dpf.simulate.programs import ACTIVATION, INTERACTING, OFF_AXIS, PROGRAMS

PROGRAM_NAMES: Final = tuple(program.name for program in PROGRAMS)

_STRENGTH_MEDIAN, _STRENGTH_SPREAD = 1.3, 0.45  # in units of state; spread of the logarithm


def stream(seed: int, purpose: str) -> np.random.Generator:
    """A generator for one purpose, independent of those for every other."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(zlib.crc32(purpose.encode()),)))


class Planted(NamedTuple):
    """What every compound is, a row a compound and a last row for the controls: index −1 is a control."""

    kind: NDArray[np.str_]  # (C + 1,)
    program: NDArray[np.intp]  # (C + 1,), -1 for none
    sign: NDArray[np.float64]  # (C + 1,)
    strength: NDArray[np.float64]  # (C + 1,)
    ec50: NDArray[np.float64]  # (C + 1,)


class States(NamedTuple):
    """What the wells are, a row a well."""

    effect: NDArray[np.float64]  # (N,)
    programs: NDArray[np.float64]  # (N, P)
    column_shift: NDArray[np.float64]  # (N,)
    interaction: NDArray[np.float64]  # (N,)

    def of(self, program: str) -> NDArray[np.float64]:
        return self.programs[:, PROGRAM_NAMES.index(program)]

    @property
    def phenotype(self) -> NDArray[np.float64]:
        return self.of(ACTIVATION) + self.interaction


def plant(design: SimulationDesign, n_compounds: int) -> Planted:
    """Give every compound its kind, program, strength and EC50, whatever its name."""
    kinds = ("activating", "suppressing", "off_axis")
    bounds = np.rint(np.cumsum([getattr(design, kind) for kind in kinds]) * n_compounds)
    rng = stream(design.seed, "kinds")
    drawn = np.searchsorted(bounds, rng.permutation(n_compounds), side="right")
    kind = np.append(np.array([*kinds, "inert"])[drawn], "control")
    program = np.full(n_compounds + 1, PROGRAM_NAMES.index(ACTIVATION))
    off_axis = rng.choice([PROGRAM_NAMES.index(name) for name in OFF_AXIS], n_compounds + 1)
    program[kind == "off_axis"] = off_axis[kind == "off_axis"]
    rng = stream(design.seed, "strengths")
    strength = _STRENGTH_MEDIAN * np.exp(_STRENGTH_SPREAD * rng.standard_normal(n_compounds + 1))
    ec50 = np.exp(rng.uniform(math.log(DOSES_UM[0]), math.log(DOSES_UM[-1]), n_compounds + 1))
    idle = np.isin(kind, ("inert", "control"))
    program[idle], strength[idle], ec50[idle] = -1, 0.0, np.nan
    return Planted(kind, program, np.where(kind == "suppressing", -1.0, 1.0), strength, ec50)


def draw_states(design: SimulationDesign, sizes: Sizes, placement: Placement, planted: Planted) -> States:
    """Effect of the compound, well-to-well spread, column shift and interaction of every well."""
    spread = np.array([program.well_spread for program in PROGRAMS])
    states = spread * stream(design.seed, "biology").standard_normal((sizes.wells, len(PROGRAMS)))  # (N, P)
    effect = (planted.sign * planted.strength)[placement.compound]  # (N,)
    moved = np.flatnonzero(effect)
    if design.dose:
        concentration = np.array(DOSES_UM)[placement.dose[moved]]
        effect[moved] *= concentration / (concentration + planted.ec50[placement.compound[moved]])
    states[moved, planted.program[placement.compound[moved]]] += effect[moved]
    slope = np.linspace(1.0, -1.0, sizes.columns)
    column_shift = design.column_effect * (slope / slope.std())[placement.column]
    states[:, PROGRAM_NAMES.index(ACTIVATION)] += column_shift
    first, second = (states[:, PROGRAM_NAMES.index(name)] for name in INTERACTING)
    interaction = design.interaction * first * second + 0.0  # + 0.0: no −0.0 where it is switched off
    return States(effect, states, column_shift, interaction)
