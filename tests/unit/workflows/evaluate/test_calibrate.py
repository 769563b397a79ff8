"""Temperature and intervals are fitted out of fold, kept with the weights they belong to, and used by predictions."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from dpf.analysis.evaluation.calibration import (
    cross_fitted_probability,
    fit_temperature,
    probability_of,
    split_conformal,
)
from dpf.errors import ModelError
from dpf.splits.parts import Part
from dpf.workflows.evaluate.calibrate import fit_calibration
from dpf.workflows.evaluate.methods import model_methods, truth_of
from dpf.workflows.evaluate.wells import evaluated_wells
from dpf.workflows.predict.predict import predicted_columns
from dpf.workflows.predict.well_members import WellMembers
from dpf.workflows.project.calibration import Calibration, LabelCalibration, ScoreInterval, read_calibration
from dpf.workflows.project.calibration import write_calibration as write
from tests.support.evaluated import folds_of, inputs_of, measured_of, outputs_of, project_of, wells_table

CONTROLS = 8


def fitted(compounds=40, folds=4, overconfident=3.0, level=0.9, parts=None, change=None, noise=1.0, seed=0):
    """A model that is too sure of its label by a known factor, evaluated."""
    table, strength = wells_table(compounds=compounds, controls=CONTROLS, seed=seed)
    table = table if change is None else table.with_columns(**change(table))
    project, inputs = project_of(), inputs_of(table, strength)
    measured = measured_of(project, inputs)
    groups = np.append(np.arange(2 * compounds) // 2, compounds + np.arange(CONTROLS))
    parts = folds_of(groups, folds) if parts is None else parts
    rng = np.random.default_rng([seed, 2])
    scores = measured.scores + rng.normal(size=(len(parts), *measured.scores.shape))
    logit = overconfident * (2 * strength + noise * rng.normal(size=(len(parts), len(strength))))
    outputs = outputs_of(parts, scores, logit)
    wells = evaluated_wells(project, inputs, measured, parts)
    truth = truth_of(measured)
    said = model_methods(outputs, truth, wells, None, in_sample=False)[0]
    calibration, probability = fit_calibration(outputs, truth, wells, said, inputs.is_control, level)
    return calibration, probability, outputs, truth, wells, said


def test_the_temperature_is_fitted_on_what_each_member_held_out():
    calibration, probability, outputs, truth, wells, _ = fitted()
    held = outputs.parts == Part.HELD_OUT
    logits = np.where(held, outputs.label_logit, 0).sum(0)
    assert calibration.label.temperature == pytest.approx(fit_temperature(logits, truth.label))
    assert calibration.label.temperature > 1.5
    assert calibration.label.wells == 88
    assert probability == pytest.approx(cross_fitted_probability(logits, truth.label, held.argmax(0)))
    assert calibration.label.ece_calibrated < calibration.label.ece_as_trained
    trained_on = outputs.label_logit.copy()
    trained_on[~held] = 1e6  # predictions for wells that a member did not hold out are not used
    again = fit_calibration(
        outputs_of(outputs.parts, outputs.scores, trained_on), truth, wells,
        model_methods(outputs, truth, wells, None, in_sample=False)[0], np.zeros(88, dtype=bool), 0.9,
    )[0]  # fmt: skip
    assert again.label == calibration.label


def test_intervals_rest_on_compounds_and_not_on_controls():
    calibration, _, _, truth, wells, said = fitted(level=0.8)
    assert set(calibration.scores) == {"first", "second"}
    compounds = np.arange(88) < 80
    expected = split_conformal(truth.values[compounds, 0], said.values[compounds, 0], wells.groups[compounds], 0.8)
    found = calibration.scores["first"]
    assert (found.half_width, found.coverage) == pytest.approx((expected.half_width, expected.coverage))
    assert (found.wells, found.compounds, calibration.level) == (80, 40, 0.8)
    assert 0.7 < found.coverage < 0.95


def test_a_single_run_is_calibrated_on_its_validation_wells():
    parts = np.zeros((1, 88), dtype=np.int8)
    parts[0, 20:70] = Part.VALIDATION
    calibration, probability, *_ = fitted(parts=parts)
    assert calibration.basis == "validation"
    assert calibration.label.wells == 50
    assert np.isfinite(probability).sum() == 50
    assert calibration.scores["first"].compounds == 25


def test_too_few_compounds_have_no_interval():
    parts = np.zeros((1, 88), dtype=np.int8)
    parts[0, :10] = Part.VALIDATION
    found = fitted(parts=parts)[0].scores["first"]
    assert (found.half_width, found.coverage, found.compounds) == (None, None, 5)


def test_a_class_in_one_fold_alone_gives_no_temperature():
    calibration, probability, *_ = fitted(change=lambda t: {"label": (np.arange(t.height) == 3).astype(int)})
    assert calibration.label.temperature is None
    assert "wells of label 1 lie in 1 fold" in calibration.label.reason
    assert probability is None


def test_logits_without_an_error_give_no_temperature():
    """The best temperature would be 0, and every probability 0 or 1."""
    strength = wells_table(compounds=40, controls=CONTROLS)[1]
    label = (strength > 0).astype(int)
    calibration, probability, *_ = fitted(change=lambda _: {"label": label}, noise=0.0)
    assert calibration.label.temperature is None
    assert "part the two classes of some folds" in calibration.label.reason
    assert probability is None


def a_calibration(**changes):
    label = LabelCalibration("label", 2.0, 30, 0.2, 0.1)
    scores = {"first": ScoreInterval(1.5, 0.91, 60, 30), "second": ScoreInterval(None, None, 8, 4)}
    return Calibration(**{"model_sha256": "m" * 64, "basis": "held_out", "level": 0.9, "label": label, "scores": scores}
                       | changes)  # fmt: skip


def test_the_file_gives_back_what_was_written_and_what_it_was_made_of(tmp_path):
    path = tmp_path / "calibration.json"
    for calibration in (a_calibration(), a_calibration(label=None)):
        write(path, calibration, {"inputs_sha256": "i" * 64})
        found, content = read_calibration(path)
        assert found == calibration
        assert content == json.loads(path.read_text())
        assert (content["format"], content["kind"], content["inputs_sha256"]) == (2, "calibration", "i" * 64)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "label": 3}'])
def test_a_damaged_file_is_named(tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(ModelError, match="the model's calibration cannot be read") as error:
        read_calibration(path)
    assert str(path) in str(error.value)
    assert "dpf evaluate" in str(error.value)


@pytest.mark.parametrize("value", [-1.5, 0.0, math.nan, math.inf, "1.5"])
@pytest.mark.parametrize("what", ["width", "temperature", "level"])
@pytest.mark.parametrize("digest", [True, False])
def test_a_calibration_that_cannot_be_is_refused(tmp_path, value, what, digest):
    path = tmp_path / "calibration.json"
    write(path, a_calibration(), {})
    content = json.loads(path.read_text())
    place, name = {"width": (content["scores"]["first"], "half_width"), "level": (content, "level"),
                   "temperature": (content["label"], "temperature")}[what]  # fmt: skip
    place[name] = value
    if not digest:  # as the first files were
        del content["sha256"]
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="the model's calibration cannot be read") as error:
        read_calibration(path)
    assert "run dpf evaluate again" in error.value.hint


def test_another_number_in_a_calibration_is_noticed(tmp_path):
    path = tmp_path / "calibration.json"
    write(path, a_calibration(), {})
    path.write_text(path.read_text().replace('"half_width":1.5', '"half_width":1.7'))
    with pytest.raises(ModelError, match="not what was saved"):
        read_calibration(path)


def test_a_later_file_is_refused(tmp_path):
    path = tmp_path / "calibration.json"
    path.write_text('{"format": 3, "dpf": "9.9"}')
    with pytest.raises(ModelError, match="later format"):
        read_calibration(path)


def test_predictions_use_it():
    parts = np.array([[0, 2, 2], [2, 0, 2]], dtype=np.int8)
    rng = np.random.default_rng(0)
    outputs = outputs_of(parts, rng.normal(size=(2, 3, 2)), rng.normal(size=(2, 3)))
    members = WellMembers.of(parts)
    plain = predicted_columns(outputs, members)
    assert not [name for name in plain if name.endswith(("_lower", "_upper"))]
    columns = predicted_columns(outputs, members, a_calibration())
    order = ["first_predicted", "first_lower", "first_upper", "second_predicted", "second_lower", "second_upper"]
    assert list(columns)[:6] == order
    assert columns["first_lower"].to_numpy() == pytest.approx(plain["first_predicted"] - 1.5)
    assert columns["first_upper"].to_numpy() == pytest.approx(plain["first_predicted"] + 1.5)
    assert columns["second_lower"].null_count() == 3
    assert columns["label_logit"] == pytest.approx(plain["label_logit"])
    third = probability_of(outputs.label_logit[:, 2] / 2.0).mean()
    assert columns["label_probability"][2] == pytest.approx(third)
    none = a_calibration(label=LabelCalibration("label", None, 3, None, None, "too few"))
    assert predicted_columns(outputs, members, none)["label_probability"] == pytest.approx(plain["label_probability"])


def test_intervals_hold_new_compounds_as_often_as_they_say():
    inside = []
    for seed in range(30):
        width = fitted(compounds=30, seed=seed)[0].scores["first"].half_width
        *_, truth, _, said = fitted(compounds=30, seed=seed + 1000)
        inside.append((np.abs(truth.values[:60, 0] - said.values[:60, 0]) <= width).mean())
    assert 0.88 < np.mean(inside) < 0.95
