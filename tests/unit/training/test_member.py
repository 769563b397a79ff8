"""A member's training is a function of its data, settings and key; cutting a batch up changes nothing."""

from __future__ import annotations

import dataclasses
import math
import random
from itertools import chain

import numpy as np
import pytest
import torch

from dpf.config.settings import Settings
from dpf.errors import DataError, DeviceError
from dpf.model.checkpoint import ControlWells, TrainedModel, save_model
from dpf.model.losses import TargetBatch, loss_sums
from dpf.training import member as member_module
from dpf.training.compute.device import Compute
from dpf.training.inference import predict_wells
from dpf.training.probe import probe
from tests.support import tiny


def passes_of(wells, dtype=torch.float32):
    """A CPU that takes so many wells at once."""
    return Compute(torch.device("cpu"), "fp32", dtype, wells * tiny.GENES)


def gradients(training):
    return {name: weight.grad.clone() for name, weight in training.network.named_parameters()}


def relative(one, other):
    scale = max(float(value.abs().max()) for value in one.values())
    return max(float((one[name] - other[name]).abs().max()) for name in one) / scale


NO_DROPOUT = dataclasses.replace(tiny.MODEL, dropout=0.0)


@pytest.mark.parametrize("wells", [1, 3, 5, 20])
def test_a_batch_cut_into_passes_has_the_same_gradient_and_losses(wells):
    # The targets have holes, so passes see different numbers of entries; the mean is the batch's all the same.
    batch = torch.arange(21)
    whole, cut = (tiny.training(compute=passes_of(size), model=NO_DROPOUT) for size in (100, wells))
    expected, got = whole._step(batch, 0), cut._step(batch, 0)
    assert relative(gradients(whole), gradients(cut)) < 1e-5
    assert torch.equal(expected.counts, got.counts)
    torch.testing.assert_close(expected.sums, got.sums)


def test_that_gradient_is_autograds_of_the_mean_loss():
    batch, weight = torch.arange(21), 0.35
    training = tiny.training(model=NO_DROPOUT, activation_weight=weight)
    plain = tiny.network(614, model=NO_DROPOUT)
    prediction = plain(training.data.expression[batch])
    scores, label, activation = training.data.targets.rows(batch)
    seen, known, there = ~scores.isnan(), ~label.isnan(), ~activation.isnan()
    bce = torch.nn.functional.binary_cross_entropy_with_logits(prediction.label_logit[known], label[known])
    loss = (prediction.scores[seen] - scores[seen]).square().mean() + bce
    loss = loss + weight * (prediction.activation[there] - activation[there]).square().mean()
    loss.backward()
    training._step(batch, 0)
    assert relative({name: value.grad for name, value in plain.named_parameters()}, gradients(training)) < 1e-5


@pytest.mark.parametrize("wells", [1, 3])
def test_validation_cut_into_passes_is_the_same(wells):
    whole, cut = (tiny.training(compute=passes_of(size)) for size in (100, wells))
    (expected, expected_prediction), (got, prediction) = whole._validate(), cut._validate()
    torch.testing.assert_close(expected.means(), got.means())
    torch.testing.assert_close(expected_prediction.latent, prediction.latent, rtol=1e-5, atol=1e-6)


def test_an_epoch_sees_every_training_well_once_in_an_order_of_its_own():
    training = tiny.training(batch_size=8, model=NO_DROPOUT)
    seen = []
    step = training._step
    training._step = lambda batch, number: (seen.append(batch.tolist()), step(batch, number))[1]
    training.run_epoch()
    first, seen[:] = list(seen), []
    training.run_epoch()
    assert [len(batch) for batch in first] == [8, 8, 6]
    assert sorted(chain(*first)) == sorted(chain(*seen)) == training.data.train.tolist()
    assert first != seen


def test_the_record_of_an_epoch_is_what_the_network_then_says():
    training = tiny.training()
    done = []
    record = training.run_epoch(done.append)
    assert sum(done) == len(training.data.train)
    wells = training.data.validation
    prediction = training.network(training.data.expression[wells])
    means = loss_sums(prediction, training.data.targets.rows(wells)).means().tolist()
    assert record.validation == pytest.approx(means, rel=1e-5)
    assert record.validation_total == pytest.approx(means[0] + means[1] + 0.2 * means[2], rel=1e-5)
    assert record.train_total == pytest.approx(record.train[0] + record.train[1] + 0.2 * record.train[2], rel=1e-5)
    torch.testing.assert_close(record.prediction.scores, prediction.scores)
    assert (record.epoch, record.is_best, record.learning_rate) == (1, True, 0.01)
    assert record.seconds > 0


def test_training_lowers_the_loss():
    training = tiny.training(model=NO_DROPOUT)
    totals = [training.run_epoch().train_total for _ in range(30)]
    assert totals[-1] < 0.5 * totals[0]


def test_best_weights_are_a_copy_of_the_best_epochs():
    # A state_dict() held by reference silently becomes the last epoch. Noise as targets: the best epoch comes early.
    training = tiny.training(model=NO_DROPOUT)
    after, totals = [], []
    for _ in range(25):
        record = training.run_epoch()
        after.append(tiny.digest(training.network.state_dict()))
        totals.append(record.validation_total)
        assert record.is_best == (record.validation_total == min(totals))
    best = int(np.argmin(totals))
    assert best < 24
    assert training.best_epoch == best + 1
    assert training.best_total == totals[best]
    assert tiny.digest(training.best) == after[best]
    assert tiny.digest(training.best) != after[-1]
    held = {value.data_ptr() for value in training.best.values()}
    assert not held & {value.data_ptr() for value in training.network.state_dict().values()}
    assert set(training.best) == set(training.network.state_dict())  # the scaler too


