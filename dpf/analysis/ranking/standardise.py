"""Standardised distances: every well, control or not, measured by a member that never saw it.

A network pulls the controls it was trained on together, and compounds it never saw lie farther out for that reason
alone. So a well's distance is taken in the members that held it out, to a centre made of that member's *training*
controls, and is expressed in the spread of the *held-out* controls, which were treated as the well was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dpf.analysis.latent.centers import require_finite_latents
from dpf.errors import DataError
from dpf.splits.parts import Part

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: Fewest controls (over all members) that a median and a MAD can be taken of at all.
MIN_REFERENCE = 3
#: Turns a median absolute deviation into a standard deviation, for normal values.
MAD_TO_SD = 1.4826
#: Fewest held-out controls of a member whose median is compared with the others', and the level of that test.
MIN_CONTROLS = 3
LEVEL = 0.01

_NAMES = {Part.TRAIN: "training", Part.VALIDATION: "validation", Part.HELD_OUT: "held-out"}


@dataclass(frozen=True)
class Standardised:
    """What `standardise` returns.

    Attributes
    ----------
    value
        (N,) T of each well: its mean standardised value over the members of `used`. Larger is farther out.
    by_member
        (M, N) the same by member; NaN where a member was not used for the well.
    used
        (M, N) bool: the members a well's value comes from.
    basis
        (N,) int8, a `Part`: what the well was to those members, and what the controls were that it is measured by.
    statement
        One sentence a basis: what the values rest on. To be shown with them.
    """

    value: Floats
    by_member: Floats
    used: Mask
    basis: NDArray[np.int8]
    statement: tuple[str, ...]

    @property
    def held_out(self) -> bool:
        """Every value comes from members that never saw the well: p-values may rest on them."""
        return bool((self.basis == Part.HELD_OUT).all())


def standardise(values: ArrayLike, part: ArrayLike, is_control: ArrayLike) -> Standardised:
    """(v − median)/(1.4826·MAD) of the controls that were treated as the well was, averaged over members.

    Each well takes its best basis: the members that held it out; where there are none, those that it validated;
    where there are none, those that it trained. It is measured by the controls of the same part.

    Members are pooled: values are first divided by the member's own scale, the median |v| of its *training* controls
    (of those it measures, where it was trained on none), and one median and one MAD then serve all members. The
    reference is then one monotone map for every well, so a p-value by ranks does not depend on it. (Each member's own
    median and MAD would not do: their error is shared by all the wells of a compound but absent from the controls that
    made them. With 8 controls in each of 5 members, inert pairs reach p ≤ 0.0013 in 2.3% of cases.)

    A part with fewer than 3 controls in all cannot be a reference: its wells are measured by the training controls,
    and their basis and the statement say so (`Part.TRAIN`).

    Parameters
    ----------
    values
        (M, N): a distance, or a signed position relative to the member's control centre.
    part
        (M, N) codes of `Part`.
    is_control
        (N,) bool: the controls that make the reference.

    Raises
    ------
    DataError
        Values that are not finite, fewer than 3 training controls.
    NoSpreadError
        A spread, or a member's scale, is zero.
    """
    v = np.asarray(values, dtype=np.float64)
    parts, control = _checked(v, part, is_control)
    best: Codes = parts.max(axis=0)
    used = parts == best
    basis = best.copy()
    by_member = np.full(v.shape, np.nan)
    for kind in (Part.HELD_OUT, Part.VALIDATION):
        if (control & (parts == kind)).sum() < MIN_REFERENCE:
            basis[best == kind] = Part.TRAIN
    statements = []
    for kind in sorted({Part(code) for code in basis.tolist()}, reverse=True):
        wells = used & (basis == kind)
        members = wells.any(axis=1)
        controls = (control & (parts == kind))[members]
        training = (control & (parts == Part.TRAIN))[members]
        by_member[wells] = _scaled(v[members], controls, training, kind)[wells[members]]
        statements.append(_statement(kind, basis, best, int(controls.sum())))
    value: Floats = np.nansum(by_member, axis=0) / used.sum(axis=0)
    return Standardised(value, by_member, used, basis.astype(np.int8), tuple(statements))


def _scaled(values: Floats, controls: Mask, training: Mask, kind: Part) -> Floats:
    where = f"the {_NAMES[kind]} controls"
    if controls.sum() < MIN_REFERENCE:
        raise _too_few(where, f"{controls.sum()} in all members", f"at least {MIN_REFERENCE}")
    # A member that was trained on none of these controls (a model from elsewhere) is scaled by those that it measures.
    training = np.where(training.any(axis=1, keepdims=True), training, controls)
    if not training.any(axis=1).all():
        raise _too_few("the controls of a member", "none", "at least 2 in every member")
    scale = np.array([np.median(np.abs(row[mask])) for row, mask in zip(values, training, strict=True)])
    if not (scale > 0).all():
        raise _no_spread("the training controls of a member", "median distance 0")
    ratio = values / scale[:, None]
    return _robust_z(ratio, ratio[controls], where)


def _robust_z(values: Floats, reference: Floats, where: str) -> Floats:
    middle = np.median(reference)
    spread = MAD_TO_SD * np.median(np.abs(reference - middle))
    # A MAD of rounding errors is no spread either.
    if not spread > np.finfo(np.float64).eps * 8 * np.abs(reference).max():
        raise _no_spread(where, f"median absolute deviation {spread / MAD_TO_SD:.3g} of {len(reference)} values")
    result: Floats = (values - middle) / spread
    return result


def _too_few(where: str, found: str, expected: str) -> DataError:
    return DataError(
        "too few control wells to standardise by",
        where=where,
        found=found,
        expected=expected,
        hint="check how the controls are named: a screen needs control wells to be ranked",
    )


class NoSpreadError(DataError):
    """The controls are all in one place."""


def _no_spread(where: str, found: str) -> NoSpreadError:
    return NoSpreadError(
        "the controls do not differ: there is no spread to standardise by",
        where=where,
        found=found,
        expected="a spread above 0",
        hint="look for control wells that are copies of each other, genes that do not vary (dpf check), or a model "
        "whose latent is the same for every well: dpf evaluate shows whether it learnt anything",
    )


def _statement(kind: Part, basis: Codes, best: Codes, reference: int) -> str:
    wells = f"{(basis == kind).sum():,} of {len(basis):,} wells"
    spread = f"the spread of {reference:,} {_NAMES[kind]} control values pooled over members"
    if kind == Part.HELD_OUT:
        return f"{wells}: measured by members that never saw them, in {spread}."
    if kind == Part.VALIDATION:
        return (
            f"{wells}: not held out by any member; measured where they were validation wells, in {spread}. "
            "These wells chose the epoch."
        )
    text = f"{wells}: measured by members trained on the controls they are compared with, in {spread}; "
    unseen = int(((basis == kind) & (best > Part.TRAIN)).sum())
    if unseen:
        text += f"{unseen:,} of them were not trained on, but too few controls were left out with them; "
    return text + "no p-value may rest on them."


def _checked(values: Floats, part: ArrayLike, is_control: ArrayLike) -> tuple[Codes, Mask]:
    parts, control = np.asarray(part, dtype=np.int64), np.asarray(is_control, dtype=bool)
    if values.ndim != 2 or parts.shape != values.shape or control.shape != values.shape[1:]:
        raise ValueError(f"values {values.shape}, part {parts.shape} and is_control {control.shape} do not fit (M, N)")
    if not np.isin(parts, [kind.value for kind in Part]).all():
        raise ValueError(f"part holds codes {np.unique(parts)}, expected {[kind.value for kind in Part]}")
    require_finite_latents(values, wells=1)
    return parts, control


class MemberMedians(NamedTuple):
    """The median T of each member's held-out controls, (M',), and the p-value of their being equal."""

    medians: NDArray[np.float64]
    p: float


def members_differ(found: Standardised, is_control: ArrayLike) -> MemberMedians | None:
    """Kruskal–Wallis test of the held-out controls' standardised distances, member by member.

    The replicates of a compound share the member that held them out, the controls they are compared with are spread
    over all: where members differ, pairs of inert wells differ less among themselves than pairs of controls do.

    Returns
    -------
    MemberMedians or None
        None where the members do not differ at the level 0.01, or fewer than two hold out at least 3 controls.
    """
    from scipy.stats import kruskal  # imported here: it costs more than the rest of this module

    control = np.asarray(is_control, dtype=bool) & (found.basis == Part.HELD_OUT)
    groups = [row[control & used] for row, used in zip(found.by_member, found.used, strict=True)]
    groups = [group for group in groups if len(group) >= MIN_CONTROLS]
    if len(groups) < 2 or np.ptp(np.concatenate(groups)) == 0:
        return None
    p = float(kruskal(*groups).pvalue)
    return MemberMedians(np.array([np.median(group) for group in groups]), p) if p <= LEVEL else None
