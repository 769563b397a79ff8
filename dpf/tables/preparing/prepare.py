"""From a screen as its files have it to the one a model is trained on.

In this order, each step on what the one before left:

1. *Quality*: every well of counts is measured (`dpf.tables.preparing.well_quality`); the measures become columns of the
   wells table. Wells without cells, without enough RNA, and controls unlike the others are set aside, and named
   (`dpf.tables.preparing.set_aside`): they stay in the project, after the others, and nothing below looks at them.
2. *Normalisation* is fitted, its reference being the control wells, or all where fewer than 8 controls hold counts. It
   is applied to every well and every gene that any well has a count of.
3. *Scores*: gene sets are scored on the normalised scale and become targets. The model does not read their genes,
   unless the user says so: it would predict the score from itself.
4. *Genes of the model*: detected in enough wells (on counts), on the user's list; then, on the normalised scale, the
   most variable; then, of these, the most perturbed. The others stay in the project: signatures read all.

A well's library size, here and for every later plate, is its counts in all genes that were measured, spike-ins left
out, whatever genes are kept: of several expression tables, in the genes that all of them have, so that one size means
the same on every plate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError, UsageError, count, listed
from dpf.tables.formats.reading import layers_of_counts
from dpf.tables.genes.filters import detected_in, listed_genes, most_perturbed, most_variable
from dpf.tables.genes.set_scores import gene_set_score, signature_members
from dpf.tables.matrix import select_rows
from dpf.tables.options import Method
from dpf.tables.preparing.counts import LARGEST_LOG, check_counts, fractions, looks_like_counts, scale_of
from dpf.tables.preparing.normalise import Normalisation, composition_factors, fit_log_cpm, normalise
from dpf.tables.preparing.options import Preparation
from dpf.tables.preparing.set_aside import judge_wells
from dpf.tables.preparing.vst import fit_vst
from dpf.tables.preparing.well_quality import well_quality
from dpf.tables.roles.validate import check_screen, require_sound
from dpf.tables.screen import Note, Screen, Targets, takes_part
from dpf.tables.text.cells import code_notes

#: Fewer control wells with counts than this, and all wells are the reference.
FEWEST_REFERENCE_WELLS = 8
_WELLS_LOOKED_AT = 32


class Prepared(NamedTuple):
    """A screen to train on, and how its counts became expression."""

    screen: Screen
    normalisation: Normalisation


def prepare(
    screen: Screen,
    options: Preparation,
    *,
    in_place: bool = False,
    keep_counts: Callable[[Screen], None] | None = None,
) -> Prepared:
    """Make of a screen what is trained on; see the steps at the top of this module.

    Parameters
    ----------
    screen
        As read, counts or normalised; its targets may still be empty where `options` has signatures.
    options
        What to do.
    in_place
        Overwrite the expression of `screen`, which then must not be used again: a large table stands in memory once.
    keep_counts
        Called with the screen while its expression still holds the counts, wells in their final order; not called
        where there are none.

    Returns
    -------
    Prepared
        The screen, checked, wells that are set aside last, with every step in its notes, and the fitted normalisation.
        Its genes are all that were measured (of counts, those with any), with `in_model` and `in_score`.

    Raises
    ------
    UsageError
        A filter needs counts and there are none, or PyDESeq2 is not installed.
    DataError
        The screen cannot be learnt from, before or after; the values cannot be counts; a signature or filter leaves
        nothing; all controls or all compounds are set aside.
    """
    require_sound(screen)
    _refuse_mixed_scales(screen)
    screen = screen.with_notes(*code_notes("the expression", screen.expression))
    if not in_place:
        screen = replace(screen, expression=screen.expression.copy())
    screen = replace(screen.with_notes(*options.notes), sources=(*screen.sources, *options.sources))
    are_counts = _are_counts(screen, options)
    if are_counts:
        screen = _with_quality(screen.with_notes(*_doubts(screen, options)))
    screen = _set_aside(screen, options, are_counts)
    if are_counts and keep_counts is not None:
        keep_counts(screen)
    used = _used(screen, options)
    detected = None if options.min_wells is None else detected_in(used.expression, options.min_wells)
    fitted, notes = _fitted(used, options.normalize)
    screen = _with_composition(screen, fitted, used.wells.height)
    some = np.ones(screen.genes.height, dtype=bool)
    if are_counts:
        some = np.asarray(screen.expression.any(axis=0))
    genes = screen.genes.filter(some)
    names, n = genes.get_column("gene").to_list(), used.wells.height
    for rows in (slice(n), slice(n, None)):
        ids = screen.wells[rows].get_column("well_id").to_list()
        _, more = normalise(fitted, screen.expression[rows], screen.gene_names, ids, names, in_place=True)
        notes = notes if rows.start else (*notes, *more)  # what is odd about wells that are set aside is known
    expression = screen.expression[:, : len(names)]
    screen = replace(screen, genes=genes, expression=expression).with_notes(*notes, *_never(some))
    screen, in_score = _with_scores(screen, options)
    used = _used(screen, options)
    kept, chosen = _wanted_genes(used, in_score, None if detected is None else detected[some], options)
    kept, top = _top_genes(used, kept, options)
    about = [pl.Series("in_model", kept), pl.Series("in_score", in_score)]
    if kept.sum() == options.top_perturbed:  # else all were kept, and none chosen
        about.append(pl.Series("most_perturbed", kept))
    found = check_screen(used)
    return Prepared(
        replace(screen, genes=genes.with_columns(about)).with_notes(*chosen, *top, *found.notes[len(used.notes) :]),
        fitted,
    )


def _used(screen: Screen, options: Preparation) -> Screen:
    """The wells that take part: the first ones, their expression a view of the whole."""
    mask = takes_part(screen.wells, options.keep_flagged)
    return replace(screen, wells=screen.wells.filter(mask), expression=screen.expression[: int(mask.sum())])


def _never(some: NDArray[np.bool_]) -> tuple[Note, ...]:
    if some.all():
        return ()
    return (Note("info", f"{count(int((~some).sum()), 'gene')} without a count in any well left out"),)


def _set_aside(screen: Screen, options: Preparation, are_counts: bool) -> Screen:
    """The screen with the column `set_aside` where wells are, and these after the others."""
    reasons, notes = judge_wells(screen.expression, screen.wells, options, are_counts=are_counts)
    screen = screen.with_notes(*notes)
    wells = screen.wells.with_columns(reasons)
    if reasons.null_count() == len(reasons):
        return replace(screen, wells=wells)
    mask = takes_part(wells, options.keep_flagged)
    for is_control, what, expected in ((True, "control", "controls"), (False, "compound", "wells of compounds")):
        if not (mask & (wells.get_column("is_control") == is_control)).any():
            parts = listed(wells.filter(pl.col("is_control") == is_control).get_column("set_aside").to_list(), 5)
            raise DataError(
                f"every {what} well is set aside",
                where=_files(screen),
                found=parts,
                expected=f"{expected} with cells and RNA in them",
                hint="if they can be used: --min-counts 1 --min-genes 1, or --keep-flagged",
            )
    order = np.concatenate([mask.arg_true().to_numpy(), (~mask).arg_true().to_numpy()]).astype(np.intp)
    return replace(screen, wells=wells[order.tolist()], expression=select_rows(screen.expression, order))


def _refuse_mixed_scales(screen: Screen) -> None:
    """Refuse plates of counts beside plates of normalised values."""
    if "plate" not in screen.wells.columns:
        return
    plates = screen.wells.get_column("plate").fill_null("?")
    found: dict[str, list[str]] = {}
    for plate in plates.unique(maintain_order=True):
        wells = (plates == plate).arg_true().to_numpy()
        some = wells[np.unique(np.linspace(0, len(wells) - 1, _WELLS_LOOKED_AT, dtype=int))]
        scale = scale_of(screen.expression[some])
        if scale.kind == "normalised" and screen.expression[some].max() > LARGEST_LOG:
            continue  # a wrong count or two, which are refused as such
        found.setdefault(scale.kind, []).append(f"{plate}: {scale.evidence}")
    if "counts" in found and "normalised" in found:
        raise DataError(
            "some plates hold counts, others normalised values",
            where=_files(screen),
            found=f"{listed(found['counts'], 3)}; {listed(found['normalised'], 3)}",
            expected="one scale on all plates",
            hint="take the counts of every plate (--normalize log-cpm), or normalise all in the same way before",
        )


def _well_ids(screen: Screen) -> list[str]:
    return screen.wells.get_column("well_id").to_list()


def _paths(screen: Screen) -> list[Path]:
    return [Path(source.path) for source in screen.sources]


def _files(screen: Screen) -> str:
    return listed([Path(source.path).name for source in screen.sources], 4) or "the screen"


def _are_counts(screen: Screen, options: Preparation) -> bool:
    if options.normalize != "none":
        return True
    scale = scale_of(screen.expression)
    needs = {"--min-counts": options.min_counts, "--min-wells": options.min_wells}
    asked = [name for name, value in needs.items() if value is not None]
    if asked and scale.kind != "counts":
        raise UsageError(
            f"{' and '.join(asked)} need counts",
            where=_files(screen),
            found=scale.evidence,
            expected="counts",
            hint="if these are counts, say how to normalise them: --normalize log-cpm",
        )
    return scale.kind == "counts"


def _doubts(screen: Screen, options: Preparation) -> tuple[Note, ...]:
    if options.normalize == "none":
        return looks_like_counts(screen.expression, _files(screen))
    layers = {path: names for path in _paths(screen) if (names := layers_of_counts(path))}
    if layers and fractions(screen.expression):
        raise DataError(
            "the values have fractions, and other layers of the file hold counts",
            where=listed(list(layers)),
            found=scale_of(screen.expression).evidence,
            expected=f"counts, for --normalize {options.normalize}",
            hint=f"read the counts: --layer {quote(next(iter(layers.values()))[0])}; or take the values as they are: "
            "--normalize none",
        )
    whole = options.normalize == "vst"
    return check_counts(screen.expression, _files(screen), whole, _well_ids(screen), screen.gene_names)


def _with_quality(screen: Screen) -> Screen:
    """The screen with the measures of its wells."""
    quality, notes = well_quality(screen.expression, screen.genes, screen.wells)
    measures = quality.drop("well_id", "plate", strict=False)
    return _beside(screen, measures[[column.name for column in measures if column.null_count() < len(column)]], notes)


def _with_composition(screen: Screen, fitted: Normalisation, n_used: int) -> Screen:
    """The screen with the composition factors of its wells, where the normalisation has them; the first are used."""
    factors = composition_factors(fitted, screen.expression, screen.gene_names)
    if factors is None:
        return screen
    low, high = factors[:n_used].min(), factors[:n_used].max()
    text = f"library sizes were multiplied by composition factors from {low:.3g} to {high:.3g}"
    return _beside(screen, pl.DataFrame({"composition_factor": factors}), (Note("info", text),))


def _beside(screen: Screen, measures: pl.DataFrame, notes: tuple[Note, ...]) -> Screen:
    """The screen with more columns about its wells; one of the user's that has the name of one is renamed."""
    clash = [name for name in measures.columns if name in screen.wells.columns]
    renamed = {name: f"{name}_original" for name in clash}
    targets = screen.targets
    if clash:
        text = f"columns {listed(clash)} of the wells table are called {listed(list(renamed.values()))} here"
        notes = (*notes, Note("info", text))
        targets = Targets(
            tuple(renamed.get(name, name) for name in targets.scores),
            renamed.get(targets.label or "", targets.label),
            renamed.get(targets.activation or "", targets.activation),
        )
    wells = pl.concat([screen.wells.rename(renamed), measures], how="horizontal")
    return replace(screen, wells=wells, targets=targets).with_notes(*notes)