def model_bytes(path, seed=614, **changes):
    """The file of a model of two members, three epochs each."""
    networks, latents = [], []
    for member in range(2):
        training = tiny.training(seed, member, **changes)
        for _ in range(3):
            training.run_epoch()
        training.network.load_state_dict(training.best)
        networks.append(training.network)
        latents.append(predict_wells(training.network, tiny.expression()[:3], tiny.CPU).latent)
    controls = ControlWells(["a", "b", "c"], [None] * 3, [None] * 3, [["train"] * 3] * 2, latents)
    genes = [f"g{i}" for i in range(tiny.GENES)]
    save_model(path, TrainedModel(networks, genes, tiny.LAYOUT, controls, {"settings": Settings().as_dict()}))
    return path.read_bytes()


def test_the_same_seed_gives_the_same_file_byte_for_byte(tmp_path):
    torch.manual_seed(1)
    first = model_bytes(tmp_path / "a.safetensors")
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert model_bytes(tmp_path / "b.safetensors") == first
    assert model_bytes(tmp_path / "c.safetensors", seed=615) != first


def test_members_and_seeds_have_orders_and_noise_of_their_own():
    digests = set()
    for seed, member in ((1, 0), (2, 0), (1, 1), (2, 1)):
        training = tiny.training(seed, member)
        training.network.load_state_dict(tiny.network(0).state_dict())  # the same start for all
        training.run_epoch()
        digests.add(tiny.digest(training.network.state_dict()))
    assert len(digests) == 4


def test_every_pass_has_noise_of_its_own(monkeypatch):
    keys = []
    noise = member_module.Noise
    monkeypatch.setattr(member_module, "Noise", lambda p, key, *rest: keys.append(key) or noise(p, key, *rest))
    for number in range(2):
        training = tiny.training(member=number, compute=passes_of(3))
        training.run_epoch()
        training.run_epoch()
    passes = 3 + 3 + 2  # of batches of 8, 8 and 6 wells, 3 at a time
    assert len(keys) == len(set(keys)) == 2 * 2 * passes
    assert {len(key) for key in keys} == {5}


def test_no_global_generator_is_touched():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    training = tiny.training()
    probe(training)
    training.run_epoch()
    predict_wells(training.network, tiny.expression(), tiny.CPU)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


def test_bf16_trains_like_float32():
    exact, rounded = tiny.training(), tiny.training(compute=passes_of(100, torch.bfloat16))
    for _ in range(5):
        one, other = exact.run_epoch(), rounded.run_epoch()
    assert other.train_total == pytest.approx(one.train_total, rel=0.05)
    assert {weight.dtype for weight in rounded.network.parameters()} == {torch.float32}


@pytest.mark.parametrize(("part", "which"), [("train", "training"), ("validation", "validation")])
def test_a_loss_that_is_no_number_stops_and_the_best_weights_are_kept(part, which):
    data = tiny.member_data()
    training = tiny.training(data=data)
    training.run_epoch()
    best = tiny.digest(training.best)
    data.expression[getattr(data, part)[0]] = torch.nan
    with pytest.raises(DataError) as caught:
        training.run_epoch()
    assert caught.value.what == f"the {which} loss is no longer a finite number"
    assert caught.value.where == "epoch 2"
    assert "nan" in caught.value.found
    assert "--learning-rate" in caught.value.hint
    assert training.epoch == 1
    assert tiny.digest(training.best) == best


def test_a_learning_rate_that_diverges_is_said():
    training = tiny.training(learning_rate=1e30)

    def train():
        for _ in range(10):
            assert math.isfinite(training.run_epoch().validation_total)

    with pytest.raises(DataError, match=r"no longer a finite number[\s\S]*lower --learning-rate"):
        train()


def test_wells_without_any_target_and_batches_without_a_label_are_masked():
    data = tiny.member_data()
    for part in data.targets:
        part[data.train[:8]] = torch.nan
    data.targets.label[data.train] = torch.nan
    training = tiny.training(data=data, batch_size=1)
    record = training.run_epoch()
    assert record.train[1] == 0.0  # no label in training
    assert math.isfinite(record.train_total)
    assert not training.network.label.weight.grad.any()


def test_running_out_of_memory_while_training_is_said(monkeypatch):
    training = tiny.training()

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(training, "_step", fail)
    with pytest.raises(DeviceError, match="ran out of memory"):
        training.run_epoch()


def test_a_network_without_label_and_activation_trains():
    layout = type(tiny.LAYOUT)(("Tscore", "CytoTRACE"), None, None)
    data = tiny.member_data()
    empty = torch.full((tiny.WELLS,), torch.nan)
    data = dataclasses.replace(data, targets=TargetBatch(data.targets.scores, empty, empty))
    settings = tiny.training().settings
    other = type(tiny.training())(tiny.network(layout=layout), data, settings, tiny.CPU, (1, 0))
    record = other.run_epoch()
    assert record.train[1:] == record.validation[1:] == (0.0, 0.0)
    assert record.prediction.label_logit is None
