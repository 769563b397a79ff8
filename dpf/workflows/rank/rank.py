"""`dpf rank`: compounds by how far they move the cells, and which of them one may call. No torch on kept outputs."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dpf.analysis.ranking.standardise import members_differ
from dpf.errors import UsageError, listed
from dpf.files import regular_file, together
from dpf.project.directory import Project, ResultsFolder
from dpf.tables.genes.set_scores import read_gmt
from dpf.tables.schemas.ranking import RANKING_BY_DOSE
from dpf.tables.storage import write_table
from dpf.workflows.check.names import suspicious_names
from dpf.workflows.check.stored import StoredCheck, design_of
from dpf.workflows.predict.outputs import project_outputs
from dpf.workflows.predict.predict import warn_no_axis
from dpf.workflows.progress import Progress, Silent
from dpf.workflows.project.inputs import Inputs, chosen_by_compounds, has_targets, read_inputs, read_measured
from dpf.workflows.project.model_file import model_if_any
from dpf.workflows.project.provenance import Now, current
from dpf.workflows.rank.choices import RankChoices
from dpf.workflows.rank.classes import class_table
from dpf.workflows.rank.dose import dose_response, draw_dose, evidence
from dpf.workflows.rank.evidence.challenges import challenge_hits
from dpf.workflows.rank.evidence.library import compare_with_library
from dpf.workflows.rank.evidence.lines import Evidence, weigh_evidence
from dpf.workflows.rank.evidence.replicates import ReplicateTests, compare_replicates
from dpf.workflows.rank.evidence.significance import CompoundTests, run_tests
from dpf.workflows.rank.figures import draw_ranking, draw_unmodelled
from dpf.workflows.rank.rows import CompoundRows, compound_rows
from dpf.workflows.rank.signatures.compute import compute_signatures
from dpf.workflows.rank.signatures.write import write_signatures
from dpf.workflows.rank.table import measured_shifts, ranking_table, unmodelled_table, with_wells
from dpf.workflows.rank.wells import RankedWells, rank_wells


@dataclass(frozen=True)
class RankResult:
    """What was ranked.

    Attributes
    ----------
    table
        Compounds, best first.
    power
        The power line, or None without p-values.
    statements
        What the numbers rest on.
    path, files, figures
        The ranking, the further tables, the figures.
    design
        The last `dpf check` of the design, or None.
    """

    table: pl.DataFrame
    power: str | None
    statements: tuple[str, ...]
    path: Path
    files: tuple[Path, ...]
    figures: tuple[Path, ...]
    design: StoredCheck | None


_CHOSEN = (
    "the model's genes were chosen by what the compounds do to them (--top-perturbed), which makes p-values of the "
    "model too small: p goes by expression and measured scores, and there is none of the model but with --in-sample",
)


@dataclass(frozen=True)
class _Ranked:
    """The pieces of a ranking, compounds in the order of `rows`."""

    rows: CompoundRows
    wells: RankedWells
    tests: CompoundTests
    replicates: ReplicateTests
    evidence: Evidence
    table: pl.DataFrame
    challenges: pl.DataFrame | None
    statements: list[str]


def rank_project(
    project: Project,
    model: str = "default",
    choices: RankChoices | None = None,
    *,
    progress: Progress | None = None,
) -> RankResult:
    """Rank the compounds by T, their mean standardised distance from the controls, and test each of them.

    Where the project has no trained model, by what expression and measured targets say alone. The p-value is of all
    lines of evidence (`dpf.workflows.rank.evidence.lines`).

    Every well's distance is measured by members that held it out, from the centre of those members' *training*
    controls, in the spread of the held-out controls (`dpf.analysis.ranking.standardise`). P-values come from exchanging
    a compound's wells with control wells; where nothing was held out, none are of the model.
    The verdict in words is `dpf.workflows.rank.verdicts.Verdict`.

    Raises
    ------
    DpfError
        The model, the inputs or a column are not there; there are too few controls (how
        many would do is in the message).
    """
    choices, progress = choices or RankChoices(), progress or Silent()
    given = {name: path for name in ("gene_sets", "query") if (path := getattr(choices, name)) is not None}
    with ExitStack() as held:
        files: dict[str, Any] = {name: held.enter_context(regular_file(path)) for name, path in given.items()}
        for path in files.values():
            read_gmt(path)  # one that cannot be read stops the command before any table is replaced
        return _rank_project(project, model, replace(choices, **files), progress)


def _rank_project(project: Project, model: str, choices: RankChoices, progress: Progress) -> RankResult:
    inputs = read_inputs(project, every_gene=True)
    rows = compound_rows(inputs, choices.by_dose)
    file = model_if_any(project, model)
    if file is None:
        return _rank_by_expression(project, inputs, rows, choices, progress)
    outputs = project_outputs(project, inputs, file, progress)
    wells = rank_wells(outputs, inputs, rows.codes, project.settings.latent, choices.adjust)
    ranked = _rank(project, inputs, rows, wells, choices)
    results, now = project.results(file.name), current(project, file, inputs)
    power = None if ranked.evidence.power is None else ranked.evidence.power.statement(choices.fdr)
    with together(progress.warn):
        extra, figures, lines = _write_more(now, results, inputs, ranked, choices, progress)
        statements = (*ranked.statements, *lines)
        path, table, design = _write(now, results, ranked.table, inputs, power, statements, choices, progress)
        drawn = draw_ranking(results.figure(path.stem), ranked.table, rows, wells, inputs, choices.fdr, progress)
    warn_no_axis(outputs, progress)
    return RankResult(table, power, statements, path, tuple(extra), (*drawn, *figures), design)


def _rank_by_expression(
    project: Project, inputs: Inputs, rows: CompoundRows, choices: RankChoices, progress: Progress
) -> RankResult:
    """Rank without a model, by the distance of the wells' expression from the controls'."""
    needs = {"--in-sample": choices.in_sample, "--group-column": choices.group_column is not None}
    if asked := [name for name, is_asked in needs.items() if is_asked]:
        raise UsageError(
            f"{' and '.join(asked)} need a trained model", where=project.path, found="no model",
            hint=f"dpf train {project.path}",
        )  # fmt: skip
    targets = project.settings.targets
    measured = read_measured(inputs.wells, targets, project.wells) if has_targets(targets) else None
    generators = _generators(project)
    tests = weigh_evidence(inputs, measured, None, rows, choices, generators[3])
    shifts = {} if measured is None else measured_shifts(inputs, measured, rows)
    ranked = unmodelled_table(tests, shifts, rows, choices.fdr)
    ranked, challenges, further = _look_further(ranked, tests, inputs, rows, choices, generators)
    lines = [
        "ranked without a model, by expression and measured scores (the project has no trained model; dpf train adds "
        "the model's distances, directions and predictions)",
        *tests.statements, *further, *suspicious_names(inputs.wells),
    ]  # fmt: skip
    results, now = project.without_model, current(project, None, inputs)
    files: list[Path] = []
    figures: list[Path] = []
    power = None if tests.power is None else tests.power.statement(choices.fdr)
    with together(progress.warn):
        files += _write_challenges(now, results, challenges, choices)
        if choices.wants_signatures:
            found = compute_signatures(inputs, rows, choices.trend, choices.adjust, progress)
            order = ranked.get_column("rank").arg_sort().to_numpy()
            written, notes = write_signatures(now, results, found, order, None, choices)
            files += [path for path in written if path.parent == results.path]
            figures += [path for path in written if path.parent != results.path]
            lines += notes
        path, table, design = _write(now, results, ranked, inputs, power, tuple(lines), choices, progress)
        figures += draw_unmodelled(results.figure(path.stem), ranked, rows.names, choices.fdr)
    return RankResult(table, power, tuple(lines), path, tuple(files), tuple(figures), design)


def _write(
    now: Now, results: ResultsFolder, ranked: pl.DataFrame, inputs: Inputs, power: str | None,
    statements: tuple[str, ...], choices: RankChoices, progress: Progress,
) -> tuple[Path, pl.DataFrame, StoredCheck | None]:  # fmt: skip
    """Write the ranking, sorted and with what its wells are; its path, the table, the last check of the design."""
    name = "ranking_by_dose" if choices.by_dose else "ranking"
    table = _sorted(with_wells(ranked, inputs, by_dose=choices.by_dose), choices.sort)
    design = design_of(now, progress)
    verdict = None if design is None or design.stale else design.verdict
    found = {"power": power, "statements": statements, "design": verdict}
    kind = name if now.model else "ranking without a model"
    write_table(results.table(name), table, name, choices.footer(now, kind) | found)
    return results.table(name), table, design


def _generators(project: Project) -> list[np.random.Generator]:
    """Of the tests, the replicates, the intervals, the lines of evidence, the library and the challenges."""
    return np.random.default_rng(project.settings.train.seed).spawn(6)


def _rank(project: Project, inputs: Inputs, rows: CompoundRows, wells: RankedWells, choices: RankChoices) -> _Ranked:
    generators = _generators(project)
    tests_rng, replicates_rng, bootstrap_rng, evidence_rng = generators[:4]
    seen = chosen_by_compounds(project)  # then no well was held out of the choice of genes
    untested = seen and not choices.in_sample
    of_model = replace(choices, null="none") if untested else choices
    tests = run_tests(wells, inputs, rows, of_model, tests_rng)
    about_model = () if untested else tests.statements
    replicates = compare_replicates(wells, inputs, rows, tests.matched, of_model, replicates_rng)
    measured = read_measured(inputs.wells, project.settings.targets, project.wells)
    evidence = weigh_evidence(inputs, measured, None if seen else wells, rows, choices, evidence_rng)
    table = ranking_table(wells, inputs, measured, rows, tests, replicates, evidence, choices.fdr, bootstrap_rng)
    table, challenges, further = _look_further(table, evidence, inputs, rows, choices, generators)
    lines = [
        *wells.t.statement,
        *evidence.statements,
        *(_CHOSEN if seen else ()),
        *(f"t_p and activation_p: {line}" for line in about_model if line not in evidence.statements),
        *further,
        *replicates.statements,
        *suspicious_names(inputs.wells),
    ]
    if wells.silent:
        lines.append(f"the controls do not differ in {', '.join(wells.silent)}: left out")
    lines += _about_controls(wells, inputs) + _about_rows(table, choices)
    return _Ranked(rows, wells, tests, replicates, evidence, table, challenges, lines)


def _look_further(
    table: pl.DataFrame, evidence: Evidence, inputs: Inputs, rows: CompoundRows, choices: RankChoices,
    generators: list[np.random.Generator],
) -> tuple[pl.DataFrame, pl.DataFrame | None, list[str]]:  # fmt: skip
    """The ranking with what `--reference library` and `--challenge` add; the challenges, and lines for the reader."""
    lines: list[str] = []
    if choices.reference == "library":
        columns, lines = compare_with_library(evidence, choices.fdr, generators[4])
        table = table.with_columns(pl.DataFrame(columns).fill_nan(None).get_columns())
    if not choices.challenge:
        return table, None, lines
    found = challenge_hits(evidence, inputs, rows, choices.fdr, generators[5])
    return table.with_columns(**found.columns), found.table, lines + found.statements


def _write_challenges(
    now: Now, results: ResultsFolder, challenges: pl.DataFrame | None, choices: RankChoices
) -> list[Path]:
    if challenges is None:
        return []
    kind = "challenges" if now.model else "ranking without a model"
    write_table(results.table("challenges"), challenges, "challenges", choices.footer(now, kind))
    return [results.table("challenges")]


def _about_controls(wells: RankedWells, inputs: Inputs) -> list[str]:
    found = members_differ(wells.t, inputs.is_control)
    if found is None:
        return []
    medians = ", ".join(f"{median:.2g}" for median in found.medians)
    return [
        f"the held-out controls of the members differ (Kruskal–Wallis p = {found.p:.2g}; median T {medians}): "
        "replicates share a member and controls do not, which makes p-values a little too small"
    ]


def _about_rows(table: pl.DataFrame, choices: RankChoices) -> list[str]:
    lines = []
    single = table.filter(pl.col("n") == 1).height
    if single:
        lines.append(
            f"{single:,} of {table.height:,} rows have one well: nothing can be known of whether a second well would "
            "agree"
        )
    if choices.adjust != "none":
        lines.append(
            f"latents adjusted for {choices.adjust}, fitted on the training controls and low-effect wells: this takes "
            "off what a plate, row or column does to every well in it; it cannot part position from biology where one "
            "kind of compound fills a column, nor make up for controls that stand apart"
        )
    return lines


def _sorted(table: pl.DataFrame, sort: str) -> pl.DataFrame:
    if sort not in table.columns:
        raise UsageError("no such column to sort by", found=sort, expected=f"one of {listed(table.columns, 60)}")
    down = not RANKING_BY_DOSE.sorts_ascending(sort)
    return table.sort(sort, "rank", descending=[down, False], nulls_last=True, maintain_order=True)


def _write_more(
    now: Now, results: ResultsFolder, inputs: Inputs, ranked: _Ranked, choices: RankChoices, progress: Progress
) -> tuple[list[Path], list[Path], list[str]]:
    """Wells, doses, classes and signatures: tables, figures, and lines for the reader."""
    files: list[Path] = [results.table("ranking_wells")]
    figures: list[Path] = []
    lines: list[str] = []
    write_table(files[0], _well_table(inputs, ranked), "ranking_wells", choices.footer(now, "ranking_wells"))
    files += _write_challenges(now, results, ranked.challenges, choices)
    strength = evidence(ranked.table, choices.fdr)
    doses = dose_response(ranked.wells, inputs, strength)
    if doses is not None:
        lines += doses.statements
        if doses.table.height:
            files.append(results.table("dose"))
            write_table(files[-1], doses.table, "dose", choices.footer(now, "dose"))
            figures += draw_dose(results.figure("dose"), doses, ranked.wells, inputs, strength)
    if choices.group_column is not None:
        table, notes = class_table(ranked.table, inputs, ranked.rows, choices.group_column)
        files.append(results.table("classes"))
        write_table(files[-1], table, "classes", choices.footer(now, "classes"))
        lines += notes
    if choices.wants_signatures:
        found = compute_signatures(inputs, ranked.rows, choices.trend, choices.adjust, progress)
        order = ranked.table.get_column("t").arg_sort(descending=True).to_numpy()
        side = ranked.table.get_column("activation").to_numpy() if "activation" in ranked.table.columns else None
        written, notes = write_signatures(now, results, found, order, side, choices)
        files += [path for path in written if path.parent == results.path]
        figures += [path for path in written if path.parent != results.path]
        lines += notes
    return files, figures, lines


def _well_table(inputs: Inputs, ranked: _Ranked) -> pl.DataFrame:
    """One row a well, controls too: what the ranking's means are of."""
    wells = ranked.wells
    place = [name for name in ("plate", "row", "column", "concentration") if name in inputs.wells.columns]
    columns: dict[str, Any] = {"t": wells.t.value}
    if wells.activation is not None:
        columns |= {"activation": wells.activation, "on_axis": wells.on_axis}
    columns |= {
        "average_precision": ranked.replicates.ap,
        "members": wells.members.names(),
        "part": wells.members.part,
    }
    return inputs.wells.select("well_id", "compound", "is_control", *place).with_columns(
        pl.DataFrame(columns).fill_nan(None).get_columns()
    )