def _fitted(screen: Screen, method: Method) -> tuple[Normalisation, tuple[Note, ...]]:
    if method == "none":
        return Normalisation("none"), ()
    genes = screen.gene_names
    counted = (screen.genes.get_column("kind") != "spike_in").to_numpy()
    depth = f"a well's depth comes from {count(int(counted.sum()), 'gene')}"
    counts = screen.wells.get_column("library_size").to_numpy() > 0
    reference = screen.wells.get_column("is_control").to_numpy() & counts
    source = f"{int(reference.sum())} control wells"
    if reference.sum() < FEWEST_REFERENCE_WELLS:
        source = f"all wells, as only {count(int(reference.sum()), 'control well')} have counts"
        reference = counts
    if method == "log-cpm":
        text = f"counts became log2(counts per million + 1), their composition compared with that of {source}; {depth}"
        return fit_log_cpm(screen.expression, genes, counted, reference), (Note("info", text),)
    fitted, notes = fit_vst(screen.expression, genes, counted, reference)
    return fitted, (Note("info", f"counts became variance-stabilised values, fitted on {source}; {depth}"), *notes)


def _with_scores(screen: Screen, options: Preparation) -> tuple[Screen, NDArray[np.bool_]]:
    """The screen with the gene-set scores among its targets, and the genes they were computed from, shape (G,)."""
    in_score = np.zeros(screen.genes.height, dtype=bool)
    signatures = options.signatures
    if not signatures:
        return screen, in_score
    if clash := [one.name for one in signatures if one.name in screen.wells.columns]:
        raise DataError(
            "gene sets have the names of columns of the wells table",
            where=_files(screen),
            found=listed(clash),
            hint="rename these sets in the GMT file",
        )
    used = _used(screen, options)
    measured = signature_members(screen.genes, signatures)
    some = used.expression[:, measured]
    scores = [gene_set_score(some, screen.genes, one, measured) for one in signatures]
    for score in scores:
        in_score |= score.used
    notes = [note for score in scores for note in score.notes]
    notes += [
        Note("info", f"score {score.name} was computed from {count(int(score.used.sum()), 'gene')}") for score in scores
    ]
    missing = [None] * (screen.wells.height - used.wells.height)
    wells = screen.wells.with_columns(
        pl.Series(score.name, [*score.values.tolist(), *missing], dtype=pl.Float64) for score in scores
    )
    targets = replace(screen.targets, scores=(*screen.targets.scores, *(score.name for score in scores)))
    return replace(screen, wells=wells, targets=targets).with_notes(*notes), in_score


