"""Only wells that the model has not trained on are measured, and no baseline learns from them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from dpf.analysis.evaluation import metrics
from dpf.errors import DataError, UsageError
from dpf.splits.parts import Part
from dpf.workflows.evaluate.methods import baseline_methods, truth_of
from dpf.workflows.evaluate.notes import notes
from dpf.workflows.evaluate.wells import evaluated_wells
from dpf.workflows.progress import Silent
from tests.support.evaluated import folds_of, inputs_of, measured_of, outputs_of, project_of, wells_table


def choose(model_parts=None, table=None, in_sample=False, **train):
    table, strength = wells_table() if table is None else table
    project, inputs = project_of(**train), inputs_of(table, strength)
    measured = measured_of(project, inputs)
    return evaluated_wells(project, inputs, measured, model_parts, in_sample=in_sample), inputs, measured, project


def test_held_out_wells_go_before_validation_wells():
    groups = np.arange(56) // 2
    parts = folds_of(groups, 4)
    wells, *_ = choose(parts)
    assert wells.basis == "held_out"
    assert wells.tested.all()
    assert (wells.member_test == (parts == Part.HELD_OUT)).all()
    assert not (wells.evaluation.train & wells.evaluation.test).any()
    # What the model uses, for its weights or its epoch, the baselines may use.
    assert (wells.evaluation.train == (parts != Part.HELD_OUT)).all()


def test_a_single_run_is_measured_on_its_validation_wells_and_says_so():
    parts = np.zeros((1, 56), dtype=np.int8)
    parts[0, 40:50] = Part.VALIDATION
    wells, inputs, measured, _ = choose(parts)
    assert wells.basis == "validation"
    assert wells.tested.sum() == 10
    first = notes(wells, truth_of(measured), inputs, None, in_sample=False)[0]
    assert first.startswith("SELECTED ON THESE WELLS")
    assert "10 of 56 wells, 4 compounds and 2 control wells" in first


def test_many_wells_are_told_how_the_kernel_ridge_was_made(monkeypatch):
    wells, inputs, measured, _ = choose(folds_of(np.arange(56) // 2, 4))
    told = "; ".join(notes(wells, truth_of(measured), inputs, None, in_sample=False))
    assert "kernel ridge" not in told
    monkeypatch.setattr("dpf.workflows.evaluate.notes.EXACT_WELLS", 41)
    told = "; ".join(notes(wells, truth_of(measured), inputs, None, in_sample=False))
    assert "kernel ridge: its kernels stand at up to 1,500 of the 42 training wells (Nyström), and are fitted" in told


def test_a_model_that_trained_on_every_well_is_refused_unless_asked_for():
    parts = np.zeros((2, 56), dtype=np.int8)
    with pytest.raises(UsageError, match=r"trained on every well of this project") as error:
        choose(parts)
    assert "--in-sample" in str(error.value)
    wells, inputs, measured, _ = choose(parts, in_sample=True)
    assert wells.basis == "train"
    assert not wells.tested.any()
    assert notes(wells, truth_of(measured), inputs, None, in_sample=True)[0].startswith("IN SAMPLE ONLY")


def test_beside_a_model_from_elsewhere_baselines_learn_in_folds_of_their_own():
    parts = np.full((2, 56), Part.HELD_OUT, dtype=np.int8)
    wells, *_ = choose(parts)
    assert wells.basis == "held_out"
    assert wells.member_test.all()
    assert wells.evaluation.test.shape == (5, 56)
    assert (wells.evaluation.test.sum(axis=0) == 1).all()


def test_members_that_share_their_test_wells_need_one_fit():
    parts = np.zeros((3, 56), dtype=np.int8)
    parts[:, 40:] = Part.HELD_OUT
    wells, *_ = choose(parts)
    assert wells.evaluation.test.shape == (1, 56)
    assert wells.member_test.shape == (3, 56)


def test_baselines_alone_use_the_folds_of_the_settings_or_five():
    assert choose()[0].evaluation.test.shape == (5, 56)
    assert choose(folds=3)[0].evaluation.test.shape == (3, 56)


def test_compounds_and_doses_are_groups_and_controls_are_not():
    table, strength = wells_table(compounds=10)
    dose = pl.Series([float(i % 4 // 2) for i in range(table.height)])  # two doses, each two wells of two compounds
    names = pl.Series([f"drug {i // 4}" for i in range(20)] + ["DMSO"] * 8)
    wells, *_ = choose(table=(table.with_columns(concentration=dose, compound=names), strength), folds=2)
    assert wells.groups[:8].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert wells.replicates[:8].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert np.unique(wells.groups[20:]).size == np.unique(wells.replicates[20:]).size == 8


def test_no_positions_are_no_error():
    table, strength = wells_table()
    wells, inputs, measured, _ = choose(table=(table.drop("plate", "row", "column"), strength))
    assert wells.position is None
    assert wells.cells is None
    assert wells.depth is None
    said = " ".join(notes(wells, truth_of(measured), inputs, None, in_sample=False))
    assert "no depth is known, or it does not vary: there is no baseline of depth alone" in said
    counted = table.with_columns(library_size=pl.Series(np.arange(1.0, 57.0)))
    wells, inputs, measured, _ = choose(table=(counted, strength))
    assert wells.depth is not None
    assert len(wells.depth) == 56
    np.testing.assert_allclose(wells.depth[:, 0].mean(), 0, atol=1e-12)
    assert "depth" not in " ".join(notes(wells, truth_of(measured), inputs, None, in_sample=False))
    wells, inputs, measured, _ = choose(table=(table.drop("plate", "row", "column"), strength))
    assert "no positions are known" in " ".join(notes(wells, truth_of(measured), inputs, None, in_sample=False))


def test_too_few_compounds_for_the_folds():
    with pytest.raises(DataError, match="too little for 5 folds") as error:
        choose(table=wells_table(compounds=4))
    assert "4 distinct compound(s)" in str(error.value)
    assert "--folds" in str(error.value)


def leaky(split):
    """Compounds differ in a gene that is their name, and in a score that nothing else tells."""
    table, _ = wells_table(compounds=40, controls=10)
    rng = np.random.default_rng(5)
    code = np.append(np.repeat(np.arange(40), 2), np.arange(40, 50))
    table = table.with_columns(first=rng.normal(size=50)[code] + 0.01 * rng.normal(size=90))
    names = [f"is drug {c}" for c in range(50)]
    inputs = replace(inputs_of(table, np.zeros(90)), genes=names, read=lambda: np.eye(50, dtype=np.float32)[code])
    project = project_of(split=split, folds=4)
    measured = measured_of(project, inputs)
    wells = evaluated_wells(project, inputs, measured, None)
    methods = baseline_methods(project, inputs, truth_of(measured), wells, Silent())
    ridge = next(method for method in methods if method.name == "ridge")
    chosen = ~inputs.is_control
    told = " ".join(notes(wells, truth_of(measured), inputs, None, in_sample=False))
    return metrics.r2(measured.scores[chosen, 0], ridge.values[chosen, 0]), told


def test_a_planted_leak_pays_only_where_replicates_cross_the_split():
    """A gene that is the compound's name: worthless for new compounds, everything once a replicate is known."""
    by_compound, told = leaky("compound")
    assert by_compound < 0.05
    assert "both sides" not in told
    by_well, told = leaky("well")
    assert by_well > 0.2  # not 1: its penalty is chosen on compounds that are held out
    assert "compounds have replicates on both sides of the split" in told


