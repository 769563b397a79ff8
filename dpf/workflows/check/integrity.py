"""Whether a project's inputs are as `dpf init` wrote them, and whether settings and models fit them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.analysis.design.item import Cell, CheckItem, Verdict, columns_of, not_applicable
from dpf.config.settings import TargetSettings
from dpf.errors import DataError, DpfError, listed
from dpf.files import sha256_file
from dpf.project.directory import Project, tables_in
from dpf.tables.matrix import select_rows
from dpf.tables.preparing.set_aside import proposed
from dpf.tables.roles.validate import require_sound
from dpf.tables.screen import CANONICAL_COLUMNS, Screen, Targets, reason_of, takes_part
from dpf.tables.storage import Expression, expression_digest, read_about, read_expression, read_table, require_intact
from dpf.workflows.check.names import names_item
from dpf.workflows.project.inputs import AUTO, project_normalisation, read_measured
from dpf.workflows.project.provenance import Now, current, why_stale

GROUP = "integrity"
#: A fifth of the wells: as many as a validation split takes away.
MISSING_WARN = 0.2
#: More failed wells than this, and it is the run that has failed.
ASIDE_FAIL = 0.25
_ALWAYS = ("well_id", "compound", "is_control")

T = TypeVar("T")


@dataclass(frozen=True)
class ReadBack:
    """The inputs of a project as far as they can be read, and what is wrong with them.

    Attributes
    ----------
    wells
        N wells that take part.
    set_aside
        The rows of the wells that do not.
    expression
        Shape (N, G); None where it cannot be read or is not that of these wells.
    genes
        G names; empty without expression.
    is_control
        Shape (N,).
    targets
        Name to float64 array of shape (N,), for those targets of the settings that can be read. An activation that is
        only the sum of the scores is not among them.
    label
        Which of `targets` is the label.
    now
        Digests of the tables, and the settings.
    items
        Tables, settings, failed wells, missing values, names, source files, models.
    """

    wells: pl.DataFrame
    set_aside: pl.DataFrame
    expression: NDArray[np.float32] | None
    genes: list[str]
    is_control: NDArray[np.bool_]
    targets: dict[str, NDArray[np.float64]]
    label: str | None
    now: Now
    items: tuple[CheckItem, ...]


def read_back(project: Project) -> ReadBack:
    """Read the inputs of a project, and report what is wrong as items instead of stopping at it.

    Raises
    ------
    DataError, ProjectError
        The wells table cannot be read, or lacks well ids, compounds or controls: there is nothing to check.
    """
    wells = read_table(project.wells, "wells")
    _require_canonical(wells, project)
    expression, tables = _read_tables(project, wells)
    used = takes_part(wells, project.settings.quality.keep_flagged)
    aside, wells = wells.filter(~used), wells.filter(used)
    targets, settings = _read_targets(project, wells)
    now = current(project)
    label = project.settings.targets.label
    others = (_aside_item(aside, wells), _missing_item(wells, targets), names_item(wells), _sources_item(project))
    return ReadBack(
        wells=wells,
        set_aside=aside,
        expression=None
        if expression is None
        else select_rows(expression.values, used.arg_true().to_numpy().astype(np.intp)),
        genes=[] if expression is None else expression.genes,
        is_control=wells.get_column("is_control").fill_null(False).to_numpy(),
        targets=targets,
        label=label if label in targets else None,
        now=now,
        items=(tables, settings, *others, _models_item(now)),
    )


def _require_canonical(wells: pl.DataFrame, project: Project) -> None:
    wrong = [name for name in _ALWAYS if wells.schema.get(name) != CANONICAL_COLUMNS[name]]
    if wrong or wells.is_empty():
        raise DataError(
            "the wells table cannot be checked",
            where=project.wells,
            found=f"no usable column {listed(wrong)}" if wrong else "no wells",
            expected="columns well_id, compound and is_control, as dpf init writes them",
            hint="run dpf init again from the source files",
        )


def _attempt(read: Callable[[], T], wrong: list[DpfError]) -> T | None:
    """What `read` returns, or None with what it raised in `wrong`."""
    try:
        return read()
    except DpfError as error:
        wrong.append(error)
        return None


def _as_sentence(wrong: list[DpfError]) -> str:
    """Errors as one text, a sentence each."""
    parts = [[error.what, *(part for part in (error.found,) if part)] for error in wrong]
    return " ".join(f"{' '.join(': '.join(part).split()).rstrip('.')}." for part in parts)


def _problems(name: str, wrong: list[DpfError], good: str, advice: str, rule: str) -> CheckItem:
    """An item that fails with anything wrong; its table has one row a problem."""
    if not wrong:
        return CheckItem(name, GROUP, Verdict.GOOD, 0.0, good, "", rule)
    rows: list[dict[str, Cell]] = [
        {"problem": e.what, "where": e.where, "found": e.found, "expected": e.expected, "next": e.hint} for e in wrong
    ]
    hint = next((error.hint for error in wrong if error.hint), advice)
    return CheckItem(name, GROUP, Verdict.FAIL, float(len(wrong)), _as_sentence(wrong), hint, rule, columns_of(rows))


def _read_tables(project: Project, wells: pl.DataFrame) -> tuple[Expression | None, CheckItem]:
    wrong: list[DpfError] = []
    intact = _attempt(lambda: expression_digest(project.expression), wrong)
    expression = _attempt(lambda: read_expression(project.expression), wrong) if intact else None
    genes = _attempt(lambda: read_table(project.genes, "genes"), wrong)
    _attempt(lambda: project_normalisation(project), wrong)
    if expression is not None and expression.well_ids != wells.get_column("well_id").to_list():
        found = f"{len(expression.well_ids):,} wells and {wells.height:,}, or another order"
        wrong.append(DataError("expression and wells table do not hold the same wells in the same order", found=found))
        expression = None
    if expression is not None and genes is not None:
        if genes.get_column("gene").to_list() != expression.genes:
            found = f"{len(expression.genes):,} and {genes.height:,}, or another order"
            wrong.append(DataError("expression and genes table do not hold the same genes", found=found))
        else:
            screen = Screen(wells, genes, expression.values, Targets())
            _attempt(lambda: require_sound(screen), wrong)
    good = f"{wells.height:,} wells"
    if expression is not None:
        good += f" and {len(expression.genes):,} genes, the same in every table; every value is there."
    rule = (
        "what is wrong with expression, wells, genes and normalisation, read back and checked as by dpf init: any fails"
    )
    return expression, _problems("input tables", wrong, good, "run dpf init again from the source files", rule)


def _aside_item(aside: pl.DataFrame, wells: pl.DataFrame) -> CheckItem:
    """Wells that take no part; of a project whose wells nobody judged, those that should take none."""
    rule = f"share of the wells that are set aside, or should be: any warns, more than {ASIDE_FAIL:.0%} fails"
    judged = "set_aside" in wells.columns or aside.height > 0
    if judged:
        found, advice = aside, "look at them, and at the compounds that have no usable well (dpf rank: not measured)"
    else:
        reasons = proposed(wells)
        found = wells.with_columns(reasons).filter(reasons.is_not_null())
        advice = "make the project anew: dpf init sets them aside"
    total = aside.height + wells.height
    share = found.height / total
    verdict = Verdict.FAIL if share > ASIDE_FAIL else Verdict.WARN if found.height else Verdict.GOOD
    text = f"All {total:,} wells take part." if judged else "No well seems to have failed."
    if found.height:
        kinds = Counter(map(reason_of, found.get_column("set_aside").to_list()))
        parts = listed([f"{kind} {times:,}" for kind, times in kinds.most_common()])
        names = listed(found.get_column("well_id").to_list())
        text = f"{found.height:,} of {total:,} wells {'are set aside' if judged else 'have failed'}: {parts}: {names}."
    rows = found.select("well_id", "compound", "set_aside") if found.height else pl.DataFrame()
    return CheckItem("failed wells", GROUP, verdict, share, text, advice if found.height else "", rule,
                     columns_of(rows.iter_rows(named=True)))  # fmt: skip


def _read_targets(project: Project, wells: pl.DataFrame) -> tuple[dict[str, NDArray[np.float64]], CheckItem]:
    named, where = project.settings.targets, project.path / "dpf.toml"
    wrong: list[DpfError] = []
    targets = {}
    columns = [*named.scores, *([named.activation] if named.activation not in ("", AUTO) else [])]
    for name in columns:
        one = TargetSettings(scores=(name,), activation="")
        measured = _attempt(lambda one=one: read_measured(wells, one, where), wrong)  # type: ignore[misc]
        if measured is not None:
            targets[name] = measured.scores[:, 0]
    if named.label:
        labelled = _attempt(
            lambda: read_measured(wells, TargetSettings(label=named.label, activation=""), where), wrong
        )
        if labelled is not None:
            targets[named.label] = labelled.label
    if not columns and not named.label:
        _attempt(lambda: read_measured(wells, named, where), wrong)
    wrong += _settings_problems(project, wells)
    good = f"Every target is a column of numbers: {listed(list(targets))}."
    rule = "settings that name what the wells table does not have, or cannot be used: any fails"
    return targets, _problems("settings fit the wells", wrong, good, "correct dpf.toml", rule)


def _settings_problems(project: Project, wells: pl.DataFrame) -> list[DpfError]:
    train, latent = project.settings.train, project.settings.latent
    wrong: list[DpfError] = []
    if train.split == "plate" and "plate" not in wells.columns:
        wrong.append(DataError("train.split = plate, and the wells have no plates", hint="choose another train.split"))
    if train.split_file and not (project.path / train.split_file).is_file():
        wrong.append(DataError("train.split_file is not there", found=train.split_file, hint="correct dpf.toml"))
    if latent.control_clusters:
        known = wells.get_column("cluster").unique().to_list() if "cluster" in wells.columns else []
        absent = [name for name in latent.control_clusters if name not in known]
        if absent:
            what = "latent.control_clusters names clusters that no well has"
            wrong.append(DataError(what, found=listed(absent), hint="correct dpf.toml"))
    return wrong


def _missing_item(wells: pl.DataFrame, targets: dict[str, NDArray[np.float64]]) -> CheckItem:
    name = "missing values"
    if not targets:
        return not_applicable(name, GROUP, "No target can be read.")
    plate = np.full(wells.height, "")
    if "plate" in wells.columns:
        plate = wells.get_column("plate").fill_null("").to_numpy()
    rows: list[dict[str, Cell]] = []
    bare: list[str] = []
    for target, values in targets.items():
        missing = np.isnan(values)
        rows.append({"target": target, "missing": int(missing.sum()), "share": float(missing.mean())})
        bare += [f"{target} on plate {one}" for one in np.unique(plate) if one and missing[plate == one].all()]
    share, target = max((float(np.isnan(values).mean()), target) for target, values in targets.items())
    text = f"{share:.1%} of {target} is missing, more than of any other target." if share else "No target has gaps."
    text += f" No value at all: {listed(bare)}." if bare else ""
    verdict = Verdict.WARN if share >= MISSING_WARN or bare else Verdict.GOOD
    advice = (
        "" if verdict == Verdict.GOOD else "missing values are masked, not filled; look for what they have in common"
    )
    rule = f"largest share of wells without a target's value: warn from {MISSING_WARN}, or where a whole plate has none"
    return CheckItem(name, GROUP, verdict, share, text, advice, rule, columns_of(rows))


def _sources_item(project: Project) -> CheckItem:
    name = "source files"
    sources = read_about(project.wells, "wells").get("sources", [])
    states = [_state(Path(source["path"]), source["sha256"]) for source in sources]
    if not sources or set(states) == {"not found"}:
        why = "None of the files the project was made from is where it was." if sources else "It was made from no file."
        return not_applicable(name, GROUP, why)
    changed = [source["path"] for source, state in zip(sources, states, strict=True) if state == "changed"]
    text = f"{states.count('unchanged')} of {len(sources)} files the project was made from are as they were read."
    text += f" Changed since: {listed(changed)}." if changed else ""
    text += f" Not found: {states.count('not found')}." if "not found" in states else ""
    advice = "make a new project from them, if they were corrected" if changed else ""
    rule = "files with another SHA-256 than when they were read: any warns"
    rows: list[dict[str, Cell]] = [
        {"file": source["path"], "state": state} for source, state in zip(sources, states, strict=True)
    ]
    verdict = Verdict.WARN if changed else Verdict.GOOD
    return CheckItem(name, GROUP, verdict, float(len(changed)), text, advice, rule, columns_of(rows))


def _state(path: Path, sha256: str) -> str:
    if not path.is_file():
        return "not found"
    return "unchanged" if sha256_file(path) == sha256 else "changed"


def _models_item(now: Now) -> CheckItem:
    from dpf.model.checkpoint import load_model

    name = "models"
    rows: list[dict[str, Cell]] = []
    for model in now.project.model_names():
        folder, wrong = now.project.model(model), list[DpfError]()
        header = _attempt(lambda folder=folder: load_model(folder.best).about, wrong)  # type: ignore[misc]
        results = now.project.results(model)
        for path in (table for one in (folder.path, results.path, *results.in_parts()) for table in tables_in(one)):
            damage = list[DpfError]()
            _attempt(lambda path=path: require_intact(path), damage)  # type: ignore[misc]
            wrong += [DataError(f"{path.name}: {one.what}", found=one.found) for one in damage]
        state = _as_sentence(wrong) if wrong else "fits"
        if not wrong and header is not None and why_stale(header, now):
            state = "trained on other inputs"
        rows.append({"model": model, "state": state})
    if not rows:
        return not_applicable(name, GROUP, "Nothing has been trained yet.")
    bad = [row for row in rows if row["state"] != "fits"]
    verdict = Verdict.GOOD if not bad else Verdict.WARN
    if any(row["state"] != "trained on other inputs" for row in bad):
        verdict = Verdict.FAIL
    text = "; ".join(f"{row['model']}: {row['state']}" for row in bad) or "Every model was trained on these inputs"
    advice = "" if not bad else "train again: dpf train PROJECT --model NAME; results are made again by their commands"
    rule = "models trained on other inputs warn, models or tables of theirs that are damaged fail"
    return CheckItem(name, GROUP, verdict, float(len(bad)), f"{text.rstrip('.')}.", advice, rule, columns_of(rows))