def _wanted_genes(
    screen: Screen, in_score: NDArray[np.bool_], detected: NDArray[np.bool_] | None, options: Preparation
) -> tuple[NDArray[np.bool_], list[Note]]:
    """The genes that counts, list and signatures leave to the model, shape (G,)."""
    kept, notes = np.ones(screen.genes.height, dtype=bool), []
    if detected is not None:
        kept &= detected
        rare = f"{count(int((~kept).sum()), 'gene')} with a count in fewer than {options.min_wells:,} wells"
        notes.append(Note("info", f"{rare}: not in the model"))
    if options.gene_list is not None:
        on_list, odd = listed_genes(screen.genes, options.gene_list, options.gene_list_name)
        kept &= on_list
        notes += [*odd, Note("info", f"{count(int(kept.sum()), 'gene')} kept of {options.gene_list_name}")]
    if in_score.any() and options.keep_signature_genes:
        text = "the model reads the genes of the scores: it can read these scores off their own genes"
        notes.append(Note("warning", text))
    elif (leaving := kept & in_score).any():
        text = f"{count(int(leaving.sum()), 'gene')} of the scores not in the model"
        notes.append(Note("info", f"{text}, which would predict the scores from themselves"))
        kept &= ~in_score
    if not kept.any():
        raise DataError(
            "no gene is left",
            where=_files(screen),
            found=f"{count(len(kept), 'gene')}, none of which every filter keeps",
            hint="ask for less: a smaller --min-wells, a longer --genes-file, --keep-signature-genes",
        )
    return kept, notes


