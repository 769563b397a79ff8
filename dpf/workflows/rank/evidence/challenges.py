"""Is a hit still one against other controls, without one of its wells, or by part of the evidence?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.ranking.omnibus import Line, omnibus_test
from dpf.analysis.ranking.power import smallest_p_values
from dpf.analysis.ranking.subsets import LARGEST_FLOOR, number_of_subsets
from dpf.errors import count
from dpf.tables.roles.well_names import row_number
from dpf.tables.schemas.registry import polars_schema
from dpf.workflows.project.inputs import Inputs
from dpf.workflows.rank.evidence.blocks import FACTORS, blocks
from dpf.workflows.rank.evidence.lines import EXPRESSION, PREDICTED, Evidence, stratum_centred
from dpf.workflows.rank.evidence.significance import Design
from dpf.workflows.rank.rows import CompoundRows

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]

#: The columns that name a row.
_KEYS = ("compound", "concentration")
#: The share of each stratum's controls that are matched: the nearest third, or half where the smallest p of a third is
#: above the level.
_NEAREST = (1 / 3, 1 / 2)


@dataclass(frozen=True)
class Challenges:
    """`columns` of the ranking (C rows each), `statements` for the reader, and the `table` of all challenges."""

    columns: dict[str, pl.Series]
    statements: list[str]
    table: pl.DataFrame


class _Test(NamedTuple):
    """A challenge of some rows: its kind, its name for each row, their wells, the controls, and what is compared.

    `group` (N,) is −1 for wells that take no part.
    """

    kind: str
    names: dict[int, str]
    group: Codes
    control: Mask
    lines: dict[str, Line]


def challenge_hits(
    evidence: Evidence, inputs: Inputs, rows: CompoundRows, fdr: float, rng: np.random.Generator
) -> Challenges:
    """Repeat the test of each hit (q ≤ fdr) in every way that this screen allows.

    Against the controls nearest in log depth, and those nearest on the plate; leaving out each well, and each plate,
    batch and donor with its controls; without the model, without the expression; and with what log depth explains of
    the controls taken off all lines. Lines and strata are those of the ranking.

    A hit *survives* a challenge where p is at most its level: the p up to which a row is a hit in this ranking
    (fdr · hits / tested rows, by Benjamini–Hochberg), or the smallest p of the challenge where that is larger (no other
    set of wells lies as far). A challenge is not made, and not counted, where its smallest p is above 0.05.
    """
    hits = np.flatnonzero(evidence.q <= fdr)
    found: list[dict[str, Any]] = []
    if evidence.design is not None and len(hits):
        level = fdr * len(hits) / int(np.isfinite(evidence.p).sum())
        for test in _tests(evidence.lines, evidence.design, inputs, rows, hits, level):
            found += _results(test, evidence.design, level, rng)
    found.sort(key=lambda one: one["row"])  # stable: each row's challenges in the order they were made
    keys = rows.keys[[one["row"] for one in found]]
    schema = {name: kind for name, kind in polars_schema("challenges").items() if name not in _KEYS}
    values = [{name: one[name] for name in schema} for one in found]
    table = pl.concat([keys, pl.DataFrame(values, schema=schema)], how="horizontal")
    return Challenges(*_summary(found, hits, rows.count), table=table)


def _tests(
    lines: dict[str, Line], design: Design, inputs: Inputs, rows: CompoundRows, hits: Codes, level: float
) -> Iterator[_Test]:
    """Every challenge of every hit."""
    group = np.where(np.isin(rows.codes, hits), rows.codes, -1)
    depth = _depth(inputs)
    for kind, places in (("depth-matched controls", depth), ("position-matched controls", _positions(inputs))):
        if places is None:
            continue
        for hit in hits.tolist():
            matched = _matched(places, rows.wells(hit), design, level)
            yield _Test(kind, {hit: kind}, np.where(group == hit, hit, -1), matched, lines)
    yield from _left_out(lines, design, inputs, rows, group)
    for kind, line in (("without the model", PREDICTED), ("without the expression", EXPRESSION)):
        if line in lines and len(lines) > 1:
            others = {name: values for name, values in lines.items() if name != line}
            yield _Test(kind, dict.fromkeys(hits.tolist(), kind), group, design.control, others)
    if depth is not None and depth[design.control].std() > 0:
        kind, centred = "depth taken off", stratum_centred(depth.copy(), design.strata)[:, 0]
        without = {name: line._replace(values=_taken_off(line.values, centred, design)) for name, line in lines.items()}
        yield _Test(kind, dict.fromkeys(hits.tolist(), kind), group, design.control, without)


def _left_out(
    lines: dict[str, Line], design: Design, inputs: Inputs, rows: CompoundRows, group: Codes
) -> Iterator[_Test]:
    """Without each well, then without each plate, batch and donor with its controls; the same test only once."""
    hits = np.unique(group[group >= 0]).tolist()
    seen: set[tuple[int, bytes, bytes]] = set()

    def is_new(hit: int, own: Codes, control: Mask) -> bool:
        here = np.flatnonzero(control & np.isin(design.strata, design.strata[own]))
        key = (hit, own.tobytes(), here.tobytes())
        fresh = len(own) > 0 and key not in seen
        seen.add(key)
        return fresh

    for place in range(max(len(rows.wells(hit)) for hit in hits)):
        kept, names = group.copy(), {}
        for hit in hits:
            own = rows.wells(hit)
            if place < len(own) and is_new(hit, np.delete(own, place), design.control):
                kept[own[place]] = -1
                names[hit] = f"without well {inputs.well_ids[own[place]]}"
        yield _Test("without one well", names, kept, design.control, lines)
    for factor in FACTORS:
        parted = blocks(inputs, factor)
        if parted is None:
            continue
        for code, level in enumerate(parted.names):
            there = parted.codes == code
            kept, control = np.where(there, -1, group), design.control & ~there
            names = {}
            for hit in hits:
                own = rows.wells(hit)
                if there[own].any() and is_new(hit, own[~there[own]], control):
                    names[hit] = f"without {factor} {level}"
            yield _Test(f"without one {factor}", names, kept, control, lines)


def _results(test: _Test, design: Design, level: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    """One entry a row that is challenged; without p where its smallest p would be above 0.05."""
    challenged = np.array(sorted(test.names), dtype=np.int64)
    if not len(challenged):
        return []
    numbers = np.full(int(test.group.max()) + 2, -1, dtype=np.int64)  # the last entry is that of code −1

    def numbered(kept: Codes) -> Codes:
        new = numbers.copy()
        new[kept] = np.arange(len(kept))
        return new[test.group]

    group = numbered(challenged)
    floors = smallest_p_values(group, len(challenged), test.control, design.strata)
    p, can = np.full(len(challenged), np.nan), floors <= LARGEST_FLOOR
    if can.any():
        made = numbered(challenged[can])
        p[can] = omnibus_test(test.lines, made, int(can.sum()), test.control, design.strata, rng).p
    found = []
    for at, row in enumerate(challenged.tolist()):
        of_row, needed = group == at, max(level, float(floors[at]))
        near = test.control & np.isin(design.strata, design.strata[of_row])
        one = {"row": row, "kind": test.kind, "challenge": test.names[row]}
        one |= {"n": int(of_row.sum()), "controls": int(near.sum()), "p": None, "level": None, "survives": None}
        if not np.isnan(p[at]):
            one |= {"p": float(p[at]), "level": needed, "survives": bool(p[at] <= needed * (1 + 1e-12))}
        found.append(one)
    return found


def _summary(found: list[dict[str, Any]], hits: Codes, n_rows: int) -> tuple[dict[str, pl.Series], list[str]]:
    """The columns of the ranking, and the line for the reader."""
    survives: list[int | None] = [None] * n_rows
    challenges, fails = list(survives), [""] * n_rows
    of_row = {row: list(ones) for row, ones in groupby(found, key=itemgetter("row"))}
    kinds: Counter[str] = Counter()
    whole, unchallenged = 0, 0
    for hit in hits.tolist():
        made = [one for one in of_row.get(hit, []) if one["survives"] is not None]
        failed = [one for one in made if not one["survives"]]
        survives[hit], challenges[hit] = len(made) - len(failed), len(made)
        fails[hit] = ", ".join(one["challenge"] for one in failed)
        kinds.update({one["kind"] for one in failed})
        whole += bool(made) and not failed
        unchallenged += not made
    columns = {
        "survives": pl.Series(survives, dtype=pl.Int64),
        "challenges": pl.Series(challenges, dtype=pl.Int64),
        "fails": pl.Series([text or None for text in fails], dtype=pl.String),
    }
    if not len(hits):
        return columns, ["no hits to challenge"]
    text = f"challenged: {whole:,} of {count(len(hits), 'hit')} survive every challenge that could be made"
    if kinds:
        text += f"; hits that fail: {', '.join(f'{kind} {many:,}' for kind, many in kinds.most_common())}"
    if unchallenged:
        text += f"; {unchallenged:,} could not be challenged (too few wells or controls)"
    return columns, [text]


def _depth(inputs: Inputs) -> Floats | None:
    """(N, 1) log10 depth; None where it is not known of every well."""
    wells = inputs.wells
    if "library_size" not in wells.columns or not wells.schema["library_size"].is_numeric():
        return None
    depth = wells.get_column("library_size").cast(pl.Float64).to_numpy()
    return np.log10(np.maximum(depth, 1.0))[:, None] if np.isfinite(depth).all() else None


def _positions(inputs: Inputs) -> Floats | None:
    """(N, 2) row and column, NaN where not known; None where none is."""
    letters, wells = inputs.texts("row"), inputs.wells
    if letters is None or "column" not in wells.columns or not wells.schema["column"].is_numeric():
        return None
    numbers = [row_number(text) if text else np.nan for text in letters]
    places = np.column_stack([numbers, wells.get_column("column").cast(pl.Float64).to_numpy()])
    return places if np.isfinite(places).any() else None


def _matched(places: Floats, own: Codes, design: Design, level: float) -> Mask:
    """The controls (N,) nearest to a row's wells, in each stratum; none where these cannot be matched.

    Which are those of unknown place, of a mean depth beyond all controls', or of so few controls that all are near.
    """
    strata, control, nobody = (
        design.strata,
        design.control & np.isfinite(places).all(axis=1),
        np.zeros_like(design.control),
    )
    here = control & np.isin(strata, strata[own])
    if not np.isfinite(places[own]).all() or not here.any():
        return nobody
    if places.shape[1] == 1 and not places[here].min() <= places[own].mean() <= places[here].max():
        return nobody
    for share in _NEAREST:
        nearest, counts = nobody.copy(), []
        for stratum in np.unique(strata[own]):
            mine, theirs = own[strata[own] == stratum], np.flatnonzero(here & (strata == stratum))
            apart = ((places[theirs, None] - places[None, mine]) ** 2).sum(axis=2).min(axis=1)
            chosen = theirs[np.argsort(apart, kind="stable")[: math.ceil(share * len(theirs))]]
            nearest[chosen] = True
            counts.append((len(chosen), len(mine)))
        if 1 / number_of_subsets(counts) <= level:
            break
    return nearest if nearest.sum() < here.sum() else nobody


def _taken_off(values: Floats, depth: Floats, design: Design) -> Floats:
    """The values (N, K) less what a line of log depth (N,), fitted on the controls, gives them."""
    about = depth - depth[design.control].mean()
    at = about[design.control]
    slopes = at @ values[design.control] / (at @ at)
    return np.asarray(values - about[:, None] * slopes, dtype=np.float64)
