"""The training, validation and held-out wells of each member.

A split is an int8 array of shape (M, N): one row a member, one column a well, one `Part` each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dpf.errors import DataError, listed
from dpf.files import canonical_json, sha256_text
from dpf.splits.grouping import Index, deal, group_wells, label_strata, take_share

SplitRule = Literal["compound", "well", "plate"]
Parts = NDArray[np.int8]


class Part(IntEnum):
    """What a well is to a member: it fits the weights, chooses the epoch, or is only predicted."""

    TRAIN = 0
    VALIDATION = 1
    HELD_OUT = 2

    @property
    def text(self) -> str:
        """The name in `splits.parquet`: train, validation or held_out."""
        return self.name.lower()


PART_NAMES: tuple[str, ...] = tuple(part.text for part in Part)


def default_validation(folds: int) -> float:
    """The share of wells that chooses the epoch: 0.2 of all with one member, else 0.1 of those not held out."""
    return 0.2 if folds == 1 else 0.1


def make_splits(
    rule: SplitRule,
    *,
    compound: Sequence[str | None],
    is_control: NDArray[np.bool_],
    label: NDArray[np.floating] | None,
    plate: Sequence[str | None] | None,
    folds: int,
    seed: int,
    validation: float | None = None,
    repeats: int = 1,
) -> Parts:
    """Split N wells into train, validation and held out, once for each of M = `folds` × `repeats` members.

    Rules. `compound`: all wells of a compound lie in one part, each control well is a group of its own.
    `well`: every well is a group of its own, so replicates leak (see `describe_leaks`). `plate`:
    whole plates are held out; with one member, the whole plates that come nearest to the share (at least
    one) are its validation wells.

    With one member there is no held-out part. With K >= 2 folds each well is held out exactly once, and the
    validation wells are a share of the rest, whole compounds at a time under `compound` and `plate`. With R
    repeats the folds are dealt R times, each time anew: every well is held out by R members. The first K rows
    are those of a split without repeats.

    Groups are drawn stratum by stratum, so that each part has its share of every stratum's *wells*. The
    strata: label 0, label 1 (a group has the label of most of its wells, a tie counts as 1), no label, and
    the controls.

    Parameters
    ----------
    compound, is_control, plate
        Length N. `plate` is needed by its own rule only.
    label
        Length N, 0, 1 or nan (unknown); None where the screen has no label.
    folds
        K, at least 1.
    seed
        The split depends on the seed and on the order of the wells, and on nothing else.
    validation
        Share of wells in the validation part, between 0 and 1; None is `default_validation(folds)`.
    repeats
        R, at least 1; more than 1 only with `folds` of at least 2.

    Returns
    -------
    parts
        int8 array of shape (M, N) of `Part` codes.

    Raises
    ------
    DataError
        Fewer compounds (wells, plates) than folds; repeats of a single run; a compound or plate that has no
        name under the rule that needs it; or a member left without what `check_parts` asks for.
    """
    share = default_validation(folds) if validation is None else validation
    _check_request(rule, folds, share, seed, repeats)
    is_control = np.asarray(is_control, dtype=bool)
    label = None if label is None else _checked_label(label)
    rng = np.random.default_rng(seed)
    outer = group_wells(rule, compound, is_control, plate)
    _check_count(rule, outer, is_control, folds)
    if repeats > 1 and rule == "plate" and folds == np.unique(outer).size:
        raise DataError(
            "with as many folds as plates there is only one way to deal them: it cannot be repeated",
            found=f"{folds} plates in {folds} folds, {repeats} repeats",
            hint="leave --repeats out, or take fewer folds, or another rule (--split)",
        )
    # Plates are few and each holds wells of every stratum: they are not stratified.
    strata = np.zeros_like(outer) if rule == "plate" else label_strata(outer, is_control, label)
    if folds == 1:
        parts = np.where(take_share(outer, strata, share, rng), Part.VALIDATION, Part.TRAIN)[None, :]
    else:
        inner = group_wells("compound", compound, is_control, plate) if rule == "plate" else outer
        inner_strata = label_strata(inner, is_control, label)
        rows = []
        for _ in range(repeats):
            fold = deal(outer, strata, folds, rng)
            rows += [_inner_split(fold == k, inner, inner_strata, share, rng) for k in range(folds)]
        parts = np.stack(rows)
    parts = parts.astype(np.int8)
    check_parts(parts, is_control, label)
    return parts


def check_parts(
    parts: Parts, is_control: NDArray[np.bool_], label: NDArray[np.floating] | None, *, where: str | None = None
) -> None:
    """Refuse a split that cannot be trained on.

    Every member needs validation wells, training wells of compounds, at least 2 training controls, and both
    classes of the label among its training wells where the screen has both.

    Raises
    ------
    DataError
        Naming every member that falls short, and what it lacks.
    """
    problems = []
    classes = set() if label is None else set(np.unique(label[~np.isnan(label)]).tolist())
    for member, row in enumerate(parts):
        train = row == Part.TRAIN
        if not (row == Part.VALIDATION).any():
            problems.append(f"member {member} has no validation well")
        if not (train & ~is_control).any():
            problems.append(f"member {member} has no training well of a compound")
        if (controls := int((train & is_control).sum())) < 2:
            problems.append(f"member {member} has {controls} training control(s)")
        if label is not None:
            missing = classes - set(np.unique(label[train & ~np.isnan(label)]).tolist())
            problems += [f"member {member} has no training well of label {value:g}" for value in sorted(missing)]
    if problems:
        raise DataError(
            "the split leaves a member without what training needs",
            where=where,
            found=listed(problems),
            expected="for each member: validation wells, training wells of compounds, at least 2 training controls, "
            "and training wells of both label classes",
            hint="try another number of folds (--folds), another rule (--split), or hand in your own splits file",
        )


def splits_from_table(
    well_ids: Sequence[str], rows: Iterable[tuple[str, int, str]], *, where: str | None = None
) -> Parts:
    """The user's own split, from rows of (well_id, member, part), in any order.

    Parameters
    ----------
    well_ids
        The screen's N wells, in its order.
    rows
        One for each well and member; `part` is "train", "validation" or "held_out"; members are 0 to M-1.
    where
        The file's name, for the error.

    Returns
    -------
    parts
        int8 array of shape (M, N). Only its completeness is checked; see `check_parts`.

    Raises
    ------
    DataError
        Unknown wells, wells that lack a row, repeated rows, unknown parts, members that are not 0 to M-1.
        All of them are named at once.
    """
    entries = [(str(well), member, part) for well, member, part in rows]
    column = {well: index for index, well in enumerate(well_ids)}
    bad_members = {
        repr(m) for _, m, _ in entries if isinstance(m, bool) or not isinstance(m, int | np.integer) or m < 0
    }
    members = sorted({int(m) for _, m, _ in entries if repr(m) not in bad_members})
    problems = []
    if bad_members or members != list(range(len(members))):
        shown = [*map(str, members), *sorted(bad_members)]
        problems.append(f"members are {listed(shown)}, not 0 to {max(len(shown) - 1, 0)}")
    if unknown := sorted({well for well, _, _ in entries if well not in column}):
        problems.append(f"{len(unknown):,} well(s) that the screen does not have: {listed(unknown)}")
    if strange := sorted({repr(part) for _, _, part in entries if part not in PART_NAMES}):
        problems.append(f"part(s) {listed(strange)}")
    seen: dict[tuple[str, int], int] = {}
    for well, member, _ in entries:
        seen[well, member] = seen.get((well, member), 0) + 1
    if repeated := [f"{well} (member {member})" for (well, member), count in seen.items() if count > 1]:
        problems.append(f"{len(repeated):,} well(s) given more than once: {listed(repeated)}")
    for member in members:
        if absent := [well for well in well_ids if (well, member) not in seen]:
            problems.append(f"member {member} lacks {len(absent):,} well(s): {listed(absent)}")
    if problems or not entries:
        raise DataError(
            "the splits table does not fit the screen",
            where=where,
            found="; ".join(problems) or "no row at all",
            expected=f"one row for each of the {len(well_ids):,} wells and each member 0, 1, ..., "
            f"with a part out of {', '.join(PART_NAMES)}",
            hint="start from the splits.parquet of a trained model, or use --split compound",
        )
    parts = np.empty((len(members), len(well_ids)), dtype=np.int8)
    for well, member, part in entries:
        parts[member, column[well]] = PART_NAMES.index(part)
    return parts


def table_from_splits(parts: Parts, well_ids: Sequence[str]) -> list[tuple[str, int, str]]:
    """Rows of (well_id, member, part), member by member: what `splits_from_table` reads."""
    return [
        (well, member, PART_NAMES[code])
        for member, row in enumerate(parts.tolist())
        for well, code in zip(well_ids, row, strict=True)
    ]


def split_fingerprint(parts: Parts, well_ids: Sequence[str]) -> str:
    """Sha256 (hex) of which well is where in which member, whatever order the wells stand in."""
    by_well = {str(well): codes for well, codes in zip(well_ids, parts.T.tolist(), strict=True)}
    return sha256_text(canonical_json(by_well))


def describe_leaks(parts: Parts, compound: Sequence[str | None], is_control: NDArray[np.bool_]) -> int:
    """How many compounds have wells in more than one part of some member. 0 under the rule `compound`.

    Controls are left out: they are meant to be in every part.
    """
    names = np.array(["" if name is None else str(name) for name in compound], dtype=object)
    wells = np.flatnonzero(~np.asarray(is_control, dtype=bool) & (names != ""))
    leaking: set[str] = set()
    for row in parts:
        pairs = {(names[well], int(row[well])) for well in wells}
        counts: dict[str, int] = {}
        for name, _ in pairs:
            counts[name] = counts.get(name, 0) + 1
        leaking.update(name for name, count in counts.items() if count > 1)
    return len(leaking)


def _check_request(rule: str, folds: int, share: float, seed: int, repeats: int) -> None:
    if rule not in ("compound", "well", "plate"):
        raise DataError("unknown split rule", found=rule, expected="compound, well or plate")
    if folds < 1 or not 0 < share < 1 or seed < 0:
        raise DataError(
            "the split cannot be made with these settings",
            found=f"folds {folds}, validation share {share:g}, seed {seed}",
            expected="folds of at least 1, a validation share between 0 and 1, a seed of at least 0",
        )
    if repeats < 1 or (repeats > 1 and folds == 1):
        raise DataError(
            "a single run holds no well out: there are no folds to repeat",
            found=f"{repeats} repeats of {folds} fold(s)",
            expected="repeats of at least 1, and more than one only of 2 folds or more",
            hint="add --folds 5, or leave --repeats out",
        )


def _checked_label(label: NDArray[np.floating]) -> NDArray[np.float64]:
    values = np.asarray(label, dtype=np.float64)
    if strange := sorted(set(values[~np.isnan(values)].tolist()) - {0.0, 1.0}):
        raise DataError("the label is not binary", found=listed(strange), expected="0, 1 or missing")
    return values


def _check_count(rule: str, groups: Index, is_control: NDArray[np.bool_], folds: int) -> None:
    # Controls do not count: a fold that holds out controls alone evaluates nothing.
    unit = {"compound": "compound", "well": "well of a compound", "plate": "plate"}[rule]
    found = np.unique(groups if rule == "plate" else groups[~is_control]).size
    needed = max(folds, 2)
    if found < needed:
        raise DataError(
            "there is too little to split" if folds == 1 else f"there is too little for {folds} folds",
            found=f"{found} distinct {unit}(s)" if rule != "well" else f"{found} {unit}(s)",
            expected=f"at least {needed} with --split {rule}",
            hint="use fewer folds (--folds), or another rule (--split)",
        )


def _inner_split(
    held_out: NDArray[np.bool_],
    groups: Index,
    strata: Index,
    share: float,
    rng: np.random.Generator,
) -> Index:
    """One member's row: its held-out wells, and of the others a share as validation."""
    row = np.full(held_out.size, Part.HELD_OUT, dtype=np.intp)
    rest = ~held_out
    row[rest] = np.where(take_share(groups[rest], strata[rest], share, rng), Part.VALIDATION, Part.TRAIN)
    return row