def _top_genes(screen: Screen, kept: NDArray[np.bool_], options: Preparation) -> tuple[NDArray[np.bool_], list[Note]]:
    """Of the genes `kept`, shape (G,), the most variable, and of these the most perturbed."""
    notes: list[Note] = []
    if options.top_variable is not None:
        kept, note = _only(kept, most_variable(screen.expression[:, kept], options.top_variable),
                           options.top_variable, "that vary most for their level")  # fmt: skip
        notes.append(note)
    if options.top_perturbed is not None:
        wells = screen.wells
        plates = wells.get_column("plate").fill_null("?").to_list() if "plate" in wells.columns else None
        is_control = wells.get_column("is_control").to_numpy()
        compounds = wells.get_column("compound").to_list()
        moved = most_perturbed(screen.expression[:, kept], compounds, is_control, plates, options.top_perturbed)
        kept, note = _only(kept, moved, options.top_perturbed, "most perturbed against the controls")
        notes.append(note)
    return kept, notes


def _only(kept: NDArray[np.bool_], chosen: NDArray[np.bool_], asked: int, what: str) -> tuple[NDArray[np.bool_], Note]:
    text = f"{count(int(chosen.sum()), 'gene')} {what} kept of {len(chosen):,}"
    if asked > len(chosen):
        text = f"all {count(len(chosen), 'gene')} kept: there are fewer than the {asked:,} {what} that were asked for"
    left = kept.copy()
    left[kept] = chosen
    return left, Note("info", text)
