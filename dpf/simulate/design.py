"""The design of a simulated screen: its size, its layout, and which effects are planted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Self, get_args

import numpy as np

from dpf.errors import UsageError
from dpf.simulate.plates import Layout, Sizes, plate_shape
from dpf.simulate.programs import MINIMUM_GENES

#: Concentrations of every compound in a screen with doses, in µM.
DOSES_UM: Final = (0.3, 1.0, 3.0, 10.0)

_WHOLE = {"wells": 4, "genes": MINIMUM_GENES, "compounds": 1, "replicates": 1, "controls": 2, "plates": 1, "seed": 0}
_REAL = {
    **dict.fromkeys(("activating", "suppressing", "off_axis"), (0, 1)),
    **dict.fromkeys(("plate_effect", "column_effect", "interaction"), (0, math.inf)),
    "depth": (1, math.inf),
}


@dataclass(frozen=True)
class SimulationDesign:
    """What to simulate.

    Attributes
    ----------
    wells, genes
        N and G.
    compounds, controls
        Numbers of compounds and of control wells. What is left open follows from the rest; with both open, about 5% of
        the wells and at least 8 are controls.
    replicates
        Wells a compound (with `dose`, a compound and concentration).
    plates
        Number of plates; left open, two, or as many 384-well plates as are needed.
    seed
        Every purpose (layout, programs, compounds, library sizes, ...) draws from a stream of its own, so that a
        change of one effect leaves everything else that is planted as it was.
    activating, suppressing, off_axis
        Shares of the compounds of each kind. The rest, `inert`, does nothing.
    plate_effect
        Standard deviation of a gene's log2 shift on a plate. 0 switches it off.
    column_effect
        Standard deviation over the columns of the shift of the activation state, which falls evenly from the first
        column to the last: genes and targets follow it. 0 switches it off.
    interaction
        Size of the part of the phenotype that no linear function of expression can give: this times the product of two
        independent standard normal states, each of which shows in genes of its own. At 1 its variance is 1, about
        that of the activation state. It changes the targets only, never the counts.
    dose
        Every compound at each of `DOSES_UM`, with effect = strength·c/(c + EC50), EC50 log-uniform over 0.3–10 µM.
    layout
        ``scattered``: wells at random. ``columns``: controls in the first and last column only, replicates in the same
        position of their plates: with a column effect, a confounded screen.
    depth
        Median UMIs of a well, over all genes of the cell, of which the G are a part.

    Raises
    ------
    UsageError
        A number is out of range, or wells, compounds, replicates and controls do not add up.
    """

    wells: int = 192
    genes: int = 300
    compounds: int | None = None
    replicates: int = 2
    controls: int | None = None
    plates: int | None = None
    seed: int = 614
    activating: float = 0.2
    suppressing: float = 0.2
    off_axis: float = 0.15
    plate_effect: float = 0.15
    column_effect: float = 0.0
    interaction: float = 0.0
    dose: bool = False
    layout: Layout = "scattered"
    depth: float = 150_000.0

    @classmethod
    def full(cls, seed: int = 614) -> Self:
        """The size of the classic screen: 768 wells × 2,541 genes, 364 compounds × 2, 40 controls, two plates."""
        return cls(wells=768, genes=2541, compounds=364, controls=40, plates=2, seed=seed)

    def __post_init__(self) -> None:
        for name, least in _WHOLE.items():
            value = getattr(self, name)
            if value is not None or name not in ("compounds", "controls", "plates"):
                _check(name, value, (int, np.integer), least, math.inf)
        for name, (least, most) in _REAL.items():
            _check(name, getattr(self, name), (int, float, np.integer, np.floating), least, most)
        if self.layout not in get_args(Layout):
            raise UsageError(f"the simulation has no layout {self.layout!r}", expected=" or ".join(get_args(Layout)))
        shares = {name: getattr(self, name) for name in ("activating", "suppressing", "off_axis")}
        if math.fsum(shares.values()) > 1 + 1e-9:
            raise UsageError(
                "the shares of the kinds of compounds exceed 1",
                found=", ".join(f"{name} {share:g}" for name, share in shares.items()),
                expected="a sum of at most 1; the rest of the compounds is inert",
            )
        self.sizes()

    def sizes(self) -> Sizes:
        """All sizes, those that were left open filled in.

        Raises
        ------
        UsageError
            They do not add up.
        """
        doses = len(DOSES_UM) if self.dose else 1
        each = self.replicates * doses
        compounds, controls = self.compounds, self.controls
        if compounds is None:
            at_least = max(8, round(0.05 * self.wells)) if controls is None else controls
            compounds = max(0, self.wells - at_least) // each
        if controls is None:
            controls = self.wells - compounds * each
        if compounds < 1 or controls < 2 or compounds * each + controls != self.wells:
            raise self._mismatch(max(1, compounds), each, controls)
        plates = max(2, -(-self.wells // 384)) if self.plates is None else self.plates
        if plates > self.wells:
            raise UsageError("there are more plates than wells", found=f"{plates} plates, {self.wells} wells")
        shape = plate_shape(self.wells, plates)
        return Sizes(self.wells, compounds, self.replicates, doses, controls, plates, *shape)

    def _mismatch(self, compounds: int, each: int, controls: int) -> UsageError:
        asked = controls if self.controls is not None else 8
        needed = compounds * each + asked
        return UsageError(
            "wells, compounds and controls do not add up",
            found=f"{self.wells:,} wells",
            expected=f"{needed:,} = {compounds:,} compounds × {each} wells + {asked} controls",
            hint=f"ask for {needed:,} wells, or leave the number of compounds or of controls open",
        )


def _check(name: str, value: Any, kinds: tuple[type, ...], least: float, most: float) -> None:
    is_number = isinstance(value, kinds) and not isinstance(value, bool)
    if is_number and least <= value <= most and value < math.inf:
        return
    bound = f"from {least} to {most}" if math.isfinite(most) else f"of at least {least}"
    raise UsageError(
        f"the simulation cannot have this value of {name!r}",
        found=repr(value),
        expected=f"a {'number' if float in kinds else 'whole number'} {bound}",
    )