def test_the_measured_wells_cannot_shift_the_scaler():
    """What a fold says of a well stays the same whatever the other wells of that fold look like."""
    table, strength = wells_table()
    project, inputs = project_of(folds=4), inputs_of(table, strength)
    measured = measured_of(project, inputs)
    wells = evaluated_wells(project, inputs, measured, None)
    before = baseline_methods(project, inputs, truth_of(measured), wells, Silent())
    fold = wells.evaluation.test[0]
    moved = np.flatnonzero(fold)[1:]
    expression = inputs.expression.copy()
    expression[moved] = expression[moved] * 100 + 7
    changed = replace(inputs, read=lambda: expression)
    after = baseline_methods(project, changed, truth_of(measured), wells, Silent())
    kept = np.flatnonzero(fold)[0]
    for one, other in zip(before, after, strict=True):
        assert one.values[kept] == pytest.approx(other.values[kept], nan_ok=True), one.name
        assert one.probability[kept] == pytest.approx(other.probability[kept], nan_ok=True), one.name


def said_of(change, parts=None, outputs=None):
    table, strength = wells_table()
    table = table.with_columns(**change(table))
    groups = np.append(np.arange(48) // 2, np.arange(24, 32))
    parts = folds_of(groups, 4) if parts is None else parts
    wells, inputs, measured, _ = choose(parts, (table, strength))
    return " ".join(notes(wells, truth_of(measured), inputs, outputs, in_sample=False))


def test_notes_on_targets():
    known = pl.Series([float(i) if i < 10 else None for i in range(56)])
    assert (
        "second was measured in 10 of these wells (5 compounds and 0 control wells): its figures are rough"
        in said_of(lambda _: {"second": known})
    )
    assert "second has the same value in all 56 wells" in said_of(lambda _: {"second": pl.lit(2.5)})
    groups = np.append(np.arange(48) // 2, np.arange(24, 32))
    parts = folds_of(groups, 4)
    once = pl.Series(np.where(parts[2] == Part.HELD_OUT, np.arange(56.0), 1.0))
    assert "second does not vary among the training wells of fold 2" in said_of(lambda _: {"second": once}, parts)
    rare = pl.Series((parts[1] == Part.HELD_OUT).astype(int))
    told = said_of(lambda _: {"label": rare}, parts)
    assert "fold 0, 2, 3 holds out no well of label = 1: it has no AUROC of its own" in told


def test_notes_on_the_model():
    groups = np.append(np.arange(48) // 2, np.arange(24, 32))
    parts = folds_of(groups, 4)
    outputs = outputs_of(
        parts, np.zeros((4, 56, 1)), None, label=None, names=["first"], inputs_sha256="x",
    )  # fmt: skip
    told = said_of(lambda _: {}, parts, outputs)
    assert "the model does not predict second, label: only baselines are shown there" in told
    assert "the inputs have changed since the model was trained" in told
    alone = said_of(lambda _: {"compound": pl.Series([f"d{i}" for i in range(56)])}, parts)
    assert "no noise ceiling" in alone
