"""From a screen as its files have it to the one a model is trained on.

In this order, each step on what the one before left:

0. Wells that hold no cells by their name (empty, blank) are left out, and named.
1. *Quality*: every well of counts is measured (`dpf.tables.preparing.well_quality`); the measures become columns of the
   wells table.
2. *Depth*: wells with fewer than `min_counts` counts are left out, and named. Nothing else leaves a well out.
3. *Normalisation* is fitted, its reference being the control wells, or all where fewer than 8 controls hold counts.
4. *Scores*: gene sets are scored on the normalised scale and become targets. Their genes leave the expression, unless
   the user keeps them: a model would predict the score from itself.
5. *Genes*: detected in enough wells (on counts), on the user's list; then, on the normalised scale, the most variable;
   then, of these, the most perturbed.

A well's library size, here and for every later plate, is its counts in all genes that were measured, spike-ins left
out, whatever genes are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dpf.errors import DataError, UsageError, count, listed
from dpf.tables.genes.filters import detected_in, listed_genes, most_perturbed, most_variable
from dpf.tables.genes.set_scores import Signature, gene_set_score, signature_members
from dpf.tables.matrix import select_columns, select_rows
from dpf.tables.options import Method
from dpf.tables.preparing.counts import LARGEST_LOG, check_counts, looks_like_counts, scale_of
from dpf.tables.preparing.normalise import Normalisation, composition_factors, fit_log_cpm, normalise
from dpf.tables.preparing.options import Preparation
from dpf.tables.preparing.vst import fit_vst
from dpf.tables.preparing.well_quality import well_quality
from dpf.tables.roles.controls import EMPTY_WELLS, as_key
from dpf.tables.roles.validate import check_screen, require_sound
from dpf.tables.screen import Note, Screen, Targets
from dpf.tables.text.cells import code_notes

#: Fewer control wells with counts than this, and all wells are the reference.
FEWEST_REFERENCE_WELLS = 8
_WELLS_NAMED = 100
_WELLS_LOOKED_AT = 32


class Prepared(NamedTuple):
    """A screen to train on, and how its counts became expression."""

    screen: Screen
    normalisation: Normalisation


def prepare(screen: Screen, options: Preparation, *, in_place: bool = False) -> Prepared:
    """Make of a screen what is trained on; see the steps at the top of this module.

    Parameters
    ----------
    screen
        As read, counts or normalised; its targets may still be empty where `options` has signatures.
    options
        What to do.
    in_place
        Overwrite the expression of `screen`, which then must not be used again: a large table stands in memory once.

    Returns
    -------
    Prepared
        The screen, checked, with every step in its notes, and the fitted normalisation.

    Raises
    ------
    UsageError
        A filter needs counts and there are none, or PyDESeq2 is not installed.
    DataError
        The screen cannot be learnt from, before or after; the values cannot be counts; a signature or filter leaves
        nothing.
    """
    require_sound(screen)
    _refuse_mixed_scales(screen)
    screen = screen.with_notes(*code_notes("the expression", screen.expression))
    if not in_place:
        screen = replace(screen, expression=screen.expression.copy())
    screen = replace(screen.with_notes(*options.notes), sources=(*screen.sources, *options.sources))
    screen = _without_empty_wells(screen)
    if _are_counts(screen, options):
        screen = _with_quality(screen.with_notes(*_doubts(screen, options)))
        screen = _without_shallow_wells(screen, options.min_counts)
    fitted, notes = _fitted(screen, options.normalize)
    screen = _with_composition(screen.with_notes(*notes), fitted)
    screen, used = _with_scores(screen, fitted, options.signatures)
    kept, notes = _wanted_genes(screen, used, options)
    names, wells = screen.genes.filter(kept).get_column("gene").to_list(), _well_ids(screen)
    expression, more = normalise(fitted, screen.expression, screen.gene_names, wells, names, in_place=True)
    screen = replace(screen, genes=screen.genes.filter(kept), expression=expression).with_notes(*notes, *more)
    return Prepared(check_screen(_top_genes(screen, options)), fitted)


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


def _without_empty_wells(screen: Screen) -> Screen:
    """The screen without wells that hold no cells by their name: they are neither compounds nor controls."""
    wells = screen.wells
    named = [as_key(name) in EMPTY_WELLS for name in wells.get_column("compound").to_list()]
    empty = pl.Series(named, dtype=pl.Boolean) & ~wells.get_column("is_control")
    if not empty.any():
        return screen
    if (empty | wells.get_column("is_control")).all():
        raise DataError("no well holds a compound", where=_files(screen), found="controls and empty wells only")
    counts = wells.filter(empty).get_column("compound").value_counts(sort=True).iter_rows()
    text = f"{count(int(empty.sum()), 'well')} without cells by their name, left out: "
    text += listed([f"{name} ({times})" for name, times in counts])
    text += "; call them otherwise if they hold something, or name them with --control"
    expression = select_rows(screen.expression, (~empty).arg_true().to_numpy().astype(np.intp))
    return replace(screen, wells=wells.filter(~empty), expression=expression).with_notes(Note("warning", text))


def _well_ids(screen: Screen) -> list[str]:
    return screen.wells.get_column("well_id").to_list()


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
    whole = options.normalize == "vst"
    return check_counts(screen.expression, _files(screen), whole, _well_ids(screen), screen.gene_names)


def _with_quality(screen: Screen) -> Screen:
    """The screen with the measures of its wells."""
    quality, notes = well_quality(screen.expression, screen.genes, screen.wells)
    measures = quality.drop("well_id", "plate", strict=False)
    return _beside(screen, measures[[column.name for column in measures if column.null_count() < len(column)]], notes)


def _with_composition(screen: Screen, fitted: Normalisation) -> Screen:
    """The screen with the composition factors of its wells, where the normalisation has them."""
    factors = composition_factors(fitted, screen.expression, screen.gene_names)
    if factors is None:
        return screen
    text = f"library sizes were multiplied by composition factors from {factors.min():.3g} to {factors.max():.3g}"
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


def _without_shallow_wells(screen: Screen, min_counts: int | None) -> Screen:
    deep = screen.wells.get_column("library_size") >= (min_counts or 0)
    if deep.all():
        return screen
    if not deep.any():
        deepest = float(screen.wells.get_column("library_size").to_numpy().max())
        raise DataError(
            "no well has enough counts",
            where=_files(screen),
            found=f"{deepest:,.0f} counts in the deepest of {count(screen.wells.height, 'well')}",
            expected=f"--min-counts {min_counts}",
        )
    kept, shallow = screen.wells.filter(deep), screen.wells.filter(~deep)
    names = listed(shallow.get_column("well_id").to_list(), _WELLS_NAMED)
    notes = [
        Note("warning", f"{count(shallow.height, 'well')} with fewer than {min_counts:,} counts left out: {names}")
    ]
    lost = sorted(set(shallow.get_column("compound")) - set(kept.get_column("compound")))
    if lost:
        notes.append(Note("warning", f"{count(len(lost), 'compound')} left without a well by that: {listed(lost)}"))
    expression = select_rows(screen.expression, deep.arg_true().to_numpy().astype(np.intp))
    return replace(screen, wells=kept, expression=expression).with_notes(*notes)


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


def _with_scores(
    screen: Screen, fitted: Normalisation, signatures: Sequence[Signature]
) -> tuple[Screen, NDArray[np.bool_]]:
    """The screen with the gene-set scores among its targets, and the genes they were computed from, shape (G,)."""
    used = np.zeros(screen.genes.height, dtype=bool)
    if not signatures:
        return screen, used
    if clash := [one.name for one in signatures if one.name in screen.wells.columns]:
        raise DataError(
            "gene sets have the names of columns of the wells table",
            where=_files(screen),
            found=listed(clash),
            hint="rename these sets in the GMT file",
        )
    measured = signature_members(screen.genes, signatures)
    names = screen.genes.filter(measured).get_column("gene").to_list()
    some, _ = normalise(fitted, screen.expression, screen.gene_names, _well_ids(screen), names)
    scores = [gene_set_score(some, screen.genes, one, measured) for one in signatures]
    for score in scores:
        used |= score.used
    notes = [note for score in scores for note in score.notes]
    notes += [
        Note("info", f"score {score.name} was computed from {count(int(score.used.sum()), 'gene')}") for score in scores
    ]
    wells = screen.wells.with_columns(pl.Series(score.name, score.values, dtype=pl.Float64) for score in scores)
    targets = replace(screen.targets, scores=(*screen.targets.scores, *(score.name for score in scores)))
    return replace(screen, wells=wells, targets=targets).with_notes(*notes), used


def _wanted_genes(
    screen: Screen, used: NDArray[np.bool_], options: Preparation
) -> tuple[NDArray[np.bool_], tuple[Note, ...]]:
    """The genes that counts, list and signatures leave, shape (G,)."""
    kept, notes = np.ones(screen.genes.height, dtype=bool), []
    if options.min_wells is not None:
        kept &= detected_in(screen.expression, options.min_wells)
        text = f"{count(int((~kept).sum()), 'gene')} with a count in fewer than {options.min_wells:,} wells left out"
        notes.append(Note("info", text))
    if options.gene_list is not None:
        on_list, odd = listed_genes(screen.genes, options.gene_list, options.gene_list_name)
        kept &= on_list
        notes += [*odd, Note("info", f"{count(int(kept.sum()), 'gene')} kept of {options.gene_list_name}")]
    if used.any() and options.keep_signature_genes:
        text = "the genes of the scores stay in the expression: a model can read these scores off their own genes"
        notes.append(Note("warning", text))
    elif (leaving := kept & used).any():
        text = f"{count(int(leaving.sum()), 'gene')} of the scores left out of the expression"
        notes.append(Note("info", f"{text}, which would predict the scores from themselves"))
        kept &= ~used
    if not kept.any():
        raise DataError(
            "no gene is left",
            where=_files(screen),
            found=f"{count(len(kept), 'gene')}, none of which every filter keeps",
            hint="ask for less: a smaller --min-wells, a longer --genes-file, --keep-signature-genes",
        )
    return kept, tuple(notes)


def _top_genes(screen: Screen, options: Preparation) -> Screen:
    if options.top_variable is not None:
        kept = most_variable(screen.expression, options.top_variable)
        screen = _only(screen, kept, options.top_variable, "that vary most for their level")
    if options.top_perturbed is not None:
        wells = screen.wells
        plates = wells.get_column("plate").fill_null("?").to_list() if "plate" in wells.columns else None
        is_control = wells.get_column("is_control").to_numpy()
        compounds = wells.get_column("compound").to_list()
        kept = most_perturbed(screen.expression, compounds, is_control, plates, options.top_perturbed)
        screen = _only(screen, kept, options.top_perturbed, "most perturbed against the controls")
    return screen


def _only(screen: Screen, kept: NDArray[np.bool_], asked: int, what: str) -> Screen:
    text = f"{count(int(kept.sum()), 'gene')} {what} kept of {len(kept):,}"
    if asked > len(kept):
        text = f"all {count(len(kept), 'gene')} kept: there are fewer than the {asked:,} {what} that were asked for"
    expression = select_columns(screen.expression, kept)
    return replace(screen, genes=screen.genes.filter(kept), expression=expression).with_notes(Note("info", text))
